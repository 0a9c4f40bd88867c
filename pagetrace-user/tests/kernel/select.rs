//! Which processes get a file: each process that was asked for, one file each, and no other.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::accounts::{Loss, close};
use crate::programs::{Target, children_said, program};
use crate::recorder::Recorder;
use crate::stage::Stage;
use crate::trace::Trace;

/// Asserts that the trace has one mapping of this many pages, with a fault on each.
fn assert_touched(trace: &Trace, pages: u64) {
    let range = trace.mapping_of(pages).unwrap_or_else(|| panic!("a mapping of {pages} pages in {}", trace.header));
    assert_eq!(trace.faults_in(range).len() as u64, pages, "faults on {pages} pages in {}", trace.header);
}

fn of_pid(traces: &[Trace], pid: u32) -> &Trace {
    let mut own = traces.iter().filter(|trace| trace.tgid() == pid);
    let first = own.next().unwrap_or_else(|| panic!("a file of process {pid}"));
    assert!(own.next().is_none(), "one file of process {pid}");
    first
}

#[test]
fn children_are_followed_across_exec() {
    let stage = Stage::enter("select");
    let mut target = Target::start("family", ["tree"]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["-f", "--pid", &target.pid().to_string()]);
    let children = children_said(&target.act());
    let traces = close(&recorder.interrupt(), Loss::Nothing);
    assert_eq!(traces.len(), 2);
    let parent = of_pid(&traces, target.pid());
    assert_touched(parent, 111);
    assert_eq!(parent.of("task", "fork").map(|line| line.child).collect::<Vec<_>>(), [Some(children[0])]);
    let child = of_pid(&traces, children[0]);
    assert_eq!(child.lines[0].how.as_deref(), Some("forked"));
    assert_eq!(child.lines[0].parent, Some(target.pid()));
    assert_touched(child, 107);
    let exec = child.of("task", "exec").next().expect("an exec");
    assert_touched(child, 109);
    assert!(child.faults_in(child.mapping_of(109).unwrap()).iter().all(|fault| fault.ts > exec.ts));
    assert_eq!(child.of("task", "exit").count(), 1);
}

#[test]
fn without_follow_only_the_process_itself() {
    let stage = Stage::enter("select");
    let mut target = Target::start("family", ["tree"]).ready();
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    target.act();
    let traces = close(&recorder.interrupt(), Loss::Nothing);
    assert_eq!(traces.len(), 1);
    assert_touched(of_pid(&traces, target.pid()), 111);
}

#[test]
fn several_processes() {
    let stage = Stage::enter("select");
    let mut targets: Vec<Target> = (0..3).map(|_| Target::start("family", ["tree"]).ready()).collect();
    let args: Vec<String> = targets.iter().flat_map(|target| ["--pid".to_owned(), target.pid().to_string()]).collect();
    let recorder = Recorder::start(&stage.join("traces"), args);
    for target in &mut targets {
        target.act();
    }
    let traces = close(&recorder.interrupt(), Loss::Nothing);
    assert_eq!(traces.len(), 3);
    for target in &targets {
        assert_touched(of_pid(&traces, target.pid()), 111);
    }
}

#[test]
fn all_of_them_also_the_short_lived() {
    let stage = Stage::enter("select");
    let mut old = Target::start("family", ["tree"]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["-a"]);
    old.act();
    let blinks: Vec<u32> = (0..20)
        .map(|_| {
            let blink = Target::start("family", ["blink"]);
            let pid = blink.pid();
            blink.finish();
            pid
        })
        .collect();
    let recording = recorder.interrupt();
    // Whatever else runs on the machine is in the recording as well.
    let traces = close(&recording, Loss::Nothing);
    assert_touched(of_pid(&traces, old.pid()), 111);
    for pid in blinks {
        let trace = of_pid(&traces, pid);
        assert_touched(trace, 103);
        assert_eq!(trace.of("task", "exit").count(), 1, "process {pid} is seen to its end");
    }
}

