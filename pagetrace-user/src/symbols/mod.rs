//! Where in a program the instructions stand that are worth a probe: a pure look at its file.
//!
//! Nothing here asks the kernel, the running process or, but for debug links ([`lookup`]), another file: bytes go in, a plan
//! comes out. The file may be
//! anybody's: whatever it claims, it is read in bounded pieces ([`image`]).
//!
//! *Units.* An [`Address`] is one that the file was linked for, without the load bias of a position-independent
//! program; a [`FileOffset`] counts bytes from the start of the file, and is what a uprobe is placed by.
//! *Errors.* [`SymbolError`] for a file that cannot be read or contradicts itself; what a sound file merely lacks is
//! part of the answer.

mod guard;
pub mod image;

pub mod elf;
pub mod relocations;
pub mod strings;

pub mod gopclntab;
pub mod prologue;

pub mod go;

pub mod arguments;
pub mod slots;

pub mod flow;

pub mod allocators;

pub mod lookup;

pub mod tcmalloc;

use std::fmt;

pub use guard::guarded;

/// An address in the program as it was linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    /// The address `bytes` further on; `None` behind the end of the address space.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Option<Address> {
        self.0.checked_add(bytes).map(Address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A number of bytes from the start of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

/// Why a program's file tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    #[error("cannot read the program's file: {0}")]
    Read(#[from] std::io::Error),
    #[error("the program's file is not a regular file")]
    NotAFile,
    #[error("not an ELF file")]
    NotElf,
    #[error("a program for another machine: ELF machine {machine}, class {class}; only x86-64 can be traced")]
    Machine { machine: u16, class: u8 },
    #[error("the program's file contradicts itself: {0}")]
    Damaged(&'static str),
    #[error("reading the program's file takes more than {0} bytes: given up")]
    TooMuch(u64),
}
