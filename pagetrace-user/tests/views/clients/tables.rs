//! Every event as a line of JSON and as a row of a table, opened by Python's `json` and `csv`.

use std::collections::BTreeMap;
use std::fs;

use pagetrace_user::dump::{Filter, csv::COLUMNS};
use pagetrace_user::event::{Body, Event, FileId, Start};
use pagetrace_user::export::Form;
use pagetrace_user::stacks::Of;
use pagetrace_user::units::Pid;
use serde_json::Value;

use super::{exported, printed};
use crate::fixture::{self, Script};
use crate::{arenas, stacked};

/// Reads a table strictly, and prints every row as an object of what is in it.
const READ: &str = "
import csv, json, sys
with open(sys.argv[1], newline='', encoding='utf-8') as file:
    rows = list(csv.reader(file, strict=True))
assert all(len(row) == len(rows[0]) for row in rows), 'rows of different lengths'
for row in rows[1:]:
    print(json.dumps({key: value for key, value in zip(rows[0], row) if value != ''}))
";

/// Names that a table has to quote.
fn hostile() -> Vec<Event> {
    let mut script = Script::default();
    script.main(Body::Start { how: Start::Running, parent: Pid(1) });
    for (id, path) in
        ["/a,b", "/\"quoted\"", "/two\r\nlines", " /blank ", "=1+1", "/ü\u{1b}[2J", "\""].iter().enumerate()
    {
        let path = (*path).to_owned();
        script.own(Body::MapFile { id: FileId(id as u32), path, whole: true, dev: 0, ino: id as u64 });
    }
    script.events
}

/// Every kind of event.
pub fn all() -> [Vec<Event>; 7] {
    let (eventful, short_life) = (fixture::eventful(), fixture::short_life());
    [eventful, short_life, fixture::page_heap(), fixture::objects(), stacked::trace(), arenas::trace(), hostile()]
}

/// A line of `dump --json` as the cells of a table.
fn cells(line: &str) -> BTreeMap<String, String> {
    let mut cells = BTreeMap::new();
    for (key, value) in serde_json::from_str::<BTreeMap<String, Value>>(line).unwrap() {
        match value {
            Value::Object(actor) => {
                for (part, value) in actor {
                    cells.insert(format!("{key}_{part}"), value.as_str().map_or(value.to_string(), str::to_owned));
                }
            }
            Value::String(text) => {
                cells.insert(key, text);
            }
            Value::Array(list) => {
                cells.insert(key, serde_json::to_string(&list).unwrap());
            }
            other => {
                cells.insert(key, other.to_string());
            }
        }
    }
    // An empty text is not told from none by those who read a table.
    cells.retain(|_, text| !text.is_empty());
    cells
}

#[test]
fn lines_of_json_are_those_of_dump() {
    for events in all() {
        let (lines, done) = exported(&events, Form::Jsonl, Of::Resident);
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            crate::dumped(&fixture::whole(&events), &Filter::default(), true).0
        );
        assert_eq!(done.events, events.len() as u64);
    }
}

#[test]
fn a_table_has_every_value_of_every_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.csv");
    for events in all() {
        let (table, done) = exported(&events, Form::Csv, Of::Resident);
        assert_eq!(done.events, events.len() as u64);
        assert!(table.starts_with(format!("{}\r\n", COLUMNS.join(",")).as_bytes()) && table.ends_with(b"\r\n"));
        fs::write(&path, table).unwrap();
        let lines = crate::dumped(&fixture::whole(&events), &Filter::default(), true).0;
        let expected: Vec<_> = lines.lines().skip(1).take(events.len()).map(cells).collect();
        let read = printed("python3", &["-c", READ], &path);
        let mut rows: Vec<BTreeMap<String, String>> =
            read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for list in rows
            .iter_mut()
            .flat_map(|row| row.iter_mut())
            .filter(|(key, _)| ["replaced", "functions"].contains(&key.as_str()))
        {
            *list.1 = serde_json::from_str::<Value>(list.1).unwrap().to_string();
        }
        assert_eq!(rows, expected);
    }
}
