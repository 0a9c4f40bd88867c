//! Objects: every call of an allocator's functions, counted as a library counts them that stands between the program
//! and its allocator (`count_objects.c`), and what lives as the program itself knows it.
//!
//! *Programs.* `objects.c` and `operators.cc` call everything; Debian's perl and sqlite3 are real ones, and cargo ([`rust`]). *Allocators.* glibc,
//! musl in a static program, and jemalloc, tcmalloc and mimalloc put before the program.
//! *Same call.* Some allocators have one function under several names; so calls are compared by what they do: those
//! that give memory, and those that take it back.

pub mod rust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::programs::Target;
use crate::recorder::{BINARY, Recorder, report, run_command};
use crate::stage::Stage;

const ALLOCATORS: [&str; 4] = ["", "libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"];
/// What the C++ runtime keeps to throw exceptions from when there is no memory.
const RUNTIME: (u64, u64) = (1, 72_704);
/// A `std::bad_alloc`, with the head that the C++ runtime gives it.
const EXCEPTION: (u64, u64) = (1, 136);
/// The functions in the order of `count_objects.c`.
const CALLS: [&str; 14] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "operator new",
    "operator new[]",
    "operator delete",
    "operator delete[]",
];

/// Compiles a source of `tests/programs`.
pub fn compiled(compiler: &str, flags: &[&str], source: &str, name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&directory).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let program = directory.join(name);
    let mut command = Command::new(compiler);
    command.args(["-O1", "-g", "-fno-builtin", "-pthread"]).args(flags).arg("-o").args([&program, &source]);
    let made = command.output().unwrap_or_else(|error| panic!("{compiler} must be installed: {error}"));
    assert!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr));
    program
}

pub fn objects() -> PathBuf {
    compiled("cc", &["-Wall", "-Wextra"], "objects.c", "objects")
}

fn operators() -> PathBuf {
    compiled("c++", &["-std=c++17", "-Wall", "-Wextra"], "operators.cc", "operators")
}

/// Calls and bytes by function.
type Counts = BTreeMap<String, (u64, u64)>;

/// What the library counts that stands between the program and its allocator, and what the program said.
fn counted(stage: &Stage, preload: &str, command: &[&str]) -> (Counts, String) {
    let shim = compiled("cc", &["-shared", "-fPIC", "-fexceptions"], "count_objects.c", "count_objects.so");
    let file = stage.path().join("counts");
    let ran = run_command(
        Command::new(command[0])
            .args(&command[1..])
            .env("LD_PRELOAD", format!("{} {preload}", shim.display()))
            .env("PERL_HASH_SEED", "0")
            .env("OBJECT_COUNTS", &file),
    );
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    let bytes = std::fs::read(file).unwrap();
    let words: Vec<u64> = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    let rows = CALLS.iter().zip(words.chunks_exact(2)).filter(|(_, row)| row[0] > 0);
    (rows.map(|(call, row)| ((*call).to_owned(), (row[0], row[1]))).collect(), ran.stdout)
}

/// The report of the same program recorded, and what the program said.
fn recorded(stage: &Stage, preload: &str, flags: &[&str], command: &[&str]) -> (Value, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let directory = stage.directory(&format!("recorded-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let mut recorder = Command::new(BINARY);
    recorder.args(["-q", "--objects", "--ring", "64MiB"]).args(flags).arg("-o").arg(&directory).arg("--").args(command);
    // What a program asks for may depend on its environment: it is as long as that of the run that was counted.
    let nothing = compiled("cc", &["-shared", "-fPIC"], "count_nothing.c", "count_nothing.so");
    recorder.env("LD_PRELOAD", format!("{} {preload}", nothing.display()));
    let ran = run_command(recorder.env("PERL_HASH_SEED", "0").env("OBJECT_COUNTS", stage.path().join("counts")));
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    let files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "pgt"))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    (report(&files[0]), ran.stdout)
}

/// The calls of a report, of all libraries.
pub fn calls_of(report: &Value) -> Counts {
    let mut counts = Counts::new();
    for line in report["objects"]["calls"].as_array().unwrap() {
        let sum = counts.entry(line["call"].as_str().unwrap().to_owned()).or_default();
        sum.0 += line["calls"].as_u64().unwrap();
        sum.1 += line["bytes"].as_u64().unwrap();
    }
    counts.retain(|_, (calls, _)| *calls > 0);
    counts
}

