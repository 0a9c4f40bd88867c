//! Tables of Parquet, opened by DuckDB and by ClickHouse.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use pagetrace_user::dump::Filter;
use pagetrace_user::export::{Form, Rows};
use pagetrace_user::format::Reader;
use pagetrace_user::replay::fold;
use pagetrace_user::stacks::{Of, frames_of};
use serde_json::{Value, json};

use super::{exported, exported_file, package, tables};
use crate::{fixture, stacked};

/// What every reader has to count alike.
pub const SUMS: &str = "select layer, kind, count(*) as events, count(addr) as places, cast(sum(coalesce(bytes, 0)) as bigint) as bytes,
    min(ts) as first, max(ts) as last, count(distinct tid) as threads from FILE group by layer, kind order by layer, kind";

/// What DuckDB answers: rows without what is null.
pub fn asked(query: &str, file: &Path) -> Vec<BTreeMap<String, Value>> {
    const ASK: &str = "
import duckdb, json, sys
found = duckdb.sql(sys.argv[1].replace('FILE', repr(sys.argv[2])))
for row in found.fetchall():
    print(json.dumps({key: value for key, value in zip(found.columns, row) if value is not None}, default=str))
";
    let output = Command::new("python3")
        .env("PYTHONPATH", package("duckdb-2.0.0"))
        .args(["-c", ASK, query])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What ClickHouse answers to the same, as its own JSON.
fn asked_of_clickhouse(query: &str, file: &Path) -> Vec<BTreeMap<String, Value>> {
    const ASK: &str = "
import chdb, sys
print(chdb.query(sys.argv[1].replace('FILE', f'file({sys.argv[2]!r}, Parquet)'), 'JSONEachRow'), end='')
";
    let output = Command::new("python3")
        .env("PYTHONPATH", package("chdb-core-26.9.0"))
        .args(["-c", ASK, query])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line of `dump --json` as a row.
fn row(line: &str) -> BTreeMap<String, Value> {
    let header = fixture::header();
    let mut row = BTreeMap::from([("start_boottime".to_owned(), json!(header.start_boottime))]);
    let line: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
    for (key, value) in &line {
        let address = |text: &str| text.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        match value {
            Value::Object(actor) => {
                row.extend(actor.iter().map(|(part, value)| (format!("{key}_{part}"), value.clone())));
            }
            Value::Array(list) => {
                row.insert(key.clone(), json!(list));
            }
            Value::String(text) if key == "id" => {
                row.insert("build_id".to_owned(), json!(text));
            }
            Value::String(text) if ["addr", "old_addr", "new_addr", "ip"].contains(&key.as_str()) => {
                row.insert(key.clone(), json!(address(text).unwrap() as i64));
            }
            Value::Number(number) if key == "advice" => {
                row.insert(key.clone(), json!(number.to_string()));
            }
            other => {
                row.insert(key.clone(), other.clone());
            }
        }
    }
    row
}

#[test]
fn clickhouse_sums_up_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    for events in tables::all() {
        fs::write(&path, exported(&events, Form::Parquet(Rows::Events), Of::Resident).0).unwrap();
        let (ours, theirs) = (asked(SUMS, &path), asked_of_clickhouse(SUMS, &path));
        assert_eq!(ours, theirs);
        let counted: u64 = theirs.iter().map(|row| row["events"].as_u64().unwrap()).sum();
        assert_eq!(counted, events.len() as u64);
    }
}

#[test]
fn duckdb_sees_every_value_of_every_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let header = fixture::header();
    for events in tables::all() {
        let (written, done) = exported(&events, Form::Parquet(Rows::Events), Of::Resident);
        assert_eq!(done.events, events.len() as u64);
        fs::write(&path, written).unwrap();
        let lines = crate::dumped(&fixture::whole(&events), &Filter::default(), true).0;
        let expected: Vec<_> = lines.lines().skip(1).take(events.len()).map(row).collect();
        let mut rows = asked("select * exclude (time), epoch_us(time) as us from FILE", &path);
        for row in &mut rows {
            let us = row.remove("us").unwrap().as_u64().unwrap();
            let ts = row.get("ts").unwrap().as_u64().unwrap();
            assert_eq!(us, (header.clock_wall + ts - header.clock_monotonic) / 1000);
            for list in ["replaced", "functions"] {
                if let Some(list) = row.get_mut(list) {
                    *list = serde_json::from_str(list.as_str().unwrap()).unwrap();
                }
            }
        }
        assert_eq!(rows, expected);
    }
    let types = asked(
        "select column_type as is, count(*) as n from (describe select * from FILE) group by all order by all",
        &path,
    );
    let types: Vec<&str> = types.iter().map(|row| row["is"].as_str().unwrap()).collect();
    assert_eq!(types, ["BIGINT", "BOOLEAN", "TIMESTAMP WITH TIME ZONE", "VARCHAR"]);
}

