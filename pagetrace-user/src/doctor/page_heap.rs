//! The page heap of a process's program: which points a recording would attach to, and what each costs.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::symbols::go::{self, GoPlan};
use crate::units::Pid;

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