/// Calls that give memory with their bytes, and calls that take it back.
fn by_act(counts: &Counts) -> (u64, u64, u64) {
    let takes = |call: &str| matches!(call, "free" | "operator delete" | "operator delete[]");
    let given = counts.iter().filter(|(call, _)| !takes(call)).map(|(_, count)| *count);
    let (calls, bytes) = given.fold((0, 0_u64), |sum, more| (sum.0 + more.0, sum.1.wrapping_add(more.1)));
    (calls, bytes, counts.iter().filter(|(call, _)| takes(call)).map(|(_, count)| count.0).sum())
}

/// The differences, modulo 2^64.
fn less(from: (u64, u64, u64), what: (u64, u64, u64)) -> (u64, u64, u64) {
    (from.0.wrapping_sub(what.0), from.1.wrapping_sub(what.1), from.2.wrapping_sub(what.2))
}

/// The objects and bytes that the program says it leaves.
pub fn leaks_said(stdout: &str) -> (u64, u64) {
    let line =
        stdout.lines().rev().find_map(|line| line.strip_prefix("leaks ")).expect("a line that begins with leaks");
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

fn number(report: &Value, key: &str) -> u64 {
    report["objects"][key].as_u64().unwrap_or_else(|| panic!("{key} in {}", report["objects"]))
}

#[track_caller]
fn check_trust(report: &Value) {
    assert_eq!(report["anomalies"], Value::Array(Vec::new()));
    check_objects(report);
}

/// The same of objects alone.
#[track_caller]
fn check_objects(report: &Value) {
    assert_eq!(report["lost"], 0);
    assert_eq!(number(report, "uncertain_samples"), 0);
    assert_eq!(number(report, "unknown_frees"), 0, "the program was recorded from its first call on");
    assert_eq!(report["objects"]["since_ns"], Value::Null, "{}", report["objects"]);
}

pub fn live(report: &Value) -> (u64, u64) {
    (number(report, "live_objects"), number(report, "live_bytes"))
}

/// What lives at the end is what the program says it leaves, and what the libraries keep whatever the program does (the
/// C++ runtime, for instance, memory for the time when there is none).
#[track_caller]
fn check_leaks(report: &Value, said: &str, kept: (u64, u64)) {
    let (objects, bytes) = leaks_said(said);
    assert_eq!(live(report), (objects + kept.0, bytes + kept.1), "{}", report["objects"]);
}

/// What the libraries keep, by the report of a program that does nothing.
fn kept_by_libraries(nothing: &Value, runtime: bool) -> (u64, u64) {
    let own = live(nothing);
    // Allocators written in C++ have its runtime in every program.
    let is_there = own.1 >= RUNTIME.1;
    if runtime && !is_there { (own.0 + RUNTIME.0, own.1 + RUNTIME.1) } else { own }
}

#[test]
fn every_call_of_every_allocator_is_counted_as_it_was_made() {
    let stage = Stage::enter("objects_every_call");
    let (objects, operators) = (objects(), operators());
    for preload in ALLOCATORS {
        let command = [objects.to_str().unwrap(), "nothing"];
        let (counted_nothing, _) = counted(&stage, preload, &command);
        let (nothing, _) = recorded(&stage, preload, &["--sample", "0"], &command);
        for program in [&objects, &operators] {
            let command = [program.to_str().unwrap()];
            let (mut expected, _) = counted(&stage, preload, &command);
            if program == &operators && !preload.contains("mimalloc") {
                // The exception is an object too. The library that counts takes it for a part of `operator new`.
                let malloc = expected.entry("malloc".to_owned()).or_default();
                *malloc = (malloc.0 + EXCEPTION.0, malloc.1 + EXCEPTION.1);
            }
            let (report, said) = recorded(&stage, preload, &["--sample", "0"], &command);
            let found = calls_of(&report);
            if preload.is_empty() {
                // glibc's `memalign` and `aligned_alloc` are one function.
                let merged = |mut counts: Counts| {
                    if let Some(more) = counts.remove("memalign") {
                        let sum = counts.entry("aligned_alloc".to_owned()).or_default();
                        *sum = (sum.0 + more.0, sum.1 + more.1);
                    }
                    counts
                };
                assert_eq!(merged(found.clone()), merged(expected.clone()), "{command:?}");
            }
            // What an allocator calls of its own when it begins goes by the library that counts.
            let own = less(by_act(&calls_of(&nothing)), by_act(&counted_nothing));
            assert_eq!(
                less(by_act(&found), by_act(&expected)),
                own,
                "{command:?} with {preload:?}\n{found:?}\n{expected:?}"
            );
            check_trust(&report);
            check_leaks(&report, &said, kept_by_libraries(&nothing, program == &operators));
        }
    }
}

#[test]
fn calls_of_real_programs() {
    let stage = Stage::enter("objects_real_calls");
    let script = "my %h; for my $i (1..3000) { $h{$i} = 'x' x ($i % 500); delete $h{$i / 2} if $i % 3 == 0; } \
                  print join(',', map { length } sort values %h) =~ tr/,//, qq{\\n};";
    let query = "create table t(a integer primary key, b text); \
                 with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) \
                 insert into t select i, printf('%040d', i * i) from n; select count(distinct b) from t;";
    // A script is run by the program that its first line names.
    let file = stage.join("script");
    std::fs::write(&file, format!("#!/usr/bin/perl\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let commands: [(&str, &[&str]); 5] = [
        ("", &["perl", "-e", script]),
        ("libjemalloc.so.2", &["perl", "-e", script]),
        ("", &["sqlite3", ":memory:", query]),
        ("libmimalloc.so.2.0", &["sqlite3", ":memory:", query]),
        ("", &[file.to_str().unwrap()]),
    ];
    for (preload, command) in commands {
        let (expected, said) = counted(&stage, preload, command);
        let (report, again) = recorded(&stage, preload, &["--sample", "0"], command);
        assert_eq!(said, again);
        assert_eq!(by_act(&calls_of(&report)), by_act(&expected), "{command:?} with {preload:?}");
        check_trust(&report);
    }
}

#[test]
fn a_static_program_with_musl() {
    let stage = Stage::enter("objects_musl");
    let program = compiled("musl-gcc", &["-static"], "objects.c", "objects-musl");
    let (report, said) = recorded(&stage, "", &["--sample", "0"], &[program.to_str().unwrap()]);
    let found = calls_of(&report);
    // As the source has them; musl has no `pvalloc`, and stdout was given no buffer.
    let expected = [
        ("malloc", 1000),
        ("calloc", 1),
        ("realloc", 501),
        ("reallocarray", 1),
        ("free", 908),
        ("posix_memalign", 1),
        ("aligned_alloc", 1),
        ("memalign", 1),
        ("valloc", 1),
    ];
    let expected: BTreeMap<&str, u64> = expected.into_iter().collect();
    let found: BTreeMap<&str, u64> = found.iter().map(|(call, (calls, _))| (call.as_str(), *calls)).collect();
    assert_eq!(found, expected);
    check_trust(&report);
    assert_eq!((number(&report, "live_objects"), number(&report, "live_bytes")), leaks_said(&said));
}

#[test]
fn objects_that_threads_hand_to_each_other() {
    let stage = Stage::enter("objects_handed");
    for preload in ALLOCATORS {
        let (report, _) = recorded(&stage, preload, &["--sample", "0"], &[objects().to_str().unwrap(), "threads"]);
        // Threads have memory of the loader's own.
        assert!(number(&report, "live_objects") <= 8, "{preload:?} {}", report["objects"]);
        check_trust(&report);
        assert!(number(&report, "allocs") > 100_000);
    }
}

#[test]
fn calls_that_fail_take_and_give_nothing() {
    let stage = Stage::enter("objects_failing");
    for preload in ALLOCATORS {
        let (report, said) = recorded(&stage, preload, &["--sample", "0"], &[objects().to_str().unwrap(), "fail"]);
        check_trust(&report);
        let failed: u64 =
            report["objects"]["calls"].as_array().unwrap().iter().map(|line| line["failed"].as_u64().unwrap()).sum();
        assert_eq!(failed, 3, "{preload:?} {}", report["objects"]);
        let nothing = recorded(&stage, preload, &["--sample", "0"], &[objects().to_str().unwrap(), "nothing"]).0;
        check_leaks(&report, &said, kept_by_libraries(&nothing, false));
    }
}

/// A child that runs another program is looked at first: until then its calls are counted, and what they give is not
/// recorded. As no return is seen, the calls that the allocator's functions make of each other count then as well:
/// `reallocarray` calls `realloc`, and that, given nothing, `malloc`, as `realloc` itself does once.
#[test]
fn children_are_followed() {
    let stage = Stage::enter("objects_children");
    let command = format!("{}; true", objects().display());
    let mut recorder = Command::new(BINARY);
    recorder.args(["-q", "-f", "--objects", "--sample", "0", "-o"]).arg(stage.path());
    let ran = run_command(recorder.args(["--", "sh", "-c", &command]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let files = std::fs::read_dir(stage.path()).unwrap().map(|entry| entry.unwrap().path());
    let is_childs = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("objects.");
    let report = report(&files.into_iter().find(is_childs).expect("a file of the child"));
    let found = calls_of(&report);
    let (malloc, realloc) = (found["malloc"].0, found["realloc"].0);
    assert!((1000..=1002).contains(&malloc) && (501..=502).contains(&realloc), "{found:?}");
    assert_eq!(found["free"].0, 909);
    assert_eq!(report["lost"], 0);
    assert!(report["objects"]["since_ns"].is_number(), "{}", report["objects"]);
    assert!(number(&report, "allocs") + number(&report, "unknown_frees") >= number(&report, "frees"));
}

/// Attached to in mid-life: what came before is not known, what is called from then on is counted exactly.
#[test]
fn a_process_that_runs_already() {
    let stage = Stage::enter("objects_mid_life");
    let mut target = Target::run(Command::new(objects()).arg("attach")).ready();
    target.act();
    let pid = target.pid().to_string();
    let recorder = Recorder::start(stage.path(), ["--objects", "--sample", "0", "--pid", &pid]);
    let said = target.act();
    let recording = recorder.interrupt();
    let report = report(&recording.file());
    let found = calls_of(&report);
    assert_eq!((found["malloc"].0, found["realloc"].0, found["free"].0), (1000, 501, 909));
    assert_eq!((number(&report, "live_objects"), number(&report, "live_bytes")), leaks_said(&said.join("\n")));
    assert_eq!(report["lost"], 0);
    target.finish();
}

/// The verifier gives up after a million; another compiler or kernel may take more of them than these.
#[test]
fn instructions_that_the_verifier_follows() {
    let stage = Stage::enter("objects_verified");
    let target = Target::run(Command::new(objects()).arg("attach")).ready();
    let recorder = Recorder::start(stage.path(), ["--objects", "--pid", &target.pid().to_string()]);
    let programs = std::fs::read_dir(format!("/proc/{}/fdinfo", recorder.pid())).unwrap();
    let followed = programs.filter_map(|program| {
        let info = std::fs::read_to_string(program.unwrap().path()).ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("verified_insns:"))?;
        Some(line.trim().parse::<u64>().unwrap())
    });
    let most = followed.max().unwrap();
    println!("{most} at most");
    assert!(most < 250_000, "{most}");
    recorder.interrupt();
    target.kill();
}

/// What samples say of a known number of bytes: within four standard errors of it, and as often above as below.
///
/// `PAGETRACE_SAMPLINGS` has it run as often as that; then their mean is within 2 % of the truth.
#[test]
fn samples_are_without_bias() {
    let stage = Stage::enter("objects_samples");
    let program = objects();
    let runs: u32 = std::env::var("PAGETRACE_SAMPLINGS").map_or(2, |runs| runs.parse().unwrap());
    let mut ratios = Vec::new();
    for run in 0..runs {
        let seed = (run + 1).to_string();
        let command = [program.to_str().unwrap(), "many", "60000", &seed];
        let (report, said) = recorded(&stage, "", &["--sample", "64KiB"], &command);
        let (objects, bytes) = leaks_said(&said);
        let (found, error) = (number(&report, "live_bytes") as f64, number(&report, "live_error_bytes") as f64);
        assert!((found - bytes as f64).abs() < 4.0 * error, "{found} ± {error} of {bytes}");
        let samples = number(&report, "live_samples");
        assert!(samples > 500 && samples < objects / 10, "{samples} of {objects}");
        // Counts are exact all the same.
        assert_eq!(calls_of(&report)["malloc"], (objects, bytes));
        ratios.push(found / bytes as f64);
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    println!("mean of {runs} runs: {mean:.4} of the truth");
    assert!(runs < 30 || (mean - 1.0).abs() < 0.02, "{mean}: {ratios:?}");
}
