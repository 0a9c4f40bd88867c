//! Page heaps that tell nothing for long: the recorder warns of those, and only of those, whose events are missing.

use std::path::Path;
use std::process::Command;

use crate::programs::Target;
use crate::recorder::{Recorder, report};
use crate::stage::Stage;
use crate::toolchain::{PLAIN, build_file};

/// What a page heap does when its events are missing is done by hand: a program touches pages that its heap has given back.
#[test]
fn a_warning_only_where_events_are_missing() {
    let stage = Stage::enter("go");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/silent.go");
    let program = build_file("1.25.5", &source, PLAIN, false, "");
    let start = |what: &str| Target::run(Command::new(&program).arg(what)).ready();
    let mut targets = ["rest", "fill", "trespass"].map(start);
    let pids = targets.each_ref().map(Target::pid);
    let args = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
    let recorder = Recorder::start(&stage.join("traces"), args);
    // The trespasser is the last to fall silent.
    for target in &mut targets {
        target.go();
        target.await_line("took");
    }
    let warnings = recorder.await_line("warning:");
    let warnings: Vec<&String> = warnings.iter().filter(|line| line.starts_with("warning:")).collect();
    let whose = format!("({})", pids[2]);
    assert!(warnings.len() == 1 && warnings[0].contains(&whose), "{warnings:?} are of {whose}");
    targets.into_iter().for_each(Target::finish);
    let recording = recorder.ended();
    assert!(!recording.stderr.contains("warning:"), "once: {recording:?}");
    assert_eq!(recording.code, Some(0), "{recording:?}");
    for pid in pids {
        let report = report(&recording.file_of(pid));
        let notes = report["notes"].as_array().unwrap();
        let told = notes.iter().filter(|note| note.as_str().is_some_and(|note| note.contains("has given no event")));
        assert_eq!(told.count(), usize::from(pid == pids[2]), "{notes:?}");
    }
}
