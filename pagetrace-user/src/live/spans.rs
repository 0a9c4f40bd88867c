//! The page heap of a Go process that already runs, read from its memory.
//!
//! *Format.* `mheap.allspans` is a slice of pointers to every span there ever was; the state of one says whether it is in
//! use. `mheap.pages` has, for each 4 MiB of address space that the heap got, a bit a page "handed out" and a bit "given
//! back"; for pages that a P has put aside it has them itself ([`put_aside`]). Offsets are those of the program's version of
//! Go ([`GoOffsets`]).
//! *Consistency.* The process runs on meanwhile. What is read here is put right by the events around that time
//! ([`settle`]).
//! *Bound.* At most [`MOST_SPANS`] spans and [`MOST_CHUNKS`] chunks.
//! *Source.* src/runtime/{mheap,mpagealloc,mpallocbits}.go, Go 1.19 to 1.27.

mod put_aside;
pub mod tcmalloc;
pub mod uses;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::event::{HeapAct, HeapRun, HeapState};
use crate::ranges::RangeSet;
use crate::symbols::go::offsets::GoOffsets;
use crate::units::{HEAP_PAGE_BYTES, HeapPages, Pid, Range};

pub use put_aside::AllPs;

/// Spans that are believed: 128 GiB of one page each.
const MOST_SPANS: u64 = 1 << 24;
/// Chunks that are read: 512 GiB of heap.
const MOST_CHUNKS: usize = 1 << 17;
/// Bytes of a span that hold the fields read here.
const SPAN_BYTES: u64 = 0x80;
/// Spans lie side by side in blocks: one read covers those in a window.
const WINDOW_BYTES: u64 = 64 << 10;

/// States of a span (`mSpanInUse`, `mSpanManual`).
const IN_USE: u8 = 1;
const BY_HAND: u8 = 2;

/// `pageAlloc.chunks` in `pageAlloc`, behind the summaries of five levels.
const CHUNKS_AT: u64 = 0x78;
/// Entries of either level of `chunks`, and the bytes of a chunk's bits: handed out, then given back.
const LEVEL_ENTRIES: u64 = 1 << 13;
const BITS_BYTES: usize = 64;
const CHUNK_PAGES: u64 = 512;
/// Where the numbering of chunks begins (`arenaBaseOffset`).
const ARENA_BASE: u64 = 0xffff_8000_0000_0000;

/// Pages from `addr` on, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub addr: u64,
    pub pages: HeapPages,
    pub state: HeapState,
}

impl Row {
    fn range(self) -> Range {
        Range::of(self.addr, self.pages.bytes().0)
    }
}

/// What was read of a heap.
#[derive(Clone, Debug)]
pub struct Contents {
    /// In the order of their addresses; some pages may be in two, which say the same.
    pub rows: Vec<Row>,
    /// Whether they tell of the pages too that the Ps have put aside.
    pub is_whole: bool,
}

/// Reads the heap whose `mheap` lies at `heap`.
///
/// # Errors
/// When the memory cannot be read, or holds what no heap does.
pub fn read(pid: Pid, heap: u64, offsets: &GoOffsets, all_ps: &AllPs) -> io::Result<Contents> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let ps = all_ps.find(pid, &memory, offsets);
    let aside = || put_aside::given_back(&memory, ps.as_deref().unwrap_or_default(), offsets);
    let mut rows = used(&memory, heap, offsets)?;
    rows.extend(aside()?);
    rows.extend(given_back(&memory, heap.saturating_add(u64::from(offsets.heap_pages)))?);
    rows.extend(aside()?);
    rows.sort_by_key(|row| row.addr);
    Ok(Contents { rows, is_whole: ps.is_some() })
}

/// The spans in use.
fn used(memory: &File, heap: u64, offsets: &GoOffsets) -> io::Result<Vec<Row>> {
    each_span(memory, heap, offsets, span)
}

