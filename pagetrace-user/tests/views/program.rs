//! The program itself on files: what stands on stdout, what on stderr, and the exit code.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::fixture;

pub fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagetrace-user"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PAGETRACE_")) {
        command.env_remove(name);
    }
    command.args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn exit_codes_of_whole_and_damaged_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let events = fixture::eventful();
    let whole = fixture::whole(&events);
    fs::write(path("whole.pgt"), &whole).unwrap();
    fs::write(path("cut.pgt"), whole.get(..whole.len() - 9).unwrap()).unwrap();
    fs::write(path("part.pgt"), fixture::file(&events, None)).unwrap();
    let mut wrong = fixture::trailer(&events);
    wrong.skipped += 1;
    fs::write(path("wrong.pgt"), fixture::file(&events, Some(&wrong))).unwrap();
    for command in ["report", "heat", "dump", "check"] {
        let expected_of_wrong = if command == "check" { 1 } else { 0 };
        for (name, code, warned) in [
            ("whole.pgt", 0, false),
            ("cut.pgt", 7, true),
            ("part.pgt", 7, true),
            ("wrong.pgt", expected_of_wrong, false),
        ] {
            for json in [false, true] {
                let file = path(name);
                let words: Vec<&str> = if json { vec![command, &file, "--json"] } else { vec![command, &file] };
                let output = run(&words);
                assert_eq!(output.status.code(), Some(code), "{words:?}");
                assert!(!output.stdout.is_empty(), "{words:?}");
                assert_eq!(
                    text(&output.stderr).starts_with("warning: "),
                    warned,
                    "{words:?}: {}",
                    text(&output.stderr)
                );
                for line in text(&output.stdout).lines().filter(|_| json) {
                    assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
                }
            }
        }
        let (first, second) = (path("part.pgt"), path("whole.pgt"));
        let output = run(&[command, &first, &second]);
        assert_eq!(output.status.code(), Some(7), "the worst of several files");
        assert!(text(&output.stdout).contains(&format!("\n== {second}\n")), "and all of them are shown");
    }
}

#[test]
fn what_is_no_trace_is_a_failure_with_its_three_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("empty"), b"").unwrap();
    fs::write(path("foreign"), b"PERFILE2 and more than sixteen bytes").unwrap();
    for command in ["report", "heat", "dump", "check"] {
        for (name, code) in [("absent", 1), (".", 1), ("empty", 7), ("foreign", 7)] {
            let output = run(&[command, &path(name)]);
            assert_eq!(output.status.code(), Some(code), "{command} {name}");
            let error = text(&output.stderr);
            assert!(error.starts_with("error: ") && error.contains("  why: ") && error.contains("  fix: "), "{error}");
            assert!(output.stdout.is_empty());
        }
    }
    for words in [
        vec!["dump"],
        vec!["dump", "x", "--kind", "nonsense"],
        vec!["dump", "x", "--layer", "nonsense"],
        vec!["report", "x", "--top", "-1"],
    ] {
        assert_eq!(run(&words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_success() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.pgt");
    let events: Vec<_> = std::iter::repeat_n(fixture::short_life(), 2000).flatten().collect();
    fs::write(&path, fixture::whole(&events)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pagetrace-user"))
        .args(["dump", "--json"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn exports_refuse_what_they_cannot_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("pages.pgt"), fixture::whole(&fixture::eventful())).unwrap();
    fs::write(path("empty.pgt"), fixture::whole(&[])).unwrap();
    for (from, to, code, says) in [
        ("pages.pgt", "heaptrack.redis.1.gz", 1, "it has no objects of allocators, and 7"),
        ("pages.pgt", "heaptrack.redis.1.zst", 1, "fix:  record with --objects"),
        ("pages.pgt", "x.zst", 2, "heaptrack.NAME.zst"),
        ("pages.pgt", "x.json.gz", 2, "heaptrack.NAME.gz"),
        #[cfg(feature = "parquet")]
        ("pages.pgt", "x.stacks.parquet", 1, "no stacks were recorded"),
        ("empty.pgt", "x.csv", 1, "it has no events"),
        ("empty.pgt", "x.jsonl", 1, "it has no events"),
    ] {
        let output = run(&["export", &path(from), "-o", &path(to)]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{to}: {error}");
        assert!(error.starts_with("error: ") && error.contains(says), "{to}: {error}");
        assert!(!std::path::Path::new(&path(to)).exists() && output.stdout.is_empty(), "{to}");
    }
    for to in ["x.csv", "x.jsonl"] {
        let words = ["export", &path("pages.pgt"), "-o", &path(to), "--force"];
        let output = run(&words[..4]);
        assert_eq!((output.status.code(), output.stderr.len(), output.stdout.len()), (Some(0), 0, 0), "{to}");
        let written = fs::read(path(to)).unwrap();
        let output = run(&words[..4]);
        assert_eq!(output.status.code(), Some(1), "{to}: nothing is overwritten");
        assert!(text(&output.stderr).contains("--force") && fs::read(path(to)).unwrap() == written);
        assert_eq!(run(&words).status.code(), Some(0), "{to}");
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 4, "and nothing is left behind");
}
