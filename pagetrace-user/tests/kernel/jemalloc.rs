//! An allocator that is not walked: jemalloc, in redis-server as Debian has it.
//!
//! *Oracle.* jemalloc's own statistics, which `MEMORY MALLOC-STATS` prints. What it has of address space (mapped and retained) is
//! what its code has mapped, to the byte. What it calls resident is the most that may be: pages that it takes for its own
//! tables and never touched are in it, and are not resident. That is the whole difference, but for what was mapped before the
//! recorder had looked at the program.

use std::path::Path;
use std::process::Command;

use crate::programs::{freeze, send};
use crate::recorder::{Recorder, report, run_command};
use crate::stage::{Stage, wait_for};
use rustix::process::Signal;

fn ask(socket: &Path, words: &[&str]) -> String {
    let ran = run_command(Command::new("redis-cli").arg("-s").arg(socket).args(words));
    ran.stdout
}

#[test]
fn all_that_jemalloc_maps_is_its_own() {
    let stage = Stage::enter("jemalloc");
    let (socket, directory) = (stage.join("redis.sock"), stage.join("traces"));
    let mut recorder = Command::new(crate::recorder::BINARY);
    // A stack for every call, also while the program begins.
    recorder.args(["--json", "--ring", "64MiB", "--stack-rate", "1000000", "-o"]).arg(&directory).arg("--");
    // It is still there when the recorder has ended, and must not hold what that one writes to.
    let script = "exec redis-server --port 0 --save '' --unixsocket \"$0\" --dir \"$1\" > /dev/null 2>&1";
    recorder.args(["sh", "-c", script]).arg(&socket).arg(stage.path());
    let recorder = Recorder::spawn(&directory, &mut recorder);
    wait_for("redis to answer", || (ask(&socket, &["PING"]) == "PONG\n").then_some(()));
    let fill = "for i = 1, 200000 do redis.call('SET', 'key:' .. i, string.rep('x', i % 400)) end";
    let thin = "for i = 1, 200000, 2 do redis.call('DEL', 'key:' .. i) end";
    ask(&socket, &["EVAL", fill, "0"]);
    ask(&socket, &["EVAL", thin, "0"]);
    assert_eq!(ask(&socket, &["MEMORY", "PURGE"]), "OK\n");
    let said = ask(&socket, &["MEMORY", "MALLOC-STATS"]);
    let server = ask(&socket, &["INFO", "server"]);
    let pid = server.lines().find_map(|line| line.trim().strip_prefix("process_id:")).unwrap().parse().unwrap();
    // It goes on by itself now and then.
    freeze(pid);
    let recording = recorder.interrupt();
    send(pid, Signal::KILL);
    let all = said.lines().find(|line| line.starts_with("Allocated: ")).unwrap();
    let number = |key: &str| {
        let value = all.split(&format!("{key}: ")).nth(1).unwrap().split([',', ' ']).next().unwrap();
        value.parse::<u64>().unwrap()
    };
    let report = report(&recording.file());
    let mappers = report["mappers"].as_array().unwrap();
    let ours = mappers.iter().find(|line| line["path"].as_str().unwrap().contains("libjemalloc.so")).unwrap();
    let [mapped, resident] = ["mapped_bytes", "resident_bytes"].map(|key| ours[key].as_u64().unwrap());
    // What it mapped before the recorder looked at the program for the first time has addresses without files.
    let unnamed = mappers.iter().find(|line| line["path"] == "");
    let [unnamed, unnamed_resident] =
        ["mapped_bytes", "resident_bytes"].map(|key| unnamed.map_or(0, |line| line[key].as_u64().unwrap()));
    let all_mapped = number("mapped") + number("retained");
    assert!(mapped <= all_mapped && all_mapped <= mapped + unnamed, "{mapped} and {unnamed} of {all_mapped}: {said}");
    let (theirs, metadata) = (number("resident"), number("metadata"));
    assert!(resident <= theirs, "{resident} of {theirs}");
    assert!(
        theirs <= resident + unnamed_resident + metadata,
        "{resident} and {unnamed_resident} of {theirs}, metadata {metadata}"
    );
    assert!(resident + unnamed_resident > number("Allocated"), "{resident}: {all}");
    let anonymous = report["classes"].as_array().unwrap().iter().find(|class| class["class"] == "anonymous").unwrap();
    let sum: u64 = mappers.iter().map(|line| line["resident_bytes"].as_u64().unwrap()).sum();
    assert_eq!(anonymous["bytes"], sum);
    assert_eq!((&report["lost"], &report["mappers_not_listed"]), (&0.into(), &0.into()));
}
