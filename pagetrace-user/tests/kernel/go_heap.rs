//! The page heap of Go programs that were built without us: what the file says of it is what the runtime says of itself.
//!
//! *Oracle.* `runtime.MemStats`, to the byte, in every version and however the program was built.
//! `PAGETRACE_TEST_BUILDS=all` tests every version in every build, not only some of them.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use pagetrace_user::event::{Body, Layer, SpanKind};
use pagetrace_user::format::Reader;
use pagetrace_user::replay::State;

use crate::programs::Target;
use crate::recorder::{Recorder, Recording, run};
use crate::stage::{Stage, wait_for};
use crate::toolchain::{EXTERNAL, PIE, PLAIN, RACE, VERSIONS, Way, build_file, without_sections};

pub const ROUNDS: &str = "1000";

/// How a program is built, and what is taken away from its file.
struct Build {
    way: Way,
    stripped: bool,
    sections: bool,
}

const UNCHANGED: Build = Build { way: PLAIN, stripped: false, sections: true };
const STRIPPED: Build = Build { stripped: true, ..UNCHANGED };
const POSITION_INDEPENDENT: Build = Build { way: PIE, stripped: true, ..UNCHANGED };
const LINKED_EXTERNALLY: Build = Build { way: EXTERNAL, stripped: true, ..UNCHANGED };
const RACE_DETECTED: Build = Build { way: RACE, ..UNCHANGED };
const SECTIONLESS: Build = Build { stripped: true, sections: false, ..UNCHANGED };
const SECTIONLESS_PIE: Build = Build { way: PIE, ..SECTIONLESS };

/// Those that [`UNCHANGED`] is not.
const BUILDS: [Build; 6] =
    [STRIPPED, POSITION_INDEPENDENT, LINKED_EXTERNALLY, RACE_DETECTED, SECTIONLESS, SECTIONLESS_PIE];

/// What is tested of that every time: each build in some version, each version in some build, the last four in more.
const SOME_BUILDS: [(&str, Build); 12] = [
    ("1.19.8", SECTIONLESS_PIE),
    ("1.21.13", STRIPPED),
    ("1.22.10", SECTIONLESS),
    ("1.22.10", LINKED_EXTERNALLY),
    ("1.23.9", POSITION_INDEPENDENT),
    ("1.24.11", RACE_DETECTED),
    ("1.25.5", LINKED_EXTERNALLY),
    ("1.25.5", SECTIONLESS_PIE),
    ("1.26.6", STRIPPED),
    ("1.26.6", POSITION_INDEPENDENT),
    ("1.27.3", LINKED_EXTERNALLY),
    ("1.27.3", SECTIONLESS),
];

impl Build {
    /// The path of the program, below `stage` where no compiler makes it so.
    fn program(&self, stage: &Stage, version: &str) -> PathBuf {
        let program = heap_program(version, self.way, self.stripped, "");
        if self.sections {
            return program;
        }
        let bare = stage.join(&format!("{version}-{}", self.way.name));
        std::fs::copy(&program, &bare).unwrap();
        std::fs::write(&bare, without_sections(&program)).unwrap();
        bare
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stripped = if self.stripped { ", stripped" } else { "" };
        write!(f, "{}{stripped}{}", self.way.name, if self.sections { "" } else { ", without sections" })
    }
}

/// The program that all of these tests record.
pub fn heap_program(version: &str, way: Way, stripped: bool, experiment: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/heap.go");
    build_file(version, &source, way, stripped, experiment)
}

/// In use for objects, in use for stacks, and without memory, in bytes.
pub type Figures = [u64; 3];

/// What the runtime says, and between which moments it said so.
pub type Said = (Figures, [u64; 2]);

/// What the program wrote before it acted, and when it had.
pub fn figures_said(file: &Path) -> [Said; 2] {
    let said = std::fs::read_to_string(file).unwrap();
    let lines = said.lines().map(|line| {
        let figures: Vec<u64> = line.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
        (figures[..3].try_into().unwrap(), figures[3..].try_into().unwrap())
    });
    lines.collect::<Vec<Said>>().try_into().unwrap()
}

/// Lets a program act whose heap is being recorded, and waits until it has; first until the recorder has read the heap.
pub fn act(target: &mut Target, traces: &Path) {
    target.go();
    target.await_line("took");
    await_readings(traces, 1);
    target.act();
}

/// Waits until so many readings of a page heap are in the only file that is being written.
pub fn await_readings(traces: &Path, count: usize) {
    wait_for("a reading of the page heap", || {
        let files = std::fs::read_dir(traces).unwrap().map(|entry| entry.unwrap().path());
        let file = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "part"))?;
        let mut reader = Reader::new(File::open(file).unwrap()).ok()?;
        let events = std::iter::from_fn(|| reader.next_event().unwrap().cloned());
        events.filter(|event| matches!(event.body, Body::HeapReading { .. })).nth(count - 1)
    });
}

