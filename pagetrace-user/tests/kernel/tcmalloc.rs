//! The page heap of gperftools' tcmalloc, put before programs that know nothing of it.
//!
//! *Oracles.* tcmalloc's own books (`MallocExtension_GetNumericProperty`, as `page_heap.c` writes them down), to the byte;
//! and a library that stands between tcmalloc and its page heap (`count_pages.c`), call by call and page by page.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use pagetrace_user::event::{Body, Layer};
use pagetrace_user::format::Reader;
use pagetrace_user::replay::{Heap, State};
use pagetrace_user::units::HEAP_PAGE_BYTES;
use serde_json::Value;

use crate::go_heap::{await_readings, figures_said, heap_program};
use crate::objects::compiled;
use crate::programs::Target;
use crate::recorder::{BINARY, Recorder, Recording, report, run, run_command};
use crate::stage::Stage;
use crate::toolchain::EXTERNAL;

const TCMALLOC: &str = "libtcmalloc_minimal.so.4";
const ROUNDS: &str = "1000";
/// What the program does, one line of its books after each: fills, frees, gives back a little, then all, fills again.
const ACTS: usize = 5;

/// What the books say: bytes of the heap, free with memory, free without; calls that made it grow, and that gave back.
type Figures = [u64; 5];

fn page_heap() -> PathBuf {
    compiled("cc", &["-Wall", "-Wextra"], "page_heap.c", "page_heap")
}

/// The lines that the program wrote, and between which moments.
fn said(file: &Path) -> Vec<(Figures, [u64; 2])> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| {
        let words: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        (words[..5].try_into().unwrap(), words[5..].try_into().unwrap())
    });
    lines.collect()
}

/// In use, by the allocator's books.
fn in_use([heap, idle, unmapped, ..]: Figures) -> u64 {
    heap - idle - unmapped
}

/// The same figures by the recording of a heap from its first page on.
fn figures(heap: &Heap) -> Figures {
    let (size, unmapped) = (heap.marks.bytes.0, heap.given_back().0 - heap.never_used().0);
    [size, size - heap.in_use().0 - unmapped, unmapped, heap.marks.count, heap.scavs.count]
}

/// What a recording says of its heap between these moments. No page heap does what a report finds odd.
fn heaps_at(file: &Path, moments: &[[u64; 2]]) -> Vec<Vec<Heap>> {
    let mut reader = Reader::new(File::open(file).unwrap()).unwrap();
    let (mut state, mut all) = (State::new(), vec![Vec::new(); moments.len()]);
    while let Some(event) = reader.next_event().unwrap() {
        for ([from, _], heaps) in moments.iter().zip(&mut all) {
            if event.ts.0 > *from && heaps.is_empty() {
                heaps.push(state.heap().clone());
            }
        }
        state.apply(event);
        for ([from, to], heaps) in moments.iter().zip(&mut all) {
            if (from..=to).contains(&&event.ts.0) && event.body.layer() == Layer::Heap {
                heaps.push(state.heap().clone());
            }
        }
    }
    for heaps in all.iter_mut().filter(|heaps| heaps.is_empty()) {
        heaps.push(state.heap().clone());
    }
    let odd: Vec<_> = state.anomalies().iter().filter(|anomaly| anomaly.what.word().starts_with("heap_")).collect();
    assert!(odd.is_empty(), "{odd:?}");
    all
}

/// How much of what a report finds odd is about the page heap.
fn heap_anomalies(report: &Value) -> usize {
    let odd = report["anomalies"].as_array().unwrap().iter();
    odd.filter(|odd| odd["kind"].as_str().unwrap().starts_with("heap_")).count()
}

/// Compares every line of the books with the recording.
fn compare(file: &Path, said: &[(Figures, [u64; 2])]) {
    let moments: Vec<[u64; 2]> = said.iter().map(|(_, moments)| *moments).collect();
    for ((figures_said, _), heaps) in said.iter().zip(heaps_at(file, &moments)) {
        let ours: Vec<Figures> = heaps.iter().map(figures).collect();
        assert!(ours.contains(figures_said), "{ours:?}, tcmalloc says {figures_said:?}");
    }
}

