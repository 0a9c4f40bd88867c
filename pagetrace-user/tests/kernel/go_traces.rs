//! The page heap of Go programs, event by event: what the file says is what the runtime writes about itself.
//!
//! *Oracle.* In Go 1.21 and 1.22, built with `GOEXPERIMENT=pagetrace`, the runtime's own page trace.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Command;

use pagetrace_user::event::{Body, HeapAct, HeapRun};
use pagetrace_user::format::go::GoReader;
use pagetrace_user::format::{Reader, Trace};

use crate::go_heap::{ROUNDS, act, heap_program};
use crate::programs::Target;
use crate::recorder::Recorder;
use crate::stage::Stage;
use crate::toolchain::PLAIN;

/// What each P did, in its order: act, address, pages.
type ByP = BTreeMap<Option<u32>, Vec<(HeapAct, u64, u64)>>;

fn by_p(mut trace: impl Trace) -> ByP {
    let mut lanes = ByP::new();
    while let Some(event) = trace.next_event().unwrap() {
        let Body::Heap(HeapRun { act, addr, pages, p, .. }) = event.body else { continue };
        // Growth is not in the runtime's own trace.
        if act != HeapAct::Mark {
            lanes.entry(p).or_default().push((act, addr, pages.0));
        }
    }
    lanes
}

fn check_against_own_trace(version: &str, processors: &str, from_start: bool) {
    let what = format!("Go {version}, GOMAXPROCS={processors}, from the start: {from_start}");
    let stage = Stage::enter("go");
    let program = heap_program(version, PLAIN, false, "pagetrace");
    let (stats, own, traces) = (stage.join("stats"), stage.join("own.pt"), stage.join("traces"));
    let settings = [("GOMAXPROCS", processors.to_owned()), ("GODEBUG", format!("pagetrace={}", own.display()))];
    let recording = if from_start {
        let mut command = Command::new(crate::recorder::BINARY);
        command.arg("--json").arg("-o").arg(&traces).arg("--").arg(&program).args([ROUNDS, "now"]).arg(&stats);
        Recorder::spawn(&traces, command.envs(settings)).ended()
    } else {
        let mut command = Command::new(&program);
        let mut target = Target::run(command.args([ROUNDS, "wait"]).arg(&stats).envs(settings)).ready();
        let recorder = Recorder::of_pid(&traces, target.pid());
        act(&mut target, &traces);
        target.finish();
        recorder.ended()
    };
    assert_eq!(recording.code, Some(0), "{what}: {recording:?}");
    let ours = by_p(Reader::new(File::open(recording.file()).unwrap()).unwrap());
    let theirs = by_p(GoReader::new(File::open(&own).unwrap()).unwrap());
    assert!(ours.values().map(Vec::len).sum::<usize>() > 2000, "{what}: {recording:?}");
    for (p, ours) in &ours {
        let theirs = theirs.get(p).map_or(&[][..], |lane| lane);
        let mut ours = &ours[..];
        if from_start
            && p.is_none()
            && ours.first().is_some_and(|(act, _, pages)| (*act, *pages) == (HeapAct::Alloc, 1))
        {
            // The first page of the heap: the runtime takes it before its tracer starts.
            ours = &ours[1..];
        }
        let skipped =
            theirs.len().checked_sub(ours.len()).unwrap_or_else(|| panic!("{what}: {p:?}: more than there was"));
        assert!(!from_start || skipped == 0, "{what}: {p:?}: {skipped} missing");
        let differs = ours.iter().zip(&theirs[skipped..]).position(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "{what}: {p:?}: of {} the first that differs", ours.len());
    }
    if from_start {
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{what}: the same Ps");
    }
}

#[test]
fn events_of_the_runtimes_own_trace() {
    for version in ["1.21.13", "1.22.10"] {
        for processors in ["2", "4"] {
            for from_start in [true, false] {
                check_against_own_trace(version, processors, from_start);
            }
        }
    }
}
