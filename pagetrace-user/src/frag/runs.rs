//! What the runs of a page heap hold, each divided into objects of one size: what is empty in one is charged to the stack that
//! it was handed out to, and what is at its end, too small for an object, with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pages::Held;
use crate::replay::{HandedOut, HeapPage, State};
use crate::stacks::same_lines;
use crate::units::Nanos;

/// The runs of objects of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Of each object; of a large one, which has a run of its own, that of the run.
    pub object_bytes: u64,
    pub runs: u64,
    pub run_bytes: u64,
    /// In use, and how many there is room for.
    pub objects: u64,
    pub room: u64,
    pub empty_bytes: u64,
}

impl Held {
    /// Of runs that were looked at and are in use.
    pub fn of_runs(state: &State, older_than: Nanos) -> Held {
        let mut held = Held::default();
        let mut sizes: BTreeMap<u64, Size> = BTreeMap::new();
        let given = |addr: u64| state.stacks().handed_out_at(addr);
        let uses = || state.heap().uses().filter(|used| state.heap().page(used.addr) == Some(HeapPage::Objects));
        let lines = same_lines(state, uses().filter_map(|used| given(used.addr)?.stack));
        for used in uses() {
            let run = used.pages.bytes().0;
            let live = used.objects.saturating_mul(used.object_bytes).min(run);
            let empty = run.saturating_sub(live);
            let size = sizes.entry(used.object_bytes).or_default();
            size.object_bytes = used.object_bytes;
            let room = run.checked_div(used.object_bytes).unwrap_or(0);
            for (sum, more) in [
                (&mut held.page_bytes, run),
                (&mut held.live_bytes, live),
                (&mut held.empty_bytes, empty),
                (&mut held.objects, used.objects),
                (&mut size.runs, 1),
                (&mut size.run_bytes, run),
                (&mut size.objects, used.objects),
                (&mut size.room, room),
                (&mut size.empty_bytes, empty),
            ] {
                *sum = sum.saturating_add(more);
            }
            // What was handed out before the recording is older than anything in it.
            let HandedOut { at, stack } = given(used.addr).unwrap_or(HandedOut { at: Nanos(0), stack: None });
            if state.now().since(at) < older_than {
                held.young_bytes = held.young_bytes.saturating_add(empty);
                continue;
            }
            let stack = stack.map(|stack| lines.get(&stack).copied().unwrap_or(stack));
            let sum = held.sites.entry(stack).or_default();
            for (sum, more) in [
                (&mut sum.empty, empty),
                (&mut sum.pages, run),
                (&mut sum.alone, run),
                (&mut sum.bytes, live),
                (&mut sum.objects, used.objects),
            ] {
                *sum = sum.saturating_add(more);
            }
            sum.first = Some(sum.first.map_or(at, |first| first.min(at)));
            sum.last = sum.last.max(at);
            sum.call = HeapPage::Objects.word();
        }
        held.sizes = sizes.into_values().collect();
        held.sizes.sort_by_key(|size| std::cmp::Reverse(size.empty_bytes));
        held
    }
}