/// What `read` makes of the bytes of each span.
fn each_span<T>(
    memory: &File,
    heap: u64,
    offsets: &GoOffsets,
    read: impl Fn(&[u8], &GoOffsets) -> Option<T>,
) -> io::Result<Vec<T>> {
    let at = heap.saturating_add(u64::from(offsets.heap_all_spans));
    let (list, length) = (word(memory, at)?, word(memory, at.saturating_add(8))?);
    if length > MOST_SPANS {
        return Err(io::Error::other(format!("{length} spans are more than a heap has")));
    }
    let mut bytes = vec![0; length as usize * 8];
    memory.read_exact_at(&mut bytes, list)?;
    let mut pointers: Vec<u64> = words(&bytes).filter(|&pointer| pointer != 0).collect();
    pointers.sort_unstable();
    let mut found = Vec::new();
    let mut rest = &pointers[..];
    let mut window = vec![0; (WINDOW_BYTES + SPAN_BYTES) as usize];
    while let Some(&first) = rest.first() {
        let end = rest.partition_point(|&pointer| pointer < first.saturating_add(WINDOW_BYTES));
        let (here, later) = rest.split_at(end);
        let last = here.last().copied().unwrap_or(first);
        let length = (last - first).saturating_add(SPAN_BYTES) as usize;
        if let Some(window) = window.get_mut(..length) {
            memory.read_exact_at(window, first)?;
            found.extend(here.iter().filter_map(|&pointer| read(window.get((pointer - first) as usize..)?, offsets)));
        }
        rest = later;
    }
    Ok(found)
}

/// A span's row, if it is in use.
fn span(bytes: &[u8], offsets: &GoOffsets) -> Option<Row> {
    let field = |at: u32| words(bytes.get(at as usize..)?).next();
    let state = match *bytes.get(offsets.span_state as usize)? {
        IN_USE => HeapState::Heap,
        // Stacks have a size, the runtime's own structures none.
        BY_HAND if field(offsets.span_elem_size)? != 0 => HeapState::Stack,
        BY_HAND => HeapState::Other,
        _ => return None,
    };
    let (addr, pages) = (field(offsets.span_start)?, HeapPages(field(offsets.span_pages)?));
    let is_one = addr.is_multiple_of(HEAP_PAGE_BYTES) && pages.0 > 0 && pages.0 < 1 << 35;
    is_one.then_some(Row { addr, pages, state })
}

/// The pages that have no memory. Whether one is "handed out" does not matter: none is that has the other bit.
fn given_back(memory: &File, pages: u64) -> io::Result<Vec<Row>> {
    let mut tables = vec![0; LEVEL_ENTRIES as usize * 8];
    memory.read_exact_at(&mut tables, pages.saturating_add(CHUNKS_AT))?;
    let mut rows: Vec<Row> = Vec::new();
    let mut chunks = 0_usize;
    let mut table = vec![0; LEVEL_ENTRIES as usize * 2 * BITS_BYTES];
    for (high, pointer) in words(&tables).enumerate().filter(|(_, pointer)| *pointer != 0) {
        memory.read_exact_at(&mut table, pointer)?;
        for (low, bits) in table.chunks_exact(2 * BITS_BYTES).enumerate() {
            let (_, given_back) = bits.split_at(BITS_BYTES);
            if given_back.iter().all(|&byte| byte == 0) {
                continue;
            }
            chunks += 1;
            if chunks > MOST_CHUNKS {
                return Err(io::Error::other("a heap of more than 512 GiB"));
            }
            let chunk = high as u64 * LEVEL_ENTRIES + low as u64;
            let base = ARENA_BASE.wrapping_add(chunk.wrapping_mul(CHUNK_PAGES * HEAP_PAGE_BYTES));
            for (place, back) in words(given_back).enumerate() {
                join(base.wrapping_add(place as u64 * 64 * HEAP_PAGE_BYTES), back, &mut rows);
            }
        }
    }
    Ok(rows)
}

/// Adds the runs of set bits as rows; one that goes on where the last row ends makes that longer.
fn join(first: u64, bits: u64, rows: &mut Vec<Row>) {
    for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
        let addr = first.wrapping_add(bit * HEAP_PAGE_BYTES);
        match rows.last_mut() {
            Some(row) if row.range().end == addr => row.pages.0 += 1,
            _ => rows.push(Row { addr, pages: HeapPages(1), state: HeapState::GivenBack }),
        }
    }
}

fn word(memory: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_le_bytes(bytes))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
}

/// The rows as they were at the moment between `before` and `meanwhile`: events of the heap in the order of their times,
/// those until then and those from then to the end of the reading.
///
/// What an event says comes true a moment after it: a page that one of them touches is not taken from the reading. The
/// first that touches it says what it was before (a free: in use; anything else: free), the others what became of it.
/// Only whether a page had memory before an alloc is told by none, and does not matter after it.
#[must_use]
pub fn settle(rows: &[Row], before: &[HeapRun], meanwhile: &[HeapRun]) -> Vec<Row> {
    let mut touched = RangeSet::default();
    let mut states = States::default();
    for run in before.iter().chain(meanwhile) {
        if run.act == HeapAct::Free && !touched.meets(range_of(run)) {
            states.set(range_of(run), Some(state_of(run)));
        }
        touched.add(range_of(run));
    }
    for row in rows.iter().filter(|row| row.state == HeapState::GivenBack) {
        states.of(row.state).add(row.range());
    }
    for range in touched.iter() {
        states.of(HeapState::GivenBack).remove(range);
    }
    // A span is whole or not at all: one that an event touched was read while it changed.
    for row in rows.iter().filter(|row| row.state != HeapState::GivenBack && !touched.meets(row.range())) {
        states.set(row.range(), Some(row.state));
    }
    for run in before {
        let state = match run.act {
            HeapAct::Alloc => Some(state_of(run)),
            HeapAct::Free => None,
            HeapAct::Scav | HeapAct::Mark => Some(HeapState::GivenBack),
        };
        states.set(range_of(run), state);
    }
    states.rows()
}

