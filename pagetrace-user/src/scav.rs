//! What was given back to the kernel, and what of it came back: how soon, by whom, and at how many faults.
//!
//! Memory that is needed again at once was given back for nothing: each page costs a fault and is zeroed. Memory that
//! another task brings back was given back in vain.
//!
//! *Units.* Bytes of resident pages. A page counts once for each time that it is given back; one that only may be taken
//! (`MADV_FREE`) has come back when it was taken and is there again.

mod text;

use std::collections::{BTreeMap, HashMap};
use std::io;

use rangemap::RangeMap;
use serde::Serialize;

use crate::event::{Body, Event, StackId, StackOf};
use crate::format::{Outcome, Trace};
use crate::replay::{State, base_pages, calls};
use crate::stacks::{Frame, frames_of};
use crate::units::{Nanos, PAGE_BYTES, Pfn, Range, Tid};

/// Upper ends of the times until memory came back, and their words.
const DELAYS: [(u64, &str); 6] = [
    (1_000_000, "1 ms"),
    (10_000_000, "10 ms"),
    (100_000_000, "100 ms"),
    (1_000_000_000, "1 s"),
    (10_000_000_000, "10 s"),
    (u64::MAX, "later"),
];

/// Who brings memory back by using it.
const ITSELF: &str = "itself";

/// What was given back by one stack, or by all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Given {
    pub calls: u64,
    /// Of the ranges that the calls named, and of the resident pages in them.
    pub asked_bytes: u64,
    pub given_bytes: u64,
    pub came_back_bytes: u64,
    /// Of those, within the time that was asked for.
    pub soon_bytes: u64,
    /// Times that the process itself faulted for it.
    pub faults: u64,
    /// Bytes by the time until they came back: each up to the time that names it.
    pub after: BTreeMap<usize, u64>,
    /// Bytes by who brought them back: the process `itself`, or another task.
    pub by: BTreeMap<String, u64>,
}

/// What one stack gave back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    #[serde(flatten)]
    pub given: Given,
    /// The outermost first; empty where no stack was recorded.
    pub frames: Vec<Frame>,
}

/// All that was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scav {
    pub within_ns: u64,
    #[serde(flatten)]
    pub all: Given,
    /// The words for the keys of `after`.
    pub delays: Vec<&'static str>,
    /// Those first of which the most came back.
    pub sites: Vec<Site>,
}

/// When a range was given back, and by which stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gift {
    at: Nanos,
    stack: Option<StackId>,
}

#[derive(Default)]
struct Growing {
    sites: HashMap<Option<StackId>, Given>,
    given: RangeMap<u64, Gift>,
    /// Of a thread, what it has freed last without doing anything else: a call's event stands where the call returned, after
    /// the frees that it made.
    freed: HashMap<Tid, Vec<Range>>,
    /// Of a thread, the call whose stack may follow.
    pending: HashMap<Tid, Pending>,
}

struct Pending {
    range: Range,
    at: Nanos,
    /// What was resident of it.
    runs: Vec<Range>,
}

