//! The command line from outside: arguments and environment -> exit code and words. No kernel, no privilege.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{File, OpenOptions};
use std::process::{Command, Output, Stdio};

/// The program, with no `PAGETRACE_*` of the tester's.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagetrace-user"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PAGETRACE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    program().args(args).envs(env.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A line that cannot be obeyed: its exit code, and words that stderr has in this order.
struct Refused {
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    code: i32,
    says: &'static [&'static str],
}

const fn refused(args: &'static [&'static str], code: i32, says: &'static [&'static str]) -> Refused {
    Refused { args, env: &[], code, says }
}

#[test]
fn what_cannot_be_obeyed_says_what_why_and_how_to_mend_it() {
    let rows = [
        // No selection, or two.
        refused(&[], 2, &["error: nothing to record", "why:", "fix:", "--pid N"]),
        refused(&["-f", "-d", "1s"], 2, &["error: nothing to record"]),
        refused(&["--"], 2, &["error: nothing to record"]),
        refused(&["--pid", "1", "-a"], 2, &["why:", "--pid and --all", "fix:"]),
        refused(&["--comm", "x", "--", "ls"], 2, &["why:", "--comm and -- CMD", "fix:"]),
        refused(&["--", ""], 2, &["error: cannot start a program", "why:", "fix:"]),
        Refused { args: &[], env: &[("PAGETRACE_ALL", "false")], code: 2, says: &["nothing to record"] },
        Refused {
            args: &[],
            env: &[("PAGETRACE_PID", "1"), ("PAGETRACE_COMM", "x")],
            code: 2,
            says: &["--pid and --comm"],
        },
        // A screen, where there is none.
        refused(&["top", "x.pgt"], 2, &["error: cannot show a screen", "why:", "terminal", "fix:", "report x.pgt"]),
        refused(&["top", "1"], 2, &["error: cannot show a screen", "fix:", "--pid 1"]),
        refused(&["top", "-"], 2, &["error: cannot show standard input", "why:", "fix:"]),
        refused(&["top", "0"], 2, &["error: cannot show that process", "why:", "fix:"]),
        refused(&["top"], 2, &["FILE|PID"]),
        // Processes.
        refused(&["--pid", "0"], 2, &["error: invalid value \"0\" for --pid", "why:", "fix:"]),
        refused(&["--pid", "-1"], 2, &["error: invalid value \"-1\" for --pid", "why:", "fix:"]),
        refused(&["--pid", "redis"], 2, &["why:", "fix:", "--comm"]),
        refused(&["--pid", "4294967296"], 2, &["--pid", "fix:"]),
        refused(&["--pid", "1,"], 2, &["--pid", "fix:"]),
        refused(&["--pid"], 2, &["error:", "--pid", "fix:"]),
        refused(&["4242"], 2, &["error: unexpected", "fix:  pagetrace-user --pid 4242"]),
        refused(&["python3", "x.py"], 2, &["error: unexpected", "fix:", "-- python3"]),
        Refused {
            args: &[],
            env: &[("PAGETRACE_PID", "1,x")],
            code: 2,
            says: &["invalid value \"x\" for --pid <N> (from PAGETRACE_PID)"],
        },
        refused(&["--comm", ""], 2, &["--comm", "why:", "fix:"]),
        refused(&["--comm", "a["], 2, &["--comm", "why:", "fix:"]),
        refused(&["--comm", "a-name-of-17-byte"], 2, &["why:", "15 bytes", "fix:"]),
        refused(&["--cgroup", "/sys/fs/cgroup/not/there"], 3, &["error: cannot record cgroup", "why:", "fix:"]),
        refused(&["--cgroup", "/"], 2, &["error: cannot record cgroup", "why:", "fix:"]),
        // Values.
        refused(&["--pid", "1", "--ring", "3"], 2, &["--ring", "why:  smaller than a page", "fix:  --ring 4KiB"]),
        refused(&["--pid", "1", "--ring", "5000"], 2, &["why:  not a power of two", "fix:  --ring 8KiB"]),
        refused(&["--pid", "1", "--ring", "2GiB"], 2, &["why:", "1 GiB", "fix:"]),
        refused(&["--pid", "1", "--ring", "8MB"], 2, &["why:  \"MB\" is no unit", "fix:"]),
        refused(&["--pid", "1", "--ring", "-8"], 2, &["--ring", "fix:"]),
        Refused {
            args: &["--pid", "1"],
            env: &[("PAGETRACE_RING", "3")],
            code: 2,
            says: &["(from PAGETRACE_RING)", "why:", "fix:"],
        },
        refused(&["--pid", "1", "-d", "30"], 2, &["why:", "unit", "fix:  write 30s"]),
        refused(&["--pid", "1", "-d", "0s"], 2, &["why:", "fix:"]),
        refused(&["--pid", "1", "--spin-time", "fast"], 2, &["--spin-time", "why:", "fix:"]),
        refused(&["--pid", "1", "--max-loss", "-1"], 2, &["--max-loss", "why:", "fix:"]),
        refused(&["--pid", "1", "--prefix", "a/b"], 2, &["--prefix", "why:", "fix:"]),
        Refused {
            args: &["--pid", "1"],
            env: &[("PAGETRACE_QUIET", "maybe")],
            code: 2,
            says: &["(from PAGETRACE_QUIET)", "why:", "fix:  give true or false"],
        },
        // Words that do not exist.
        refused(&["--nope"], 2, &["error: unexpected argument '--nope'", "fix:"]),
        refused(&["--rong", "4096"], 2, &["error:", "--rong", "fix:", "--ring"]),
        refused(&["completions"], 2, &["error:", "fix:"]),
        refused(&["completions", "cobol"], 2, &["error:", "bash", "fix:"]),
        refused(&["man", "nope"], 2, &["error: no manual page", "why:", "fix:", "doctor"]),
        refused(&["doctor", "--pid", "0"], 2, &["--pid", "why:", "fix:"]),
    ];
    for Refused { args, env, code, says } in rows {
        let output = run(args, env);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?} {env:?}\n{stderr}");
        assert!(stderr.starts_with("error: "), "{args:?} {env:?}\n{stderr}");
        assert!(output.stdout.is_empty(), "{args:?} {env:?}: data on stdout");
        let mut rest = stderr.as_str();
        for words in says {
            let at = rest.find(words).unwrap_or_else(|| panic!("{args:?} {env:?}: no {words:?} in\n{stderr}"));
            rest = &rest[at + words.len()..];
        }
    }
}

