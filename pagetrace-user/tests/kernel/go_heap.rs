//! The page heap of Go programs that were built without us: what the file says is what the runtime itself says.
//!
//! *Oracles.* `runtime.MemStats` in every version; in Go 1.21 and 1.22, built with `GOEXPERIMENT=pagetrace`, the runtime's
//! own page trace.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use pagetrace_user::event::{Body, Event, HeapAct, HeapRun, Layer, SpanKind};
use pagetrace_user::format::go::GoReader;
use pagetrace_user::format::{Reader, Trace};
use pagetrace_user::replay::State;

use crate::programs::Target;
use crate::recorder::{Recorder, Recording, run};
use crate::stage::Stage;
use crate::toolchain::{VERSIONS, build_file};

const ROUNDS: &str = "2000";

fn heap_program(version: &str, experiment: &str) -> PathBuf {
    build_file(version, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/heap.go"), experiment)
}

/// In use for objects, in use for stacks, and without memory, in bytes.
type Figures = [u64; 3];

/// What the runtime says, and between which moments it said so.
fn figures_said(file: &Path) -> (Figures, [u64; 2]) {
    let said = std::fs::read_to_string(file).unwrap();
    let figures: Vec<u64> = said.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    (figures[..3].try_into().unwrap(), figures[3..].try_into().unwrap())
}

/// What the recording says: at the first of these moments, and after each event until the second. No page heap does what
/// a report finds odd.
fn figures_of(recording: &Recording, [from, to]: [u64; 2], what: &str) -> Vec<Figures> {
    assert_eq!(recording.code, Some(0), "{what}: {recording:?}");
    let mut reader = Reader::new(File::open(recording.file()).unwrap()).unwrap();
    let mut state = State::new();
    let figures = |state: &State| -> Figures {
        let heap = state.heap();
        // What no event tells the use of: Go 1.19 has no function that does.
        let objects = heap.in_use_for(SpanKind::Heap).0 + heap.in_use_for(SpanKind::Other).0;
        [objects, heap.in_use_for(SpanKind::Stack).0, heap.given_back().0]
    };
    let mut all = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        if event.ts.0 > from && all.is_empty() {
            all.push(figures(&state));
        }
        state.apply(&event);
        if event.ts.0 > from && event.ts.0 <= to && event.body.layer() == Layer::Heap {
            all.push(figures(&state));
        }
    }
    if all.is_empty() {
        all.push(figures(&state));
    }
    assert!(state.anomalies().is_empty(), "{what}: {:?}", state.anomalies());
    all
}

#[test]
fn figures_of_every_version_from_mid_life() {
    let stage = Stage::enter("go");
    for version in VERSIONS {
        let stats = stage.join(&format!("{version}.stats"));
        let mut command = Command::new(heap_program(version, ""));
        let mut target = Target::run(command.args([ROUNDS, "wait"]).arg(&stats).env("GOMAXPROCS", "2")).ready();
        let recorder = Recorder::of_pid(&stage.join(version), target.pid());
        target.act();
        let recording = recorder.interrupt();
        let ([objects, stacks, released], moments) = figures_said(&stats);
        let is_said = |&[our_objects, our_stacks, our_released]: &Figures| {
            // In 1.19 an alloc does not tell its use, so that stacks made since are among what no event tells.
            let in_use = match version {
                "1.19.8" => our_objects + our_stacks == objects + stacks,
                _ => (our_objects, our_stacks) == (objects, stacks),
            };
            // Pages without memory that a P had put aside when the heap was read are in no list that the reading sees,
            // before 1.26: up to 64 of each P.
            let put_aside = if version >= "1.26" { 0 } else { 2 * 64 * 8192 };
            in_use && our_released <= released && released <= our_released + put_aside
        };
        let ours = figures_of(&recording, moments, version);
        assert!(ours.iter().any(is_said), "Go {version}: {ours:?}, the runtime says {:?}", [objects, stacks, released]);
        target.finish();
    }
}

#[test]
fn figures_from_the_first_instruction() {
    let stage = Stage::enter("go");
    for version in ["1.21.13", "1.25.5", "1.27.3"] {
        let stats = stage.join(&format!("{version}.stats"));
        let program = heap_program(version, "");
        let args = ["--".as_ref(), program.as_os_str(), ROUNDS.as_ref(), "now".as_ref(), stats.as_os_str()];
        let recording = Recorder::launch(&stage.join(version), args).ended();
        let (figures, moments) = figures_said(&stats);
        let ours = figures_of(&recording, moments, version);
        assert!(ours.contains(&figures), "Go {version}: {ours:?}, the runtime says {figures:?}");
    }
}

/// What each P did, in its order: act, address, pages.
type ByP = BTreeMap<Option<u32>, Vec<(HeapAct, u64, u64)>>;

fn by_p(mut trace: impl Trace) -> ByP {
    let mut lanes = ByP::new();
    while let Some(Event { body, .. }) = trace.next_event().unwrap() {
        let Body::Heap(HeapRun { act, addr, pages, p, .. }) = body else { continue };
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
    let program = heap_program(version, "pagetrace");
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
        target.act();
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

#[test]
fn doctor_tells_the_points() {
    let stage = Stage::enter("go");
    let mut command = Command::new(heap_program("1.22.10", ""));
    let target = Target::run(command.args([ROUNDS, "wait"]).arg(stage.join("stats"))).ready();
    let told = run(["doctor", "--json", "--pid", &target.pid().to_string()]);
    let told: serde_json::Value =
        serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    let heap = &told["targets"][0]["page_heap"];
    assert_eq!((heap["version"].as_str(), heap["unverified"].is_null()), (Some("go1.22.10"), true), "{heap:#}");
    let points = heap["points"].as_array().unwrap();
    assert!(points.iter().any(|point| point["symbol"] == "runtime.(*mheap).initSpan"), "{heap:#}");
    assert!(points.iter().all(|point| point["cost"] == "emulated"), "{heap:#}");
    assert_eq!(heap["missing"], serde_json::json!([]));
}
