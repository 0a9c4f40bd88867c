//! Every event as one row of a table: RFC 4180.
//!
//! *Format.* The first row has the names of the columns, which are the keys of [`super::line`]; what an event does not
//! have is empty. A list (`replaced`, `functions`) is a JSON text. `actor` is three columns: `actor_tid`, `actor_tgid`,
//! `actor_comm`. Header and trailer are no events and not in the table. A name stands as it is, in quotes where it has
//! to: a spreadsheet has to be told to take it as text.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::line::{Value, comm_of, describe, kind};
use super::row::json_of;
use crate::event::{Event, FileId};
use crate::units::Range;

/// The columns: what every event has, then the rest.
pub const COLUMNS: [&str; 82] = [
    "ts",
    "cpu",
    "layer",
    "kind",
    "tgid",
    "tid",
    "addr",
    "bytes",
    "npages",
    "call",
    "prot",
    "flags",
    "path",
    "offset",
    "began",
    "replaced",
    "old_addr",
    "new_addr",
    "old_bytes",
    "advice",
    "errno",
    "error",
    "id",
    "whole",
    "dev",
    "ino",
    "ip",
    "access",
    "kernel",
    "pfn",
    "order",
    "member",
    "level_bytes",
    "phase",
    "value",
    "how",
    "parent",
    "child",
    "child_comm",
    "comm",
    "exe",
    "code",
    "signal",
    "p",
    "goid",
    "span",
    "class",
    "object_bytes",
    "objects",
    "moves",
    "library",
    "name",
    "calls",
    "nested",
    "failed",
    "why",
    "maps",
    "shared",
    "file",
    "swapped",
    "of",
    "stack",
    "cut",
    "functions",
    "is_main",
    "in_use_count",
    "in_use_bytes",
    "cached_count",
    "cached_bytes",
    "fast_count",
    "fast_bytes",
    "free_count",
    "free_bytes",
    "top_bytes",
    "kept_bytes",
    "trims",
    "from",
    "to",
    "count",
    "actor_tid",
    "actor_tgid",
    "actor_comm",
];

/// Rows, one after the other, in the same memory.
pub(super) struct Table {
    columns: HashMap<&'static str, usize>,
    cells: Vec<String>,
}

impl Table {
    pub fn new() -> Table {
        let columns = COLUMNS.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        Table { columns, cells: vec![String::new(); COLUMNS.len()] }
    }

    pub fn head(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}\r\n", COLUMNS.join(","))
    }

    /// Puts the event's row behind what `row` has.
    pub fn event<'a>(
        &mut self,
        event: &'a Event,
        tgid: u32,
        path: &impl Fn(FileId) -> Option<&'a str>,
        replaced: &'a [Range],
        row: &mut Vec<u8>,
    ) {
        for cell in &mut self.cells {
            cell.clear();
        }
        self.put("ts", Value::Number(event.ts.0));
        self.put("cpu", Value::Number(u64::from(event.cpu)));
        self.put("layer", Value::Text(event.body.layer().word()));
        self.put("kind", Value::Text(kind(&event.body)));
        self.put("tgid", Value::Number(u64::from(tgid)));
        self.put("tid", Value::Number(u64::from(event.tid.0)));
        describe(event, path, replaced, &mut |key, value| self.put(key, value));
        if let Some((key, comm)) = comm_of(&event.body) {
            self.put(key, Value::Text(&comm));
        }
        for (at, cell) in self.cells.iter().enumerate() {
            if at > 0 {
                row.push(b',');
            }
            row.extend_from_slice(cell.as_bytes());
        }
        row.push(b'\r');
    }

    fn put(&mut self, key: &'static str, value: Value<'_>) {
        if let Value::Actor(tid, actor) = value {
            self.put("actor_tid", Value::Number(u64::from(tid.0)));
            self.put("actor_tgid", Value::Number(u64::from(actor.tgid.0)));
            return self.put("actor_comm", Value::Text(&actor.comm.to_text()));
        }
        let Some(cell) = self.columns.get(key).and_then(|at| self.cells.get_mut(*at)) else { return };
        // SANITY: writing to a String cannot fail.
        let _ = match value {
            Value::Number(number) => write!(cell, "{number}"),
            Value::Signed(number) => write!(cell, "{number}"),
            Value::Address(addr) => write!(cell, "{addr:#x}"),
            Value::Flag(flag) => write!(cell, "{flag}"),
            Value::Text(text) => {
                quote(text, cell);
                Ok(())
            }
            Value::Ranges(_) | Value::Functions(_) | Value::Actor(..) => {
                quote(&json_of(value), cell);
                Ok(())
            }
        };
    }
}

/// A text as a cell. An empty one is not the same as none.
fn quote(text: &str, cell: &mut String) {
    let needs = text.is_empty() || text.contains(['"', ',', '\r', '\n']) || text.trim() != text;
    if !needs {
        return cell.push_str(text);
    }
    cell.push('"');
    for (at, part) in text.split('"').enumerate() {
        if at > 0 {
            cell.push_str("\"\"");
        }
        cell.push_str(part);
    }
    cell.push('"');
}
