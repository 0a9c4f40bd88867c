//! Chunks into pages: what the pages of an arena hold, those that are alike as one row.
//!
//! *Bound.* Pages that have all of one thing are one row, however many; so are neighbours that have something of several,
//! with their sum. At most [`MOST_ROWS`] rows.

use super::Unwalkable;
use crate::event::ArenaPages;
use crate::units::{Bytes, PAGE_BYTES, Pages, Range};

const MOST_ROWS: usize = 1 << 20;
/// How much the allocator keeps at the head of a chunk whose pages it gives back (`sizeof (struct malloc_chunk)`), and the
/// smallest chunk (`MINSIZE`).
const CHUNK_HEAD: u64 = 48;
const LEAST_CHUNK: u64 = 32;

/// What bytes of an arena are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    InUse,
    Kept,
    Free,
    /// Free, in pages that `malloc_trim(0)` gives back.
    Trims,
    Own,
}

/// Which rows can be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alike {
    InUse,
    Free,
    Trims,
    Mixed,
}

/// Where an extent of chunks that nobody uses ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// At a chunk that is in use.
    Chunk,
    /// At the end of the main arena's `top`, which can be given back; at that of another's, which cannot.
    Brk,
    Heap,
}

/// Rows, as far as the chunks came.
#[derive(Default)]
pub struct PageRows {
    pub rows: Vec<ArenaPages>,
    last: Option<Alike>,
    page: u64,
    /// Of the page that is being filled: in use, kept, free, trims, own.
    filled: [u64; 5],
    /// Chunks side by side that nobody uses.
    idle: Vec<(Range, Purpose)>,
}

impl PageRows {
    /// The next bytes, in the order of addresses.
    pub fn add(&mut self, range: Range, what: Purpose) -> Result<(), Unwalkable> {
        if matches!(what, Purpose::Kept | Purpose::Free) {
            match self.idle.last_mut() {
                Some((last, same)) if *same == what => last.end = range.end,
                _ => self.idle.push((range, what)),
            }
            return Ok(());
        }
        self.end_idle(Edge::Chunk)?;
        self.put(range, what)
    }

    /// What is idle ends here.
    pub fn end_idle(&mut self, edge: Edge) -> Result<(), Unwalkable> {
        let idle = std::mem::take(&mut self.idle);
        let (Some((first, _)), Some((last, _))) = (idle.first(), idle.last()) else { return Ok(()) };
        let whole = Range { start: first.start, end: last.end };
        let gives = match edge {
            Edge::Chunk => Range {
                start: whole.start.saturating_add(CHUNK_HEAD).next_multiple_of(PAGE_BYTES),
                end: whole.end & !(PAGE_BYTES - 1),
            },
            Edge::Brk => {
                let bytes = whole.bytes().0.saturating_sub(LEAST_CHUNK + 1) & !(PAGE_BYTES - 1);
                Range { start: whole.end.saturating_sub(bytes), end: whole.end }
            }
            Edge::Heap => Range::default(),
        };
        for (range, what) in idle {
            let Some(given) = range.meet(gives) else {
                self.put(range, what)?;
                continue;
            };
            self.put(Range { start: range.start, end: given.start }, what)?;
            // What is put aside is taken out of there first.
            self.put(given, if what == Purpose::Kept { Purpose::Kept } else { Purpose::Trims })?;
            self.put(Range { start: given.end, end: range.end }, what)?;
        }
        Ok(())
    }

    fn put(&mut self, range: Range, what: Purpose) -> Result<(), Unwalkable> {
        let mut at = range.start;
        while at < range.end {
            let page = at & !(PAGE_BYTES - 1);
            if page != self.page {
                self.end_page()?;
                self.page = page;
            }
            let whole_pages = (range.end - at) / PAGE_BYTES;
            if at == page && whole_pages > 0 {
                let bytes = whole_pages * PAGE_BYTES;
                let mut filled = [0; 5];
                if let Some(slot) = filled.get_mut(what as usize) {
                    *slot = bytes;
                }
                self.push(page, whole_pages, filled)?;
                at += bytes;
                self.page = at;
                continue;
            }
            let end = range.end.min(page + PAGE_BYTES);
            if let Some(slot) = self.filled.get_mut(what as usize) {
                *slot += end - at;
            }
            at = end;
        }
        Ok(())
    }

    /// The page that is being filled has all it will have.
    pub fn end_page(&mut self) -> Result<(), Unwalkable> {
        let filled = std::mem::take(&mut self.filled);
        if filled != [0; 5] { self.push(self.page, 1, filled) } else { Ok(()) }
    }

