//! The program on page traces of the Go runtime: every reading command opens one, and `export` writes one.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{HELLO, TWO_PS, trace};

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagetrace-user"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PAGETRACE_")) {
        command.env_remove(name);
    }
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_reading_command_opens_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("go.pt"), TWO_PS).unwrap();
    fs::write(path("of-no-such-name"), TWO_PS).unwrap();
    fs::write(path("killed.pt"), &TWO_PS[..39 * 32_768]).unwrap();
    fs::write(path("cut.pt"), &TWO_PS[..10_001]).unwrap();
    for command in ["report", "dump", "check"] {
        for (name, code, warning) in [
            ("go.pt", 0, ""),
            ("of-no-such-name", 0, ""),
            ("killed.pt", 7, "its last buffers were never written"),
            ("cut.pt", 7, "is damaged at byte 10000: the file ends in the middle of a word"),
        ] {
            for json in [false, true] {
                let file = path(name);
                let words = [command, &file, "--json"];
                let output = run(&words[..if json { 3 } else { 2 }]);
                let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
                assert_eq!(output.status.code(), Some(code), "{command} {name}: {stderr}");
                assert_eq!(stderr.is_empty(), code == 0, "{stderr}");
                assert!(stderr.contains(warning), "{stderr}");
                for line in stdout.lines().filter(|_| json) {
                    assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
                }
            }
        }
    }
    let lines = text(&run(&["dump", "--json", "--layer", "heap", "--kind", "scav", &path("go.pt")]).stdout);
    assert_eq!(lines.lines().count(), 3979 + 2);
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((last["kind"].as_str(), last["go"]["ended"].as_bool()), (Some("end"), Some(true)));
    let scav: serde_json::Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    assert_eq!(scav["bytes"].as_u64(), scav["npages"].as_u64().map(|pages| pages * 8192));
}

#[test]
fn standard_input_is_told_by_its_form() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, HELLO).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagetrace-user"));
    let output = command.args(["check", "-"]).stdin(fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("29 events in 3 buffers"));
}

#[test]
fn export_writes_the_same_bytes_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("go.pt"), TWO_PS).unwrap();
    fs::write(path("hello.pt"), HELLO).unwrap();
    let (from, to) = (path("go.pt"), path("copy.pt"));
    let output = run(&["export", &from, "-o", &to]);
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    assert!(fs::read(&to).unwrap() == TWO_PS);

    let output = run(&["export", &path("hello.pt"), "-o", &to]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("fix:  give another name, or --force"), "{}", text(&output.stderr));
    assert!(fs::read(&to).unwrap() == TWO_PS);
    assert_eq!(run(&["export", &path("hello.pt"), "-o", &to, "--force"]).status.code(), Some(0));
    assert!(fs::read(&to).unwrap() == HELLO);
    assert_eq!(run(&["export", &to, "-o", &to, "--force"]).status.code(), Some(0), "onto itself");
    assert!(fs::read(&to).unwrap() == HELLO);
    assert_eq!(names(dir.path()), ["copy.pt", "go.pt", "hello.pt"]);
}

#[test]
fn export_of_a_damaged_trace_writes_what_can_be_read_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("cut.pt"), &HELLO[..101]).unwrap();
    let output = run(&["export", &path("cut.pt"), "-o", &path("x.pt")]);
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).starts_with("warning: "));
    assert!(fs::read(path("x.pt")).unwrap() == HELLO[..96]);
}

#[test]
fn what_cannot_be_exported_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("pages.pgt"), trace::file_of(&trace::touches(10, 1), 100)).unwrap();
    fs::write(path("go.pt"), HELLO).unwrap();
    for (from, to, code, says) in [
        ("pages.pgt", "x.pt", 1, "it has no events of the heap layer, and 30 of other layers"),
        ("go.pt", "x.zip", 2, "end the name with one of: .pt"),
        ("go.pt", "x", 2, "end the name with one of: .pt"),
        ("absent", "x.pt", 1, "cannot open"),
        ("go.pt", "not/there.pt", 1, "make its directory first"),
    ] {
        let output = run(&["export", &path(from), "-o", &path(to)]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{from} {to}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(says) && stderr.contains("  fix: "), "{stderr}");
    }
    assert_eq!(run(&["export", &path("go.pt")]).status.code(), Some(2), "without -o");
    assert_eq!(names(dir.path()), ["go.pt", "pages.pgt"], "and leaves nothing behind");
    let help = text(&run(&["export", "--help"]).stdout);
    assert!(help.contains(".pt") && help.contains("--force"), "{help}");
}
