//! Stacks: where memory was mapped, touched and given back, in programs without frame pointers and in Go programs.
//!
//! *Oracles.* The program itself (`rooms.c`), which touches a known number of pages in each of its functions; `addr2line -fi`
//! and `go tool addr2line` for the names; for programs that are not ours, that their stacks have an end.

mod debug_files;
mod kernel;
mod made;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pagetrace_user::event::{Body, Function, Place, StackOf};
use pagetrace_user::format::{Reader, Trace};
use pagetrace_user::symbols::FileOffset;
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::image::Image;
use serde_json::Value;

use crate::go_heap::heap_program;
use crate::objects::compiled;
use crate::programs::Target;
use crate::recorder::{BINARY, report, run, run_command};
use crate::stage::{Stage, wait_for};
use crate::toolchain::{PLAIN, go, output};

const PAGE: u64 = 4096;

/// Records a program from its first instruction to its end, every event with its stack as far as the rings have room.
fn recorded(directory: &Path, command: &[&str]) -> PathBuf {
    let ran = run_command(recorder(directory, command).stdin(Stdio::null()));
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    file_in(directory, "pgt").unwrap()
}

fn recorder(directory: &Path, command: &[&str]) -> Command {
    let mut recorder = Command::new(BINARY);
    recorder.args(["-q", "--stack-rate", "1000000", "--ring", "256MiB", "-o"]).arg(directory).arg("--").args(command);
    recorder
}

/// The same of `rooms`, which waits until it is let go: the recorder has asked by then what its code is.
fn recorded_rooms(directory: &Path, program: &Path, which: &str) -> PathBuf {
    let mut recorder = recorder(directory, &[program.to_str().unwrap()]);
    recorded_waiting(directory, recorder.env("PAGETRACE_STACKS", which), |nodes, _| nodes.contains("path="))
}

/// The same of any program that waits: until its nodes are told, by the unfinished file and its name.
fn recorded_waiting(directory: &Path, recorder: &mut Command, is_told: impl Fn(&str, &Path) -> bool) -> PathBuf {
    let target = Target::run(recorder).ready();
    wait_for("stacks in the unfinished file", || {
        let part = file_in(directory, "part")?;
        let ran = run(["dump", "--kind", "node", &part.display().to_string()]);
        is_told(&ran.stdout, &part).then_some(())
    });
    target.finish();
    file_in(directory, "pgt").unwrap()
}

pub fn file_in(directory: &Path, extension: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|found| found == extension)).max()
}