impl Scav {
    /// Folds a trace.
    ///
    /// # Errors
    /// When the source cannot be read. Damage is not an error: it is in the outcome.
    pub fn of(trace: &mut impl Trace, within: Nanos) -> io::Result<(Scav, Outcome)> {
        let (mut state, mut growing) = (State::new(), Growing::default());
        while let Some(event) = trace.next_event()? {
            growing.before(&state, event, within);
            state.apply(event);
        }
        let outcome = trace.outcome();
        state.finish(outcome.is_whole());
        growing.end(&state, within);
        let mut all = Given::default();
        let mut sites: Vec<Site> = Vec::new();
        for (stack, given) in growing.sites {
            all.add(&given);
            sites.push(Site { given, frames: stack.map(|stack| frames_of(&state, stack)).unwrap_or_default() });
        }
        sites.sort_by(|a, b| {
            let size = |site: &Site| (site.given.came_back_bytes, site.given.given_bytes, site.given.calls);
            size(b).cmp(&size(a)).then_with(|| a.frames.cmp(&b.frames))
        });
        let delays = DELAYS.map(|(_, word)| word).to_vec();
        Ok((Scav { within_ns: within.0, all, delays, sites }, outcome))
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Given {
    fn add(&mut self, more: &Given) {
        for (sum, more) in [
            (&mut self.calls, more.calls),
            (&mut self.asked_bytes, more.asked_bytes),
            (&mut self.given_bytes, more.given_bytes),
            (&mut self.came_back_bytes, more.came_back_bytes),
            (&mut self.soon_bytes, more.soon_bytes),
            (&mut self.faults, more.faults),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (delay, bytes) in &more.after {
            add(self.after.entry(*delay).or_default(), *bytes);
        }
        for (who, bytes) in &more.by {
            add(self.by.entry(who.clone()).or_default(), *bytes);
        }
    }
}

impl Growing {
    /// `event` follows on `state`.
    fn before(&mut self, state: &State, event: &Event, within: Nanos) {
        if let Body::Stack { of: StackOf::Call, id } = event.body {
            return self.settle(event.tid, Some(id));
        }
        if self.pending.contains_key(&event.tid) {
            self.settle(event.tid, None);
        }
        match &event.body {
            Body::Free { pfn, order } => return self.freed(state, event.tid, *pfn, *order),
            Body::Rss { .. } => return,
            _ => {}
        }
        let freed = self.freed.remove(&event.tid).unwrap_or_default();
        match &event.body {
            Body::Advise { range, advice, .. } if calls::gives_back(*advice) && !range.is_empty() => {
                self.found(state, *range, within);
                let mut runs = state.resident().runs(*range);
                runs.extend(freed.into_iter().map(|run| cut(run, *range)).filter(|run| !run.is_empty()));
                self.pending.insert(event.tid, Pending { range: *range, at: event.ts, runs });
            }
            Body::Frame { addr: Some(addr), order, .. } => {
                let range = Range::of(*addr, base_pages(*order).saturating_mul(PAGE_BYTES));
                self.came(event, range, within);
            }
            Body::Unmap { range, .. } | Body::Map { range, .. } => self.forget(state, *range, within),
            Body::Remap { old, new, .. } => {
                self.forget(state, *old, within);
                self.forget(state, *new, within);
            }
            Body::Exec { .. } | Body::Exit { .. } | Body::MmGone => self.end(state, within),
            _ => {}
        }
    }

    /// A thread freed pages, perhaps in a call that gives them back.
    fn freed(&mut self, state: &State, tid: Tid, pfn: Pfn, order: u8) {
        let runs = self.freed.entry(tid).or_default();
        for index in 0..base_pages(order) {
            let Some(addr) = state.resident().holder(Pfn(pfn.0.saturating_add(index))) else { continue };
            match runs.last_mut() {
                Some(run) if run.end == addr => run.end = addr.saturating_add(PAGE_BYTES),
                _ => runs.push(Range::of(addr, PAGE_BYTES)),
            }
        }
    }

    /// Pages came into `range`.
    fn came(&mut self, event: &Event, range: Range, within: Nanos) {
        if range.is_empty() {
            return;
        }
        let waiting =
            self.pending.iter().find(|(_, call)| call.range.start < range.end && range.start < call.range.end);
        if let Some(tid) = waiting.map(|(tid, _)| *tid) {
            // Another thread was faster than the stack.
            self.settle(tid, None);
        }
        let back: Vec<(u64, Gift)> = self
            .given
            .overlapping(&(range.start..range.end))
            .map(|(part, gift)| (cut(Range { start: part.start, end: part.end }, range).bytes().0, *gift))
            .collect();
        let who = event.actor.map_or_else(|| ITSELF.to_owned(), |actor| actor.comm.to_text());
        for (bytes, gift) in &back {
            self.came_back(*gift, *bytes, event.ts, &who, within);
        }
        // One fault, however many gifts it meets.
        if let Some((_, gift)) = back.first() {
            let faults = &mut self.sites.entry(gift.stack).or_default().faults;
            add(faults, u64::from(event.actor.is_none()));
            self.given.remove(range.start..range.end);
        }
    }

    /// What came back into `range` without an event that tells where: a reading has found it.
    fn found(&mut self, state: &State, range: Range, within: Nanos) {
        let gifts: Vec<(Range, Gift)> = self
            .given
            .overlapping(&(range.start..range.end))
            .map(|(part, gift)| (cut(Range { start: part.start, end: part.end }, range), *gift))
            .collect();
        for (part, gift) in gifts {
            for run in state.resident().runs(part) {
                let mut addr = run.start;
                while addr < run.end {
                    if let Some(page) = state.resident().get(addr).filter(|page| page.since > gift.at) {
                        let maker = state.makers().all().get(page.maker.0 as usize).and_then(|maker| maker.task.actor);
                        let who = maker.map_or_else(|| ITSELF.to_owned(), |actor| actor.comm.to_text());
                        self.came_back(gift, PAGE_BYTES, page.since, &who, within);
                    }
                    addr = addr.saturating_add(PAGE_BYTES);
                }
            }
        }
    }

    fn came_back(&mut self, gift: Gift, bytes: u64, at: Nanos, who: &str, within: Nanos) {
        let given = self.sites.entry(gift.stack).or_default();
        let after = at.since(gift.at);
        add(&mut given.came_back_bytes, bytes);
        if after <= within {
            add(&mut given.soon_bytes, bytes);
        }
        let delay = DELAYS.iter().position(|(end, _)| after.0 <= *end).unwrap_or(DELAYS.len() - 1);
        add(given.after.entry(delay).or_default(), bytes);
        match given.by.get_mut(who) {
            Some(sum) => add(sum, bytes),
            None => {
                given.by.insert(who.to_owned(), bytes);
            }
        }
    }

    /// The call of this thread is known whole.
    fn settle(&mut self, tid: Tid, stack: Option<StackId>) {
        let Some(Pending { range, at, runs }) = self.pending.remove(&tid) else { return };
        let given = self.sites.entry(stack).or_default();
        add(&mut given.calls, 1);
        add(&mut given.asked_bytes, range.bytes().0);
        for run in runs {
            add(&mut given.given_bytes, run.bytes().0);
            self.given.insert(run.start..run.end, Gift { at, stack });
        }
    }

    /// The address space ends, or what is known of it.
    fn end(&mut self, state: &State, within: Nanos) {
        let threads: Vec<Tid> = self.pending.keys().copied().collect();
        threads.into_iter().for_each(|tid| self.settle(tid, None));
        self.forget(state, Range { start: 0, end: u64::MAX }, within);
    }

    /// What was in `range` is no longer waited for.
    fn forget(&mut self, state: &State, range: Range, within: Nanos) {
        if !range.is_empty() {
            self.found(state, range, within);
            self.given.remove(range.start..range.end);
        }
    }
}

/// The part of `run` in `range`.
fn cut(run: Range, range: Range) -> Range {
    Range { start: run.start.max(range.start), end: run.end.min(range.end) }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