/// More rows than a group has.
#[test]
fn duckdb_counts_what_is_written_in_groups() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.events.parquet");
    assert_eq!(Form::of(&path), Some(Form::Parquet(Rows::Events)));
    let once = fixture::eventful();
    let events: Vec<_> = once.iter().cycle().take(150_000).cloned().collect();
    fs::write(&path, exported(&events, Form::Parquet(Rows::Events), Of::Resident).0).unwrap();
    let found = asked("select count(*) as n, sum(bytes)::bigint as bytes from FILE where kind = 'alloc'", &path);
    let lines =
        crate::dumped(&fixture::whole(&events), &Filter { layers: Vec::new(), kinds: vec!["alloc".to_owned()] }, true)
            .0;
    let allocs: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let allocs: Vec<_> = allocs.iter().filter(|line| line["kind"] == "alloc").collect();
    let bytes: u64 = allocs.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
    assert_eq!((found[0]["n"].as_u64(), found[0]["bytes"].as_u64()), (Some(allocs.len() as u64), Some(bytes)));
    let groups = asked("select count(distinct row_group_id) as n from parquet_metadata(FILE)", &path);
    assert_eq!(groups[0]["n"], 3);
}

#[test]
fn duckdb_sees_stacks_and_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.stacks.parquet");
    assert_eq!(Form::of(&path), Some(Form::Parquet(Rows::Stacks)));
    let (written, done) = exported(&stacked::trace(), Form::Parquet(Rows::Stacks), Of::Resident);
    assert_eq!(done.stacks, 5);
    fs::write(&path, written).unwrap();
    let found = asked(
        "select stack, string_agg(function, ';' order by frame desc) as names, max(line) as line from FILE group by stack order by stack",
        &path,
    );
    let bytes = fixture::whole(&stacked::trace());
    let (state, _) = fold(&mut Reader::new(bytes.as_slice()).unwrap()).unwrap();
    for (row, id) in found.iter().zip([1_u32, 2, 3, 5, 6]) {
        let frames = frames_of(&state, pagetrace_user::event::StackId(id));
        let names: Vec<&str> = frames.iter().map(|frame| frame.name.as_str()).collect();
        assert_eq!(
            (row["stack"].as_u64(), row["names"].as_str()),
            (Some(u64::from(id)), Some(names.join(";").as_str()))
        );
    }
    assert_eq!(found.len(), 5);

    let path = dir.path().join("x.processes.parquet");
    assert_eq!(Form::of(&path), Some(Form::Parquet(Rows::Processes)));
    let (header, events) = (fixture::header(), fixture::eventful());
    fs::write(&path, exported_file(&fixture::whole(&events), Form::Parquet(Rows::Processes), Of::Resident).0).unwrap();
    let rows = asked("select * exclude (first_time, last_time) from FILE", &path);
    assert_eq!(rows.len(), 1);
    for (key, value) in [
        ("tgid", json!(header.tgid)),
        ("comm", json!(header.comm)),
        ("cmdline", json!("[\"redis-server\",\"*:6379\"]")),
        ("boot_id", json!(header.boot_id)),
        ("clock_wall", json!(header.clock_wall)),
        ("events", json!(events.len())),
        ("first_ts", json!(events[0].ts.0)),
        ("whole", json!(true)),
        ("dropped", json!(5)),
        ("reason", json!("interrupted")),
    ] {
        assert_eq!(rows[0].get(key), Some(&value), "{key}");
    }
}