/// Records a command with these put before it, from its first instruction on.
fn recorded(stage: &Stage, name: &str, preload: &str, flags: &[&str], command: &[&str]) -> Recording {
    let directory = stage.join(name);
    let mut recorder = Command::new(BINARY);
    recorder.args(["--json", "--ring", "64MiB"]).args(flags).arg("-o").arg(&directory).arg("--").args(command);
    recorder.env("LD_PRELOAD", preload).env("PAGE_COUNTS", stage.join("counts")).env("PERL_HASH_SEED", "0");
    let recording = Recorder::spawn(&directory, &mut recorder).ended();
    assert_eq!(recording.code, Some(0), "{command:?}: {recording:?}");
    recording
}

#[test]
fn figures_from_the_first_instruction() {
    let stage = Stage::enter("tcmalloc");
    let (program, books) = (page_heap(), stage.join("books"));
    let command = [program.to_str().unwrap(), ROUNDS, "now", books.to_str().unwrap()];
    let recording = recorded(&stage, "traces", TCMALLOC, &[], &command);
    let said = said(&books);
    assert_eq!(said.len(), ACTS);
    compare(&recording.file(), &said);
    let report = report(&recording.file());
    assert_eq!((&report["heap"]["is_whole"], &report["heap"]["older_frees"]), (&true.into(), &0.into()));
    // Each point and its cost, the allocator, its version and its path.
    let probes = report["probes"].to_string();
    for point in ["PageHeap::Carve (emulated) of /", "PageHeap::Delete (emulated)", "PageHeap::DecommitSpan (emulated)"]
    {
        assert!(probes.contains(point), "{point}: {probes}");
    }
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("the page heap of gperftools tcmalloc 2.") && notes.contains("at 3 points, all emulated"),
        "{notes}"
    );
    assert!(notes.contains("libtcmalloc_minimal.so.4") && !notes.contains("glibc"), "{notes}");
}

/// With aggressive decommit every free is given back at once, of what was never used too.
#[test]
fn figures_of_a_heap_that_gives_back_at_once() {
    let stage = Stage::enter("tcmalloc");
    let (program, books) = (page_heap(), stage.join("books"));
    let command = [program.to_str().unwrap(), ROUNDS, "aggressive", books.to_str().unwrap()];
    let recording = recorded(&stage, "traces", TCMALLOC, &[], &command);
    compare(&recording.file(), &said(&books));
    let decommits = said(&books)[0].0[4];
    assert!(decommits > 100, "{decommits}");
}

#[test]
fn figures_from_mid_life() {
    let stage = Stage::enter("tcmalloc");
    let (books, traces) = (stage.join("books"), stage.join("traces"));
    let mut command = Command::new(page_heap());
    let mut target = Target::run(command.args([ROUNDS, "wait"]).arg(&books).env("LD_PRELOAD", TCMALLOC)).ready();
    let recorder = Recorder::of_pid(&traces, target.pid());
    target.go();
    target.await_line("took");
    // The first says that nothing is known yet.
    await_readings(&traces, 2);
    target.act();
    let recording = recorder.interrupt();
    target.finish();
    let said = said(&books);
    let moments: Vec<[u64; 2]> = said[1..].iter().map(|(_, moments)| *moments).collect();
    let (before, _) = said[0];
    for ((figures_said, _), heaps) in said[1..].iter().zip(heaps_at(&recording.file(), &moments)) {
        // What there is, and what came since the attach.
        let ours = |heap: &Heap| {
            let unmapped = heap.given_back().0 - heap.never_used().0;
            [heap.in_use().0, unmapped, heap.marks.bytes.0, heap.marks.count, heap.scavs.count]
        };
        let [size, _, unmapped, marks, scavs] = *figures_said;
        let theirs = [in_use(*figures_said), unmapped, size - before[0], marks - before[3], scavs - before[4]];
        let ours: Vec<_> = heaps.iter().map(ours).collect();
        assert!(ours.contains(&theirs), "{ours:?}, tcmalloc says {theirs:?}");
    }
    assert_eq!(report(&recording.file())["heap"]["is_whole"], true);
    assert!(!recording.stderr.contains("page heap of process"), "{}", recording.stderr);
}

