//! The page heap of an allocator: which of its pages are in use and for what, and which have no memory of the kernel.
//!
//! *Units.* Bytes of address space. *Invariant.* Pages in use are not given back: an alloc ends that. Address space that
//! the heap just got is like what it gave back: free, and without memory.
//!
//! Frees of pages that are not in use change nothing, and are counted as anomalies, as is everything that a page heap never
//! does. Where the past of a heap is not known (a process that was there before the trace, or a reading without rows), what was handed out before is told by its
//! free alone: that is not odd, and counted apart.

use std::collections::BTreeMap;

use super::anomaly::Oddity;
use super::tally::Volume;
use crate::event::{HeapAct, HeapRun, HeapState, SpanKind, SpanUse, Start};
use crate::ranges::RangeSet;
use crate::units::{Bytes, HEAP_PAGE_BYTES, HeapPages, Nanos, Range};

/// Runs of which is kept what they hold: 128 GiB of one page each.
const MOST_USES: usize = 1 << 24;
/// Ps that are counted apart.
const MAX_PS: usize = 1 << 16;

/// What the events so far say about a page heap.
#[derive(Clone, Debug, Default)]
pub struct Heap {
    objects: RangeSet,
    stacks: RangeSet,
    others: RangeSet,
    given_back: RangeSet,
    /// Of what has no memory: what the heap got and never handed out.
    never_used: RangeSet,
    /// What runs hold that were looked at, and not handed out or taken back since, by address.
    uses: BTreeMap<u64, SpanUse>,
    /// Every run that was told of since the heap or its last reading began, whatever became of it.
    told: RangeSet,
    /// What events have told of, where nothing else is known; `None`: everything is.
    seen: Option<RangeSet>,
    /// Frees of what was handed out before that.
    pub older: Volume,
    pub allocs: Volume,
    pub frees: Volume,
    pub scavs: Volume,
    pub marks: Volume,
    /// Rows of the last reading.
    rows: u64,
    /// Events by P, the threads without one as `None`.
    pub by_p: BTreeMap<Option<u32>, u64>,
    /// The most that was in use at once, and since when.
    pub peak: Bytes,
    pub peak_at: Nanos,
}

/// What a page is to a page heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeapPage {
    Objects,
    Stacks,
    /// In use for the allocator's own structures, or for what no event tells.
    Other,
    /// Free, and kept: its memory was not given back.
    Free,
    /// Its memory was given back to the kernel; where it is resident, something brought it back.
    GivenBack,
}

impl HeapPage {
    /// All, in the order of reports.
    pub const ALL: [HeapPage; 5] =
        [HeapPage::Objects, HeapPage::Stacks, HeapPage::Other, HeapPage::Free, HeapPage::GivenBack];

    /// The stable word used in JSON and text.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            HeapPage::Objects => "objects",
            HeapPage::Stacks => "stacks",
            HeapPage::Other => "other",
            HeapPage::Free => "free",
            HeapPage::GivenBack => "given_back",
        }
    }
}

/// The arena of a Go heap in which an address lies (`heapArenaBytes` on 64-bit Linux).
fn arena_of(addr: u64) -> Range {
    const ARENA_BYTES: u64 = 64 << 20;
    Range::of(addr & !(ARENA_BYTES - 1), ARENA_BYTES)
}

impl Heap {
    /// Bytes handed out and not taken back.
    #[must_use]
    pub fn in_use(&self) -> Bytes {
        self.totals().fold(Bytes(0), |sum, total| Bytes(sum.0.saturating_add(total.0)))
    }

    /// Bytes in use for this. What no event told counts as [`SpanKind::Other`].
    #[must_use]
    pub fn in_use_for(&self, kind: SpanKind) -> Bytes {
        match kind {
            SpanKind::Heap => self.objects.total(),
            SpanKind::Stack => self.stacks.total(),
            SpanKind::Other => self.others.total(),
        }
    }

    fn totals(&self) -> impl Iterator<Item = Bytes> {
        SpanKind::ALL.iter().map(|&kind| self.in_use_for(kind))
    }

    /// Bytes whose memory was given back to the kernel and not handed out since.
    #[must_use]
    pub fn given_back(&self) -> Bytes {
        self.given_back.total()
    }

