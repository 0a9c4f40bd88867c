//! What the spans of a Go heap hold, read from the process's memory.
//!
//! *Format.* A span in use for objects has their size, and in `mspan.allocCount` how many are in use: the allocator counts up
//! when it gives one, and the sweep after each collection counts anew. So these are the runtime's own figures
//! (`runtime.MemStats.BySize`), in which an object that died since the last sweep counts as in use.
//! *Consistency.* A span that an event touches while it is read is left out.
//! *Source.* src/runtime/{mheap,mcache,mgcsweep}.go, Go 1.19 to 1.27.

use std::fs::File;
use std::io;

use super::{IN_USE, each_span, range_of, span, words};
use crate::event::{HeapRun, SpanUse};
use crate::ranges::RangeSet;
use crate::symbols::go::offsets::GoOffsets;
use crate::units::{Pid, Range};

/// Reads what the spans of the heap hold whose `mheap` lies at `heap`.
///
/// # Errors
/// When the memory cannot be read, or holds what no heap does.
pub fn read(pid: Pid, heap: u64, offsets: &GoOffsets) -> io::Result<Vec<SpanUse>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut uses = each_span(&memory, heap, offsets, span_use)?;
    uses.sort_by_key(|used| used.addr);
    Ok(uses)
}

/// Those that no event touched meanwhile.
#[must_use]
pub fn settle(uses: Vec<SpanUse>, meanwhile: &[HeapRun]) -> Vec<SpanUse> {
    let mut touched = RangeSet::default();
    for run in meanwhile {
        touched.add(range_of(run));
    }
    uses.into_iter().filter(|used| !touched.meets(Range::of(used.addr, used.pages.bytes().0))).collect()
}

fn span_use(bytes: &[u8], offsets: &GoOffsets) -> Option<SpanUse> {
    if *bytes.get(offsets.span_state as usize)? != IN_USE {
        return None;
    }
    let row = span(bytes, offsets)?;
    let object_bytes = words(bytes.get(offsets.span_elem_size as usize..)?).next()?;
    let count = bytes.get(offsets.span_alloc_count as usize..)?.first_chunk::<2>()?;
    let objects = u64::from(u16::from_le_bytes(*count));
    let fits = object_bytes > 0 && objects.checked_mul(object_bytes)? <= row.pages.bytes().0;
    fits.then_some(SpanUse { addr: row.addr, pages: row.pages, object_bytes, objects })
}