/// Attached to while four threads take and give without a pause: hardly a moment is quiet enough to read the heap.
#[test]
fn figures_of_a_busy_heap() {
    let stage = Stage::enter("tcmalloc");
    for round in 0..3 {
        let (books, traces) = (stage.join(&format!("books{round}")), stage.join(&format!("traces{round}")));
        let mut command = Command::new(page_heap());
        let mut target = Target::run(command.args([ROUNDS, "busy"]).arg(&books).env("LD_PRELOAD", TCMALLOC)).ready();
        let recorder = Recorder::of_pid(&traces, target.pid());
        target.act();
        await_readings(&traces, 2);
        let recording = recorder.interrupt();
        target.finish();
        // Since then nothing has happened.
        let (figures, _) = said(&books)[0];
        let heaps = heaps_at(&recording.file(), &[[u64::MAX; 2]]);
        let ours: Vec<[u64; 2]> =
            heaps[0].iter().map(|heap| [heap.in_use().0, heap.given_back().0 - heap.never_used().0]).collect();
        assert_eq!(ours, [[in_use(figures), figures[2]]], "tcmalloc says {figures:?}; {}", recording.stderr);
        assert_eq!(report(&recording.file())["heap"]["is_whole"], true);
    }
}

/// Calls and pages: handed out, taken back, given back.
fn counted(stage: &Stage, program: &str) -> [u64; 6] {
    let bytes = std::fs::read(stage.join(&format!("counts.{program}"))).unwrap();
    let words = bytes.chunks_exact(8).take(6).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    words.collect::<Vec<u64>>().try_into().unwrap()
}

#[test]
fn every_run_of_real_programs() {
    let stage = Stage::enter("tcmalloc");
    let shim = compiled("cc", &["-shared", "-fPIC", "-O2"], "count_pages.c", "count_pages.so");
    let preload = format!("{} {TCMALLOC}", shim.display());
    let (program, books) = (page_heap(), stage.join("books"));
    let query = "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60000) \
                 SELECT count(DISTINCT i*7919%50021), length(group_concat(i)) FROM n;";
    let perl = "my %h; $h{$_} = 'x' x ($_ % 3000) for 1..20000; delete @h{1..15000}";
    let python = "d = {i: b'x' * (i % 9000) for i in range(30000)}\nfor i in range(20000): del d[i]";
    let commands: [&[&str]; 4] = [
        &[program.to_str().unwrap(), ROUNDS, "now", books.to_str().unwrap()],
        &["sqlite3", ":memory:", query],
        &["perl", "-e", perl],
        &["/usr/bin/python3", "-c", python],
    ];
    for command in commands {
        let name = command[0].rsplit('/').next().unwrap();
        let recording = recorded(&stage, name, &preload, &[], command);
        let [carved, pages, deleted, deleted_pages, given, given_pages] = counted(&stage, name);
        let report = report(&recording.file());
        let act = |name: &str| {
            let acts = report["heap"]["acts"].as_array().unwrap();
            let act = acts.iter().find(|act| act["name"] == name);
            act.map_or((0, 0), |act| (act["count"].as_u64().unwrap(), act["bytes"].as_u64().unwrap() / HEAP_PAGE_BYTES))
        };
        let (grown, grown_pages) = act("mark");
        // What the heap gets it frees at once.
        assert_eq!(act("alloc"), (carved, pages), "{command:?}");
        assert_eq!(act("free"), (deleted - grown, deleted_pages - grown_pages), "{command:?}");
        assert_eq!(act("scav"), (given, given_pages), "{command:?}");
        assert!(carved > 50 && grown > 0, "{command:?}: {carved} runs");
        assert_eq!((heap_anomalies(&report), &report["lost"]), (0, &0.into()), "{command:?}");
    }
}

