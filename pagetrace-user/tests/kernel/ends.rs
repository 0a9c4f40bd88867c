//! How a recording ends: whatever the cause, with a finished file, all counters, and nothing left behind.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::accounts::{Loss, close, names_in};
use crate::procfs::switches_and_ticks;
use crate::programs::{Target, range_said, try_send};
use crate::recorder::{BINARY, Recorder, run, run_command};
use crate::stage::{Stage, wait_for};
use crate::trace::Trace;

/// A target that has acted, and its recorder.
fn acted(stage: &Stage, args: &[&str]) -> (Target, Recorder) {
    let mut target = Target::start("touch", ["named", "ending"]).ready();
    let pid = target.pid().to_string();
    let recorder = Recorder::start(&stage.join("traces"), ["--pid", &pid].iter().chain(args));
    target.act();
    (target, recorder)
}

/// Asserts the accounts, the reason in summary and trailer, and that the act is in the file; returns the trace.
fn check(recorder: Recorder, reason: &str) -> Trace {
    let recording = recorder.ended();
    let mut traces = close(&recording, Loss::Nothing);
    assert_eq!(recording.reason(), reason);
    assert_eq!(traces.len(), 1);
    let trace = traces.remove(0);
    assert_eq!(trace.trailer["reason"], reason);
    let range = trace.mapping_of(117).expect("the act");
    assert_eq!(trace.faults_in(range).len(), 117);
    trace
}

#[test]
fn interrupted_or_terminated() {
    let stage = Stage::enter("ends");
    for (signal, reason) in [(Signal::INT, "interrupted"), (Signal::TERM, "terminated")] {
        let (target, recorder) = acted(&stage, &[]);
        recorder.signal(signal);
        check(recorder, reason);
        target.finish();
    }
}

#[test]
fn after_its_time() {
    let stage = Stage::enter("ends");
    let target = Target::start("touch", ["named", "ending"]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["--pid", &target.pid().to_string(), "-d", "300ms"]);
    let recording = recorder.ended();
    let traces = close(&recording, Loss::Nothing);
    assert_eq!(recording.reason(), "duration");
    assert_eq!(traces[0].trailer["reason"], "duration");
    let (start, end) = (traces[0].lines[0].ts, traces[0].trailer["end"].as_u64().unwrap());
    assert!(end - start >= 300_000_000, "it lasted at least as long as asked: {} ns", end - start);
}

#[test]
fn when_the_target_exits() {
    let stage = Stage::enter("ends");
    let (target, recorder) = acted(&stage, &[]);
    target.finish();
    let trace = check(recorder, "exited");
    let exit = trace.of("task", "exit").next().expect("an exit");
    assert_eq!(exit.signal, Some(0));
    assert_eq!(trace.of("task", "mm_gone").count(), 1);
}

#[test]
fn when_the_target_is_killed() {
    let stage = Stage::enter("ends");
    let (target, recorder) = acted(&stage, &[]);
    target.kill();
    let trace = check(recorder, "exited");
    assert_eq!(trace.of("task", "exit").next().expect("an exit").signal, Some(9));
}

#[test]
fn only_when_the_last_of_several_has_ended() {
    let stage = Stage::enter("ends");
    let (first, mut last) =
        (Target::start("family", ["tree"]).ready(), Target::start("touch", ["named", "ending"]).ready());
    let args = ["--pid".to_owned(), first.pid().to_string(), "--pid".to_owned(), last.pid().to_string()];
    let mut recorder = Recorder::start(&stage.join("traces"), args);
    first.kill();
    // It goes on: the other one's act is recorded whole.
    last.act();
    assert!(recorder.is_running());
    let pid = last.pid();
    last.finish();
    let recording = recorder.ended();
    let traces = close(&recording, Loss::Nothing);
    assert_eq!(recording.reason(), "exited");
    assert_eq!(traces.len(), 2);
    assert!(traces.iter().all(|trace| trace.of("task", "exit").count() == 1));
    let trace = traces.iter().find(|trace| trace.tgid() == pid).unwrap();
    assert_eq!(trace.faults_in(trace.mapping_of(117).expect("the act")).len(), 117);
}

