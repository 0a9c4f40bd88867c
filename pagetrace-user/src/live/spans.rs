//! The page heap of a Go process that already runs, read from its memory.
//!
//! *Format.* `mheap.allspans` is a slice of pointers to every span there ever was; the state of one says whether it is in
//! use. `mheap.pages` has, for each 4 MiB of address space that the heap got, a bit a page "handed out" and a bit "given
//! back". Offsets are those of the program's version of Go ([`GoOffsets`]).
//! *Consistency.* The process runs on meanwhile. What is read here is put right by the events of that time
//! ([`settle`]): a page that one of them touches is as the first of them says it was.
//! *Bound.* At most [`MOST_SPANS`] spans and [`MOST_CHUNKS`] chunks.
//! *Source.* src/runtime/{mheap,mpagealloc,mpallocbits}.go, Go 1.19 to 1.27.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::event::{HeapAct, HeapRun, HeapState};
use crate::symbols::go::offsets::GoOffsets;
use crate::units::{HEAP_PAGE_BYTES, HeapPages, Pid, Range};

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

/// Reads the heap whose `mheap` lies at `heap`; rows in the order of their addresses.
///
/// # Errors
/// When the memory cannot be read, or holds what no heap does.
pub fn read(pid: Pid, heap: u64, offsets: &GoOffsets) -> io::Result<Vec<Row>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut rows = used(&memory, heap, offsets)?;
    rows.extend(given_back(&memory, heap.saturating_add(u64::from(offsets.heap_pages)))?);
    rows.sort_by_key(|row| row.addr);
    Ok(rows)
}

/// The spans in use.
fn used(memory: &File, heap: u64, offsets: &GoOffsets) -> io::Result<Vec<Row>> {
    let at = heap.saturating_add(u64::from(offsets.heap_all_spans));
    let (list, length) = (word(memory, at)?, word(memory, at.saturating_add(8))?);
    if length > MOST_SPANS {
        return Err(io::Error::other(format!("{length} spans are more than a heap has")));
    }
    let mut bytes = vec![0; length as usize * 8];
    memory.read_exact_at(&mut bytes, list)?;
    let mut pointers: Vec<u64> = words(&bytes).filter(|&pointer| pointer != 0).collect();
    pointers.sort_unstable();
    let mut rows = Vec::new();
    let mut rest = &pointers[..];
    let mut window = vec![0; (WINDOW_BYTES + SPAN_BYTES) as usize];
    while let Some(&first) = rest.first() {
        let end = rest.partition_point(|&pointer| pointer < first.saturating_add(WINDOW_BYTES));
        let (here, later) = rest.split_at(end);
        let last = here.last().copied().unwrap_or(first);
        let length = (last - first).saturating_add(SPAN_BYTES) as usize;
        if let Some(window) = window.get_mut(..length) {
            memory.read_exact_at(window, first)?;
            rows.extend(here.iter().filter_map(|&pointer| span(window.get((pointer - first) as usize..)?, offsets)));
        }
        rest = later;
    }
    Ok(rows)
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

/// The pages that are free and have no memory.
fn given_back(memory: &File, pages: u64) -> io::Result<Vec<Row>> {
    let mut tables = vec![0; LEVEL_ENTRIES as usize * 8];
    memory.read_exact_at(&mut tables, pages.saturating_add(CHUNKS_AT))?;
    let mut rows: Vec<Row> = Vec::new();
    let mut chunks = 0_usize;
    let mut table = vec![0; LEVEL_ENTRIES as usize * 2 * BITS_BYTES];
    for (high, pointer) in words(&tables).enumerate().filter(|(_, pointer)| *pointer != 0) {
        memory.read_exact_at(&mut table, pointer)?;
        for (low, bits) in table.chunks_exact(2 * BITS_BYTES).enumerate() {
            let (handed_out, given_back) = bits.split_at(BITS_BYTES);
            if given_back.iter().all(|&byte| byte == 0) {
                continue;
            }
            chunks += 1;
            if chunks > MOST_CHUNKS {
                return Err(io::Error::other("a heap of more than 512 GiB"));
            }
            let chunk = high as u64 * LEVEL_ENTRIES + low as u64;
            let base = ARENA_BASE.wrapping_add(chunk.wrapping_mul(CHUNK_PAGES * HEAP_PAGE_BYTES));
            for (place, (out, back)) in words(handed_out).zip(words(given_back)).enumerate() {
                let first = base.wrapping_add(place as u64 * 64 * HEAP_PAGE_BYTES);
                join(first, back & !out, &mut rows);
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

/// What the rows were before the events that came while they were read.
///
/// A page that such an event touches is taken from the first that does: a free says that its run was in use, an alloc
/// that it was not, and growth that there was nothing. Only what a page was before an alloc, given back or not, no event
/// tells: the alloc ends either.
pub fn settle(rows: Vec<Row>, meanwhile: &[HeapRun]) -> Vec<Row> {
    let mut touched: Vec<Range> = Vec::new();
    let mut told: Vec<Row> = Vec::new();
    for run in meanwhile {
        let range = Range::of(run.addr, run.pages.bytes().0);
        let is_first = !touched.iter().any(|before| before.meet(range).is_some());
        if run.act == HeapAct::Free && is_first {
            let state = run.span.map_or(HeapState::Other, |span| HeapState::of(span.kind));
            told.push(Row { addr: run.addr, pages: run.pages, state });
        }
        touched.push(range);
    }
    let mut kept: Vec<Row> =
        rows.into_iter().flat_map(|row| without(row, &touched)).filter(|row| row.pages.0 > 0).collect();
    kept.extend(told);
    kept.sort_by_key(|row| row.addr);
    kept
}

/// The parts of a row that none of the ranges meets. A span in use is whole or not at all: what an event touched of one
/// was read while it changed.
fn without(row: Row, touched: &[Range]) -> Vec<Row> {
    if row.state != HeapState::GivenBack {
        return if touched.iter().any(|range| range.meet(row.range()).is_some()) { Vec::new() } else { vec![row] };
    }
    let mut parts = vec![row.range()];
    for hole in touched {
        parts = parts
            .into_iter()
            .flat_map(|part| {
                [
                    Range { start: part.start, end: part.end.min(hole.start) },
                    Range { start: part.start.max(hole.end), end: part.end },
                ]
            })
            .filter(|part| !part.is_empty())
            .collect();
    }
    parts
        .into_iter()
        .map(|part| Row { addr: part.start, pages: HeapPages(part.bytes().0 / HEAP_PAGE_BYTES), state: row.state })
        .collect()
}