/// Programs are known from their first page on where the points stood before they began; a child that goes on with its
/// parent's program frees what its parent was given.
#[test]
fn children() {
    let stage = Stage::enter("tcmalloc");
    let script = "perl -e '$x = \"x\" x 3000000'; perl -e '@x = (1) x 300000'; \
                  perl -e 'my @x = (1) x 300000; if (!fork) { undef @x; exit }; wait'";
    let recording = recorded(&stage, "traces", TCMALLOC, &["-f"], &["sh", "-c", script]);
    let reports: Vec<Value> = recording.files().iter().map(|file| report(file)).collect();
    assert_eq!(reports.len(), 5, "{recording:?}");
    for report in &reports {
        assert_eq!(heap_anomalies(report), 0, "{report:#}");
    }
    // Whether the last child lives until its heap is read is a matter of milliseconds.
    let (whole, part): (Vec<&Value>, Vec<&Value>) =
        reports.iter().partition(|report| report["heap"]["is_whole"] == true);
    assert!(whole.len() >= 4, "{reports:#?}");
    assert!(part.iter().all(|report| report["heap"]["older_frees"].as_u64().unwrap() > 0), "{part:#?}");
}

#[test]
fn doctor_tells_the_points_or_why_there_are_none() {
    let stage = Stage::enter("tcmalloc");
    // At a low address, with its C library in itself.
    let alone = compiled("cc", &["-Wall", "-Wextra", "-static", "-no-pie"], "page_heap.c", "page_heap_static");
    for (program, preload, told) in [
        (page_heap(), TCMALLOC, "tcmalloc::PageHeap::Carve at 0x"),
        (
            page_heap(),
            "libjemalloc.so.2",
            "the page heap of jemalloc 5.3.0 is not recorded: no page-heap functions are exported",
        ),
        (page_heap(), "", "the page heap of glibc 2."),
        (alone, "none", "the page heap of glibc"),
    ] {
        let mut command = Command::new(program);
        let target =
            Target::run(command.args(["1", "hold"]).arg(stage.join("books")).env("LD_PRELOAD", preload)).ready();
        let said = run(["doctor", "--pid", &target.pid().to_string()]).stdout;
        assert_eq!(said.matches(told).count(), 1, "{preload}: {said}");
        assert_eq!(said.matches("page heap of").count(), 1, "{preload}: {said}");
        // The header says so too, and nobody is told by the way.
        let recording = Recorder::of_pid(&stage.join(&format!("traces{preload}")), target.pid()).interrupt();
        let notes = report(&recording.file())["notes"].to_string();
        assert_eq!(notes.matches("the page heap of").count(), 1, "{preload}: {notes}");
        assert_eq!(recording.stderr.contains("page heap"), preload == TCMALLOC, "{preload}: {}", recording.stderr);
        target.finish();
    }
}

/// A Go program has a page heap of its own: that one is recorded, and the other is refused.
#[test]
fn beside_the_page_heap_of_a_go_program() {
    let stage = Stage::enter("tcmalloc");
    let (program, books) = (heap_program("1.22.10", EXTERNAL, false, ""), stage.join("books"));
    let command = [program.to_str().unwrap(), "200", "now", books.to_str().unwrap()];
    let recording = recorded(&stage, "traces", TCMALLOC, &["-f"], &command);
    let why = "is not recorded: the file tells of the Go runtime's own, and of no other";
    assert!(recording.stderr.contains(why), "{}", recording.stderr);
    let mut reader = Reader::new(File::open(recording.file()).unwrap()).unwrap();
    let (mut state, mut found) = (State::new(), false);
    let [_, (figures, [from, to])] = figures_said(&books);
    while let Some(event) = reader.next_event().unwrap() {
        let is_of_heap = matches!(event.body, Body::Heap(_));
        state.apply(event);
        let heap = state.heap();
        found |= is_of_heap && event.ts.0 <= to && heap.given_back().0 == figures[2] && from < to;
    }
    assert!(found && state.anomalies().is_empty(), "{:?}", state.anomalies());
    assert_eq!(run_command(Command::new(BINARY).arg("check").arg(recording.file())).code, Some(0));
}
