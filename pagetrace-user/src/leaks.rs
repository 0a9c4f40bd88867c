//! Which objects were given and never taken back, by the stack that asked for them; where no objects were recorded, which runs
//! of a page heap were.
//!
//! *Runs.* Small objects of one size share a run of pages. It stays as long as one of them does, and its stack is that of who
//! needed a new one: whoever else asks for that size may be the one that leaks. A large object has a run of its own. tcmalloc
//! keeps some runs of which every object was taken back; Go does until its next collection.
//!
//! *Order.* A leak gives objects that stay in every part of the recording; a cache that is filled once does so in one, one
//! that replaces what it holds has only young objects. So stacks stand in the order of the parts in which what stays was
//! given, then of its bytes.
//!
//! *Units.* Bytes as asked for; of a sampled recording an estimate, with its standard error.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::event::{Header, Layer, StackId};
use crate::replay::{Estimate, HeapPage, State};
pub use crate::stacks::Unit;
use crate::stacks::{Frame, frames_of, same_lines, write_frames};
use crate::units::{Bytes, Nanos};

/// Parts of a recording, of one length.
const PARTS: u64 = 8;

/// What stays of one stack's objects, or of its runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    pub bytes: u64,
    /// The standard error of the bytes; 0 where every object was recorded.
    pub error_bytes: u64,
    pub objects: u64,
    /// Objects that were recorded, and those of them whose end may have been dropped.
    pub samples: u64,
    pub uncertain: u64,
    /// Parts of the recording in which one was given that stays.
    pub parts: u32,
    /// When the first and the last of them were given, ns since the recording began.
    pub first_ns: u64,
    pub last_ns: u64,
    /// What it was asked for by: `malloc`; of a run, what for: `objects`, `stacks`, `other`.
    pub call: &'static str,
    /// The outermost first; empty where no stack was recorded.
    pub frames: Vec<Frame>,
}

/// All that stays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leaks {
    /// What sites call objects.
    pub unit: Unit,
    /// Of objects that were given at least `older_than_ns` before the end.
    pub bytes: u64,
    pub error_bytes: u64,
    pub objects: u64,
    pub older_than_ns: u64,
    /// Bytes between two samples, 0 for every object; absent: objects were not recorded.
    pub period_bytes: Option<u64>,
    pub recorded_ns: u64,
    /// Parts that the recording is divided into.
    pub parts: u64,
    /// Objects without a stack of their own: the bound on the rate of stacks left them without.
    pub without_stack: u64,
    pub sites: Vec<Site>,
}

#[derive(Default)]
struct Sum {
    estimate: Estimate,
    uncertain: u64,
    parts: u64,
    first: Option<Nanos>,
    last: Nanos,
    call: &'static str,
}

/// What is there still.
struct Given {
    bytes: Bytes,
    since: Nanos,
    stack: Option<StackId>,
    call: &'static str,
    is_uncertain: bool,
}

