//! Processes that live a few milliseconds: what they were, what an exec left mapped in them, and where their stacks were.
//!
//! *Oracles.* /proc/PID/maps of a program that stands before its first instruction (`stopped.c`); the list of the programs that
//! were run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pagetrace_user::event::{Body, Place};
use pagetrace_user::format::Reader;

use crate::accounts::names_in;
use crate::objects::compiled;
use crate::recorder::{BINARY, run_command};
use crate::stage::Stage;
use crate::trace::Trace;

/// A mapping: start, end, protection, shared, offset in a file, name.
type Row = (u64, u64, u32, bool, u64, String);

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let names = names_in(directory).into_iter();
    names.map(|name| directory.join(name)).filter(|path| path.extension().is_some_and(|found| found == "pgt")).collect()
}

/// Records a command and all that it starts; what it prints.
fn recorded(directory: &Path, command: &[&str]) -> String {
    let mut recorder = Command::new(BINARY);
    recorder.args(["-q", "-f", "--stack-rate", "1000000", "--ring", "64MiB", "-o"]).arg(directory);
    let ran = run_command(recorder.arg("--").args(command));
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    ran.stdout
}

/// A line of /proc/PID/maps.
fn row(line: &str) -> Row {
    let mut words = line.split_whitespace();
    let (start, end) = words.next().unwrap().split_once('-').unwrap();
    let modes = words.next().unwrap().as_bytes();
    let offset = words.next().unwrap();
    let name = words.nth(2).unwrap_or_default();
    let hex = |text| u64::from_str_radix(text, 16).unwrap();
    let prot = [(b'r', 1), (b'w', 2), (b'x', 4)]
        .iter()
        .zip(modes)
        .map(|((letter, bit), mode)| if letter == mode { *bit } else { 0 });
    // The kernel has several of these, and pages of them are in no counter.
    let name = if name.starts_with("[vvar") { "[vvar]" } else { name };
    (hex(start), hex(end), prot.sum(), modes[3] == b's', hex(offset), name.to_owned())
}

/// What the last exec of a process left mapped, by its trace.
fn told(trace: &Trace) -> Vec<Row> {
    let exec = trace.of("task", "exec").last().expect("an exec");
    let rows = trace.of("vma", "baseline").filter(|line| line.ts == exec.ts);
    let rows = rows.map(|line| {
        let (start, name) =
            (line.addr.unwrap(), line.path.as_ref().or(line.name.as_ref()).cloned().unwrap_or_default());
        let end = start + line.bytes.unwrap();
        (start, end, line.prot.unwrap(), line.shared.unwrap(), line.offset.unwrap_or(0), name)
    });
    rows.collect()
}

/// Runs a program to its first instruction under the recorder, after `first` in a shell whose mounts are its own.
fn same_as_maps(stage: &Stage, what: &str, first: &str, program: &str) -> Vec<Row> {
    let stopped = compiled("cc", &["-O1"], "stopped.c", "stopped");
    let directory = stage.directory(what);
    let script = format!("{first}\nexec {} {program}", stopped.display());
    let maps = recorded(&directory, &["unshare", "-m", "sh", "-ec", &script]);
    let expected: Vec<Row> = maps.lines().map(row).filter(|row| row.5 != "[vsyscall]").collect();
    let traces = files_in(&directory).into_iter().map(|file| Trace::dump(&file));
    let own = &expected.iter().find(|row| row.5.starts_with('/')).expect("a file").5;
    let of_program = |trace: &Trace| trace.of("task", "exec").last().is_some_and(|exec| exec.exe.as_ref() == Some(own));
    let traces: Vec<Trace> = traces.filter(of_program).collect();
    assert_eq!(traces.len(), 1, "{what}");
    assert!(expected.len() > 4, "{what}: {maps}");
    assert_eq!(told(&traces[0]), expected, "{what}");
    expected
}