#[test]
fn by_name_those_who_are_and_those_who_come() {
    let stage = Stage::enter("select");
    let mut named_before = Target::start("touch", ["named", "pt-before"]).ready();
    named_before.act();
    let mut other = Target::start("touch", ["named", "other-pt"]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["--comm", "pt-*"]);
    other.act();
    // A program of that name, started while we record.
    let link = stage.join("pt-started");
    std::os::unix::fs::symlink(program("family"), &link).unwrap();
    let mut started = Target::run(Command::new(&link).arg("tree")).ready();
    started.act();
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Nothing);

    let mut pids: Vec<u32> = traces.iter().map(Trace::tgid).collect();
    pids.sort_unstable();
    // Its child has the name too until it becomes another program, and stays in its file after that.
    let mut expected = vec![named_before.pid(), started.pid()];
    expected.extend(
        traces.iter().map(Trace::tgid).filter(|pid| of_pid(&traces, *pid).lines[0].parent == Some(started.pid())),
    );
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert_eq!(pids.len(), 3);
    assert_touched(of_pid(&traces, started.pid()), 111);
}

/// A cgroup of the v2 tree, removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Cgroup {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line[2] == "cgroup2");
        let root = Path::new(mount.expect("a mounted cgroup v2 tree")[1]);
        let path = root.join(format!("pagetrace-test-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Cgroup(path)
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes were killed before; the kernel may need a moment to let them go.
        let start = std::time::Instant::now();
        while let Err(error) = std::fs::remove_dir(&self.0) {
            if start.elapsed() > crate::stage::PATIENCE {
                eprintln!("could not remove {}: {error}", self.0.display());
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn by_cgroup_with_those_who_come_later() {
    let stage = Stage::enter("select");
    let cgroup = Cgroup::new();
    let mut inside = Target::start("family", ["tree"]).ready();
    cgroup.take(inside.pid());
    let mut outside = Target::start("family", ["tree"]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["--cgroup".as_ref(), cgroup.0.as_os_str()]);
    outside.act();
    let children = children_said(&inside.act());
    let traces = close(&recorder.interrupt(), Loss::Nothing);
    assert_eq!(traces.len(), 2, "{:?}", traces.iter().map(|trace| &trace.header).collect::<Vec<_>>());
    assert_touched(of_pid(&traces, inside.pid()), 111);
    assert_touched(of_pid(&traces, children[0]), 107);
    assert_touched(of_pid(&traces, children[0]), 109);
}

#[test]
fn a_reused_number_is_another_process_and_another_file() {
    let stage = Stage::enter("select");
    let mut target = Target::start("family", ["reuse"]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["-f", "--pid", &target.pid().to_string()]);
    let children = children_said(&target.act());
    assert_eq!(children.len(), 2);
    assert_eq!(children[0], children[1], "one number");
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Nothing);
    assert_eq!(traces.len(), 3);
    let mut own: Vec<&Trace> = traces.iter().filter(|trace| trace.tgid() == children[0]).collect();
    own.sort_by_key(|trace| trace.header["start_boottime"].as_u64());
    assert_eq!(own.len(), 2);
    assert!(own[0].header["start_boottime"].as_u64() < own[1].header["start_boottime"].as_u64());
    for (trace, pages, other) in [(own[0], 105, 106), (own[1], 106, 105)] {
        assert_touched(trace, pages);
        assert!(trace.mapping_of(other).is_none(), "nothing of the other process");
        assert_eq!(trace.of("task", "exit").count(), 1);
    }
}

#[test]
fn threads_are_no_children() {
    let stage = Stage::enter("select");
    let mut flood = Target::start("flood", ["256", "0"]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["-f", "--pid", &flood.pid().to_string()]);
    flood.act();
    let traces = close(&recorder.interrupt(), Loss::Nothing);
    // All that they did is in the one file.
    assert_eq!(traces.len(), 1);
    let threads: std::collections::BTreeSet<u32> =
        traces[0].of("page", "fault").filter(|line| line.actor.is_none()).map(|line| line.tid).collect();
    assert!(threads.len() >= 2, "{threads:?}");
}
