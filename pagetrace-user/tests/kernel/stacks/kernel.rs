//! The kernel's part of stacks: by bpftrace at the same tracepoint, and beside the process's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{file_in, pages_of, recorded_rooms, weighed};
use crate::objects::compiled;
use crate::recorder::{BINARY, run, run_command};
use crate::stage::Stage;

/// Reads a mebibyte into memory that it has not touched: the kernel does, for it.
const DD: [&str; 6] = ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=1", "status=none"];

/// Records the kernel's part alone: what the process has mapped does not matter.
fn recorded(directory: &Path, command: &[&str]) -> PathBuf {
    let mut recorder = Command::new(BINARY);
    recorder.args(["-q", "--stacks", "kernel", "--stack-rate", "1000000", "--ring", "64MiB", "-o"]).arg(directory);
    let ran = run_command(recorder.arg("--").args(command).stdin(Stdio::null()));
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
    file_in(directory, "pgt").unwrap()
}

/// How often each stack of the kernel with this function in it was seen, by bpftrace: the outermost function first.
fn by_bpftrace(function: &str) -> BTreeMap<Vec<String>, u64> {
    let program = "tracepoint:exceptions:page_fault_kernel /comm == \"dd\"/ { @[kstack] = count(); }";
    let ran = run_command(Command::new("bpftrace").args(["-q", "-f", "json", "-e", program, "-c", &DD.join(" ")]));
    let line = ran.stdout.lines().find(|line| line.contains("\"map\"")).unwrap_or_else(|| panic!("{}", ran.stderr));
    let told: Value = serde_json::from_str(line).unwrap();
    let stacks = told["data"]["@"].as_object().unwrap().iter().map(|(stack, count)| {
        // Where others trace the same, it begins a function farther in.
        let functions =
            stack.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("__traceiter_"));
        let names = functions.map(|function| function.rsplit_once('+').unwrap().0.to_owned());
        (names.rev().collect::<Vec<String>>(), count.as_u64().unwrap())
    });
    stacks.filter(|(stack, _)| stack.iter().any(|name| name == function)).collect()
}

#[test]
fn faults_in_the_kernel_are_where_bpftrace_sees_them() {
    let stage = Stage::enter("stacks-kernel");
    let theirs = by_bpftrace("ksys_read");
    let file = recorded(&stage.directory("dd"), &DD);
    let (profile, samples) = weighed(&file, "faults");
    assert_eq!(profile["events"], profile["events_with_stack"]);
    let is_read = |frames: &Vec<String>| frames.iter().any(|name| name == "ksys_read");
    let ours: BTreeMap<Vec<String>, u64> = samples.into_iter().filter(|(frames, _)| is_read(frames)).collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.values().max(), Some(&256), "a mebibyte: {ours:#?}");
    let images: Vec<&str> =
        profile["frames"].as_array().unwrap().iter().map(|frame| frame["image"].as_str().unwrap()).collect();
    assert!(images.iter().all(|image| *image == "[kernel.kallsyms]"), "{images:?}");
}

/// The process's own part is what it is without the kernel's, which stands inside of it.
#[test]
fn the_kernel_stands_inside_of_who_called_it() {
    let stage = Stage::enter("stacks-both");
    let program = compiled("cc", &["-O2", "-fomit-frame-pointer"], "rooms.c", "rooms-both");
    let file = recorded_rooms(&stage.directory("rooms"), &program, "both");
    let (profile, resident) = weighed(&file, "resident");
    assert_eq!(profile["events"], profile["events_with_stack"]);
    let in_fault = |function: &str| pages_of(&resident, &["main", function, "touch", "asm_exc_page_fault"]);
    assert_eq!((in_fault("fill_north"), in_fault("fill_south"), in_fault("fill_again")), (200, 32, 16));
    let mapped = weighed(&file, "mapped").1;
    assert_eq!(pages_of(&mapped, &["main", "north", "make_room", "do_syscall_64"]), 300);
    for (frames, _) in resident.iter().filter(|(frames, _)| frames.iter().any(|frame| frame == "touch")) {
        let from = frames.iter().position(|frame| frame == "asm_exc_page_fault").unwrap();
        assert_eq!(frames[from - 1], "touch", "{frames:?}");
        let leaf = frames.last().unwrap();
        assert!(!["bpf_", "__bpf", "perf_"].iter().any(|way| leaf.starts_with(way)), "{frames:?}");
    }
}

/// Where the kernel's functions have no names that can be read, its part is left out, or refused.
#[test]
fn a_kernel_that_hides_its_names_has_no_part() {
    let stage = Stage::enter("stacks-hidden");
    let hidden = stage.join("kallsyms");
    std::fs::write(&hidden, "0000000000000000 T _text\n0000000000000000 T __x64_sys_read\n").unwrap();
    let ran = |which: &str| {
        let shell = "mount --bind \"$0\" /proc/kallsyms && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", shell]).arg(&hidden).arg(BINARY).args(["--stacks", which, "-o"]);
        run_command(command.arg(stage.directory(which)).args(["--", "/bin/true"]))
    };
    let refused = ran("kernel");
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(refused.stderr.contains("fix:  sudo sysctl kernel.kptr_restrict=1"), "{}", refused.stderr);
    assert_eq!(std::fs::read_dir(stage.directory("kernel")).unwrap().count(), 0);
    let noted = ran("both");
    assert_eq!(noted.code, Some(0), "{}", noted.stderr);
    let file = file_in(&stage.directory("both"), "pgt").unwrap();
    let ran = run(["dump", "--json", &file.display().to_string()]);
    assert!(ran.stdout.lines().next().unwrap().contains("stacks have no part of the kernel"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("[kernel.kallsyms]"));
}
