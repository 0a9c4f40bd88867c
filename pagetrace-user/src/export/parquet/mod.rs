//! A trace as tables of Parquet: `.events.parquet` (or `.parquet`), `.stacks.parquet`, `.processes.parquet`.
//!
//! *Types.* Those that DuckDB, ClickHouse and Spark read alike: every number is INT64, a text STRING, a flag BOOLEAN, a
//! moment of wall time TIMESTAMP (microseconds, UTC). A number beyond INT64 stands as the greatest one; an address
//! keeps its bits, so one of the kernel is negative. Every column may be null: what an event does not have.
//!
//! *Events.* The keys of [`crate::dump::line`], and `time`. As in a table of [`crate::dump::csv`], a list is a JSON text and
//! an actor three columns. The `id` of a `build_id` is in `build_id`, since the others' is a number.
//!
//! *Stacks.* A row for each function of each stack that an event names, from the innermost (`frame` 0) on.
//!
//! *Processes.* One row: what the trace's header and trailer say. Rows of several traces belong together by `tgid` and
//! `start_boottime`, on one host.
//!
//! *Cost.* Holds one group of rows: 65,536 rows, or 16 MiB of text. Of stacks, all.

mod columns;
mod table;

use std::collections::BTreeSet;
use std::io::Write;

use self::columns::{EVENTS, PROCESSES, STACKS};
use self::table::{Cell, Table};
use super::{Exported, Stopped};
use crate::dump::line::{Value, comm_of, describe, kind};
use crate::dump::{Before, json_of};
use crate::event::{Body, Header};
use crate::format::Trace;
use crate::replay::State;
use crate::stacks::frames_of;

/// Writes every event.
///
/// *Errors.* When the source cannot be read or `out` cannot be written, here and below.
pub(super) fn events<W: Write + Send>(trace: &mut impl Trace, out: &mut W) -> Result<Exported, Stopped> {
    let header = trace.header().clone();
    let mut table = Table::new("events", EVENTS, out)?;
    let mut before = Before::default();
    while let Some(event) = trace.next_event().map_err(Stopped::Read)? {
        let replaced = before.take(event);
        table.put("ts", number(event.ts.0));
        table.put("time", Cell::Number(micros(&header, event.ts.0)));
        table.put("cpu", number(u64::from(event.cpu)));
        table.put("layer", Cell::Text(event.body.layer().word()));
        table.put("kind", Cell::Text(kind(&event.body)));
        table.put("tgid", number(u64::from(header.tgid)));
        table.put("start_boottime", number(header.start_boottime));
        table.put("tid", number(u64::from(event.tid.0)));
        describe(event, &|id| before.path(id), &replaced, &mut |key, value| put(&mut table, key, value));
        if let Some((key, text)) = comm_of(&event.body) {
            table.put(if key == "id" { "build_id" } else { key }, Cell::Text(&text));
        }
        table.row()?;
    }
    table.finish()?;
    Ok(Exported { events: trace.outcome().events, ..Exported::default() })
}

/// Writes the stacks.
pub(super) fn stacks<W: Write + Send>(trace: &mut impl Trace, out: &mut W) -> Result<Exported, Stopped> {
    let header = trace.header().clone();
    let mut state = State::new();
    let mut named = BTreeSet::new();
    while let Some(event) = trace.next_event().map_err(Stopped::Read)? {
        match &event.body {
            Body::Stack { id, .. } => {
                named.insert(*id);
            }
            Body::StackNode { .. } | Body::Symbol { .. } | Body::MapFile { .. } => state.apply(event),
            _ => {}
        }
    }
    let mut table = Table::new("stacks", STACKS, out)?;
    for id in &named {
        for (at, frame) in frames_of(&state, *id).iter().rev().enumerate() {
            table.put("tgid", number(u64::from(header.tgid)));
            table.put("start_boottime", number(header.start_boottime));
            table.put("stack", number(u64::from(id.0)));
            table.put("frame", number(at as u64));
            table.put("function", Cell::Text(&frame.name));
            if !frame.file.is_empty() {
                table.put("file", Cell::Text(&frame.file));
                table.put("line", number(u64::from(frame.line)));
            }
            if !frame.image.is_empty() {
                table.put("path", Cell::Text(&frame.image));
                table.put("offset", number(frame.offset));
            }
            table.put("inlined", Cell::Flag(frame.inlined));
            table.row()?;
        }
    }
    table.finish()?;
    let stacks = named.len() as u64;
    Ok(Exported { events: trace.outcome().events, stacks, ..Exported::default() })
}

