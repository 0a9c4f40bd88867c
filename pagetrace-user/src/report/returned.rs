//! What had been given back to the kernel and is resident again: who gave it back, who brought it back, and where.
//!
//! Memory that the process itself uses again is what an allocator wants; memory that another task brings back, while the
//! process may sleep, is the RSS that nobody finds in a profile.

use std::fmt::{self, Write};

use serde::Serialize;

use super::Report;
use super::text::{left, many, put, shown, table};
use crate::replay::{Returned, State};
use crate::stacks::{Frame, frames_of};
use crate::units::Bytes;

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

/// The greatest first, at most `top`; `state` knows the names of the stacks.
pub(super) fn returned_lines(returned: &[Returned], state: &State, top: usize) -> Vec<ReturnedLine> {
    let mut lines: Vec<ReturnedLine> = returned
        .iter()
        .map(|part| ReturnedLine {
            bytes: part.pages.bytes().0,
            by: part.by.clone(),
            addr: format!("{:#x}", part.within.start),
            end: format!("{:#x}", part.within.end),
            runs: part.runs,
            given_back_by: part.given_back_by.map(|stack| frames_of(state, stack)).unwrap_or_default(),
            fix: fix_of(&part.by),
        })
        .collect();
    lines.sort_by(|a, b| (b.bytes, &a.by).cmp(&(a.bytes, &b.by)).then_with(|| a.given_back_by.cmp(&b.given_back_by)));
    lines.truncate(top);
    lines
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
