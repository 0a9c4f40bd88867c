//! Of fifty-five places three leak and one scatters what stays: `leaks` and `frag` tell just those first, by source line.
//!
//! *Oracle.* The program itself (`leaky.c`, `leaky.rs`, `leaky.go`), which gives so much in each round, and counts the pages that hold what
//! it scattered.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::objects::compiled;
use crate::objects::rust::built;
use crate::programs::Target;
use crate::recorder::{BINARY, Recorder, run, run_command};
use crate::stacks::file_in;
use crate::stage::Stage;
use crate::toolchain::{PLAIN, VERSIONS, build_file};

/// Bytes of each that leaks, a round.
const LEAKS: [(&str, u64); 3] = [("plain", 700), ("resized", 900), ("elsewhere", 500)];
const PAIRS: u64 = 4;
const SCATTERED_BYTES: u64 = 40;
const PAGE: u64 = 4096;

/// A program of these, and its source.
struct Leaky {
    name: &'static str,
    program: PathBuf,
    source: PathBuf,
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

impl Leaky {
    fn all() -> [Leaky; 3] {
        let c = compiled("cc", &["-O2", "-fomit-frame-pointer"], "leaky.c", "leaky");
        let cc = compiled("c++", &["-O2", "-fomit-frame-pointer", "-x", "c++"], "leaky.c", "leaky++");
        let rust = built("leaky.rs", &["-g", "-Cforce-frame-pointers=no"]);
        [
            Leaky { name: "C", program: c, source: source("leaky.c") },
            Leaky { name: "C++", program: cc, source: source("leaky.c") },
            Leaky { name: "Rust", program: rust, source: source("leaky.rs") },
        ]
    }

    /// The number of the line that says so at its end.
    fn line(&self, mark: &str) -> u64 {
        let text = std::fs::read_to_string(&self.source).unwrap();
        text.lines().position(|line| line.ends_with(&format!("// {mark}"))).unwrap() as u64 + 1
    }

    /// Records it, every event with its stack, and gives the file and what it said: objects and pages.
    fn recorded(&self, directory: &Path, sample: &str, rounds: u64) -> (PathBuf, [u64; 2]) {
        let mut command = Command::new(BINARY);
        command.args(["-q", "--objects", "--sample", sample, "--stack-rate", "1000000", "--ring", "256MiB", "-o"]);
        let ran = run_command(command.arg(directory).arg("--").arg(&self.program).arg(rounds.to_string()));
        assert_eq!(ran.code, Some(0), "{} {sample}: {}", self.name, ran.stderr);
        let said: Vec<u64> = ran.stdout.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        (file_in(directory, "pgt").unwrap(), said.try_into().unwrap())
    }