    /// Of that, bytes that the heap got and has not handed out yet: in Go, memory that was given back like any other.
    #[must_use]
    pub fn never_used(&self) -> Bytes {
        self.never_used.total()
    }

    /// Whether only that is known which events have told.
    #[must_use]
    pub fn has_past(&self) -> bool {
        self.seen.is_some()
    }

    /// What a page is to the heap; `None`: nothing that is known.
    #[must_use]
    pub fn page(&self, addr: u64) -> Option<HeapPage> {
        let page = Range::of(addr, 1);
        if self.objects.meets(page) {
            Some(HeapPage::Objects)
        } else if self.stacks.meets(page) {
            Some(HeapPage::Stacks)
        } else if self.others.meets(page) {
            Some(HeapPage::Other)
        } else if self.given_back.meets(page) {
            Some(HeapPage::GivenBack)
        } else if self.told.meets(page) || (self.is_go() && !self.has_past() && self.told.meets(arena_of(addr))) {
            Some(HeapPage::Free)
        } else {
            None
        }
    }

    /// Runs that are handed out, whatever for.
    pub fn in_use_runs(&self) -> impl Iterator<Item = Range> {
        [&self.objects, &self.stacks, &self.others].into_iter().flat_map(RangeSet::iter)
    }

    /// Runs without memory: what was given back, and what the heap got and never handed out.
    pub fn given_back_runs(&self) -> impl Iterator<Item = Range> {
        self.given_back.iter()
    }

    /// Of those, what the heap got and never handed out.
    pub fn never_used_runs(&self) -> impl Iterator<Item = Range> {
        self.never_used.iter()
    }

    /// Every run that an event or a reading told of, whatever became of it.
    pub fn told_runs(&self) -> impl Iterator<Item = Range> {
        self.told.iter()
    }

    /// All addresses that are its own, used or not, as far as is known: where [`Heap::page`] tells something.
    #[must_use]
    pub fn extents(&self) -> RangeSet {
        if !self.is_go() || self.has_past() {
            return self.told.clone();
        }
        let mut extents = RangeSet::default();
        for run in self.told.iter() {
            // Where it is full, nothing more is known to be the heap's.
            let _ =
                extents.add(Range { start: arena_of(run.start).start, end: arena_of(run.end.saturating_sub(1)).end });
        }
        extents
    }

    /// Only Go's has Ps, and arenas that are its own as a whole.
    fn is_go(&self) -> bool {
        self.by_p.keys().any(Option::is_some)
    }

