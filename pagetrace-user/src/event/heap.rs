//! The heap layer: runs of pages of a page heap, what happens to them, and what they hold.

use super::wire_enum;
use crate::units::HeapPages;

wire_enum! {
    /// What a page heap does with a run of pages.
    HeapAct {
        /// Hands it out.
        Alloc = 0 => "alloc",
        /// Takes it back.
        Free = 1 => "free",
        /// Gives the memory of free pages back to the kernel, and keeps the range.
        Scav = 2 => "scav",
        /// Gets it from the kernel as address space: free, and without memory so far.
        Mark = 3 => "mark",
    }
}

wire_enum! {
    /// What a run of a page heap is used for.
    SpanKind {
        /// Objects.
        Heap = 0 => "heap",
        /// Stacks of goroutines.
        Stack = 1 => "stack",
        /// The runtime's own structures.
        Other = 2 => "other",
    }
}

wire_enum! {
    /// What pages of a page heap are at a moment.
    HeapState {
        /// In use for objects.
        Heap = 0 => "heap",
        /// In use for stacks of goroutines.
        Stack = 1 => "stack",
        /// In use for the runtime's own structures, or for what the reading cannot tell.
        Other = 2 => "other",
        /// Free, and given back to the kernel or never used.
        GivenBack = 3 => "given_back",
    }
}

/// What a page heap did with `pages` from `addr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapRun {
    pub act: HeapAct,
    pub addr: u64,
    pub pages: HeapPages,
    /// The processor of Go's scheduler (its P) on which that happened; `None`: on a thread that had none.
    pub p: Option<u32>,
    /// The goroutine on whose behalf it happened, where the source tells.
    pub goid: Option<u64>,
    /// What the run is for, where the source tells.
    pub span: Option<Span>,
}

/// What a run of a page heap is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub kind: SpanKind,
    /// Of objects: 2 * size class + whether they hold no pointers, as Go numbers it; else 0.
    pub class: u8,
}

/// A run of a page heap that is divided into objects of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanUse {
    pub addr: u64,
    pub pages: HeapPages,
    /// Of each object.
    pub object_bytes: u64,
    /// Those in use: given, and not found dead by the last sweep of the run.
    pub objects: u64,
}
