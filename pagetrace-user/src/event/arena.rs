//! What the arenas of an allocator hold at a moment, read from the process's memory.

use crate::units::{Bytes, Pages};

/// Chunks, and their bytes with their headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    pub count: u64,
    pub bytes: Bytes,
}

/// One arena. Its bytes are those of all chunks, of `top`, and of its own structures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    /// Of its structure (glibc: `malloc_state`).
    pub addr: u64,
    /// It grows by `brk`.
    pub is_main: bool,
    /// It did not change while it was read; else its parts are of different moments.
    pub settled: bool,
    /// What it has of the kernel's.
    pub size: Bytes,
    /// With the program.
    pub in_use: Chunks,
    /// Taken back and put aside for the thread that frees next (glibc: tcache). To the arena they are in use.
    pub cached: Chunks,
    /// Taken back and put aside for the next call of their size (glibc: fastbins).
    pub fast: Chunks,
    /// Taken back (glibc: in bins), without `top`.
    pub free: Chunks,
    /// The rest at the end, from which new chunks are cut.
    pub top: Bytes,
}

/// Pages of an arena that are alike, and the bytes of chunks in them; what is left are the arena's own structures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaPages {
    pub addr: u64,
    pub pages: Pages,
    pub in_use: Bytes,
    /// `cached` and `fast`.
    pub kept: Bytes,
    /// With `top`.
    pub free: Bytes,
    /// The allocator would give their memory back if it were asked to (glibc: `malloc_trim(0)`).
    pub trims: bool,
}

impl ArenaPages {
    /// The arena's own structures, and what is no arena's at its edge.
    #[must_use]
    pub fn own(&self) -> Bytes {
        let known = [self.in_use, self.kept, self.free].iter().fold(0_u64, |sum, bytes| sum.saturating_add(bytes.0));
        Bytes(self.pages.bytes().0.saturating_sub(known))
    }
}
