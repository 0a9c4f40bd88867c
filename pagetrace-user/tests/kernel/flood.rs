//! More than the recorder can take: what is lost is counted where it was lost, and memory stays bounded.

use std::collections::BTreeMap;

use crate::accounts::{Loss, close};
use crate::procfs::status;
use crate::programs::Target;
use crate::recorder::{BINARY, Recorder, report, run};
use crate::stage::Stage;

/// Touches of each thread: fifty times what a ring of 64 KiB holds.
const PAGES: &str = "100352";
/// So that the recorder, on the same CPUs, cannot keep up, on any machine.
const AHEAD_OF_US: &str = "-20";

#[test]
fn a_small_ring_loses_and_counts() {
    let stage = Stage::enter("flood");
    let mut target = Target::start("flood", [PAGES, AHEAD_OF_US]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["--ring", "64KiB", "--pid", &target.pid().to_string()]);
    target.act();
    target.freeze();
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Something);

    // Each CPU and layer lost what its row says, and the gaps in the file say when.
    let mut dropped: BTreeMap<(u32, String), u64> = BTreeMap::new();
    for row in recording.summary["counters"].as_array().unwrap() {
        if row["dropped"].as_u64() != Some(0) {
            let place =
                (u32::try_from(row["cpu"].as_u64().unwrap()).unwrap(), row["layer"].as_str().unwrap().to_owned());
            *dropped.entry(place).or_default() += row["dropped"].as_u64().unwrap();
        }
    }
    let mut lost: BTreeMap<(u32, String), u64> = BTreeMap::new();
    // The clock pair is taken when the recording begins, before the first event.
    let start = traces[0].header["clock_monotonic"].as_u64().unwrap();
    let end = traces[0].trailer["end"].as_u64().unwrap();
    for line in traces[0].lines.iter().filter(|line| line.kind == "lost") {
        *lost.entry((line.cpu, line.layer.clone())).or_default() += line.count.unwrap();
        let (from, to) = (line.from.unwrap(), line.to.unwrap());
        assert!(from <= to && start <= from && to <= end, "inside the recording {start} to {end}: {line:?}");
    }
    assert_eq!(lost, dropped, "lost events and counters, by CPU and layer");
    let all: u64 = dropped.values().sum();
    assert!(all > 10_000, "many: {dropped:?}");
    let cpus: Vec<u32> = (0..2).filter(|cpu| dropped.keys().any(|(on, _)| on == cpu)).collect();
    assert_eq!(cpus.len(), std::thread::available_parallelism().unwrap().get().min(2), "on both CPUs: {dropped:?}");

    // The report says it first, and the ledger heals: the last reading sets it right.
    let report = report(&recording.file());
    assert_eq!(report["lost"].as_u64(), Some(all), "{report:#}");
    assert_eq!(report["rss_bytes"].as_u64(), Some(crate::procfs::rss_bytes(target.pid())), "{report:#}");
    assert_eq!(report["unexplained_bytes"].as_i64(), Some(0), "{report:#}");
    let ran = run(["check".as_ref(), recording.file().as_os_str()]);
    assert_eq!(ran.code, Some(0), "a whole file with known gaps: {ran:?}");
}

#[test]
fn the_allowed_loss_is_no_failure() {
    let stage = Stage::enter("flood");
    let mut target = Target::start("flood", [PAGES, AHEAD_OF_US]).ready();
    let pid = target.pid().to_string();
    let args = ["--ring", "64KiB", "--max-loss", "1000000000000", "--pid", &pid];
    let recorder = Recorder::start(&stage.join("traces"), args);
    target.act();
    let recording = recorder.interrupt();
    assert_eq!(recording.code, Some(0), "{recording:?}");
}

#[test]
fn memory_stays_bounded() {
    const MEBIBYTE: u64 = 1024;
    let stage = Stage::enter("flood");
    let mut target = Target::start("flood", [PAGES, "0"]).ready();
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    target.act();
    target.freeze();
    // A release's own code takes some 10 MiB of it; this build's is larger, by as much as the page cache happens to offer.
    let (own_code, _) = mapped(recorder.pid(), BINARY);
    // Rings are mapped twice, one mapping after the other, so that records need not be split: each page of them counts twice.
    let (rings, rings_once) = mapped(recorder.pid(), "anon_inode:bpf-map");
    let peak = status(recorder.pid(), "VmHWM:") - own_code + 10 * MEBIBYTE - (rings - rings_once);
    let recording = recorder.interrupt();
    assert!(matches!(recording.code, Some(0 | 6)), "{recording:?}");
    close(&recording, if recording.code == Some(0) { Loss::Nothing } else { Loss::Something });
    // The bound, for one process at any rate of events; default rings.
    assert!(peak < 64 * MEBIBYTE, "peak resident memory of the recorder: {peak} KiB");
}

/// KiB that are resident in mappings of this name, and the same with a page that is mapped twice counted once.
fn mapped(pid: u32, name: &str) -> (u64, u64) {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut is_here = false;
    let (mut rss, mut pss) = (0, 0);
    for line in smaps.lines() {
        let kib = |text: &str| text.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        if let Some(text) = line.strip_prefix("Rss:").filter(|_| is_here) {
            rss += kib(text);
        } else if let Some(text) = line.strip_prefix("Pss:").filter(|_| is_here) {
            pss += kib(text);
        } else if line.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit()) {
            // A mapping begins with its addresses; the lines of what is in it with a word.
            is_here = line.ends_with(name);
        }
    }
    assert!(rss > 0 && pss > 0, "{name} in {smaps}");
    (rss, pss)
}
