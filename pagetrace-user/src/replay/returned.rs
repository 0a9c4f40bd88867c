//! What had been given back to the kernel and is resident again: how much, who brought it back, and which stack gave it.

use std::collections::BTreeMap;

use super::State;
use crate::event::StackId;
use crate::units::{PAGE_BYTES, Pages, Range};

/// Memory that one task brought back and one stack had given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The comm of the task; empty: the process itself, by using it.
    pub by: String,
    /// Of the call that gave it back. Names of stacks stand later in a trace.
    pub given_back_by: Option<StackId>,
    pub pages: Pages,
    /// From the lowest to the highest of it, and the runs of pages between.
    pub within: Range,
    pub runs: u64,
}

impl State {
    /// By who brought it back and who gave it back. Cost: a walk over all resident pages.
    pub(super) fn returned(&self) -> Vec<Returned> {
        let mut sums: BTreeMap<(String, Option<StackId>), Returned> = BTreeMap::new();
        for (addr, page) in self.resident.iter() {
            let Some(given) = self.stacks.given_back(addr).filter(|given| given.at < page.since) else { continue };
            let maker = self.makers.all().get(page.maker.0 as usize);
            let by = maker.and_then(|maker| maker.task.actor).map(|actor| actor.comm.to_text()).unwrap_or_default();
            let sum = sums.entry((by, given.stack)).or_insert_with_key(|(by, stack)| Returned {
                by: by.clone(),
                given_back_by: *stack,
                pages: Pages(0),
                within: Range { start: addr, end: addr },
                runs: 0,
            });
            sum.runs = sum.runs.saturating_add(u64::from(sum.within.end != addr || sum.pages.0 == 0));
            sum.pages.0 = sum.pages.0.saturating_add(1);
            sum.within.end = addr.saturating_add(PAGE_BYTES);
        }
        sums.into_values().collect()
    }
}
