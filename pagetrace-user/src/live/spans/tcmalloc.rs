//! The page heap of a process with tcmalloc that already runs, read from its memory.
//!
//! *Format.* The heap has for each page that it ever got an entry with a pointer to its span, of a span's first and last page
//! always; a span begins with the number of its first page and how many it has ([`PageMap`]). Entries inside of a span may
//! be old: who goes from span to span does not meet them.
//! *Consistency.* Free spans are joined without an event that names all of them: only a reading during which nothing
//! happened is right, and who reads makes sure of that.
//! *Bound.* At most [`MOST_LEAVES`] lower tables: 1 TiB of heap.
//! *Source.* src/{pagemap,page_heap,span}.h of gperftools 2.9 to 2.18.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Contents, Row, words};
use crate::event::HeapState;
use crate::symbols::tcmalloc::{LEAST_SHIFT, PageMap, Plan};
use crate::units::{HeapPages, Pid};

const MOST_LEAVES: usize = 512;
/// Bits of an address.
const ADDRESS_BITS: u32 = 48;
/// Spans lie side by side in blocks: one read covers those in a window.
const WINDOW_BYTES: u64 = 64 << 10;

/// Places of a span.
const IN_USE: u8 = 0;
const GIVEN_BACK: u8 = 2;

/// A span: its first page, its pages, its place.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    pages: u64,
    place: u8,
}

/// Reads the heap that lies at `heap`.
///
/// # Errors
/// When the memory cannot be read, or is no heap.
pub fn read(pid: Pid, heap: u64, plan: &Plan, map: &PageMap) -> io::Result<Contents> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let odd = || io::Error::other("a table of pages of an unknown size");
    let root_bits = ADDRESS_BITS
        .checked_sub(u32::from(plan.page_shift) + u32::from(map.leaf_bits))
        .filter(|bits| *bits <= 20)
        .ok_or_else(odd)?;
    let mut root = vec![0; 8 << root_bits];
    memory.read_exact_at(&mut root, heap.wrapping_add(map.root))?;
    // By page: the span that the page's entry names.
    let mut entries: Vec<(u64, u64)> = Vec::new();
    let mut leaf = vec![0; 8 << map.leaf_bits];
    let leaves = words(&root).zip(0_u64..).filter(|(pointer, _)| *pointer != 0);
    for (count, (pointer, high)) in leaves.enumerate() {
        if count >= MOST_LEAVES {
            return Err(io::Error::other("a heap of more than 1 TiB"));
        }
        memory.read_exact_at(&mut leaf, pointer)?;
        let first = high << map.leaf_bits;
        let pages = words(&leaf).zip(first..).filter(|(span, _)| *span != 0);
        entries.extend(pages.map(|(span, page)| (page, span)));
    }
    let spans = spans(&memory, entries.iter().map(|(_, span)| *span), map.place_at);
    let (mut rows, mut next) = (Vec::new(), 0);
    for (page, pointer) in entries {
        let Some(span) = spans.get(&pointer).filter(|span| page >= next && span.start == page) else { continue };
        next = page.saturating_add(span.pages);
        let state = match span.place {
            IN_USE => HeapState::Other,
            GIVEN_BACK => HeapState::GivenBack,
            _ => continue,
        };
        let pages = HeapPages(span.pages << plan.page_shift.saturating_sub(LEAST_SHIFT));
        rows.push(Row { addr: span.start << plan.page_shift, pages, state });
    }
    Ok(Contents { rows, is_whole: true })
}

/// The spans at these addresses; not those that are none.
fn spans(memory: &File, pointers: impl Iterator<Item = u64>, place_at: u64) -> BTreeMap<u64, Span> {
    let mut pointers: Vec<u64> = pointers.collect();
    pointers.sort_unstable();
    pointers.dedup();
    let bytes_of_span = place_at.max(15) + 1;
    let mut window = vec![0; (WINDOW_BYTES + bytes_of_span) as usize];
    let (mut found, mut rest) = (BTreeMap::new(), &pointers[..]);
    while let Some(&first) = rest.first() {
        let end = rest.partition_point(|&pointer| pointer < first.saturating_add(WINDOW_BYTES));
        let (here, later) = rest.split_at(end);
        let last = here.last().copied().unwrap_or(first);
        let length = (last - first).saturating_add(bytes_of_span) as usize;
        // What an old entry points to need not be there any more.
        if let Some(window) = window.get_mut(..length)
            && memory.read_exact_at(window, first).is_ok()
        {
            found.extend(here.iter().filter_map(|&pointer| {
                let bytes = window.get((pointer - first) as usize..)?;
                let mut fields = words(bytes);
                let (start, pages) = (fields.next()?, fields.next()?);
                let place = bytes.get(place_at as usize)? & 3;
                (pages > 0 && pages < 1 << 35).then_some((pointer, Span { start, pages, place }))
            }));
        }
        rest = later;
    }
    found
}