/// Writes what is known of the process.
pub(super) fn processes<W: Write + Send>(trace: &mut impl Trace, out: &mut W) -> Result<Exported, Stopped> {
    let header = trace.header().clone();
    let mut ends = None;
    while let Some(event) = trace.next_event().map_err(Stopped::Read)? {
        let (first, _) = ends.unwrap_or((event.ts, event.ts));
        ends = Some((first, event.ts));
    }
    let outcome = trace.outcome();
    let mut table = Table::new("processes", PROCESSES, out)?;
    let cmdline = serde_json::to_string(&header.cmdline).unwrap_or_default();
    for (key, text) in [
        ("comm", &header.comm),
        ("exe", &header.exe),
        ("cmdline", &cmdline),
        ("boot_id", &header.boot_id),
        ("kernel", &header.kernel),
        ("recorder", &header.recorder),
    ] {
        table.put(key, Cell::Text(text));
    }
    for (key, value) in [
        ("tgid", u64::from(header.tgid)),
        ("start_boottime", header.start_boottime),
        ("page_bytes", header.page_bytes),
        ("heap_page_bytes", header.heap_page_bytes),
        ("clock_monotonic", header.clock_monotonic),
        ("clock_wall", header.clock_wall),
        ("cpus", u64::from(header.cpus)),
        ("events", outcome.events),
    ] {
        table.put(key, number(value));
    }
    if let Some(period) = header.object_period_bytes {
        table.put("object_period_bytes", number(period));
    }
    if let Some((first, last)) = ends {
        table.put("first_ts", number(first.0));
        table.put("last_ts", number(last.0));
        table.put("first_time", Cell::Number(micros(&header, first.0)));
        table.put("last_time", Cell::Number(micros(&header, last.0)));
    }
    table.put("whole", Cell::Flag(outcome.is_whole()));
    if let Some(trailer) = &outcome.trailer {
        table.put("reason", Cell::Text(&trailer.reason));
        table.put("dropped", number(trailer.dropped()));
        table.put("skipped", number(trailer.skipped));
    }
    table.row()?;
    table.finish()?;
    Ok(Exported { events: outcome.events, ..Exported::default() })
}

fn put<W: Write + Send>(table: &mut Table<'_, W>, key: &'static str, value: Value<'_>) {
    match value {
        Value::Number(value) => table.put(key, number(value)),
        Value::Signed(value) => table.put(key, Cell::Number(value)),
        // Its bits.
        Value::Address(addr) => table.put(key, Cell::Number(addr as i64)),
        Value::Text(text) => table.put(key, Cell::Text(text)),
        Value::Flag(flag) => table.put(key, Cell::Flag(flag)),
        Value::Ranges(_) | Value::Functions(_) => table.put(key, Cell::Text(&json_of(value))),
        Value::Actor(tid, actor) => {
            table.put("actor_tid", number(u64::from(tid.0)));
            table.put("actor_tgid", number(u64::from(actor.tgid.0)));
            table.put("actor_comm", Cell::Text(&actor.comm.to_text()));
        }
    }
}

fn number(value: u64) -> Cell<'static> {
    Cell::Number(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A moment of the trace's clock, microseconds since the Unix epoch.
fn micros(header: &Header, ts: u64) -> i64 {
    let wall = i128::from(header.clock_wall) + i128::from(ts) - i128::from(header.clock_monotonic);
    i64::try_from(wall.div_euclid(1000)).unwrap_or(i64::MAX)
}
