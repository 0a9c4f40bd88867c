//! Whether a trace file is whole and its books balance.
//!
//! *Invariants checked.* Each counter row: seen = emitted + filtered + dropped. The session: emitted = decoded = written +
//! skipped. The file: events = records + the recorder's own, and as many events as the trailer says; time never goes back.
//! The recorder counts a process's own events among its own; at least those that can be no kernel record must be there.
//!
//! A page trace of the Go runtime has no counters: checked are its words (the prefix in which each makes sense), its
//! buffers (whether each P's last one was written, and the others are full) and the order in time within each P.
//!
//! *Exit codes.* 0: whole and balanced (lost records that are counted do not make it worse: see `lost`). 7: damaged or
//! unfinished; what was recovered is told. 1: whole, but the books do not balance: the recorder is at fault.

use std::fmt::Write;
use std::io;

use serde::Serialize;

use crate::event::{Body, Trailer};
use crate::failure::Code;
use crate::format::Trace;
use crate::format::go::GoFile;
use crate::replay::{Gap, MAX_GAPS};
use crate::units::{Bytes, Nanos};

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// `complete`, `unfinished` or `damaged`.
    pub file_state: &'static str,
    pub exit: u8,
    pub damage: Option<Damaged>,
    /// Events that could be read, and the bytes and blocks that hold them.
    pub events: u64,
    pub bytes: u64,
    pub blocks: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Events that can be no kernel record.
    pub own_events: u64,
    pub out_of_order: u64,
    /// Each a sentence with the numbers that do not agree.
    pub violations: Vec<String>,
    /// In this file: dropped records, and when.
    pub lost: u64,
    pub gaps: Vec<GapAt>,
    pub gaps_not_listed: u64,
    pub trailer: Option<Trailer>,
    /// Of a Go runtime's own trace: what it tells of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go: Option<GoFile>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Damaged {
    pub offset: u64,
    pub why: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct GapAt {
    pub cpu: u16,
    pub layer: &'static str,
    pub from_ns: u64,
    pub to_ns: u64,
    pub count: u64,
}

/// Reads all of a trace and checks it.
///
/// # Errors
/// When the source cannot be read.
pub fn check(reader: &mut impl Trace) -> io::Result<Check> {
    let (mut first, mut last, mut own, mut out_of_order) = (None, Nanos(0), 0_u64, 0_u64);
    let (mut lost, mut gap_count, mut gaps) = (0_u64, 0_u64, Vec::new());
    while let Some(event) = reader.next_event()? {
        first.get_or_insert(event.ts);
        out_of_order = out_of_order.saturating_add(u64::from(event.ts < last));
        last = last.max(event.ts);
        own = own.saturating_add(u64::from(event.body.is_own()));
        if let Body::Lost { layer, from, to, count } = event.body {
            lost = lost.saturating_add(count);
            gap_count = gap_count.saturating_add(1);
            if gaps.len() < MAX_GAPS {
                gaps.push(Gap { cpu: event.cpu, layer, from, to, count });
            }
        }
    }
    let outcome = reader.outcome();
    let mut violations = Vec::new();
    if out_of_order > 0 {
        violations.push(format!("{out_of_order} events are earlier than the one before"));
    }
    if let Some(trailer) = &outcome.trailer {
        balance(trailer, outcome.events, own, &mut violations);
    }
    let (file_state, code) = match (outcome.is_whole(), outcome.is_unfinished()) {
        (true, _) if violations.is_empty() => ("complete", Code::Complete),
        (true, _) => ("complete", Code::Failed),
        (false, true) => ("unfinished", Code::Damaged),
        (false, false) => ("damaged", Code::Damaged),
    };
    Ok(Check {
        file_state,
        exit: code as u8,
        damage: outcome.damage.map(|damage| Damaged { offset: damage.offset, why: damage.why }),
        events: outcome.events,
        bytes: outcome.bytes,
        blocks: outcome.blocks,
        first_ns: first.unwrap_or_default().0,
        last_ns: last.0,
        own_events: own,
        out_of_order,
        violations,
        lost,
        gaps_not_listed: gap_count.saturating_sub(gaps.len() as u64),
        gaps: gaps.iter().map(gap_at).collect(),
        trailer: outcome.trailer,
        go: outcome.go,
    })
}

fn gap_at(gap: &Gap) -> GapAt {
    GapAt { cpu: gap.cpu, layer: gap.layer.word(), from_ns: gap.from.0, to_ns: gap.to.0, count: gap.count }
}