    fn push(&mut self, addr: u64, pages: u64, filled: [u64; 5]) -> Result<(), Unwalkable> {
        let bytes = pages * PAGE_BYTES;
        let [in_use, kept, free, trims, _] = filled;
        let alike = match (in_use, free, trims) {
            (_, _, 1..) => Alike::Trims,
            _ if in_use == bytes => Alike::InUse,
            _ if free == bytes => Alike::Free,
            _ => Alike::Mixed,
        };
        if self.last == Some(alike)
            && let Some(row) = self.rows.last_mut()
            && row.addr.saturating_add(row.pages.bytes().0) == addr
        {
            row.pages.0 += pages;
            row.in_use.0 += in_use;
            row.kept.0 += kept;
            row.free.0 += free + trims;
            return Ok(());
        }
        if self.rows.len() >= MOST_ROWS {
            return Err(Unwalkable::Odd("an arena in more pieces than are told"));
        }
        let (in_use, kept, free) = (Bytes(in_use), Bytes(kept), Bytes(free + trims));
        self.rows.push(ArenaPages { addr, pages: Pages(pages), in_use, kept, free, trims: alike == Alike::Trims });
        self.last = Some(alike);
        Ok(())
    }
}

/// A chunk that counted as in use is put aside.
pub fn keep(rows: &mut [ArenaPages], chunk: Range) {
    let from = rows.partition_point(|row| row.addr.saturating_add(row.pages.bytes().0) <= chunk.start);
    for row in rows.iter_mut().skip(from).take_while(|row| row.addr < chunk.end) {
        let bytes = Range::of(row.addr, row.pages.bytes().0).meet(chunk).unwrap_or_default().bytes().0;
        let moved = bytes.min(row.in_use.0);
        row.in_use.0 -= moved;
        row.kept.0 += moved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of these bytes, side by side, from an address on; the last ends at an edge. Rows: page, pages, in use, kept,
    /// free, own, trims.
    #[track_caller]
    fn check(start: u64, chunks: &[(u64, Purpose)], edge: Edge, expected: &[(u64, u64, u64, u64, u64, u64, bool)]) {
        let (mut rows, mut at) = (PageRows::default(), start);
        for (bytes, what) in chunks {
            rows.add(Range::of(at, *bytes), *what).unwrap_or_else(|error| panic!("{error}"));
            at += bytes;
        }
        rows.end_idle(edge).and_then(|()| rows.end_page()).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<_> = (rows.rows.iter())
            .map(|row| {
                let own = row.own().0;
                (row.addr / PAGE_BYTES, row.pages.0, row.in_use.0, row.kept.0, row.free.0, own, row.trims)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn chunks_in_pages() {
        use Purpose::{Free, InUse, Kept, Own};
        const PAGE: u64 = PAGE_BYTES;
        let of = |page: u64| page * PAGE;
        check(of(1), &[(3 * PAGE, InUse)], Edge::Chunk, &[(1, 3, 3 * PAGE, 0, 0, 0, false)]);
        // The page with the head of a free chunk stays, the whole ones behind it go.
        let three = [(64, InUse), (3 * PAGE, Free), (PAGE - 64, InUse)];
        let row = |page, in_use, free| (page, 1, in_use, 0, free, 0, false);
        let between = [row(1, 64, PAGE - 64), (2, 2, 0, 0, 2 * PAGE, 0, true), row(4, PAGE - 64, 64)];
        check(of(1), &three, Edge::Chunk, &between);
        // One that begins with its page keeps that page.
        let whole = [(PAGE, InUse), (2 * PAGE, Free), (PAGE, InUse)];
        let (used, kept) = ((1, 1, PAGE, 0, 0, 0, false), row(2, 0, PAGE));
        check(of(1), &whole, Edge::Chunk, &[used, kept, (3, 1, 0, 0, PAGE, 0, true), (4, 1, PAGE, 0, 0, 0, false)]);
        // What is put aside joins what is free on both sides.
        let apart = [(PAGE - 64, InUse), (PAGE, Free), (32, Kept), (PAGE + 32, Free), (PAGE, InUse)];
        let joined = [row(1, PAGE - 64, 64), (2, 2, 0, 32, 2 * PAGE - 32, 0, true), (4, 1, PAGE, 0, 0, 0, false)];
        check(of(1), &apart, Edge::Chunk, &joined);
        // Of the top of the main arena all goes but the smallest chunk and its page, of another's nothing.
        check(of(1), &[(3 * PAGE, Free)], Edge::Brk, &[row(1, 0, PAGE), (2, 2, 0, 0, 2 * PAGE, 0, true)]);
        check(of(1), &[(3 * PAGE, Free)], Edge::Heap, &[(1, 3, 0, 0, 3 * PAGE, 0, false)]);
        // What is no chunk.
        check(of(1), &[(16, Own), (PAGE - 16, InUse)], Edge::Chunk, &[(1, 1, PAGE - 16, 0, 0, 16, false)]);
    }
}