/// What the recording says: at the first of these moments, and after each event until the second. No page heap does what
/// a report finds odd.
fn figures_of(recording: &Recording, [from, to]: [u64; 2], what: &str) -> Vec<Figures> {
    assert_eq!(recording.code, Some(0), "{what}: {recording:?}");
    let mut reader = Reader::new(File::open(recording.file()).unwrap()).unwrap();
    let mut state = State::new();
    let figures = |state: &State| -> Figures {
        let heap = state.heap();
        [heap.in_use_for(SpanKind::Heap).0, heap.in_use_for(SpanKind::Stack).0, heap.given_back().0]
    };
    let mut all = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        if event.ts.0 > from && all.is_empty() {
            all.push(figures(&state));
        }
        state.apply(event);
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

/// Compares what the runtime says with the recording.
fn compare(recording: &Recording, said: &[Said], what: &str) {
    for (figures, moments) in said {
        let ours = figures_of(recording, *moments, what);
        assert!(ours.contains(figures), "{what}: {ours:?}, the runtime says {figures:?}");
    }
    assert!(!recording.stderr.contains("the list of the Ps"), "{what}: {}", recording.stderr);
}

/// Records the program from mid-life on, and compares: what was read, with hardly an event since, and after many.
fn check_figures(stage: &Stage, version: &str, build: &Build) {
    let what = format!("Go {version}, {build}");
    let (stats, traces) = (stage.join("stats"), stage.join(&what));
    let mut command = Command::new(build.program(stage, version));
    let mut target = Target::run(command.args([ROUNDS, "wait"]).arg(&stats).env("GOMAXPROCS", "2")).ready();
    let recorder = Recorder::of_pid(&traces, target.pid());
    act(&mut target, &traces);
    let recording = recorder.interrupt();
    compare(&recording, &figures_said(&stats), &what);
    target.finish();
}

#[test]
fn figures_of_every_version_from_mid_life() {
    let stage = Stage::enter("go");
    VERSIONS.iter().for_each(|version| check_figures(&stage, version, &UNCHANGED));
}

#[test]
fn figures_of_stripped_and_other_builds() {
    let stage = Stage::enter("go");
    if std::env::var_os("PAGETRACE_TEST_BUILDS").is_some_and(|which| which == "all") {
        for (version, build) in VERSIONS.iter().flat_map(|version| BUILDS.iter().map(move |build| (version, build))) {
            check_figures(&stage, version, build);
        }
    } else {
        SOME_BUILDS.iter().for_each(|(version, build)| check_figures(&stage, version, build));
    }
}

#[test]
fn figures_from_the_first_instruction() {
    let stage = Stage::enter("go");
    for version in ["1.21.13", "1.25.5", "1.27.3"] {
        let stats = stage.join(&format!("{version}.stats"));
        let program = heap_program(version, PLAIN, false, "");
        let args = ["--".as_ref(), program.as_os_str(), ROUNDS.as_ref(), "now".as_ref(), stats.as_os_str()];
        let recording = Recorder::launch(&stage.join(version), args).ended();
        compare(&recording, &figures_said(&stats), version);
    }
}

#[test]
fn doctor_tells_the_points() {
    let stage = Stage::enter("go");
    let mut command = Command::new(heap_program("1.22.10", PLAIN, false, ""));
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

/// What of the arenas is resident, as the kernel counts it, is objects, stacks, structures, free and kept, or came back.
#[test]
fn the_page_heap_adds_up_with_what_is_resident() {
    let stage = Stage::enter("go");
    for version in ["1.22.10", "1.26.6"] {
        let (stats, traces) = (stage.join("stats"), stage.join(version));
        let mut command = Command::new(heap_program(version, PLAIN, false, ""));
        let mut target = Target::run(command.args([ROUNDS, "wait"]).arg(&stats)).ready();
        let recorder = Recorder::of_pid(&traces, target.pid());
        act(&mut target, &traces);
        target.freeze();
        let recording = recorder.interrupt();
        let file = recording.file().display().to_string();
        let ran = run(["report", "--json", "--top", "100000", &file]);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let number = |text: &serde_json::Value| {
            u64::from_str_radix(text.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
        };
        let runs: Vec<u64> = recording.traces()[0]
            .lines
            .iter()
            .filter(|line| line.layer == "heap" && matches!(line.kind.as_str(), "alloc" | "baseline"))
            .filter_map(|line| line.addr)
            .collect();
        let is_arena = |range: &&serde_json::Value| {
            let (start, bytes) = (number(&range["addr"]), range["bytes"].as_u64().unwrap());
            runs.iter().any(|run| (start..start + bytes).contains(run))
        };
        let arenas = report["ranges"].as_array().unwrap().iter().filter(is_arena);
        let resident: u64 = arenas.map(|range| range["resident_bytes"].as_u64().unwrap()).sum();
        let states = report["heap"]["resident"].as_array().unwrap();
        let told: u64 = states.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
        assert!(resident > 1 << 20, "{version}: {resident}");
        assert_eq!(told, resident, "{version}: {states:?}");
        let objects = states.iter().find(|line| line["state"] == "objects").unwrap()["bytes"].as_u64().unwrap();
        assert!(objects <= report["heap"]["objects_bytes"].as_u64().unwrap(), "{version}: {states:?}");
        drop(target);
    }
}
