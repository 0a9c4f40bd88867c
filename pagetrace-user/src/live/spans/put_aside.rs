//! The pages that the Ps of a Go process have put aside, each up to 64 for itself: free, and some of them without memory.
//!
//! *Format.* `runtime.allp` is a slice of pointers to the Ps, whose numbers count from 0. `p.pcache` is where the pages
//! begin, a bit a page "free" and a bit "given back"; the heap's own bits say of these pages that they are handed out and
//! have memory.
//! *Consistency.* Pages go from the heap to a P and back without an event: whoever reads the heap's bits reads these before
//! and after.
//! *Source.* src/runtime/{runtime2,mpagecache}.go, Go 1.19 to 1.27.

use std::fs::{self, File};
use std::io;

use super::{Row, join, word, words};
use crate::symbols::go::offsets::GoOffsets;
use crate::units::{HEAP_PAGE_BYTES, Pid};

/// Ps that are believed.
const MOST_PS: u64 = 1 << 16;
/// `pageCachePages`.
const PAGES: u64 = 64;
/// `AT_ENTRY` (include/uapi/linux/auxvec.h).
const AT_ENTRY: u64 = 9;

/// Where a program keeps the list of its Ps.
#[derive(Clone, Debug, Default)]
pub struct AllPs {
    /// Where the program begins, as it was linked.
    pub entry: u64,
    /// Variables of which one is the list, as they were linked.
    pub places: Vec<u64>,
}

impl AllPs {
    /// The Ps of a process, by their addresses; `None` when no variable is a list of Ps.
    pub(super) fn find(&self, pid: Pid, memory: &File, offsets: &GoOffsets) -> Option<Vec<u64>> {
        let auxiliary = fs::read(format!("/proc/{pid}/auxv")).ok()?;
        let mut auxiliary = words(&auxiliary);
        let entry =
            std::iter::from_fn(|| Some((auxiliary.next()?, auxiliary.next()?))).find(|(kind, _)| *kind == AT_ENTRY);
        let moved_by = entry?.1.wrapping_sub(self.entry);
        self.places.iter().find_map(|place| list(memory, place.wrapping_add(moved_by), offsets).ok().flatten())
    }
}

/// The Ps of the list at `at`; `None` when it is none.
fn list(memory: &File, at: u64, offsets: &GoOffsets) -> io::Result<Option<Vec<u64>>> {
    let (first, length, room) =
        (word(memory, at)?, word(memory, at.wrapping_add(8))?, word(memory, at.wrapping_add(16))?);
    if length == 0 || length > MOST_PS || room < length || room > MOST_PS {
        return Ok(None);
    }
    let mut ps = Vec::new();
    for number in 0..length {
        let p = word(memory, first.wrapping_add(8 * number))?;
        let (id, start) = (word(memory, p.wrapping_add(offsets.p_id.into()))? as u32, cache(memory, p, offsets)?[0]);
        if u64::from(id) != number || !start.is_multiple_of(PAGES * HEAP_PAGE_BYTES) {
            return Ok(None);
        }
        ps.push(p);
    }
    Ok(Some(ps))
}

/// Where the pages of a P begin, which are free, and which of them are given back.
fn cache(memory: &File, p: u64, offsets: &GoOffsets) -> io::Result<[u64; 3]> {
    let at = p.wrapping_add(offsets.p_page_cache.into());
    Ok([word(memory, at)?, word(memory, at.wrapping_add(8))?, word(memory, at.wrapping_add(16))?])
}

/// The pages without memory that these Ps have put aside.
pub(super) fn given_back(memory: &File, ps: &[u64], offsets: &GoOffsets) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &p in ps {
        let [start, free, back] = cache(memory, p, offsets)?;
        join(start, free & back, &mut rows);
    }
    Ok(rows)
}
