//! What the kernel itself says about a process: the oracle of resident sets, frames and open BPF objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;

fn read(pid: u32, name: &str) -> String {
    let path = format!("/proc/{pid}/{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `Rss` of `smaps_rollup`, in bytes.
pub fn rss_bytes(pid: u32) -> u64 {
    kib(&read(pid, "smaps_rollup"), "Rss:") * 1024
}

/// Private anonymous memory, each page divided by those that map it, in KiB: rounded down.
pub fn pss_anon_kib(pid: u32) -> u64 {
    kib(&read(pid, "smaps_rollup"), "Pss_Anon:")
}

/// `Rss` and `AnonHugePages` of the mappings inside `[start, end)`, in bytes.
pub fn range_bytes(pid: u32, (start, end): (u64, u64)) -> (u64, u64) {
    let (mut rss, mut huge, mut inside) = (0, 0, false);
    for line in read(pid, "smaps").lines() {
        if let Some((from, to)) = range_of(line) {
            inside = start <= from && to <= end;
        } else if inside && line.starts_with("Rss:") {
            rss += kib(line, "Rss:") * 1024;
        } else if inside && line.starts_with("AnonHugePages:") {
            huge += kib(line, "AnonHugePages:") * 1024;
        }
    }
    (rss, huge)
}

/// The mappings: range and name.
pub fn mappings(pid: u32) -> Vec<((u64, u64), String)> {
    let maps = read(pid, "maps");
    let lines = maps.lines().map(|line| {
        let name = line.splitn(6, ' ').nth(5).unwrap_or_default().trim();
        (range_of(line).unwrap(), name.to_owned())
    });
    lines.collect()
}

/// `START-END ...` in hexadecimal.
fn range_of(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

fn kib(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {text}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Address and frame number of every resident page in a range.
pub fn frames(pid: u32, (start, end): (u64, u64)) -> BTreeMap<u64, u64> {
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).unwrap();
    let mut bytes = vec![0; usize::try_from((end - start) / PAGE * 8).unwrap()];
    pagemap.read_exact_at(&mut bytes, start / PAGE * 8).unwrap();
    let entries = bytes.chunks_exact(8).map(|entry| u64::from_le_bytes(entry.try_into().unwrap()));
    let pages = (start..end).step_by(4096).zip(entries);
    pages.filter(|(_, entry)| entry >> 63 == 1).map(|(addr, entry)| (addr, entry & ((1 << 55) - 1))).collect()
}

/// The processes that a process made and that still are.
pub fn children(pid: u32) -> Vec<u32> {
    read(pid, &format!("task/{pid}/children")).split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// A number of `/proc/PID/status`, in its own unit.
pub fn status(pid: u32, key: &str) -> u64 {
    kib(&read(pid, "status"), key)
}

/// Voluntary and other context switches of all threads, and the ticks of CPU they took.
pub fn switches_and_ticks(pid: u32) -> (u64, u64) {
    let mut switches = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        switches += kib(&status, "voluntary_ctxt_switches:") + kib(&status, "nonvoluntary_ctxt_switches:");
    }
    let stat = read(pid, "stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (switches, fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

/// A kernel object of BPF: what kind, and its number.
pub type BpfObject = (&'static str, u64);

/// The BPF programs, maps and links that a process holds.
pub fn bpf_objects(pid: u32) -> BTreeSet<BpfObject> {
    let mut objects = BTreeSet::new();
    for fd in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let Ok(info) = std::fs::read_to_string(fd.unwrap().path()) else { continue };
        let number = |key: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse::<u64>().ok()
        };
        // A link's file tells its program too.
        match (number("link_id:"), number("prog_id:"), number("map_id:")) {
            (Some(link), _, _) => objects.insert(("link", link)),
            (None, Some(prog), _) => objects.insert(("prog", prog)),
            (None, None, Some(map)) => objects.insert(("map", map)),
            (None, None, None) => false,
        };
    }
    objects
}
