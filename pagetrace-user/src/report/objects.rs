//! The objects of allocators in a report: what lives, and how often each function was called.
//!
//! Where objects are sampled, counts of calls are exact all the same; what lives is an estimate without bias, with its
//! standard error.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;

use super::Report;
use super::text::{at, put, shown, table};
use crate::event::{Header, Who};
use crate::replay::{Estimate, State};
use crate::units::Bytes;

/// Objects, as a whole and by function.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectsLine {
    /// Bytes between two samples on average; 0: every object.
    pub period_bytes: u64,
    /// From when on they were recorded; `null`: from the program's first call on.
    pub since_ns: Option<u64>,
    /// At the end.
    pub live_objects: u64,
    pub live_bytes: u64,
    /// The standard error of `live_bytes`.
    pub live_error_bytes: u64,
    /// Recorded objects behind these figures, and those whose end may have been lost.
    pub live_samples: u64,
    pub uncertain_samples: u64,
    pub allocs: u64,
    pub frees: u64,
    /// Ends of objects whose beginning is not in the trace.
    pub unknown_frees: u64,
    pub calls: Vec<CallLine>,
}

/// One function of one allocator.
#[derive(Clone, Debug, Serialize)]
pub struct CallLine {
    pub allocator: String,
    pub path: String,
    pub call: &'static str,
    pub calls: u64,
    pub bytes: u64,
    /// Made by another function of an allocator: a part of that call.
    pub nested: u64,
    pub failed: u64,
    pub live_objects: u64,
    pub live_bytes: u64,
}

/// The objects; `None` where the trace has none.
pub(super) fn objects_line(header: &Header, state: &State) -> Option<ObjectsLine> {
    let objects = state.objects();
    if objects.is_empty() && header.object_period_bytes.is_none() {
        return None;
    }
    let period = header.object_period_bytes.unwrap_or(0);
    let (mut all, mut uncertain) = (Estimate::default(), 0_u64);
    let mut by_who: BTreeMap<Who, Estimate> = BTreeMap::new();
    for (_, live) in objects.live() {
        by_who.entry(live.who).or_default().add(live.bytes, period);
        all.add(live.bytes, period);
        uncertain = uncertain.saturating_add(u64::from(objects.is_uncertain(live)));
    }
    for who in objects.counts().keys() {
        by_who.entry(*who).or_default();
    }
    let calls = by_who.iter().map(|(who, live)| {
        let library = objects.libraries().get(&who.library).cloned().unwrap_or_default();
        let count = objects.counts().get(who).copied().unwrap_or_default();
        CallLine {
            allocator: library.name,
            path: library.path,
            call: who.call.word(),
            calls: count.calls,
            bytes: count.bytes.0,
            nested: count.nested,
            failed: count.failed,
            live_objects: live.objects.round() as u64,
            live_bytes: live.bytes.round() as u64,
        }
    });
    Some(ObjectsLine {
        period_bytes: period,
        since_ns: objects.since().map(|since| since.0),
        live_objects: all.objects.round() as u64,
        live_bytes: all.bytes.round() as u64,
        live_error_bytes: all.error().round() as u64,
        live_samples: all.samples,
        uncertain_samples: uncertain,
        allocs: objects.allocs.count,
        frees: objects.frees,
        unknown_frees: objects.unknown_frees,
        calls: calls.collect(),
    })
}

/// The section of a report; nothing where the trace has no objects.
pub(super) fn section(report: &Report, out: &mut String) -> fmt::Result {
    let Some(objects) = &report.objects else { return Ok(()) };
    if objects.calls.is_empty() && objects.allocs == 0 {
        return writeln!(
            out,
            "\nObjects of allocators: NONE: no function of an allocator was found in time in its program or its libraries"
        );
    }
    let (live, count) = (Bytes(objects.live_bytes), objects.live_objects);
    if objects.period_bytes == 0 {
        writeln!(out, "\nObjects of allocators: {live} in {count} live at the end; none left out")?;
    } else {
        let (error, period) = (Bytes(objects.live_error_bytes), Bytes(objects.period_bytes));
        writeln!(
            out,
            "\nObjects of allocators: {live} ± {error} in about {count} live at the end; {} sampled, one every {period}",
            objects.live_samples
        )?;
    }
    if let Some(since) = objects.since_ns {
        let since = at(report, since);
        writeln!(
            out,
            "recorded from {since} on: of what was given before, calls are counted at most, and nothing else is known"
        )?;
    }
    writeln!(
        out,
        "recorded {} given, {} taken back, {} of them unknown; {} that live may have been taken back in a gap",
        objects.allocs, objects.frees, objects.unknown_frees, objects.uncertain_samples
    )?;
    let mut calls = table(&["allocator", "call", "calls", "bytes", "nested", "failed", "live", "live bytes"]);
    for line in &objects.calls {
        calls.add_row([
            shown(&line.allocator),
            line.call.to_owned(),
            line.calls.to_string(),
            Bytes(line.bytes).to_string(),
            line.nested.to_string(),
            line.failed.to_string(),
            line.live_objects.to_string(),
            Bytes(line.live_bytes).to_string(),
        ]);
    }
    put(out, &calls)
}
