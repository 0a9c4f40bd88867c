//! Whether a page heap that is recorded has fallen silent: its process uses pages that, by the events so far, the heap has
//! not handed out, and no event comes.
//!
//! *Evidence.* A page of the heap that was given back to the kernel, or never used, is touched by nobody before the heap hands
//! it out. A fault there without an event is an event that was missed. A program that rests, computes, or fills what it has
//! got before makes none, however long no event comes: the time alone says nothing.
//! *Bound.* It knows such pages only once the heap was read, or got address space, while it was recorded.

use crate::event::{HeapAct, HeapRun, HeapState};
use crate::live::spans::Row;
use crate::ranges::RangeSet;
use crate::units::{Bytes, Nanos, PAGE_BYTES, Range};

/// How long no event has to come.
pub const PATIENCE: Nanos = Nanos(5_000_000_000);
/// How much has to be touched meanwhile.
const LEAST: Bytes = Bytes(256 << 10);

/// What a page heap has not handed out, and what was touched of it all the same.
#[derive(Default)]
pub struct Silence {
    given_back: RangeSet,
    /// When the last event or reading was.
    heard_at: Nanos,
    /// Touched since.
    touched: u64,
    told: bool,
}

impl Silence {
    /// Everything that was known is to be read again.
    pub fn forget(&mut self) {
        self.given_back = RangeSet::default();
        self.touched = 0;
    }

    /// The heap was read.
    pub fn read(&mut self, ts: Nanos, rows: &[Row]) {
        self.forget();
        self.heard_at = ts;
        for row in rows.iter().filter(|row| row.state == HeapState::GivenBack) {
            self.given_back.add(Range::of(row.addr, row.pages.bytes().0));
        }
    }

    /// An event of the heap.
    pub fn heard(&mut self, ts: Nanos, run: &HeapRun) {
        self.heard_at = ts;
        self.touched = 0;
        let range = Range::of(run.addr, run.pages.bytes().0);
        match run.act {
            HeapAct::Scav | HeapAct::Mark => drop(self.given_back.add(range)),
            HeapAct::Alloc | HeapAct::Free => drop(self.given_back.remove(range)),
        }
    }

    /// The process took a fault at an address.
    pub fn touched(&mut self, addr: u64) {
        let page = Range::of(addr & !(PAGE_BYTES - 1), PAGE_BYTES);
        self.touched = self.touched.saturating_add(self.given_back.remove(page).0);
    }

    /// What to say about it, once.
    pub fn told_at(&mut self, now: Nanos) -> Option<String> {
        if self.told || self.touched < LEAST.0 || now.since(self.heard_at) < PATIENCE {
            return None;
        }
        self.told = true;
        let (kib, seconds) = (self.touched >> 10, now.since(self.heard_at).0 / 1_000_000_000);
        Some(format!(
            "its page heap has given no event for {seconds} s, but {kib} KiB were touched that it had not handed out: events \
             of the page heap are missing"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{HEAP_PAGE_BYTES, HeapPages};

    const SECOND: u64 = 1_000_000_000;
    const HEAP: u64 = 0xc0_0000_0000;

    fn run(act: HeapAct, page: u64, pages: u64) -> HeapRun {
        let addr = HEAP + page * HEAP_PAGE_BYTES;
        HeapRun { act, addr, pages: HeapPages(pages), p: None, goid: None, span: None }
    }

    /// A heap of 1000 pages, the first 100 in use, and all the rest given back, at the first second.
    fn heap() -> Silence {
        let mut silence = Silence::default();
        let row =
            |page: u64, pages: u64, state| Row { addr: HEAP + page * HEAP_PAGE_BYTES, pages: HeapPages(pages), state };
        silence.read(Nanos(SECOND), &[row(0, 100, HeapState::Heap), row(100, 900, HeapState::GivenBack)]);
        silence
    }

    /// Touches the base pages of the heap's pages `[from, to)`.
    fn touch(silence: &mut Silence, from: u64, to: u64) {
        for page in 2 * from..2 * to {
            silence.touched(HEAP + page * PAGE_BYTES + 8);
        }
    }

    #[track_caller]
    fn check(mut silence: Silence, at: u64, is_told: bool) {
        assert_eq!(silence.told_at(Nanos(at * SECOND)).is_some(), is_told);
        assert_eq!(silence.told_at(Nanos(at * SECOND)), None, "once");
    }

    #[test]
    fn pages_that_were_not_handed_out() {
        let mut silence = heap();
        touch(&mut silence, 100, 132);
        check(silence, 6, true);
        let mut silence = heap();
        touch(&mut silence, 100, 132);
        check(silence, 5, false);
        // The same pages again and again are no more than they are.
        let mut silence = heap();
        (0..100).for_each(|_| touch(&mut silence, 100, 131));
        check(silence, 60, false);
        // Got as address space while it was recorded.
        let mut silence = heap();
        silence.heard(Nanos(2 * SECOND), &run(HeapAct::Mark, 2000, 512));
        touch(&mut silence, 2000, 2032);
        check(silence, 7, true);
        // Given back a moment ago.
        let mut silence = heap();
        silence.heard(Nanos(2 * SECOND), &run(HeapAct::Scav, 0, 50));
        touch(&mut silence, 0, 50);
        check(silence, 7, true);
    }

    #[test]
    fn silence_that_means_nothing() {
        // At rest.
        check(heap(), 3600, false);
        // Filling what was handed out before, and what is not the heap's.
        let mut silence = heap();
        touch(&mut silence, 0, 100);
        touch(&mut silence, 5000, 9000);
        check(silence, 3600, false);
        // Handed out, then touched.
        let mut silence = heap();
        silence.heard(Nanos(2 * SECOND), &run(HeapAct::Alloc, 100, 500));
        touch(&mut silence, 100, 600);
        check(silence, 3600, false);
        // An event came after all.
        let mut silence = heap();
        touch(&mut silence, 100, 200);
        silence.heard(Nanos(9 * SECOND), &run(HeapAct::Alloc, 500, 1));
        check(silence, 3600, false);
        // Records were lost, among them perhaps those that are missing.
        let mut silence = heap();
        touch(&mut silence, 100, 200);
        silence.forget();
        touch(&mut silence, 200, 300);
        check(silence, 3600, false);
    }
}
