//! Tables of Parquet, opened by Spark: what DuckDB sees, value by value and type by type.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pagetrace_user::export::{Form, Rows};
use pagetrace_user::stacks::Of;
use serde_json::Value;

use super::parquet::{SUMS, asked};
use super::{exported, exported_file, package, tables};
use crate::{fixture, stacked};

/// Asks one session about files, each a `FILE=QUERY`. An answer is a line: the types of its columns, and its rows without
/// what is null.
const ASK: &str = "
import json, os, sys
from pyspark.sql import SparkSession
here = sys.argv[1]
settings = {
    'spark.driver.bindAddress': '127.0.0.1', 'spark.driver.host': '127.0.0.1', 'spark.driver.memory': '512m',
    'spark.local.dir': here, 'spark.sql.session.timeZone': 'UTC', 'spark.sql.shuffle.partitions': '1',
    'spark.sql.warehouse.dir': os.path.join(here, 'warehouse'), 'spark.ui.enabled': 'false',
}
session = SparkSession.builder.master('local[1]')
for key, value in settings.items():
    session = session.config(key, value)
session = session.getOrCreate()
for question in sys.argv[2:]:
    file, query = question.split('=', 1)
    found = session.sql(query.replace('FILE', f'parquet.`{file}`'))
    rows = [json.loads(row) for row in found.toJSON().collect()]
    print(json.dumps([sorted({kind for _, kind in found.dtypes}), rows]))
session.stop()
";

type Row = BTreeMap<String, Value>;

/// What Spark answers to each question about a file.
fn asked_of_spark(dir: &Path, questions: &[(&Table, String)]) -> Vec<(Vec<String>, Vec<Row>)> {
    let path = std::env::join_paths([package("pyspark-3.5.7"), package("py4j-0.10.9.7")]).unwrap();
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", path).env("SPARK_LOCAL_IP", "127.0.0.1").args(["-c", ASK]).arg(dir).current_dir(dir);
    python.args(questions.iter().map(|(table, query)| format!("{}={query}", table.path.display())));
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A table, and its columns with moments of wall time.
struct Table {
    path: PathBuf,
    rows: u64,
    times: &'static [&'static str],
}

/// Every value: `all` is how a reader says so, and moments are microseconds, which each has a function for.
fn everything(table: &Table, all: &str, micros: &str) -> String {
    let times: String = table.times.iter().map(|time| format!(", {micros}({time}) as {time}_us")).collect();
    format!("select {all}{times} from FILE")
}

/// DuckDB tells Python no moment without one more package.
fn asked_without_times(table: &Table) -> Vec<Row> {
    let rest = format!("* exclude ({})", table.times.join(", "));
    asked(&everything(table, if table.times.is_empty() { "*" } else { &rest }, "epoch_us"), &table.path)
}

#[test]
fn spark_sees_what_duckdb_sees() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>, rows, times| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        Table { path, rows, times }
    };
    let mut made = Vec::new();
    for (at, events) in tables::all().iter().enumerate() {
        let (written, done) = exported(events, Form::Parquet(Rows::Events), Of::Resident);
        made.push(write(&format!("{at}.parquet"), written, done.events, &["time"]));
    }
    let events = made.len();
    let stacks = exported(&stacked::trace(), Form::Parquet(Rows::Stacks), Of::Resident).0;
    let stacks = write("x.stacks.parquet", stacks, 0, &[]);
    let rows = asked("select count(*) as n from FILE", &stacks.path)[0]["n"].as_u64().unwrap();
    made.push(Table { rows, ..stacks });
    let trace = fixture::whole(&fixture::eventful());
    let processes = exported_file(&trace, Form::Parquet(Rows::Processes), Of::Resident).0;
    made.push(write("x.processes.parquet", processes, 1, &["first_time", "last_time"]));

    let all = made.iter().map(|table| (table, everything(table, "*", "unix_micros")));
    let sums = made.iter().take(events).map(|table| (table, SUMS.to_owned()));
    let questions: Vec<(&Table, String)> = all.chain(sums).collect();
    let answers = asked_of_spark(dir.path(), &questions);
    assert_eq!(answers.len(), questions.len());
    for (at, ((table, query), (types, mut theirs))) in questions.iter().zip(answers).enumerate() {
        let file = table.path.display();
        if at >= made.len() {
            assert_eq!(theirs, asked(query, &table.path), "{file}");
            let counted: u64 = theirs.iter().map(|row| row["events"].as_u64().unwrap()).sum();
            assert_eq!(counted, table.rows, "{file}");
            continue;
        }
        let known = ["bigint", "boolean", "string", "timestamp"];
        assert!(types.iter().all(|kind| known.contains(&kind.as_str())), "{file}: {types:?}");
        assert_eq!(theirs.len() as u64, table.rows, "{file}");
        for row in &mut theirs {
            row.retain(|key, _| !table.times.contains(&key.as_str()));
        }
        assert_eq!(theirs, asked_without_times(table), "{file}");
    }
}
