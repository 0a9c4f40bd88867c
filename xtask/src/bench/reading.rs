//! How fast a trace is read, and in how much memory: `check` and `report` on traces of ten and a hundred times the length.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::observer::{ended_children_cpu_seconds, peak_bytes};
use super::{Bench, median};
use crate::process::{cargo, show, target_directory};

/// Events of the traces.
const LENGTHS: [u64; 3] = [1_000_000, 10_000_000, 100_000_000];
/// How often a reader's memory is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What the longest trace cost `report`.
pub struct Reading {
    pub events_a_second: f64,
    pub peak_mib: f64,
}

impl Bench {
    pub fn reading(&self) -> Result<Reading> {
        let mut build = cargo("build")?;
        show(build.args(["--release", "--locked", "--quiet", "--package", "pagetrace-user", "--example", "forge"]))?;
        let forge = target_directory()?.join("release/examples/forge");
        fs::create_dir_all(&self.directory)?;
        println!("\nreading a trace");
        println!("{:20}{:>12}{:>10}{:>10}{:>15}{:>10}", "", "events", "MiB", "CPU s", "events/s", "peak MiB");
        let mut last = Reading { events_a_second: 0.0, peak_mib: 0.0 };
        for events in LENGTHS {
            let file = Forged(self.directory.join(format!("{events}.pgt")));
            show(Command::new(&forge).arg(events.to_string()).arg(&file.0))?;
            let mib = fs::metadata(&file.0)?.len() as f64 / f64::from(1 << 20);
            for verb in ["check", "report"] {
                let mut runs = Vec::new();
                for _ in 0..self.runs {
                    runs.push(self.read(verb, &file.0)?);
                }
                let seconds = median(runs.iter().map(|(seconds, _)| *seconds));
                let peak_mib = median(runs.iter().map(|(_, peak)| *peak));
                last = Reading { events_a_second: events as f64 / seconds, peak_mib };
                let rate = last.events_a_second;
                println!("{verb:20}{events:>12}{mib:>10.1}{seconds:>10.2}{rate:>15.0}{peak_mib:>10.1}");
            }
        }
        Ok(last)
    }

    /// CPU seconds, and the peak of the resident memory in MiB.
    fn read(&self, verb: &str, file: &Path) -> Result<(f64, f64)> {
        let before = ended_children_cpu_seconds()?;
        let mut child = Command::new(&self.pagetrace).arg(verb).arg(file).stdout(Stdio::null()).spawn()?;
        let mut peak = 0;
        let ended = loop {
            // A process that has ended has no memory any more: an earlier look counts.
            peak = peak.max(peak_bytes(child.id()));
            match child.try_wait()? {
                Some(ended) => break ended,
                None => thread::sleep(LOOK),
            }
        };
        ensure!(ended.success(), "pagetrace-user {verb} {}: {ended}", file.display());
        ensure!(peak > 0, "a reader ended before its memory could be looked at");
        Ok((ended_children_cpu_seconds()? - before, peak as f64 / f64::from(1 << 20)))
    }
}

/// A file that goes when it is not wanted any more.
struct Forged(PathBuf);

impl Drop for Forged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