#[test]
fn what_an_exec_left_mapped_is_known() {
    let stage = Stage::enter("exec-image");
    same_as_maps(&stage, "dynamic", ":", "/usr/bin/true");
    let here = stage.path().display().to_string();
    let script = format!("cd {here}; printf '#!/bin/sh\\n:\\n' > s; chmod +x s");
    same_as_maps(&stage, "script", &script, "./s");
    for (what, flags) in [("static", &["-static"][..]), ("static-pie", &["-static-pie"]), ("fixed", &["-no-pie"])] {
        let program = compiled("cc", flags, "stopped.c", what);
        same_as_maps(&stage, what, ":", program.to_str().unwrap());
    }
    // A path across mounts; a file that another one stands for.
    let mount = format!("cd {here}; mkdir -p a/b/c d; cp /usr/bin/true d/true; mount --bind d a/b/c");
    let rows = same_as_maps(&stage, "bind", &mount, &format!("{here}/a/b/c/true"));
    assert!(rows.iter().any(|row| row.5 == format!("{here}/a/b/c/true")));
    let mount = format!(
        "cd {here}; mkdir -p below above work both; cp /usr/bin/true below/true
         mount -t overlay overlay -o lowerdir=below,upperdir=above,workdir=work both"
    );
    let rows = same_as_maps(&stage, "overlay", &mount, &format!("{here}/both/true"));
    assert!(rows.iter().any(|row| row.5 == format!("{here}/both/true")));
}

/// What the stacks of a trace have: those whose every place is in a file, all, and places of the C library by whether
/// they have a name.
#[derive(Debug, Default)]
struct Found {
    in_files: usize,
    stacks: usize,
    named: usize,
    places: usize,
}

fn look(file: &Path, found: &mut Found) {
    let mut reader = Reader::new(std::io::BufReader::new(std::fs::File::open(file).unwrap())).unwrap();
    let (mut nodes, mut places, mut libraries): (Vec<bool>, BTreeMap<_, bool>, Vec<_>) = Default::default();
    while let Some(event) = reader.next_event().unwrap() {
        match &event.body {
            Body::MapFile { id, path, .. } if path.contains("/libc.so.") || path.contains("/ld-linux") => {
                libraries.push(*id)
            }
            Body::StackNode { parent, place } => {
                nodes.push(matches!(place, Place::File { .. }) && parent.is_none_or(|parent| nodes[parent.0 as usize]));
                if let Place::File { file, .. } = place
                    && libraries.contains(file)
                {
                    places.insert(*place, false);
                }
            }
            Body::Symbol { place, functions } if !functions.is_empty() => {
                places.entry(*place).and_modify(|named| *named = true);
            }
            Body::Stack { id, .. } => {
                found.stacks += 1;
                found.in_files += usize::from(nodes[id.0 as usize]);
            }
            _ => {}
        }
    }
    found.places += places.len();
    found.named += places.values().filter(|named| **named).count();
}

#[test]
fn short_lives_have_their_programs_and_their_stacks_files() {
    const ROUNDS: usize = 23;
    const PROGRAMS: [&str; 9] =
        ["true", "echo", "date", "id", "uname", "basename x", "ls /", "sort /dev/null", "sed -n 1p /etc/passwd"];
    let stage = Stage::enter("short-lives");
    let directory = stage.directory("traces");
    let script = format!(
        "for i in $(seq {ROUNDS}); do {}; done",
        PROGRAMS.map(|program| format!("/usr/bin/{program} >/dev/null")).join("; ")
    );
    recorded(&directory, &["sh", "-c", &script]);
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Found::default();
    for file in files_in(&directory) {
        let reader = Reader::new(std::io::BufReader::new(std::fs::File::open(&file).unwrap())).unwrap();
        *runs.entry(reader.header().exe.clone()).or_default() += 1;
        look(&file, &mut found);
    }
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for program in PROGRAMS {
        *expected.entry(format!("/usr/bin/{}", program.split(' ').next().unwrap())).or_default() += ROUNDS;
    }
    expected.extend([("/usr/bin/dash".to_owned(), 1), ("/usr/bin/seq".to_owned(), 1)]);
    assert_eq!(runs, expected);
    println!("{found:?}");
    assert!(found.stacks > 40 * ROUNDS * PROGRAMS.len(), "{found:?}");
    assert!(found.in_files * 100 >= found.stacks * 99, "{found:?}");
    assert!(found.named * 100 >= found.places * 97, "{found:?}");
}