impl Leaks {
    /// What lives at the end of the trace, and was given at least so long before.
    #[must_use]
    pub fn new(header: &Header, state: &State, older_than: Nanos) -> Leaks {
        let from = state.tally().first.unwrap_or_default();
        let recorded = state.now().since(from);
        let unit = Unit::of(header, state);
        // Of runs every one is known.
        let period_bytes = header.object_period_bytes.filter(|_| unit == Unit::Object);
        let period = period_bytes.unwrap_or(0);
        let given = if unit == Unit::Run { runs(state) } else { objects(state) };
        let lines = same_lines(state, given.iter().filter_map(|given| given.stack));
        let mut sums: BTreeMap<Option<StackId>, Sum> = BTreeMap::new();
        let mut all = Estimate::default();
        for given in given.iter().filter(|given| state.now().since(given.since) >= older_than) {
            let stack = given.stack.map(|stack| lines.get(&stack).copied().unwrap_or(stack));
            let sum = sums.entry(stack).or_default();
            for estimate in [&mut sum.estimate, &mut all] {
                estimate.add(given.bytes, period);
            }
            sum.uncertain += u64::from(given.is_uncertain);
            let part = given.since.since(from).0.saturating_mul(PARTS).checked_div(recorded.0).unwrap_or(0);
            sum.parts |= 1 << part.min(PARTS - 1);
            sum.first = Some(sum.first.map_or(given.since, |first| first.min(given.since)));
            sum.last = sum.last.max(given.since);
            sum.call = given.call;
        }
        let without_stack = sums.get(&None).map_or(0, |sum| sum.estimate.samples);
        let mut sites: Vec<Site> = sums
            .into_iter()
            .map(|(stack, sum)| Site {
                bytes: sum.estimate.bytes.round() as u64,
                error_bytes: sum.estimate.error().round() as u64,
                objects: sum.estimate.objects.round() as u64,
                samples: sum.estimate.samples,
                uncertain: sum.uncertain,
                parts: sum.parts.count_ones(),
                first_ns: sum.first.unwrap_or_default().since(from).0,
                last_ns: sum.last.since(from).0,
                call: sum.call,
                frames: stack.map(|stack| frames_of(state, stack)).unwrap_or_default(),
            })
            .collect();
        sites.sort_by(|a, b| (b.parts, b.bytes).cmp(&(a.parts, a.bytes)).then_with(|| a.frames.cmp(&b.frames)));
        Leaks {
            unit,
            bytes: all.bytes.round() as u64,
            error_bytes: all.error().round() as u64,
            objects: all.objects.round() as u64,
            older_than_ns: older_than.0,
            period_bytes,
            recorded_ns: recorded.0,
            parts: PARTS,
            without_stack,
            sites,
        }
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The first `top` sites, for people.
    #[must_use]
    pub fn text(&self, top: usize) -> String {
        let mut out = String::new();
        if self.unit == Unit::Object && self.period_bytes.is_none() {
            out.push_str("no objects were recorded: pagetrace-user --objects records them\n");
            return out;
        }
        let bytes = weight(self.bytes, self.error_bytes);
        // SANITY: writing to a String cannot fail.
        let _ = writeln!(
            out,
            "Never taken back: {bytes} in {} {}, given {} or longer before the end of {:.3} s",
            self.objects,
            if self.unit == Unit::Run { "runs of the page heap" } else { "objects" },
            age(self.older_than_ns),
            Nanos(self.recorded_ns).as_secs_f64()
        );
        let what = if self.unit == Unit::Run { "runs" } else { "objects" };
        if self.unit == Unit::Run {
            out.push_str(
                "small objects of one size share a run: its stack is that of who needed a new one, and another may leak; with all of them \
                 gone, the allocator may still keep it for the next\n",
            );
        }
        if self.without_stack > 0 {
            let _ = writeln!(out, "{} recorded {what} have no stack (--stack-rate when recording)", self.without_stack);
        }
        for site in self.sites.iter().take(top) {
            let _ = writeln!(
                out,
                "\n{} in {} {what}{}, given in {} of {} parts of the recording, from +{:.3} s to +{:.3} s",
                weight(site.bytes, site.error_bytes),
                site.objects,
                match self.unit {
                    Unit::Object => format!(" of {}", site.call),
                    // Only Go tells what for.
                    Unit::Run if site.call == HeapPage::Other.word() => String::new(),
                    Unit::Run => format!(" for {}", site.call),
                },
                site.parts,
                self.parts,
                Nanos(site.first_ns).as_secs_f64(),
                Nanos(site.last_ns).as_secs_f64()
            );
            if site.uncertain > 0 {
                let _ = writeln!(out, "  {} of them may have been taken back in a gap", site.uncertain);
            }
            if site.frames.is_empty() {
                let _ = writeln!(out, "    [no stack was recorded]");
            }
            let _ = write_frames(&mut out, site.frames.iter());
        }
        if self.sites.len() > top {
            let _ = writeln!(out, "\nand {} more stacks (--top)", self.sites.len() - top);
        }
        out
    }
}

fn objects(state: &State) -> Vec<Given> {
    let objects = state.objects();
    let given = objects.live().map(|(_, live)| Given {
        bytes: live.bytes,
        since: live.since,
        stack: live.stack,
        call: live.who.call.word(),
        is_uncertain: objects.is_uncertain(live),
    });
    given.collect()
}

/// Runs that were handed out while the heap was recorded, and that a later reading of it did not find free.
fn runs(state: &State) -> Vec<Given> {
    let gap = state.tally().gaps.iter().filter(|gap| gap.layer == Layer::Heap).map(|gap| gap.to).max();
    let given = state.stacks().handed_out().filter_map(|(range, given)| {
        let page = state.heap().page(range.start)?;
        matches!(page, HeapPage::Objects | HeapPage::Stacks | HeapPage::Other).then(|| Given {
            bytes: range.bytes(),
            since: given.at,
            stack: given.stack,
            call: page.word(),
            is_uncertain: gap.is_some_and(|gap| given.at <= gap),
        })
    });
    given.collect()
}

/// Bytes with their standard error.
pub(crate) fn weight(bytes: u64, error: u64) -> String {
    if error == 0 { Bytes(bytes).to_string() } else { format!("{} ± {}", Bytes(bytes), Bytes(error)) }
}

fn age(ns: u64) -> String {
    format!("{:.3} s", Nanos(ns).as_secs_f64())
}
