//! What a recording says when it is over.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::event::Trailer;
use crate::failure::{Code, Failure};
use crate::live::route::FileReport;
use crate::units::{Bytes, Nanos};

/// Files listed one by one in text.
const LISTED: usize = 20;

pub struct Summary<'a> {
    trailer: &'a Trailer,
    files: Vec<FileReport>,
    began: Nanos,
    /// CPU time and peak RSS of the recorder itself.
    cpu_seconds: f64,
    peak_rss: Bytes,
}

impl Summary<'_> {
    #[must_use]
    pub fn new(trailer: &Trailer, mut files: Vec<FileReport>, began: u64) -> Summary<'_> {
        files.sort_by(|one, other| (one.identity, &one.path).cmp(&(other.identity, &other.path)));
        let (cpu_seconds, peak_rss) = own_cost();
        Summary { trailer, files, began: Nanos(began), cpu_seconds, peak_rss }
    }

    /// Records that the rings dropped. Runs that the kernel skipped ([`Trailer::recursion_misses`]) stand beside it: they
    /// may have concerned any process.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.trailer.dropped()
    }

    /// Prints it: JSON to stdout if asked for, otherwise text to stderr unless quiet.
    pub fn print(&self, as_json: bool, quiet: bool) -> Result<(), Failure> {
        if as_json {
            return match writeln!(std::io::stdout(), "{}", self.json()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    Err(Failure::new(Code::Failed, "cannot write the summary to stdout", error.to_string(), ""))
                }
                _ => Ok(()),
            };
        }
        if !quiet {
            // A closed stderr takes nothing away from the files.
            let _ = write!(std::io::stderr(), "{}", self.text());
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        Nanos(self.trailer.end).since(self.began).as_secs_f64()
    }

    fn text(&self) -> String {
        let trailer = self.trailer;
        let mut text = String::new();
        for file in self.files.iter().take(LISTED) {
            let path = file.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            text.push_str(&format!("{path}: {} events, {}\n", file.events, Bytes(file.bytes)));
        }
        if self.files.is_empty() {
            text.push_str("no process was recorded: none that was chosen ran meanwhile\n");
        }
        if self.files.len() > LISTED {
            text.push_str(&format!("... and {} more files\n", self.files.len() - LISTED));
        }
        text.push_str(&format!(
            "{} after {:.1} s: {} records of the kernel, {} lost, {} late; recorder: {:.2} s of CPU, {} at most\n",
            trailer.reason,
            self.seconds(),
            trailer.written,
            self.lost(),
            trailer.late,
            self.cpu_seconds,
            self.peak_rss,
        ));
        for row in trailer.counters.iter().filter(|row| row.dropped > 0) {
            text.push_str(&format!(
                "lost on CPU {}, layer {}: {} of {} seen\n",
                row.cpu, row.layer, row.dropped, row.seen
            ));
        }
        for (program, count) in &trailer.recursion_misses {
            text.push_str(&format!("skipped by the kernel: {count} runs of {program}, of any process\n"));
        }
        if let Some(file) = self.files.first().and_then(|file| file.path.as_ref()) {
            text.push_str(&format!("read it: pagetrace-user report {}\n", file.display()));
        }
        text
    }

    fn json(&self) -> Value {
        let trailer = self.trailer;
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|file| {
                json!({
                    "path": file.path.as_ref().map(|path| path.to_string_lossy()),
                    "tgid": file.identity.pid.0,
                    "comm": file.comm.to_text(),
                    "events": file.events,
                    "bytes": file.bytes,
                })
            })
            .collect();
        json!({
            "reason": trailer.reason,
            "seconds": self.seconds(),
            "files": files,
            "counters": trailer.counters,
            "decoded": trailer.decoded,
            "written": trailer.written,
            "skipped": trailer.skipped,
            "lost": self.lost(),
            "late": trailer.late,
            "recursion_misses": trailer.recursion_misses,
            "frames_unjoined": trailer.frames_unjoined,
            "cpu_seconds": self.cpu_seconds,
            "peak_rss_bytes": self.peak_rss.0,
        })
    }
}

/// CPU seconds of this process so far, and its peak RSS.
fn own_cost() -> (f64, Bytes) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    (time.tv_sec as f64 + time.tv_nsec as f64 / 1e9, Bytes(peak.unwrap_or(0) * 1024))
}
