//! What a recording is asked to do: the command line after it was read and checked, without clap.
//!
//! It stands between the command line (which makes it) and the recorder (which obeys it).

use std::path::PathBuf;
use std::time::Duration;

use crate::units::{Bytes, Pid};

/// A recording, as asked for.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    pub select: Select,
    /// Follow children, across exec (`-f`).
    pub follow: bool,
    /// End by itself after this long (`-d`).
    pub duration: Option<Duration>,
    /// Where the trace files go (`-o`); made if absent.
    pub directory: PathBuf,
    /// Put before each file's name, with a dot (`--prefix`).
    pub prefix: Option<String>,
    /// Overwrite files (`--force`).
    pub force: bool,
    /// Record objects (`--objects`): bytes between two samples on average (`--sample`), 0 for every one.
    pub objects: Option<Bytes>,
    /// Record where threads were (`--stacks`); `None`: no stacks.
    pub stacks: Option<Stacks>,
    /// Bytes of each CPU's ring buffer: a power of two and at least a page (`--ring`).
    pub ring: Bytes,
    /// One ring for all CPUs, to measure what that costs (`--one-ring`, hidden).
    pub one_ring: bool,
    /// Let programs wake the recorder, to measure what that costs (`--wake-ups`, hidden).
    pub wake_ups: bool,
    /// Records of a cache line each, to measure what that costs (`--padded`, hidden).
    pub padded: bool,
    /// Attach everything and want nothing, to measure what the attach points alone cost (`--empty`, hidden).
    pub empty: bool,
    /// Attach to no page heap, to measure what its points cost (`--no-heap`, hidden).
    pub no_heap: bool,
    /// How long to look at empty rings before sleeping (`--spin-time`).
    pub spin_time: Duration,
    /// Lost records that still count as success (`--max-loss`).
    pub max_loss: u64,
    /// The summary as one JSON object on stdout (`--json`).
    pub json: bool,
    /// Nothing on stderr but errors (`-q`).
    pub quiet: bool,
}

/// Which stacks are recorded: of at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stacks {
    /// Those of a CPU in a second at most (`--stack-rate`), more in bursts.
    pub rate: u64,
    /// Calls in the process's own code, and in the kernel's.
    pub user: bool,
    pub kernel: bool,
}

/// Which processes are recorded.
#[derive(Clone, Debug)]
pub enum Select {
    /// These (`--pid`, repeatable; never empty).
    Pids(Vec<Pid>),
    /// All (`-a`).
    All,
    /// Those whose comm, as the last fork or exec gave it, matches the glob (`--comm`).
    Comm(String),
    /// Those in this cgroup or below (`--cgroup`): an existing directory under /sys/fs/cgroup.
    Cgroup(PathBuf),
    /// A program started for the purpose, from its first instruction (`-- CMD ARGS`; never empty).
    Command(Vec<String>),
}