fn balance(trailer: &Trailer, events: u64, own: u64, violations: &mut Vec<String>) {
    let mut emitted = 0_u64;
    for row in &trailer.counters {
        emitted = emitted.saturating_add(row.emitted);
        let sum = row.emitted.saturating_add(row.filtered).saturating_add(row.dropped);
        if row.seen != sum {
            let (cpu, layer) = (row.cpu, &row.layer);
            violations.push(format!(
                "CPU {cpu}, layer {layer}: seen {} is not emitted + filtered + dropped = {sum}",
                row.seen
            ));
        }
    }
    let Trailer { decoded, written, skipped, records, own_events, .. } = *trailer;
    let mut equal = |left: u64, is: &str, right: u64| {
        if left != right {
            violations.push(format!("{is}: {left} against {right}"));
        }
    };
    equal(emitted, "session: emitted = decoded", decoded);
    equal(decoded, "session: decoded = written + skipped", written.saturating_add(skipped));
    equal(events, "file: events read = events written", trailer.events);
    equal(trailer.events, "file: events = records + own", records.saturating_add(own_events));
    if own > own_events {
        violations.push(format!("file: {own} events are the recorder's own, the trailer says {own_events}"));
    }
}

impl Check {
    /// The exit code that scripts rely on.
    #[must_use]
    pub fn code(&self) -> Code {
        match (self.file_state, self.violations.is_empty()) {
            ("complete", true) => Code::Complete,
            ("complete", false) => Code::Failed,
            _ => Code::Damaged,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            // SANITY: writing to a String cannot fail.
            let _ = writeln!(out, "{name:<13} {text}");
        };
        let seconds = |ns: u64| format!("+{:.6} s", Nanos(ns).since(Nanos(self.first_ns)).as_secs_f64());
        match (&self.damage, &self.trailer) {
            (Some(damage), _) => {
                line("file", format!("DAMAGED at byte {}: {}", damage.offset, damage.why.escape_debug()))
            }
            (None, None) if self.file_state == "complete" => {
                line("file", "complete: the program wrote its last buffers".to_owned())
            }
            (None, None) if self.go.is_some() => {
                line("file", "UNFINISHED: the last buffers were never written, or the file is cut".to_owned())
            }
            (None, None) => {
                line("file", "UNFINISHED: no trailer (the recorder was killed, or still writes)".to_owned())
            }
            (None, Some(trailer)) => line("file", format!("complete; ended: {}", trailer.reason.escape_debug())),
        }
        let each = if self.events == 0 { 0.0 } else { self.bytes as f64 / self.events as f64 };
        line(
            "read",
            format!(
                "{} events in {} {}, {} ({each:.1} B an event)",
                self.events,
                self.blocks,
                if self.go.is_some() { "buffers" } else { "blocks" },
                Bytes(self.bytes)
            ),
        );
        line("until", seconds(self.last_ns));
        line("out of order", self.out_of_order.to_string());
        line("lost", format!("{} records, gaps: {}", self.lost, self.gaps.len() as u64 + self.gaps_not_listed));
        for gap in &self.gaps {
            let (from, to) = (seconds(gap.from_ns), seconds(gap.to_ns));
            line("", format!("{} {} records on CPU {}, {from} to {to}", gap.count, gap.layer, gap.cpu));
        }
        if self.gaps_not_listed > 0 {
            line("", format!("and {} gaps more", self.gaps_not_listed));
        }
        if let Some(trailer) = &self.trailer {
            let (records, own) = (trailer.records, trailer.own_events);
            line("events", format!("{} = {records} records + {own} of the recorder", trailer.events));
            let (decoded, written, skipped) = (trailer.decoded, trailer.written, trailer.skipped);
            if trailer.counters.is_empty() && decoded == 0 {
                line("session", "not known: the file was closed before the session ended".to_owned());
            } else {
                line("session", format!("{decoded} decoded = {written} written + {skipped} skipped"));
            }
            for row in &trailer.counters {
                let (cpu, layer) = (row.cpu, row.layer.escape_debug());
                let (seen, emitted, filtered, dropped) = (row.seen, row.emitted, row.filtered, row.dropped);
                line(
                    "",
                    format!(
                        "CPU {cpu} {layer}: {seen} seen = {emitted} emitted + {filtered} filtered + {dropped} dropped"
                    ),
                );
            }
            line("moved in time", trailer.late.to_string());
            line("not joined", format!("{} frames", trailer.frames_unjoined));
            for (program, misses) in &trailer.recursion_misses {
                line("skipped runs", format!("{}: {misses}", program.escape_debug()));
            }
        }
        if let Some(go) = &self.go {
            let GoFile { ps, syncs, large, events_without_p, .. } = go;
            line("words", format!("{} events, {syncs} times, {} starts of buffers", self.events, go.buffers));
            line("", format!("{large} events of two words"));
            line("Ps", format!("{ps}; {events_without_p} events of threads without one"));
            if go.quirks.is_empty() {
                line("odd", "nothing".to_owned());
            }
            for quirk in &go.quirks {
                line("odd", format!("{}: {}", quirk.count, quirk.text));
            }
        }
        match (self.violations.is_empty(), &self.trailer) {
            (true, None) if self.go.is_some() => {}
            (true, Some(_)) => line("balance", "holds".to_owned()),
            (true, None) => line("balance", "not known: the counters stand in the trailer".to_owned()),
            (false, _) => {
                for violation in &self.violations {
                    line("VIOLATED", violation.clone());
                }
            }
        }
        out
    }

    /// One JSON object on one line.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: a tree of strings, numbers and lists always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }
}
