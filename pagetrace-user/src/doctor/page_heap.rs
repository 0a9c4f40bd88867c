//! The page heaps of a process: of its program where that is a Go program, and of the allocators that it has mapped; which
//! points a recording would attach to, and what each costs.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::live::{mapped_programs, refusals};
use crate::symbols::go::{self, GoPlan};
use crate::symbols::tcmalloc::{self, Found};
use crate::units::Pid;

/// An allocator that a process has mapped.
#[derive(Clone, Debug)]
pub struct Mapped {
    pub path: String,
    pub found: Found,
}

/// The allocators of a process, in the order of its mappings.
#[must_use]
pub fn look_at_libraries(pid: Pid) -> Vec<Mapped> {
    let mapped = mapped_programs(pid).into_iter();
    mapped.filter_map(|(link, path)| Some(Mapped { path, found: tcmalloc::look(&link).ok()?? })).collect()
}

/// Lines for people about those, each with a line's end before it.
#[must_use]
pub fn text_of_libraries(mapped: &[Mapped], is_go: bool) -> String {
    let (mut text, mut refused) = (String::new(), Vec::new());
    // Writing to a String does not fail.
    for Mapped { path, found: Found { allocator, plan } } in mapped {
        match plan {
            Err(why) => refused.push((allocator.clone(), why.clone())),
            Ok(_) if is_go => {
                let _ = write!(text, "\npage heap of {allocator} ({path}): not recorded beside the Go runtime's own");
            }
            Ok(plan) => {
                let _ = write!(text, "\npage heap of {allocator} ({path}): recorded at");
                for point in &plan.points {
                    let _ = write!(text, "\n  {} at {}, {}", point.symbol, point.address, point.cost.word());
                }
            }
        }
    }
    let others = is_go || refused.len() < mapped.len();
    for refusal in refusals(&refused, others) {
        let _ = write!(text, "\n{refusal}");
    }
    text
}

#[must_use]
pub fn value_of_library(Mapped { path, found: Found { allocator, plan } }: &Mapped) -> Value {
    let points = plan.iter().flat_map(|plan| &plan.points).map(|point| {
        json!({
            "symbol": point.symbol,
            "addr": point.address.to_string(),
            "file_offset": point.file_offset.0,
            "cost": point.cost.word(),
        })
    });
    json!({
        "allocator": allocator,
        "path": path,
        "page_bytes": plan.as_ref().ok().map(|plan| 1_u64 << plan.page_shift.min(63)),
        "points": points.collect::<Vec<_>>(),
        "not_recorded": plan.as_ref().err().map(ToString::to_string),
    })
}

/// What is known of the program's page heap; `None`: it has none that is known, or its file tells nothing.
#[must_use]
pub fn look(pid: Pid) -> Option<GoPlan> {
    go::plan(Path::new(&format!("/proc/{pid}/exe"))).ok().flatten()
}

/// Lines for people, each with a line's end before it.
#[must_use]
pub fn text(plan: &GoPlan) -> String {
    let mut text = match &plan.offsets {
        Ok(_) => format!("\npage heap of {}: recorded at", plan.version),
        Err(why) => format!("\npage heap of {}: not recorded: {why}", plan.version),
    };
    // Writing to a String does not fail.
    for point in &plan.points {
        let _ = write!(text, "\n  {} at {}, {}", point.symbol, point.address, point.cost.word());
    }
    for missing in &plan.missing {
        let _ = write!(text, "\n  not {}: {}", missing.symbols.join(" or "), missing.why);
    }
    text
}

#[must_use]
pub fn value(plan: &GoPlan) -> Value {
    let points = plan.points.iter().map(|point| {
        json!({
            "symbol": point.symbol,
            "addr": point.address.to_string(),
            "file_offset": point.file_offset.0,
            "cost": point.cost.word(),
        })
    });
    let missing =
        plan.missing.iter().map(|missing| json!({ "symbols": missing.symbols, "why": missing.why.to_string() }));
    json!({
        "allocator": "go",
        "version": plan.version,
        "race": plan.race,
        "unverified": plan.offsets.as_ref().err().map(ToString::to_string),
        "points": points.collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
    })
}
