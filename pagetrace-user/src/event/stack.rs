//! Stacks: where a thread was in its own code, and the names of such places.

use super::{FileId, wire_enum};

/// A stack: the number of the node of a file's tree of calls in which it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

wire_enum! {
    /// Which event of a thread a stack belongs to: the last one of this kind before it.
    StackOf {
        Fault = 0 => "fault",
        /// A system call of the vma layer, failed or not.
        Call = 1 => "call",
        Heap = 2 => "heap",
        Object = 3 => "object",
    }
}

/// What stands for the file of the kernel, as other tools have it.
pub const KERNEL: &str = "[kernel.kallsyms]";

/// A place in the code of the process, or of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The byte of a mapped file: of the instruction where the thread was, or of the last byte of the one that called.
    File { file: FileId, offset: u64 },
    /// An address outside of the files that are known (code made at run time).
    Address(u64),
    /// No place: the calls above it are not known.
    Cut,
    /// The kernel's own code: bytes from where it begins (`_text`) on, modulo 2^64. Where that lies is the recorded host's secret.
    Kernel(u64),
}

/// A function at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Demangled.
    pub name: String,
    /// Source file; empty where it is not known.
    pub file: String,
    /// Line of it; 0 where it is not known.
    pub line: u32,
}
