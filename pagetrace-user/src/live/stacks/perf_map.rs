//! Names of code that a process made at run time, as it tells itself: `/tmp/perf-PID.map`.
//!
//! *Source.* tools/perf/Documentation/jit-interface.txt: lines of `START SIZE name`, hexadecimal, in the process's own mount
//! and PID namespace.
//! *Trust.* It is the process's own file: a regular one that belongs to its user or to root, no link, and not read beyond
//! [`MOST_BYTES`].

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use procfs::process::Process;

use crate::units::Pid;

const MOST_BYTES: u64 = 64 << 20;

/// The map of one process: opened while it runs, so that what it tells is there when it has ended.
pub struct PerfMap(File);

impl PerfMap {
    /// The process's map, if it has one by now.
    #[must_use]
    pub fn open(pid: Pid) -> Option<PerfMap> {
        let process = Process::new(i32::try_from(pid.0).ok()?).ok()?;
        let own_pid = process.status().ok()?.nspid.and_then(|pids| pids.last().copied()).unwrap_or(process.pid);
        let path = format!("/proc/{pid}/root/tmp/perf-{own_pid}.map");
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
        let (metadata, owner) = (file.metadata().ok()?, fs::metadata(format!("/proc/{pid}")).ok()?.uid());
        (metadata.is_file() && (metadata.uid() == owner || metadata.uid() == 0)).then_some(PerfMap(file))
    }

    /// The names at these addresses, for those that have one.
    #[must_use]
    pub fn names_at(&self, addresses: &[u64]) -> Vec<(u64, String)> {
        let Some(text) = self.read() else { return Vec::new() };
        let mut found: Vec<Option<&str>> = vec![None; addresses.len()];
        let mut sorted: Vec<(u64, usize)> = addresses.iter().enumerate().map(|(at, address)| (*address, at)).collect();
        sorted.sort_unstable();
        // Where code was replaced, the last line holds.
        for line in text.lines() {
            let Some((start, end, name)) = parse(line) else { continue };
            let from = sorted.partition_point(|(address, _)| *address < start);
            for (_, at) in sorted.iter().skip(from).take_while(|(address, _)| *address < end) {
                if let Some(slot) = found.get_mut(*at) {
                    *slot = Some(name);
                }
            }
        }
        let named = addresses.iter().zip(found);
        named.filter_map(|(address, name)| Some((*address, name?.to_owned()))).collect()
    }

    fn read(&self) -> Option<String> {
        let mut bytes = Vec::new();
        // The process may write to it still.
        (&self.0).seek(SeekFrom::Start(0)).ok()?;
        (&self.0).take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Start, end and name of a line.
fn parse(line: &str) -> Option<(u64, u64, &str)> {
    let mut words = line.splitn(3, ' ');
    let mut number = || u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
    let (start, bytes) = (number()?, number()?);
    Some((start, start.checked_add(bytes)?, words.next()?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_map() {
        assert_eq!(parse("7f00 10 LazyCompile:*add a.js:3"), Some((0x7f00, 0x7f10, "LazyCompile:*add a.js:3")));
        assert_eq!(parse("0x7f00 0x10 stub"), Some((0x7f00, 0x7f10, "stub")));
        assert_eq!(parse("ffffffffffffffff 10 beyond"), None);
        assert_eq!(parse("7f00 name"), None);
    }
}