    /// Whether there was any event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [self.allocs.count, self.frees.count, self.scavs.count, self.marks.count, self.rows].iter().all(|&n| n == 0)
    }

    /// Another program, another heap, or a reading of it begins: nothing is in use or given back. Counts and peak stay.
    pub(super) fn begin_anew(&mut self) {
        let in_use = [&mut self.objects, &mut self.stacks, &mut self.others];
        for runs in in_use.into_iter().chain([&mut self.given_back, &mut self.never_used, &mut self.told]) {
            *runs = RangeSet::default();
        }
        self.uses.clear();
        (self.rows, self.seen) = (0, None);
    }

    /// What runs hold that were looked at, and not handed out or taken back since, by rising address.
    pub fn uses(&self) -> impl Iterator<Item = &SpanUse> {
        self.uses.values()
    }

    pub(super) fn holds(&mut self, used: SpanUse) {
        if self.uses.len() < MOST_USES || self.uses.contains_key(&used.addr) {
            self.uses.insert(used.addr, used);
        }
    }

    /// The process comes into view. One that was there before the trace, or goes on with another's program, has a past: as
    /// long as no reading comes, what the heap did until now is not known.
    pub(super) fn begin(&mut self, how: Start) {
        self.seen = (how != Start::Executed).then(RangeSet::default);
    }

    /// A reading of it begins: as long as no row comes, its past is not known.
    pub(super) fn begin_reading(&mut self) {
        self.begin_anew();
        (self.seen, self.older) = (Some(RangeSet::default()), Volume::default());
    }

    fn used_for(&mut self, kind: SpanKind) -> &mut RangeSet {
        match kind {
            SpanKind::Heap => &mut self.objects,
            SpanKind::Stack => &mut self.stacks,
            SpanKind::Other => &mut self.others,
        }
    }

    /// Takes a range out of what is in use, and gives the bytes of it that were.
    fn end_use(&mut self, range: Range) -> Bytes {
        let bytes = SpanKind::ALL.iter().map(|&kind| self.used_for(kind).remove(range).0);
        Bytes(bytes.fold(0, u64::saturating_add))
    }

    fn begin_use(&mut self, ts: Nanos, kind: SpanKind, range: Range, odd: &mut impl FnMut(Oddity, u64)) {
        self.given_back.remove(range);
        self.never_used.remove(range);
        if self.end_use(range).0 > 0 {
            odd(Oddity::HeapAllocTwice, range.start);
        }
        if self.used_for(kind).add(range).is_none() {
            odd(Oddity::SetFull, range.start);
        }
        let in_use = self.in_use();
        if in_use > self.peak {
            (self.peak, self.peak_at) = (in_use, ts);
        }
    }

    /// Applies a row of a reading.
    pub(super) fn row(
        &mut self,
        ts: Nanos,
        (addr, pages, state): (u64, HeapPages, HeapState),
        mut odd: impl FnMut(Oddity, u64),
    ) {
        (self.rows, self.seen) = (self.rows.saturating_add(1), None);
        let range = Range::of(addr, pages.bytes().0);
        // Where it is full, what is free there is not known to be.
        let _ = self.told.add(range);
        let kind = match state {
            HeapState::Heap => SpanKind::Heap,
            HeapState::Stack => SpanKind::Stack,
            HeapState::Other => SpanKind::Other,
            HeapState::GivenBack => {
                if self.given_back.add(range).is_none() {
                    odd(Oddity::SetFull, addr);
                }
                return;
            }
        };
        self.begin_use(ts, kind, range, &mut odd);
    }

    /// Applies an event; `odd` is told of everything odd about it, with an address.
    pub(super) fn apply(
        &mut self,
        ts: Nanos,
        &HeapRun { act, addr, pages, p, span, .. }: &HeapRun,
        mut odd: impl FnMut(Oddity, u64),
    ) {
        let range = Range::of(addr, pages.bytes().0);
        if self.by_p.len() < MAX_PS || self.by_p.contains_key(&p) {
            let events = self.by_p.entry(p).or_default();
            *events = events.saturating_add(1);
        }
        if range.is_empty() || range.bytes() != pages.bytes() || !addr.is_multiple_of(HEAP_PAGE_BYTES) {
            odd(Oddity::HeapOddRange, addr);
        }
        let _ = self.told.add(range);
        self.uses.remove(&addr);
        match act {
            HeapAct::Alloc => {
                self.allocs.add(pages.bytes());
                let kind = span.map_or(SpanKind::Other, |span| span.kind);
                self.begin_use(ts, kind, range, &mut odd);
            }
            HeapAct::Free => {
                self.frees.add(pages.bytes());
                let ended = self.end_use(range);
                if ended != range.bytes() {
                    if ended.0 == 0 && self.seen.as_ref().is_some_and(|seen| !seen.meets(range)) {
                        self.older.add(range.bytes());
                    } else {
                        odd(Oddity::HeapFreeTwice, addr);
                    }
                }
            }
            HeapAct::Scav | HeapAct::Mark => {
                if act == HeapAct::Mark { &mut self.marks } else { &mut self.scavs }.add(pages.bytes());
                if SpanKind::ALL.iter().any(|&kind| self.used_for(kind).meets(range)) {
                    return odd(Oddity::HeapScavInUse, addr);
                }
                // What was never used may be given back: the kernel is asked about a run, part of which was.
                let unused = if act == HeapAct::Scav { self.never_used.remove(range) } else { Bytes(0) };
                match self.given_back.add(range) {
                    Some(again) if again <= unused => {}
                    Some(_) => odd(Oddity::HeapScavTwice, addr),
                    None => odd(Oddity::SetFull, addr),
                }
                if act == HeapAct::Mark && self.never_used.add(range).is_none() {
                    odd(Oddity::SetFull, addr);
                }
            }
        }
        if let Some(seen) = &mut self.seen
            && seen.add(range).is_none()
        {
            odd(Oddity::SetFull, addr);
        }
    }
}
