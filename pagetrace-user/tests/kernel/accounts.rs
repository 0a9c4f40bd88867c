//! Conservation: nothing seen is unaccounted for, in any recording of any test.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::recorder::Recording;
use crate::trace::Trace;

/// What a recording may have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    Something,
}

/// Asserts that every account of a finished recording closes, and returns its traces in the summary's order.
pub fn close(recording: &Recording, loss: Loss) -> Vec<Trace> {
    let expected = if loss == Loss::Nothing { 0 } else { 6 };
    assert_eq!(recording.code, Some(expected), "exit code with loss of {loss:?}: {recording:?}");
    assert_left_clean(&recording.directory);
    let traces = recording.traces();

    let (dropped, written) = check_counters(&recording.summary, "the summary");
    let mut lost_counts = 0;
    let mut records = 0;
    for (trace, file) in traces.iter().zip(recording.files()) {
        let whose = file.display().to_string();
        assert_eq!(trace.trailer["kind"], "trailer", "{whose} is finished");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "mode of {whose}");
        check_counters(&trace.trailer, &whose);
        let number = |key: &str| number(&trace.trailer, key, &whose);
        assert_eq!(number("events"), trace.lines.len() as u64, "{whose}: events in the trailer and in the file");
        assert_eq!(number("events"), number("records") + number("own_events"), "{whose}: events by source");
        records += number("records");
        check_order(trace, &whose);
        lost_counts +=
            trace.lines.iter().filter(|line| line.kind == "lost").map(|line| line.count.unwrap()).sum::<u64>();
    }
    assert_eq!(records, written, "records of all files and records written");
    assert_eq!(lost_counts, dropped, "the sum of all lost events and the records dropped");

    match loss {
        Loss::Nothing => {
            assert_eq!(dropped, 0, "nothing dropped");
            for trace in &traces {
                check_skipped_runs(&trace.trailer["recursion_misses"]);
                assert_eq!(trace.trailer["frames_unjoined"], 0, "frames without an owner");
            }
        }
        Loss::Something => assert!(dropped > 0, "something dropped: {recording:?}"),
    }
    traces
}

/// Asserts the equations of one set of counters; returns (dropped, written).
fn check_counters(of: &Value, whose: &str) -> (u64, u64) {
    let number = |key: &str| number(of, key, whose);
    let rows = of["counters"].as_array().unwrap_or_else(|| panic!("{whose} has counters: {of}"));
    assert!(!rows.is_empty(), "{whose} has rows of counters");
    let (mut emitted, mut dropped) = (0, 0);
    for row in rows {
        let cell = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{whose}: {key} in {row}"));
        assert_eq!(
            cell("seen"),
            cell("emitted") + cell("filtered") + cell("dropped"),
            "{whose}: seen = emitted + filtered + dropped in {row}"
        );
        assert!(row["layer"].is_string() && row["cpu"].is_u64(), "{whose}: a row's place: {row}");
        emitted += cell("emitted");
        dropped += cell("dropped");
    }
    assert_eq!(emitted, number("decoded"), "{whose}: emitted = decoded");
    assert_eq!(number("decoded"), number("written") + number("skipped"), "{whose}: decoded = written + skipped");
    (dropped, number("written"))
}

/// The kernel does not run a program inside itself on one CPU. An interrupt may free or allocate a page in the middle
/// of the program that sees to these: another process's page, or the kernel's. Nothing else can be hit so.
fn check_skipped_runs(misses: &Value) {
    for miss in misses.as_array().unwrap() {
        let program = miss[0].as_str().unwrap();
        assert!(["pt_page_free", "pt_page_alloc"].contains(&program), "runs that the kernel skipped: {misses}");
    }
}

fn number(of: &Value, key: &str, whose: &str) -> u64 {
    of[key].as_u64().unwrap_or_else(|| panic!("{whose}: number {key} in {of}"))
}

/// Times never go back, and the first event tells how the process came into view.
fn check_order(trace: &Trace, whose: &str) {
    assert!(trace.lines.is_sorted_by_key(|line| line.ts), "{whose}: times go back");
    let first = trace.lines.first().unwrap_or_else(|| panic!("{whose}: no event at all"));
    assert!(first.is("task", "start"), "{whose}: the first event is {first:?}");
    for line in &trace.lines {
        assert_eq!(line.tgid, trace.tgid(), "{whose}: owner of {line:?}");
    }
}

/// Asserts that no recorder's leftovers stand in a directory.
pub fn assert_left_clean(directory: &Path) {
    let names: Vec<String> = names_in(directory);
    let left: Vec<&String> = names
        .iter()
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "part" || end == "pid"))
        .collect();
    assert!(left.is_empty(), "left behind in {}: {left:?}", directory.display());
}

/// The names in a directory, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