/// The end is made slow from outside: `strace` holds each sync of the recorder for a minute, and says with what
/// status it ended.
#[test]
fn at_once_by_a_second_interrupt() {
    let stage = Stage::enter("ends");
    let mut target = Target::start("touch", ["named", "ending"]).ready();
    let (traces, calls) = (stage.join("traces"), stage.join("calls"));
    let mut slow = Command::new("strace");
    slow.args(["-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,exit_group"]);
    slow.args(["-e", "inject=fsync,fdatasync:delay_enter=60s", "-o"]).arg(&calls);
    slow.arg(BINARY).arg("-o").arg(&traces).args(["--pid", &target.pid().to_string()]);
    let strace = Recorder::spawn(&traces, &mut slow);
    strace.await_recording();
    let recorder = crate::procfs::children(strace.pid())[0];
    let range = range_said(&target.act());

    // A process that the recorder ran at its start ended with this call as well.
    let ends = || -> Vec<String> {
        let said = std::fs::read_to_string(&calls).unwrap_or_default();
        said.lines().filter_map(|line| Some(line.split_once("exit_group(")?.1.to_owned())).collect()
    };
    let before = ends().len();
    let status = wait_for("the recorder to be aborted", || {
        if let Some(status) = ends().get(before) {
            return Some(status.clone());
        }
        // It may be gone by now.
        let _ = try_send(recorder, Signal::INT);
        std::thread::sleep(Duration::from_millis(20));
        None
    });
    assert!(status.starts_with("130)"), "{status}");
    // Who holds the syncs goes, and with it what it held.
    strace.kill();
    wait_for("the aborted recorder to be gone", || is_gone(recorder).then_some(()));
    let names: Vec<String> = names_in(&traces).into_iter().filter(|name| !name.ends_with(".pid")).collect();
    let [name] = names.as_slice() else { panic!("one file: {names:?}") };
    // How far it came is not said; what stands there can be read.
    let file = traces.join(name);
    let ran = run(["check".as_ref(), file.as_os_str()]);
    assert!(matches!(ran.code, Some(0 | 7)), "{ran:?}");
    let trace = Trace::dump_with(&file, ran.code.unwrap());
    assert!(trace.mapping_of(117).is_some_and(|known| known == range) || ran.code == Some(7));
    target.finish();
}

#[test]
fn with_130_by_a_second_interrupt_until_the_last_moment() {
    let stage = Stage::enter("ends");
    let target = Target::start("touch", ["named", "ending"]).ready();
    for pause_ms in [0, 5] {
        let traces = stage.join(&format!("traces-{pause_ms}"));
        let mut recorder = Recorder::of_pid(&traces, target.pid());
        while recorder.is_running() {
            // It may end at any moment.
            let _ = try_send(recorder.pid(), Signal::INT);
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
        let recording = recorder.ended();
        assert_eq!(recording.code, Some(130), "{recording:?}");
    }
}

/// Whether a process has ended, be it reaped or not.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.is_empty() || (stat.contains(") Z ") && threads <= 1)
}

#[test]
fn with_an_idle_target_it_sleeps() {
    let stage = Stage::enter("ends");
    let target = Target::start("touch", ["named", "ending"]).ready();
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    // A span of ours, not a limit on anything: long enough that a recorder that polls shows.
    let before = switches_and_ticks(recorder.pid());
    std::thread::sleep(Duration::from_secs(2));
    let after = switches_and_ticks(recorder.pid());
    let (switches, ticks) = (after.0.saturating_sub(before.0), after.1 - before.1);
    assert!(switches < 1000, "{switches} context switches in 2 s with nothing to record");
    assert!(ticks < 50, "{ticks} of 200 ticks with nothing to record");
    let recording = recorder.interrupt();
    close(&recording, Loss::Nothing);
}

#[test]
fn quietly() {
    let stage = Stage::enter("ends");
    let program = crate::programs::program("family");
    let traces = stage.join("traces");
    let mut command = Command::new(BINARY);
    command.arg("-q").arg("-o").arg(&traces).arg("--").arg(program).arg("blink");
    let ran = run_command(&mut command);
    assert_eq!((ran.code, ran.stderr.as_str(), ran.stdout.as_str()), (Some(0), "", ""));
    assert_eq!(names_in(&traces).len(), 1);
}
