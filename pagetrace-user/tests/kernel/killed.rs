//! A recorder that is killed: what it had is readable, the kernel forgets it, and the next one starts at once.

use crate::accounts::names_in;
use crate::procfs::{BpfObject, bpf_objects, rss_bytes};
use crate::programs::Target;
use crate::recorder::{Recorder, run, run_command};
use crate::stage::{Stage, monotonic_ns, wait_for};
use crate::trace::Trace;

/// The bound: what a crash may cost.
const BOUND_NS: u64 = 100_000_000;

#[test]
fn in_a_flood() {
    let stage = Stage::enter("killed");
    // Where the CPUs belong to a virtual machine, its host can stop the recorder for longer than the bound at any
    // moment: the best of three counts for time, and every one for all the rest.
    let mut costs = Vec::new();
    for round in 0..3 {
        costs.push(kill_in_a_flood(&stage, &format!("round-{round}")));
        if costs.iter().any(|cost| *cost <= BOUND_NS) {
            return;
        }
    }
    panic!("the last event that can be read is older than {BOUND_NS} ns at the kill, each time: {costs:?}");
}

/// Returns how old the last readable event was when the recorder was killed, in nanoseconds.
fn kill_in_a_flood(stage: &Stage, name: &str) -> u64 {
    let traces = stage.directory(name);
    let mut target = Target::start("flood", ["0", "0"]).ready();
    let recorder = Recorder::of_pid(&traces, target.pid());
    let objects = bpf_objects(recorder.pid());
    assert!(["prog", "map", "link"].iter().all(|kind| objects.iter().any(|(of, _)| of == kind)), "{objects:?}");
    target.go();
    let part = wait_for("some trace", || {
        let name = names_in(&traces).into_iter().find(|name| name.ends_with(".part"))?;
        let path = traces.join(name);
        (path.metadata().ok()?.len() > 1 << 18).then_some(path)
    });
    let killed = monotonic_ns();
    recorder.kill();
    target.freeze();

    let check = run(["check".as_ref(), part.as_os_str()]);
    assert_eq!(check.code, Some(7), "{check:?}");
    let trace = Trace::dump_with(&part, 7);
    assert_eq!(trace.trailer["kind"], "end");
    let report = run(["report".as_ref(), "--json".as_ref(), part.as_os_str()]);
    assert_eq!(report.code, Some(7), "{}", report.stderr);
    assert!(report.stdout.starts_with('{'), "what could be read is reported: {report:?}");
    let last = trace.lines.iter().map(|line| line.ts).max().expect("events");

    // In the same directory, although the dead one's pid file lies there, and while its objects may still be.
    let next = Recorder::of_pid(&traces, target.pid()).interrupt();
    assert_eq!(next.code, Some(0), "{next:?}");
    assert!(part.exists(), "what the dead one left is kept");
    assert!(!traces.join("trace.pid").exists());
    target.kill();

    // A kill gives the kernel's objects back in its own time, which is no part of any promise.
    wait_for("the kernel to forget the killed recorder's objects", || {
        let left: Vec<BpfObject> = objects.iter().copied().filter(|object| exists(*object)).collect();
        left.is_empty().then_some(())
    });
    killed.saturating_sub(last)
}

#[test]
fn with_a_target_that_does_nothing() {
    let stage = Stage::enter("killed");
    let traces = stage.directory("traces");
    let target = Target::start("touch", ["mixed".as_ref(), stage.path().as_os_str()]).ready();
    target.freeze();
    let recorder = Recorder::of_pid(&traces, target.pid());
    let read = || {
        let name = names_in(&traces).into_iter().find(|name| name.ends_with(".part"))?;
        let report = run(["report".as_ref(), "--json".as_ref(), traces.join(name).as_os_str()]);
        serde_json::from_str::<serde_json::Value>(&report.stdout).ok()
    };
    // No event comes after the baseline that could tell its end.
    wait_for("the baseline in the unfinished file", || read()?["baseline"].is_object().then_some(()));
    recorder.kill();

    let report = read().expect("a report of the unfinished file");
    let rss = rss_bytes(target.pid());
    assert_eq!(report["baseline"]["rss_bytes"], rss, "{report}");
    assert_eq!(report["unexplained_bytes"], 0, "{report}");
    target.kill();
}

/// Whether `bpftool` still shows it. Numbers are not given out again.
fn exists((kind, number): BpfObject) -> bool {
    let mut bpftool = std::process::Command::new("bpftool");
    run_command(bpftool.args([kind, "show", "id", &number.to_string()])).code == Some(0)
}
