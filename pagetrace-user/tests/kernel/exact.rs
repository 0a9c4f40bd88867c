//! Exact counts: every call and every fault of programs that log their own acts, none missing and none extra.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::accounts::{Loss, close};
use crate::acts_log::{ActsLog, count_calls, count_strace};
use crate::programs::{BusyCpus, Target, program};
use crate::recorder::{Recorder, Recording, run_command};
use crate::stage::Stage;

#[derive(Clone, Copy)]
enum Attach {
    MidLife,
    BeforeStart,
}

/// Records `acts` with this many threads and children, and compares the logs of all its processes.
fn check(stage: &Stage, name: &str, threads: usize, children: usize, attach: Attach) -> Recording {
    let logs = stage.directory(&format!("{name}-logs"));
    let traces = stage.join(&format!("{name}-traces"));
    let counts = [threads.to_string(), children.to_string()];
    let recording = match attach {
        Attach::MidLife => {
            let target =
                Target::start("acts", [logs.as_os_str(), counts[0].as_ref(), counts[1].as_ref(), "wait".as_ref()]);
            let mut target = target.ready();
            let recorder = Recorder::start(&traces, ["-f", "--pid", &target.pid().to_string()]);
            target.act();
            let recording = recorder.interrupt();
            target.finish();
            recording
        }
        Attach::BeforeStart => {
            let program = program("acts");
            let command =
                [program.as_os_str(), logs.as_os_str(), counts[0].as_ref(), counts[1].as_ref(), "now".as_ref()];
            let args = ["-f", "--"].map(std::ffi::OsStr::new).into_iter().chain(command);
            let recorder = Recorder::start(&traces, args);
            let recording = recorder.ended();
            assert_eq!(recording.reason(), "exited");
            recording
        }
    };
    assert_logs(&recording, &logs, threads, children);
    recording
}

fn assert_logs(recording: &Recording, logs: &Path, threads: usize, children: usize) {
    let traces = close(recording, Loss::Nothing);
    let pids = logged(logs);
    assert_eq!(pids.len(), 1 + children, "processes that logged");
    assert_eq!(traces.len(), 1 + children, "a file for each process: {recording:?}");
    let mut actors = 0;
    for pid in pids {
        let trace =
            traces.iter().find(|trace| trace.tgid() == pid).unwrap_or_else(|| panic!("no trace of process {pid}"));
        let log = ActsLog::read(logs, pid);
        log.assert_told_by(trace);
        actors += log.threads();
    }
    assert_eq!(actors, threads.max(1) + children, "threads that logged");
}

/// The processes that left a log.
fn logged(logs: &Path) -> Vec<u32> {
    let names = crate::accounts::names_in(logs);
    names.iter().filter_map(|name| name.strip_suffix(".log")).map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn one_thread_from_mid_life() {
    check(&Stage::enter("exact"), "one", 0, 0, Attach::MidLife);
}

#[test]
fn one_thread_from_before_its_start() {
    check(&Stage::enter("exact"), "one", 0, 0, Attach::BeforeStart);
}

#[test]
fn many_threads_and_three_children_from_before_their_start() {
    check(&Stage::enter("exact"), "many", 64, 3, Attach::BeforeStart);
}

#[test]
fn many_threads_and_three_children_ten_times_in_a_row() {
    let stage = Stage::enter("exact");
    for round in 0..10 {
        check(&stage, &format!("round-{round}"), 64, 3, Attach::MidLife);
    }
}

#[test]
fn ten_times_in_a_row_while_all_cpus_are_busy() {
    let stage = Stage::enter("exact");
    let _busy = BusyCpus::all();
    for round in 0..10 {
        check(&stage, &format!("round-{round}"), 64, 3, Attach::MidLife);
    }
}

#[test]
fn strace_counts_the_same() {
    let stage = Stage::enter("exact");
    let recording = check(&stage, "traced", 8, 3, Attach::BeforeStart);
    let mut ours = BTreeMap::new();
    for trace in recording.traces() {
        count_calls(&trace, &mut ours);
    }

    // The same program once more: the same calls, at other addresses.
    let (logs, table) = (stage.directory("strace-logs"), stage.join("strace.txt"));
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-e", "trace=memory", "-c", "-o"])
        .arg(&table)
        .arg(program("acts"))
        .arg(&logs)
        .args(["8", "3", "now"]);
    let ran = run_command(&mut strace);
    assert_eq!(ran.code, Some(0), "strace: {}", ran.stderr);
    let theirs = count_strace(&std::fs::read_to_string(&table).unwrap());
    assert!(theirs.len() >= 8, "strace's table: {theirs:?}");
    assert_eq!(ours, theirs, "calls and failed calls by name: ours and strace's");
}