fn range_of(run: &HeapRun) -> Range {
    Range::of(run.addr, run.pages.bytes().0)
}

fn state_of(run: &HeapRun) -> HeapState {
    run.span.map_or(HeapState::Other, |span| HeapState::of(span.kind))
}

/// The pages in each state.
#[derive(Default)]
struct States([RangeSet; HeapState::ALL.len()]);

impl States {
    fn of(&mut self, state: HeapState) -> &mut RangeSet {
        let [heap, stack, other, given_back] = &mut self.0;
        match state {
            HeapState::Heap => heap,
            HeapState::Stack => stack,
            HeapState::Other => other,
            HeapState::GivenBack => given_back,
        }
    }

    /// Puts pages into a state; `None`: free, with memory.
    fn set(&mut self, range: Range, state: Option<HeapState>) {
        for set in &mut self.0 {
            set.remove(range);
        }
        if let Some(state) = state {
            self.of(state).add(range);
        }
    }

    fn rows(&self) -> Vec<Row> {
        let rows = HeapState::ALL.iter().zip(&self.0).flat_map(|(&state, set)| {
            let pages = |range: Range| HeapPages(range.bytes().0 / HEAP_PAGE_BYTES);
            set.iter().map(move |range| Row { addr: range.start, pages: pages(range), state })
        });
        let mut rows: Vec<Row> = rows.collect();
        rows.sort_by_key(|row| row.addr);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Span, SpanKind};

    fn run(act: HeapAct, page: u64, pages: u64) -> HeapRun {
        let span = Some(Span { kind: SpanKind::Heap, class: 0 });
        HeapRun { act, addr: page * HEAP_PAGE_BYTES, pages: HeapPages(pages), p: None, goid: None, span }
    }

    #[track_caller]
    fn check(
        rows: &[(u64, u64, HeapState)],
        before: &[HeapRun],
        meanwhile: &[HeapRun],
        expected: &[(u64, u64, HeapState)],
    ) {
        let row = |&(page, pages, state): &(u64, u64, HeapState)| Row {
            addr: page * HEAP_PAGE_BYTES,
            pages: HeapPages(pages),
            state,
        };
        let settled = settle(&rows.iter().map(row).collect::<Vec<_>>(), before, meanwhile);
        assert_eq!(settled, expected.iter().map(row).collect::<Vec<_>>());
    }

    #[test]
    fn readings_of_a_heap_that_goes_on() {
        use HeapAct::{Alloc, Free, Mark, Scav};
        use HeapState::{GivenBack, Heap, Stack};
        let rows = [(0, 2, Heap), (4, 1, Stack), (8, 8, GivenBack)];
        check(&rows, &[], &[], &rows);
        // Freed meanwhile: it was in use, whatever was read.
        check(&rows, &[], &[run(Free, 0, 2)], &rows);
        check(&[], &[], &[run(Free, 0, 2)], &[(0, 2, Heap)]);
        // Handed out meanwhile: it was not in use, though the reading saw it so; freed again, it says no more.
        check(&[(0, 2, Heap)], &[], &[run(Alloc, 0, 2), run(Free, 0, 2)], &[]);
        check(&rows, &[], &[run(Alloc, 10, 2)], &[(0, 2, Heap), (4, 1, Stack), (8, 2, GivenBack), (12, 4, GivenBack)]);
        // Before: what the event says, though the reading may have come before it was true.
        check(
            &[],
            &[run(Scav, 3, 2), run(Alloc, 5, 1), run(Mark, 6, 2)],
            &[],
            &[(3, 2, GivenBack), (5, 1, Heap), (6, 2, GivenBack)],
        );
        check(&rows, &[run(Free, 0, 2)], &[], &rows[1..]);
        check(&[], &[run(Alloc, 0, 2)], &[run(Free, 0, 2)], &[(0, 2, Heap)]);
    }
}
