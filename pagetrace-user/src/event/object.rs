//! The object layer: what the functions of an allocator give and take back, one call at a time.

use super::wire_enum;
use crate::units::Bytes;

wire_enum! {
    /// What happened to an object.
    ObjectAct {
        /// It was given: its call returned.
        Alloc = 0 => "alloc",
        /// It is taken back: its call began.
        Free = 1 => "free",
        /// The thread's last `Free` that moves did not happen: the object is there still.
        Kept = 2 => "kept",
    }
}

wire_enum! {
    /// The functions of allocators, whatever prefix a library gives them.
    ObjectCall {
        Malloc = 0 => "malloc", Calloc = 1 => "calloc", Realloc = 2 => "realloc", Reallocarray = 3 => "reallocarray",
        Free = 4 => "free", PosixMemalign = 5 => "posix_memalign", AlignedAlloc = 6 => "aligned_alloc",
        Memalign = 7 => "memalign", Valloc = 8 => "valloc", Pvalloc = 9 => "pvalloc",
        New = 10 => "operator new", NewArray = 11 => "operator new[]",
        Delete = 12 => "operator delete", DeleteArray = 13 => "operator delete[]",
        Mallocx = 14 => "mallocx", Rallocx = 15 => "rallocx", Xallocx = 16 => "xallocx",
        Dallocx = 17 => "dallocx", Sdallocx = 18 => "sdallocx",
    }
}

/// An object, and what happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    pub act: ObjectAct,
    /// Of the memory that the program got.
    pub addr: u64,
    /// That were asked for. Of a `Free`: 0 where every call is recorded, because then its `Alloc` tells them.
    pub bytes: Bytes,
    pub who: Who,
    /// The call takes one object back and gives another one for it (`realloc`): this is one half of it.
    pub moves: bool,
}

/// A function and the library that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    pub call: ObjectCall,
    pub library: LibraryId,
}

/// An index into the file's own table of allocators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LibraryId(pub u8);

/// How often a function was called, sampled or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCount {
    /// Calls that no other of the allocator's functions made.
    pub calls: u64,
    /// Bytes that they asked for.
    pub bytes: Bytes,
    /// Calls that another one of them made: a part of that call.
    pub nested: u64,
    /// Calls that gave nothing. Where objects are sampled, only those among the samples.
    pub failed: u64,
}
