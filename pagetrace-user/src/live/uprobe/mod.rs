//! Uprobes: programs of ours on instructions of files that live processes run, taken away again without a trace.
//!
//! ```text
//! journal  which bytes are about to change, durable before they do
//! flight   no exit in the middle of a change
//! multi    one link for all points of a file         perf  one event and one link a point, on older kernels
//! sweep    what a killed recorder may have left
//! ```
//!
//! *Invariants.* A text byte is changed only by the kernel, and only while a journal names it. A change under way is
//! waited for before the process ends ([`settle`]); what a kill left in the middle of one is put back by the next
//! start's [`sweep`]. A set that is dropped is detached.
//!
//! *Whose processes.* A breakpoint costs every process in which it stands, so it stands only in those of the
//! [`Scope`]: the kernel is asked to keep it out of all others, where it does so rightly (see [`multi`]). The programs
//! filter by address space all the same.

mod file;
mod flight;
mod journal;
mod multi;
mod perf;
mod program;
mod sweep;
mod sys;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::Probe;
use crate::failure::{Code, Failure};
use crate::units::Pid;

pub use file::Identity;
pub use flight::settle;
pub use journal::StateDirectory;
pub use program::{MapFds, Program};
pub use sweep::{Outcome, Swept, sweep};

use journal::Journal;
use program::Loaded;

/// An instruction to attach to.
#[derive(Clone, Debug)]
pub struct Point {
    /// What the header of a trace calls it.
    pub name: String,
    /// In the file, in bytes, of an instruction's first byte.
    pub offset: u64,
    /// What the program is told of the point ([`pagetrace_common::control::cookie`]).
    pub cookie: u64,
}

/// Where to attach.
#[derive(Clone, Debug)]
pub struct Target {
    /// The file as it can be opened: `/proc/PID/exe` and `/proc/PID/map_files/...` reach what was replaced since.
    pub path: PathBuf,
    pub scope: Scope,
}

/// In which of the processes that map the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In one, with all its threads, but not in its children.
    Process(Pid),
    /// In every one, also those to come.
    Everyone,
}

impl Scope {
    /// The process that the kernel is given. One whose first thread has ended has no address space by its number any
    /// more: the breakpoints stand in every process then, which costs the others, and the program filters.
    fn filter(self) -> Option<u32> {
        let Scope::Process(pid) = self else { return None };
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        (!matches!(state, Some('Z' | 'X' | 'x'))).then_some(pid.0)
    }
}

/// How the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One link for all points (`BPF_TRACE_UPROBE_MULTI`).
    Multi,
    /// The same for the returns of the functions in which the points are, each the first of its function's that is met.
    MultiReturns,
    /// One link for all points and the returns (`BPF_TRACE_UPROBE_SESSION`, 6.13): the program runs at the point, and
    /// again at the return unless it gave 1.
    Session,
    /// One perf event a point.
    Perf,
    /// The same for the returns.
    PerfReturns,
}

impl Way {
    /// The better one of those that this kernel has.
    #[must_use]
    pub fn best() -> Way {
        if multi::is_supported() { Way::Multi } else { Way::Perf }
    }

    /// The best ones to see points and the returns of their functions.
    #[must_use]
    pub fn best_with_returns() -> &'static [Way] {
        match Way::best() {
            Way::Multi if multi::has_sessions() => &[Way::Session],
            Way::Multi => &[Way::Multi, Way::MultiReturns],
            _ => &[Way::Perf, Way::PerfReturns],
        }
    }

    /// Whether what is attached so makes the kernel take over returns of functions.
    #[must_use]
    pub fn takes_returns(self) -> bool {
        matches!(self, Way::MultiReturns | Way::Session | Way::PerfReturns)
    }
}

/// What keeps points attached: closing it detaches.
enum Links {
    Multi(#[expect(dead_code, reason = "held for its end")] Option<OwnedFd>),
    Perf(#[expect(dead_code, reason = "held for its end")] Vec<perf::Attached>),
}

/// Points that are attached. Dropping it detaches.
pub struct UprobeSet {
    links: Links,
    loaded: Arc<Loaded>,
    journal: Option<Journal>,
    probes: Vec<Probe>,
}

impl UprobeSet {
    /// Attaches `program` to the points of one file. Of a point that cannot be had, [`UprobeSet::probes`] tells why.
    ///
    /// *Errors.* Not one point could be attached; the journal cannot be written; the process is about to end.
    pub fn attach(
        program: &Program,
        target: &Target,
        points: &[Point],
        way: Way,
        state: &StateDirectory,
    ) -> Result<UprobeSet, Failure> {
        let path = target.path.display();
        let refused = |why: String| Failure::new(Code::Failed, format!("cannot attach uprobes to {path}"), why, "");
        let (file, identity) = file::open(&target.path).map_err(|error| refused(error.to_string()))?;
        let loaded = program.load(way).map_err(|error| refused(format!("the program is refused: {error}")))?;
        let Some(_flight) = flight::begin() else {
            return Err(refused("the recording is being aborted".to_owned()));
        };
        let journal = state.write(&target.path, &identity, points)?;
        let (links, outcomes) = attach_all(&loaded, &file::path_of(&file), target.scope, points, way);
        let probes: Vec<Probe> = points.iter().zip(outcomes).map(|(point, outcome)| told(point, outcome)).collect();
        if let Some(first) = probes.first()
            && probes.iter().all(|probe| !probe.attached)
        {
            let why = first.reason.clone();
            journal.remove();
            return Err(refused(why));
        }
        Ok(UprobeSet { links, loaded, journal: Some(journal), probes })
    }

    /// The points in the order given, and why some are not attached.
    #[must_use]
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// Whether both are of one program in the kernel, whose counts they share.
    #[must_use]
    pub fn shares_program(&self, other: &UprobeSet) -> bool {
        Arc::ptr_eq(&self.loaded, &other.loaded)
    }

    /// Runs that the kernel skipped because another program was running on the CPU.
    ///
    /// *Source.* `recursion_misses` in /proc/self/fdinfo (5.12).
    #[must_use]
    pub fn recursion_misses(&self) -> u64 {
        let fd = self.loaded.fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Detaches: on return every text byte is what it was, and the journal is gone.
    pub fn detach(self) {
        drop(self);
    }
}

impl Drop for UprobeSet {
    fn drop(&mut self) {
        let links = std::mem::replace(&mut self.links, Links::Multi(None));
        let Some(_flight) = flight::begin() else {
            // The process ends at any moment. What is attached as a whole the kernel takes away by itself then, and
            // a change begun now would be cut off.
            std::mem::forget(links);
            return;
        };
        drop(links);
        if let Some(journal) = self.journal.take() {
            journal.remove();
        }
    }
}

/// Attaches what can be attached; for each point what came of it.
fn attach_all(loaded: &Loaded, path: &str, scope: Scope, points: &[Point], way: Way) -> (Links, Vec<io::Result<()>>) {
    match way {
        Way::Multi | Way::MultiReturns | Way::Session => {
            let (link, outcomes) = multi::attach(loaded, path, scope, points, way);
            (Links::Multi(link), outcomes)
        }
        Way::Perf | Way::PerfReturns => {
            let (links, outcomes) = perf::attach(loaded, path, scope, points, way);
            (Links::Perf(links), outcomes)
        }
    }
}

fn told(point: &Point, outcome: io::Result<()>) -> Probe {
    let reason = outcome.err().map(|error| error.to_string()).unwrap_or_default();
    Probe { name: point.name.clone(), attached: reason.is_empty(), reason }
}
