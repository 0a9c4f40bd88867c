//! What had been given back to the kernel and is resident again: who gave it back, who brought it back, and where.
//!
//! Memory that the process itself uses again is what an allocator wants; memory that another task brings back, while the
//! process may sleep, is the RSS that nobody finds in a profile.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;

use super::Report;
use super::text::{left, many, put, shown, table};
use crate::event::StackId;
use crate::replay::State;
use crate::stacks::{Frame, frames_of};
use crate::units::{Bytes, PAGE_BYTES};

/// Frames of the stack that gave back, in text.
const FRAMES_SHOWN: usize = 8;

/// Memory that one task brought back and one stack had given back.
#[derive(Clone, Debug, Serialize)]
pub struct ReturnedLine {
    pub bytes: u64,
    /// Empty: the process itself, by using it.
    pub by: String,
    /// The lowest and the highest address of it, and the runs of pages between.
    pub addr: String,
    pub end: String,
    pub runs: u64,
    /// Of the call that gave it back, the outermost first; empty where no stack was recorded.
    pub given_back_by: Vec<Frame>,
    /// What keeps it from coming back, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<&'static str>,
}

#[derive(Default)]
struct Sum {
    pages: u64,
    runs: u64,
    first: Option<u64>,
    /// The end of the last page.
    end: u64,
}

/// What had come back at one moment. The names of stacks stand later in a trace: they are looked up in the lines.
#[derive(Default)]
pub struct Returned(BTreeMap<(String, Option<StackId>), Sum>);

impl Returned {
    /// As `state` is.
    #[must_use]
    pub fn of(state: &State) -> Returned {
        let mut sums: BTreeMap<(String, Option<StackId>), Sum> = BTreeMap::new();
        for (addr, page) in state.resident().iter() {
            let Some(given) = state.stacks().given_back(addr).filter(|given| given.at < page.since) else { continue };
            let maker = state.makers().all().get(page.maker.0 as usize);
            let by = maker.and_then(|maker| maker.task.actor).map(|actor| actor.comm.to_text()).unwrap_or_default();
            let sum = sums.entry((by, given.stack)).or_default();
            sum.pages = sum.pages.saturating_add(1);
            sum.runs = sum.runs.saturating_add(u64::from(sum.end != addr || sum.first.is_none()));
            sum.first.get_or_insert(addr);
            sum.end = addr.saturating_add(PAGE_BYTES);
        }
        Returned(sums)
    }

    /// The greatest first, at most `top`; `state` is that of the whole trace.
    #[must_use]
    pub fn lines(self, state: &State, top: usize) -> Vec<ReturnedLine> {
        let mut lines: Vec<ReturnedLine> = (self.0.into_iter())
            .map(|((by, stack), sum)| ReturnedLine {
                bytes: sum.pages.saturating_mul(PAGE_BYTES),
                addr: format!("{:#x}", sum.first.unwrap_or_default()),
                end: format!("{:#x}", sum.end),
                runs: sum.runs,
                given_back_by: stack.map(|stack| frames_of(state, stack)).unwrap_or_default(),
                fix: fix_of(&by),
                by,
            })
            .collect();
        lines.sort_by(|a, b| {
            (b.bytes, &a.by).cmp(&(a.bytes, &b.by)).then_with(|| a.given_back_by.cmp(&b.given_back_by))
        });
        lines.truncate(top);
        lines
    }
}

/// What keeps this task from bringing memory back.
fn fix_of(by: &str) -> Option<&'static str> {
    (by == "khugepaged").then_some(
        "keep huge pages out of this range (madvise MADV_NOHUGEPAGE, prctl PR_SET_THP_DISABLE), or let khugepaged fill fewer \
         empty pages: echo 0 > /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none",
    )
}

pub(super) fn section(report: &Report, out: &mut String) -> fmt::Result {
    if report.returned.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nGiven back to the kernel, and resident again")?;
    let mut rows = table(&["bytes", "brought back by", "range"]);
    left(&mut rows, 2);
    for line in &report.returned {
        let by = if line.by.is_empty() { "the process's own use".to_owned() } else { shown(&line.by) };
        let place = format!("{} to {}, {}", line.addr, line.end, many(line.runs, "run"));
        rows.add_row([Bytes(line.bytes).to_string(), by, place]);
    }
    put(out, &rows)?;
    // The first that the process did not do itself is what nobody expects.
    let Some(line) = report.returned.iter().find(|line| !line.by.is_empty()) else { return Ok(()) };
    writeln!(out, "  what {} brought back had been given back by", shown(&line.by))?;
    if line.given_back_by.is_empty() {
        writeln!(out, "    [no stack was recorded]")?;
    }
    for frame in line.given_back_by.iter().rev().take(FRAMES_SHOWN) {
        writeln!(out, "    {frame}")?;
    }
    if let Some(fix) = line.fix {
        writeln!(out, "  fix: {fix}")?;
    }
    Ok(())
}
