//! The page heap of Go programs, span by span: what the file says is what the runtime's tracer says.
//!
//! *Oracle.* Go 1.23 to 1.27 with `GODEBUG=traceallocfree=1`: `runtime/trace` then has an event for each span that exists
//! when it starts, and for each that is handed out or taken back until it stops. Go's own `go tool trace` reads it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::process::Command;

use pagetrace_user::event::{Body, Event, HeapAct, HeapRun, Layer, SpanKind};
use pagetrace_user::format::Reader;
use pagetrace_user::units::HEAP_PAGE_BYTES;

use crate::go_heap::{ROUNDS, act, figures_said, heap_program};
use crate::programs::Target;
use crate::recorder::{BINARY, Recorder};
use crate::stage::Stage;
use crate::toolchain::{PLAIN, go, output};

/// The versions that have this tracer, and the one whose tool reads the traces of all of them.
const VERSIONS: [&str; 5] = ["1.23.9", "1.24.11", "1.25.5", "1.26.6", NEWEST];
const NEWEST: &str = "1.27.3";

/// Pages of a span, and what it is for as the tracer tells it: 2 * class of objects, or 1 for anything else.
type Span = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Exists,
    Alloc,
    Free,
}

/// An event of the runtime's tracer.
#[derive(Clone, Copy, Debug)]
struct Told {
    ts: u64,
    p: Option<u32>,
    act: Act,
    /// Where the span begins, counted from the first page of the heap.
    page: u64,
    /// A free does not tell it.
    span: Option<Span>,
}

/// What a P did with the span at an address, and when.
#[derive(Clone, Copy, Debug)]
struct Step {
    ts: u64,
    act: Act,
    addr: u64,
    /// `None`: the tracer, which tells it at the alloc only, did not tell of that.
    span: Option<Span>,
}

/// The steps of each P, in its order.
type Lanes = BTreeMap<Option<u32>, Vec<Step>>;

/// Reads the events of spans, in the order of their times: on each P, and of each span, that is the order in which they
/// happened.
///
/// A thread that takes a P first puts the P's cache in order, and only then tells the tracer that it has it: what it frees
/// meanwhile is told as of no P, and is of the one that it then tells.
fn told(trace: &Path) -> Vec<Told> {
    let text = output(go(NEWEST).args(["tool", "trace", "-d=parsed"]).arg(trace));
    let (mut all, mut without_p) = (Vec::<Told>::new(), HashMap::<&str, Vec<usize>>::new());
    for line in text.lines().filter(|line| line.starts_with("M=")) {
        let behind = |name: &str| line.split_once(name).unwrap_or_else(|| panic!("{name} in {line}")).1;
        let word = |name: &str| behind(name).split(' ').next().unwrap();
        let number = |name: &str| -> u64 { word(name).parse().unwrap_or_else(|error| panic!("{error}: {line}")) };
        if line.contains(" ProcID=") && line.contains(" Idle->Running ") {
            let p = u32::try_from(number(" ProcID=")).unwrap();
            let before = without_p.remove(word("M=")).unwrap_or_default();
            before.into_iter().for_each(|place| all[place].p = Some(p));
        }
        if !line.contains(" Experimental ") {
            continue;
        }
        let act = match word(" Name=") {
            "Span" => Act::Exists,
            "SpanAlloc" => Act::Alloc,
            "SpanFree" => Act::Free,
            _ => continue,
        };
        let argument = |name: &str| -> u64 {
            let value = behind(name).strip_prefix("=Value{Uint64(").and_then(|value| value.split(')').next());
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {line}"))
        };
        let span = (act != Act::Free).then(|| (argument("npages_value"), argument("kindclass")));
        let told = Told { ts: number(" Time="), p: word(" P=").parse().ok(), act, page: argument("[id"), span };
        if told.p.is_none() {
            without_p.entry(word("M=")).or_default().push(all.len());
        }
        all.push(told);
    }
    all.sort_by_key(|told| told.ts);
    all
}

fn span_of(run: &HeapRun) -> Span {
    let span = run.span.unwrap_or_else(|| panic!("what it is for: {run:?}"));
    let kind = if span.kind == SpanKind::Heap { 2 * u64::from(span.class) } else { 1 };
    (run.pages.0, kind)
}

/// The heap's part of a recording.
fn recorded(file: &Path) -> Vec<Event> {
    let mut reader = Reader::new(File::open(file).unwrap()).unwrap();
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        if event.body.layer() == Layer::Heap {
            events.push(event.clone());
        }
    }
    events
}

/// The runs of `events`, each with its time.
fn runs(events: &[Event]) -> impl Iterator<Item = (u64, &HeapRun)> {
    events.iter().filter_map(|event| match &event.body {
        Body::Heap(run) => Some((event.ts.0, run)),
        _ => None,
    })
}

/// The spans that are there after `events`, by address.
fn spans_after(events: &[Event]) -> BTreeMap<u64, Span> {
    let mut spans = BTreeMap::new();
    for (_, run) in runs(events) {
        match run.act {
            HeapAct::Alloc => drop(spans.insert(run.addr, span_of(run))),
            HeapAct::Free => drop(spans.remove(&run.addr)),
            HeapAct::Scav | HeapAct::Mark => {}
        }
    }
    spans
}

