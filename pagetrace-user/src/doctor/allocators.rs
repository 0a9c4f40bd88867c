//! The allocators that a process has mapped: which of their functions a recording with `--objects` would attach to, and
//! what each costs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::live::{Returns, mapped_programs, returns_of};
use crate::symbols::allocators::{self, AllocatorPlan, Function};
use crate::units::Pid;

/// An allocator in a process.
#[derive(Clone, Debug)]
pub struct Mapped {
    pub path: String,
    pub plan: AllocatorPlan,
    /// It is a Go program's.
    pub is_go: bool,
}

/// The allocators of a process, in the order of its mappings.
#[must_use]
pub fn look(pid: Pid, is_go: bool) -> Vec<Mapped> {
    let mapped = mapped_programs(pid).into_iter();
    mapped.filter_map(|(link, path)| Some(Mapped { path, plan: allocators::plan(&link).ok()??, is_go })).collect()
}

/// How the result of a function is seen.
fn result(function: &Function, is_go: bool) -> String {
    match returns_of(function, is_go) {
        Returns::NotNeeded => "at its entry alone".to_owned(),
        Returns::TakenOver => "and its return, by way of the kernel".to_owned(),
        Returns::Instructions(count) if function.knows_all_returns => {
            format!("and {count} instructions that return, single-stepped")
        }
        Returns::Instructions(count) => {
            format!("and {count} instructions that return, single-stepped; by others it may return unseen")
        }
        Returns::Unknown => "NOT: not all of the instructions are known by which it returns".to_owned(),
    }
}

/// Lines for people, each with a line's end before it.
#[must_use]
pub fn text(mapped: &Mapped) -> String {
    let mut text = format!("\nobjects of {} ({}): with --objects recorded at", mapped.plan.name, mapped.path);
    // Writing to a String does not fail.
    for function in &mapped.plan.functions {
        let cost = function.site.cost.word();
        let _ = write!(text, "\n  {}, {cost}, {}", function.symbol, result(function, mapped.is_go));
    }
    for missing in &mapped.plan.missing {
        let _ = write!(text, "\n  NOT {missing}: there is no code where the function should be");
    }
    text
}

#[must_use]
pub fn value(mapped: &Mapped) -> Value {
    let functions = mapped.plan.functions.iter().map(|function| {
        json!({
            "symbol": function.symbol,
            "call": function.call.word(),
            "file_offset": function.file_offset.0,
            "cost": function.site.cost.word(),
            "returns": result(function, mapped.is_go),
        })
    });
    json!({
        "allocator": mapped.plan.name,
        "path": mapped.path,
        "functions": functions.collect::<Vec<_>>(),
        "missing": mapped.plan.missing,
    })
}