/// Weight by the functions of each stack.
fn weighed(file: &Path, of: &str) -> (Value, Vec<(Vec<String>, u64)>) {
    let ran = run(["stacks", "--json", "--of", of, &file.display().to_string()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile: Value = serde_json::from_str(&ran.stdout).unwrap();
    let name = |index: &Value| profile["frames"][index.as_u64().unwrap() as usize]["name"].as_str().unwrap().to_owned();
    let samples = profile["samples"].as_array().unwrap().iter();
    let samples = samples.map(|sample| {
        (sample["frames"].as_array().unwrap().iter().map(name).collect(), sample["value"].as_u64().unwrap())
    });
    let samples = samples.collect();
    (profile, samples)
}

/// Pages of the stacks that have all of these functions, one somewhere inside of the other.
fn pages_of(samples: &[(Vec<String>, u64)], functions: &[&str]) -> u64 {
    let has = |frames: &Vec<String>| {
        let mut frames = frames.iter();
        functions.iter().all(|function| frames.any(|frame| frame == function))
    };
    samples.iter().filter(|(frames, _)| has(frames)).map(|(_, value)| value / PAGE).sum()
}

#[test]
fn memory_is_charged_to_who_touched_mapped_and_gave_it_back() {
    let stage = Stage::enter("stacks-rooms");
    for flags in [&["-O2", "-fomit-frame-pointer"][..], &["-O2", "-fno-omit-frame-pointer"], &["-O2", "-static-pie"]] {
        let program = compiled("cc", flags, "rooms.c", "rooms");
        let directory = stage.directory(&format!("rooms{}", flags.join("")));
        let file = recorded_rooms(&directory, &program, "user");
        let (profile, resident) = weighed(&file, "resident");
        let seen = (profile["events"].as_u64(), profile["events_with_stack"].as_u64());
        assert_eq!(seen.0, seen.1, "{flags:?}: every fault has its stack");
        assert_eq!(pages_of(&resident, &["main", "fill_north", "touch"]), 200, "{flags:?}");
        assert_eq!(pages_of(&resident, &["in_thread", "fill_south", "touch"]), 90, "{flags:?}");
        assert_eq!(pages_of(&resident, &["in_thread", "fill_deep", "touch"]), 10, "{flags:?}");
        assert_eq!(pages_of(&resident, &["main", "fill_south", "touch"]), 32, "{flags:?}");
        assert_eq!(pages_of(&resident, &["main", "fill_again", "touch"]), 16, "{flags:?}");
        let deep = resident.iter().find(|(frames, _)| frames.iter().any(|frame| frame == "fill_deep")).unwrap();
        assert_eq!(deep.0.iter().filter(|frame| *frame == "fill_deep").count(), 41, "{flags:?}");
        let mapped = weighed(&file, "mapped").1;
        assert_eq!(pages_of(&mapped, &["main", "north", "make_room"]), 300, "{flags:?}");
        assert_eq!(pages_of(&mapped, &["main", "south", "make_room"]), 48, "{flags:?}");
        let both = weighed(&file, "both").1;
        assert_eq!(pages_of(&both, &["north", "make_room", "in_thread", "fill_south"]), 90, "{flags:?}");
        let returned = weighed(&file, "returned").1;
        assert_eq!(pages_of(&returned, &["main", "give_back", "main", "fill_again"]), 16, "{flags:?}");
        for samples in [&resident, &mapped, &both] {
            let total: u64 = samples.iter().map(|(_, value)| value).sum();
            assert_eq!(total, profile["total"].as_u64().unwrap(), "{flags:?}: they add up");
        }
        same_as_addr2line(names_of(&file, &program), &program);
    }
}

/// The functions at each place of a program's own file, by address.
fn names_of(file: &Path, program: &Path) -> BTreeMap<u64, Vec<Function>> {
    names_in(&mut opened(file), program)
}

fn opened(file: &Path) -> Reader<std::io::BufReader<std::fs::File>> {
    Reader::new(std::io::BufReader::new(std::fs::File::open(file).unwrap())).unwrap()
}

fn names_in(reader: &mut impl Trace, program: &Path) -> BTreeMap<u64, Vec<Function>> {
    let elf = Elf::parse(Image::open(program).unwrap()).unwrap();
    let mut files = BTreeSet::new();
    let mut names = BTreeMap::new();
    while let Some(event) = reader.next_event().unwrap() {
        match &event.body {
            Body::MapFile { id, path, .. } if Path::new(path) == program => {
                files.insert(*id);
            }
            Body::Symbol { place: Place::File { file, offset }, functions } if files.contains(file) => {
                names.insert(elf.address(FileOffset(*offset)).unwrap().0, functions.clone());
            }
            _ => {}
        }
    }
    names
}

fn same_as_addr2line(names: BTreeMap<u64, Vec<Function>>, program: &Path) {
    // What a static program has of its libraries has no lines, and several names for one place.
    let is_own = |functions: &Vec<Function>| functions.iter().all(|function| function.file.ends_with("rooms.c"));
    let names: BTreeMap<u64, Vec<Function>> = names.into_iter().filter(|(_, functions)| is_own(functions)).collect();
    assert!(names.len() > 10, "{}", names.len());
    for (address, functions) in names {
        let ran =
            run_command(Command::new("addr2line").args(["-f", "-i", "-e"]).arg(program).arg(format!("{address:#x}")));
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let told: Vec<(String, u32)> = lines
            .chunks(2)
            .map(|pair| {
                let line = pair[1].split(' ').next().unwrap().rsplit(':').next().unwrap();
                (pair[0].to_owned(), line.parse().unwrap_or(0))
            })
            .collect();
        let ours: Vec<(String, u32)> = functions.into_iter().map(|function| (function.name, function.line)).collect();
        assert_eq!(ours, told, "{address:#x}");
    }
}

/// Stacks of a trace, and those of them whose end is not known.
fn stacks_of(file: &Path) -> (usize, usize) {
    let mut reader = Reader::new(std::io::BufReader::new(std::fs::File::open(file).unwrap())).unwrap();
    let (mut nodes, mut stacks, mut cut): (Vec<bool>, usize, usize) = (Vec::new(), 0, 0);
    while let Some(event) = reader.next_event().unwrap() {
        match event.body {
            Body::StackNode { parent: Some(parent), .. } => nodes.push(nodes[parent.0 as usize]),
            Body::StackNode { parent: None, place } => nodes.push(place == Place::Cut),
            Body::Stack { id, .. } => {
                stacks += 1;
                cut += usize::from(nodes[id.0 as usize]);
            }
            _ => {}
        }
    }
    (stacks, cut)
}

/// Debian's own programs have no frame pointers and no symbols but those that they export.
#[test]
fn stacks_of_real_programs_reach_their_ends() {
    let stage = Stage::enter("stacks-real");
    // Each rests at its end: who is gone before the recorder has looked at it has addresses without files.
    let perl = "my %h; for my $i (1..50000){$h{$i}=\"x\" x 50} for (1..3){ my @a=sort keys %h } sleep 3";
    let python =
        "x=[bytes(3000) for i in range(5000)]; import json, time; json.dumps(list(range(100000))); time.sleep(3)";
    let query = "with recursive c(x) as (select 1 union all select x+1 from c where x<200000) select count(*), \
                 max(a) from (select hex(randomblob(20)) a from c order by a)";
    for (name, command) in [
        ("perl", &["/usr/bin/perl", "-e", perl][..]),
        ("python", &["/usr/bin/python3", "-c", python]),
        ("sqlite", &["/usr/bin/sqlite3", ":memory:", query, ".shell sleep 3"]),
    ] {
        let (stacks, cut) = stacks_of(&recorded(&stage.directory(name), command));
        assert!(stacks > 400, "{name}: {stacks}");
        assert!(cut * 100 <= stacks, "{name}: {cut} of {stacks} stacks have no end");
    }
}

/// Names and lines in a program without symbols are those that the same program with symbols has.
#[test]
fn go_programs_tell_their_stacks() {
    let stage = Stage::enter("stacks-go");
    for version in ["1.22.10", "1.26.6"] {
        let plain = heap_program(version, PLAIN, false, "");
        for stripped in [false, true] {
            let program = heap_program(version, PLAIN, stripped, "");
            let directory = stage.directory(&format!("go-{version}-{stripped}"));
            let books = stage.join("books").display().to_string();
            let file = recorded(&directory, &[program.to_str().unwrap(), "600", "now", &books]);
            let (stacks, cut) = stacks_of(&file);
            assert!(stacks > 1000 && cut * 100 <= stacks, "{version} {stripped}: {cut} of {stacks}");
            let names = names_of(&file, &program);
            let addresses: String = names.keys().map(|address| format!("{address:#x}\n")).collect();
            let asked = stage.join("addresses");
            std::fs::write(&asked, addresses).unwrap();
            let mut command = go(version);
            command.args(["tool", "addr2line"]).arg(&plain).stdin(std::fs::File::open(asked).unwrap());
            let told = output(&mut command);
            let told: Vec<&str> = told.lines().collect();
            let ours: Vec<&str> = names.values().map(|functions| functions.last().unwrap().name.as_str()).collect();
            assert!(ours.len() > 50, "{version} {stripped}: {}", ours.len());
            assert_eq!(ours, told.iter().copied().step_by(2).collect::<Vec<_>>(), "{version} {stripped}");
            if stripped {
                let line = |functions: &Vec<Function>| format!("{}:{}", functions[0].file, functions[0].line);
                let lines: Vec<String> = names.values().map(line).collect();
                assert_eq!(lines, told.iter().copied().skip(1).step_by(2).collect::<Vec<_>>(), "{version}");
            }
            let inlined = names.values().filter(|functions| functions.len() > 1).count();
            assert!(inlined > 10, "{version} {stripped}: {inlined}");
            let heap = std::fs::File::open(&file).unwrap();
            let mut reader = Reader::new(std::io::BufReader::new(heap)).unwrap();
            let mut of_heap = 0;
            while let Some(event) = reader.next_event().unwrap() {
                of_heap += usize::from(matches!(event.body, Body::Stack { of: StackOf::Heap, .. }));
            }
            assert!(of_heap > 100, "{version} {stripped}: {of_heap}");
            let in_use = report(&file)["heap"]["in_use_bytes"].as_u64().unwrap();
            let held = weighed(&file, "heap").1;
            assert_eq!(held.iter().map(|(_, value)| value).sum::<u64>(), in_use, "{version} {stripped}");
            let of_act = |frames: &Vec<String>| frames.iter().any(|frame| frame.starts_with("main.act"));
            let act: u64 = held.iter().filter(|(frames, _)| of_act(frames)).map(|(_, value)| value).sum();
            assert!(act * 2 > in_use, "{version} {stripped}: {act} of {in_use} by the program's own functions");
        }
    }
}