fn lanes_of(events: &[Event]) -> Lanes {
    let mut lanes = Lanes::new();
    for (ts, run) in runs(events) {
        let act = match run.act {
            HeapAct::Alloc => Act::Alloc,
            HeapAct::Free => Act::Free,
            HeapAct::Scav | HeapAct::Mark => continue,
        };
        let step = Step { ts, act, addr: run.addr, span: Some(span_of(run)) };
        lanes.entry(run.p).or_default().push(step);
    }
    lanes
}

fn told_lanes(told: &[Told], heap: u64) -> Lanes {
    let mut spans = BTreeMap::new();
    let mut lanes = Lanes::new();
    for &Told { ts, p, act, page, span } in told {
        let addr = heap + page * HEAP_PAGE_BYTES;
        let span = match span {
            Some(span) => {
                spans.insert(addr, span);
                Some(span)
            }
            None => spans.remove(&addr),
        };
        if act != Act::Exists {
            lanes.entry(p).or_default().push(Step { ts, act, addr, span });
        }
    }
    lanes
}

fn check(version: &str, from_start: bool) {
    let what = format!("Go {version}, from the start: {from_start}");
    let stage = Stage::enter("go");
    let program = heap_program(version, PLAIN, false, "");
    let (stats, own, traces) = (stage.join("stats"), stage.join("own.trace"), stage.join("traces"));
    let settings = [("GOMAXPROCS", "2"), ("GODEBUG", "traceallocfree=1")];
    let recording = if from_start {
        let mut command = Command::new(BINARY);
        command.arg("--json").arg("-o").arg(&traces).arg("--").arg(&program).args([ROUNDS, "now"]);
        Recorder::spawn(&traces, command.args([&stats, &own]).envs(settings)).ended()
    } else {
        let mut command = Command::new(&program);
        command.args([ROUNDS, "wait"]).args([&stats, &own]).envs(settings);
        let mut target = Target::run(&mut command).ready();
        let recorder = Recorder::of_pid(&traces, target.pid());
        act(&mut target, &traces);
        target.finish();
        recorder.ended()
    };
    assert_eq!(recording.code, Some(0), "{what}: {recording:?}");
    let (theirs, ours) = (told(&own), recorded(&recording.file()));
    let [_, (_, [_, still_traced])] = figures_said(&stats);

    // The world stands still while the tracer starts and tells of the spans that there are.
    let began = theirs.iter().find(|told| told.act == Act::Exists).unwrap().ts;
    let (before, since) = ours.split_at(ours.partition_point(|event| event.ts.0 < began));
    let our_lanes = lanes_of(since);
    // Where the heap begins the tracer does not tell: a recording from the start does, else the first alloc has to.
    let heap = if from_start {
        runs(before).filter(|(_, run)| run.act == HeapAct::Mark).map(|(_, run)| run.addr).min().unwrap()
    } else {
        let first = theirs.iter().find(|told| told.act == Act::Alloc).unwrap();
        let ours = our_lanes[&first.p].iter().find(|step| step.act == Act::Alloc).unwrap();
        ours.addr - first.page * HEAP_PAGE_BYTES
    };
    if from_start {
        let existing = theirs.iter().filter(|told| told.act == Act::Exists);
        let existing: BTreeMap<u64, Span> =
            existing.map(|told| (heap + told.page * HEAP_PAGE_BYTES, told.span.unwrap())).collect();
        assert!(existing.len() > 20, "{what}: {} spans", existing.len());
        assert_eq!(spans_after(before), existing, "{what}");
    }
    let their_lanes = told_lanes(&theirs, heap);
    assert!(theirs.len() > 2000, "{what}: {recording:?}");
    assert_eq!(our_lanes.keys().collect::<Vec<_>>(), their_lanes.keys().collect::<Vec<_>>(), "{what}: the same Ps");
    for (p, theirs) in &their_lanes {
        let surplus = surplus(&format!("{what}: {p:?}"), theirs, &our_lanes[p]);
        // The tracer stops before the program ends.
        for step in surplus.iter().filter(|step| step.ts <= still_traced) {
            // In 1.23 it tells nothing of what a thread does while it writes another event on that thread: a goroutine
            // may need a larger stack just then.
            let is_nested = version == "1.23.9" && step.span.is_some_and(|(_, kind)| kind == 1);
            assert!(is_nested, "{what}: {p:?}: nothing of {step:x?}");
        }
        let nested = surplus.iter().filter(|step| step.ts <= still_traced).count();
        assert!(nested <= 20, "{what}: {p:?}: nothing of {nested}");
    }
}

/// What comes in `ours` beyond all of `theirs`, in whose order it has to be.
fn surplus(what: &str, theirs: &[Step], ours: &[Step]) -> Vec<Step> {
    let mut surplus = Vec::new();
    let mut ours_left = ours.iter();
    for (place, theirs) in theirs.iter().enumerate() {
        let is_same = |ours: &Step| {
            (ours.act, ours.addr) == (theirs.act, theirs.addr) && theirs.span.is_none_or(|span| ours.span == Some(span))
        };
        loop {
            let Some(ours) = ours_left.next() else {
                panic!("{what}: {theirs:x?}, its {place}th event, is missing; {surplus:x?} is too much")
            };
            if is_same(ours) {
                break;
            }
            surplus.push(*ours);
        }
    }
    surplus.extend(ours_left);
    surplus
}

#[test]
fn spans_of_the_runtimes_own_tracer() {
    VERSIONS.iter().for_each(|version| check(version, true));
    ["1.23.9", NEWEST].iter().for_each(|version| check(version, false));
}