#[test]
fn a_refused_line_leaves_nothing_behind() {
    let here = tempfile::tempdir().unwrap();
    for args in [&[][..], &["--pid", "0"], &["--pid", "1", "--ring", "3", "-o", "new"], &["doctor"]] {
        program().current_dir(here.path()).args(args).output().unwrap();
        assert_eq!(here.path().read_dir().unwrap().count(), 0, "{args:?}");
    }
}

#[test]
fn help_and_version_are_data() {
    for (args, says) in [
        (&["--help"][..], &["Usage:", "--pid", "Exit codes:", "130", "PAGETRACE_"][..]),
        (&["-h"], &["Usage:", "--pid", "Examples:"]),
        (&["doctor", "--help"], &["--json"]),
        (&["--version"], &[concat!("pagetrace-user ", env!("CARGO_PKG_VERSION"), "\n")]),
    ] {
        let output = run(args, &[]);
        let stdout = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
        for words in says {
            assert!(stdout.contains(words), "{args:?}: no {words:?} in\n{stdout}");
        }
        assert!(!stdout.contains("--one-ring"), "{args:?}: a hidden option is shown");
    }
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("spin-time"), "{shell}");
    }
    let program = text(&run(&["man"], &[]).stdout);
    assert!(program.contains(".TH pagetrace-user 1"), "{program}");
    for heading in [".SH EXAMPLES", ".SH FILES", ".SH ENVIRONMENT", ".SH \"EXIT CODES\""] {
        assert!(program.contains(heading), "no {heading} in\n{program}");
    }
    let doctor = run(&["man", "doctor"], &[]);
    assert_eq!(doctor.status.code(), Some(0));
    assert!(text(&doctor.stdout).contains(".TH pagetrace-user-doctor 1"));
}

#[test]
fn completions_pass_the_shell() {
    let script = run(&["completions", "bash"], &[]).stdout;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let asked = format!(
        "source {} && COMP_WORDS=(pagetrace-user --r) COMP_CWORD=1 && _pagetrace__user pagetrace-user --r pagetrace-user \
         && echo \"${{COMPREPLY[@]}}\"",
        file.path().display()
    );
    let output = Command::new("bash").args(["--norc", "-c", &asked]).output().unwrap();
    assert!(text(&output.stdout).contains("--ring"), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn the_environment_does_not_stand_in_the_way_of_commands() {
    let output = run(&["completions", "bash"], &[("PAGETRACE_PID", "1"), ("PAGETRACE_JSON", "true")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn the_doctor_says_the_same_to_people_programs_and_scripts() {
    let output = run(&["doctor", "--json"], &[]);
    let code = output.status.code().unwrap();
    assert!([0, 1, 4, 5].contains(&code), "{code}");
    assert!(output.stderr.is_empty());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["exit_code"], code);
    assert_eq!(report["can_record"], code == 0);
    let checks = report["checks"].as_array().unwrap();
    let of = |status: &str| checks.iter().filter(|check| check["status"] == status).collect::<Vec<_>>();
    assert_eq!(of("missing").is_empty(), code == 0);
    assert_eq!(of("missing").len() + of("note").len() + of("ok").len(), checks.len());
    for check in of("missing") {
        assert!(!check["fix"].as_str().unwrap().is_empty(), "{check}");
    }

    let output = run(&["doctor"], &[]);
    assert_eq!(output.status.code(), Some(code));
    let table = text(&output.stdout);
    for check in checks {
        assert!(table.contains(check["check"].as_str().unwrap()), "{check} in\n{table}");
    }
    let as_env = run(&["doctor"], &[("PAGETRACE_JSON", "1")]);
    assert!(as_env.stdout.starts_with(b"{"));
}

#[test]
fn the_doctor_looks_at_processes() {
    let own = std::process::id().to_string();
    // Above the largest number that the kernel gives (PID_MAX_LIMIT, 4194304).
    let list = format!("{own},4194305");
    let output = run(&["doctor", "--json", "--pid", &list], &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let targets = report["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[0]["tgid"].to_string(), own);
    assert_eq!(targets[0]["status"], "ok");
    assert_eq!(targets[0]["bits"], 64);
    assert!(targets[0]["rss_bytes"].as_u64().unwrap() > 0);
    assert_eq!(targets[1]["status"], "missing");
    assert_ne!(output.status.code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_is_success() {
    for args in [&["--help"][..], &["man"], &["completions", "zsh"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program().args(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = program().arg("man").stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write to stdout\n  why:"), "{}", text(&output.stderr));
}