    /// The line of the program's own source in which a site's objects were asked for.
    fn line_of(&self, site: &Value) -> u64 {
        let own =
            |frame: &&Value| Path::new(frame["file"].as_str().unwrap()).ends_with(self.source.file_name().unwrap());
        let at = site["frames"].as_array().unwrap().iter().rev().find(own);
        at.unwrap_or_else(|| panic!("{}: {site}", self.name))["line"].as_u64().unwrap()
    }
}

/// Those with a stack, in their order, and the one of all that have none, as on a busy machine some have.
fn sites(told: &Value) -> (Vec<&Value>, Option<&Value>) {
    let (with, without): (Vec<&Value>, Vec<&Value>) =
        told["sites"].as_array().unwrap().iter().partition(|site| site["frames"] != serde_json::json!([]));
    (with, without.first().copied())
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

/// What a command says of a file.
fn told(command: &str, file: &Path) -> Value {
    let ran = run([command, "--json", &file.display().to_string()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn what_leaks_is_told_by_its_line() {
    let stage = Stage::enter("leaky-leaks");
    for leaky in Leaky::all() {
        for (sample, rounds) in [("0", 1000_u64), ("16KiB", 2000)] {
            let what = format!("{} {sample}", leaky.name);
            let (file, _) = leaky.recorded(&stage.directory(&what.replace(' ', "-")), sample, rounds);
            let leaks = told("leaks", &file);
            let (first, without) = sites(&leaks);
            // What has no stack may be of any of them.
            let apart = without.map_or(0, |site| number(site, "bytes")) as f64;
            for (leak, bytes) in LEAKS {
                let line = leaky.line(&format!("LEAK {leak}"));
                let site = first.iter().take(3).find(|site| leaky.line_of(site) == line);
                let site = site.unwrap_or_else(|| panic!("{what} {leak}: {leaks:#}"));
                let (truth, told) = ((rounds * bytes) as f64, site["bytes"].as_f64().unwrap());
                let error = 4.0 * site["error_bytes"].as_f64().unwrap();
                let range = truth - error - apart..=truth + error;
                assert!(range.contains(&told), "{what} {leak}: {told} of {truth} ± {error}, {apart} without a stack");
            }
        }
    }
}

/// Of a Go program whole runs of pages are told, and by them its leaks all the same; stripped, by their functions.
#[test]
fn what_leaks_in_go_is_told_by_its_line() {
    let stage = Stage::enter("leaky-go");
    let source = source("leaky.go");
    let rounds = 300;
    for (version, stripped) in [("1.19.8", false), ("1.23.9", true), ("1.24.11", false), ("1.27.3", true)] {
        let what = format!("{version}-{stripped}");
        let program = build_file(version, &source, PLAIN, stripped, "");
        let directory = stage.directory(&what);
        let mut command = Command::new(BINARY);
        command.args(["-q", "--stack-rate", "1000000", "--ring", "256MiB", "-o"]).arg(&directory).arg("--");
        command.arg(&program).args([&rounds.to_string(), "now"]).arg(stage.join("said"));
        let ran = run_command(&mut command);
        assert_eq!(ran.code, Some(0), "{what}: {}", ran.stderr);
        let leaks = told("leaks", &file_in(&directory, "pgt").unwrap());
        assert_eq!(leaks["unit"], "run", "{what}");
        let (first, _) = sites(&leaks);
        let leaky = Leaky { name: "Go", program, source: source.clone() };
        // The sizes that these are rounded to, and how many objects lie in a run of them (runtime/sizeclasses.go).
        for (leak, function, size, run, slots) in [
            ("plain", "main.leakPlain", 6144, 24576, 4),
            ("resized", "main.leakResized", 9472, 57344, 6),
            ("elsewhere", "main.leakElsewhere", 6912, 49152, 7),
        ] {
            let own = |frame: &Value| frame["name"] == function;
            let site = first.iter().take(3).find(|site| site["frames"].as_array().unwrap().iter().any(own));
            let site = site.unwrap_or_else(|| panic!("{what} {leak}: {leaks:#}"));
            if !stripped {
                assert_eq!(leaky.line_of(site), leaky.line(&format!("LEAK {leak}")), "{what} {leak}");
            }
            let (bytes, runs) = (site["bytes"].as_u64().unwrap(), site["objects"].as_u64().unwrap());
            assert_eq!(bytes, runs * run, "{what} {leak}: {site}");
            // Each P has a run of its own that is not full yet, and so has what moved from one P to another.
            let least = u64::div_ceil(rounds, slots);
            let apart = leaks["without_stack"].as_u64().unwrap();
            assert!(
                (least.saturating_sub(apart)..=least + 8).contains(&runs),
                "{what} {leak} of {size} bytes: {runs} runs, at least {least}"
            );
        }
    }
}

/// What each run of a Go heap holds is what the runtime says of each size, to the object and to the byte.
#[test]
fn what_keeps_runs_in_go_is_told_by_its_line() {
    let stage = Stage::enter("leaky-go-frag");
    let source = source("leaky.go");
    for (index, version) in VERSIONS.iter().enumerate() {
        let stripped = index % 2 == 1;
        let what = format!("{version}, stripped: {stripped}");
        let program = build_file(version, &source, PLAIN, stripped, "");
        let said = stage.join("said");
        let mut target = Target::run(Command::new(&program).args(["200", "wait"]).arg(&said)).ready();
        let pid = target.pid().to_string();
        let recorder = Recorder::start(&stage.directory(version), ["--stack-rate", "1000000", "--pid", &pid]);
        target.act();
        let recording = recorder.interrupt();
        target.go();
        target.finish();
        let frag = told("frag", &recording.file());
        assert_eq!(frag["unit"], "run", "{what}");
        let text = std::fs::read_to_string(&said).unwrap();
        let figures = text.lines().map(|line| line.split_once(' ').unwrap());
        let figures: Vec<(u64, u64)> = figures.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect();
        let books: Vec<&[(u64, u64)]> = figures.split_inclusive(|(size, _)| *size == 0).collect();
        let sizes = frag["sizes"].as_array().unwrap();
        let ours = |size: u64| match size {
            0 => number(&frag, "empty_bytes"),
            _ => {
                sizes.iter().find(|line| number(line, "object_bytes") == size).map_or(0, |line| number(line, "objects"))
            }
        };
        // The one before the recording ended, or the one after it, if the runtime itself made something in between.
        let is_said = |book: &&[(u64, u64)]| book.iter().all(|(size, count)| ours(*size) == *count);
        assert!(books.len() == 2 && books.iter().any(is_said), "{what}: {figures:?} {frag:#}");
        assert!(figures.iter().any(|(size, objects)| (*size, *objects) == (1536, 200)), "{what}: {figures:?}");
        let (listed, without) = sites(&frag);
        let first = listed[0];
        let own = |frame: &Value| frame["name"] == "main.scatter";
        assert!(first["frames"].as_array().unwrap().iter().any(own), "{what}: {frag:#}");
        if !stripped {
            let leaky = Leaky { name: "Go", program, source: source.clone() };
            assert_eq!(leaky.line_of(first), leaky.line("FRAG"), "{what}");
        }
        // On a busy machine some have no stack; so have those of before the recording.
        let runs = |value: &Value| number(value, "page_bytes") / 8192;
        let scattered = sizes.iter().find(|line| number(line, "object_bytes") == 1536).unwrap();
        assert_eq!(number(scattered, "objects"), 200, "{what}");
        // One a run, but where the goroutine went on on another P, in whose run a survivor lay already.
        let all = number(scattered, "runs");
        assert!((190..=200).contains(&all), "{what}: {all} runs");
        assert!((all - without.map_or(0, runs).min(all)..=all).contains(&runs(first)), "{what}: {frag:#}");
        assert_eq!(number(first, "bytes"), number(first, "objects") * 1536, "{what}");
        assert!(number(first, "empty_bytes") > 2 * number(listed[1], "empty_bytes"), "{what}: {frag:#}");
    }
}

#[test]
fn what_keeps_pages_is_told_by_its_line() {
    let stage = Stage::enter("leaky-frag");
    let rounds = 600;
    for leaky in Leaky::all() {
        let what = leaky.name;
        let (file, [objects, pages]) = leaky.recorded(&stage.directory(what), "0", rounds);
        let frag = told("frag", &file);
        let (listed, without) = sites(&frag);
        assert_eq!(leaky.line_of(listed[0]), leaky.line("FRAG"), "{what}: {frag:#}");
        assert_eq!(objects, rounds * PAIRS, "{what}");
        // On a busy machine some have no stack: they are told apart, and each lies on two pages at most.
        let apart = without.map_or(0, |site| number(site, "objects"));
        let [found, bytes, page_bytes] = ["objects", "bytes", "page_bytes"].map(|key| number(listed[0], key));
        assert!((objects - apart..=objects).contains(&found), "{what}: {found} of {objects}, {apart} without a stack");
        let pages = pages.saturating_sub(2 * apart)..=pages;
        assert!(page_bytes % PAGE == 0 && pages.contains(&(page_bytes / PAGE)), "{what}: {page_bytes} of {pages:?}");
        assert_eq!(bytes, found * SCATTERED_BYTES, "{what}");
        assert!(number(listed[0], "empty_bytes") > 2 * number(listed[1], "empty_bytes"), "{what}: {frag:#}");
        let charged: u64 = listed.into_iter().chain(without).map(|site| number(site, "empty_bytes")).sum();
        assert_eq!(charged, number(&frag, "empty_bytes"), "{what}: the charges add up");
        let parts = ["live_bytes", "beside_bytes", "empty_bytes"].map(|key| number(&frag, key));
        assert_eq!(parts.iter().sum::<u64>(), number(&frag, "page_bytes"), "{what}: a page adds up");
    }
}
