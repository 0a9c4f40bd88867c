//! The first question of all: where is the RSS, what changed, and who changed it?
//!
//! A report is a function of the file alone. It says first how far it can be trusted (what was lost, what was not
//! attached, what readings had to put right), then what is resident now, by class, against the kernel's counters; then
//! who moved. `unexplained` and `lost` are always there, zero too.
//!
//! *Units.* In JSON bytes and nanoseconds (monotonic), in text binary units and seconds since the recording began.

mod arenas;
mod build;
mod heap;
mod objects;
mod returned;
mod text;
mod uses;
mod wall;

use serde::Serialize;

use crate::event::{FilePages, Header, Probe};
use crate::format::Outcome;
use crate::format::go::GoFile;
use crate::replay::State;

pub use arenas::{ArenaLine, ArenaSums, ArenasLine, ChunksLine};
pub use heap::{HeapLine, PLine, ResidentLine};
pub use objects::{CallLine, ObjectsLine};
pub use returned::ReturnedLine;
pub(crate) use text::{at, left, many, put, shown, signed, span, table};
pub use uses::{MapperLine, UseLine};
pub(crate) use wall::utc;

/// All that a report says.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub tgid: u32,
    /// Of the program that ran last.
    pub comm: String,
    pub exe: String,
    pub cmdline: Vec<String>,
    pub recorder: String,
    pub kernel: String,
    pub boot_id: String,
    /// From the first event to the recorder's end or, where there is none, the last event.
    pub from_ns: u64,
    pub to_ns: u64,
    /// `from_ns` on the wall: ns since the Unix epoch.
    pub from_wall_ns: u64,
    pub events: u64,

    /// `complete`, `unfinished` or `damaged`.
    pub file_state: &'static str,
    /// The recorder's reason for the end.
    pub ended: Option<String>,
    pub damage: Option<DamageAt>,
    /// Records of this file's time that were dropped.
    pub lost: u64,
    pub gaps: Vec<GapLine>,
    pub gaps_not_listed: u64,
    /// Drops of the whole session, from the trailer.
    pub dropped_in_session: Option<u64>,
    pub skipped_in_session: Option<u64>,
    pub frames_unjoined: Option<u64>,
    pub recursion_misses: Vec<(String, u64)>,
    pub probes: Vec<Probe>,
    pub notes: Vec<String>,
    /// The moment from which on changes and counts are told, where one was asked for: the baseline is of then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes_since_ns: Option<u64>,
    pub baseline: Option<BaselineLine>,
    pub last_reading: Option<ReadingLine>,
    pub corrections: Vec<CorrectionLine>,
    pub anomalies: Vec<AnomalyLine>,

    /// What the ledger shows: `end` of the trace, the moment before the process's `exit`, or a `time` that was asked for.
    pub at: &'static str,
    pub at_ns: u64,
    pub exit: Option<ExitLine>,
    pub rss_bytes: u64,
    /// `null` where the trace has no baseline.
    pub rss_delta_bytes: Option<i64>,
    pub peak_rss_bytes: u64,
    pub peak_ns: u64,
    pub swap_bytes: Option<u64>,
    pub classes: Vec<ClassLine>,
    pub unexplained_bytes: i64,
    pub members: Vec<MemberLine>,
    /// Of class `file`: what is clean and what is dirty. Known of the end of a recording alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_pages: Option<FilePages>,
    pub uncounted_bytes: u64,
    pub unmapped_bytes: u64,
    /// Of the classes `heap` and `anonymous`: given back for whenever the kernel needs it (`MADV_FREE`), and not taken yet.
    pub lazy_bytes: u64,

    /// Who made pages resident, or took them, other than the process. By comm.
    pub actors: Vec<ActorLine>,
    pub threads: Vec<ThreadLine>,
    pub ranges: Vec<RangeLine>,
    /// Those beyond `--top`.
    pub threads_not_listed: u64,
    pub ranges_not_listed: u64,

    pub faults: Vec<FaultLine>,
    /// Frames that events told: came, came without an address, and went.
    pub frames_bytes: u64,
    pub frames_without_address_bytes: u64,
    pub frees_bytes: u64,
    pub calls: Vec<CountLine>,
    pub advice: Vec<CountLine>,
    pub failed: Vec<FailedLine>,
    pub scans: Vec<ScanLine>,
    pub forks: u64,
    pub execs: u64,

    /// What had been given back and is resident again.
    pub returned: Vec<ReturnedLine>,
    /// What allocators use the classes `heap` and `anonymous` for: `in_use`, `kept` (free, and not given back), `given_back` (and
    /// there again), `lazy` (as `lazy_bytes`), `own` (their own structures), `unknown` (no known allocator's). Always all six;
    /// they sum to the two classes.
    pub uses: Vec<UseLine>,
    /// The class `anonymous` by the file whose code asked the kernel for it; resident bytes sum to the class.
    pub mappers: Vec<MapperLine>,
    /// Those beyond `--top`.
    pub mappers_not_listed: u64,
    /// The arenas of glibc, where they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arenas: Option<ArenasLine>,
    /// The page heap of the allocator, where the trace has events of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap: Option<HeapLine>,
    /// The objects of allocators, where they were recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsLine>,
    /// Of a Go runtime's own trace: what it tells of itself. Of all else in a report it knows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go: Option<GoFile>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DamageAt {
    pub offset: u64,
    pub why: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct GapLine {
    pub cpu: u16,
    pub layer: &'static str,
    pub from_ns: u64,
    pub to_ns: u64,
    pub count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct BaselineLine {
    pub at_ns: u64,
    pub rss_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReadingLine {
    pub why: &'static str,
    pub at_ns: u64,
}

/// What readings put right: pages that no event had told of.
#[derive(Clone, Debug, Serialize)]
pub struct CorrectionLine {
    pub why: &'static str,
    pub readings: u64,
    pub added_anon_bytes: u64,
    pub added_file_bytes: u64,
    pub removed_anon_bytes: u64,
    pub removed_file_bytes: u64,
    /// Frames that were known, whose address the reading told.
    pub placed_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct AnomalyLine {
    pub kind: &'static str,
    pub count: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    pub example: String,
    pub text: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExitLine {
    pub at_ns: u64,
    pub code: u8,
    pub signal: u8,
}

#[derive(Clone, Debug, Serialize)]
pub struct ClassLine {
    pub class: &'static str,
    pub bytes: u64,
    pub delta_bytes: Option<i64>,
}

/// One of the kernel's counters against the page set.
#[derive(Clone, Debug, Serialize)]
pub struct MemberLine {
    pub member: &'static str,
    /// `null`: the trace never told it, and the page set stands in for it.
    pub level_bytes: Option<u64>,
    pub pages_bytes: u64,
    /// Of files and shared memory: known by the counter only, and in the member's class all the same.
    pub unplaced_bytes: u64,
    pub unexplained_bytes: i64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ActorLine {
    pub actor: String,
    /// Growth of the RSS while it acted.
    pub bytes: u64,
    pub shrank_bytes: u64,
    pub collapses: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ThreadLine {
    pub tid: u32,
    pub grew_bytes: u64,
    pub shrank_bytes: u64,
    pub resident_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct RangeLine {
    pub addr: String,
    pub bytes: u64,
    pub label: String,
    pub resident_bytes: u64,
    pub delta_bytes: i64,
    pub gained_bytes: u64,
    pub lost_bytes: u64,
    /// Unmapped since the baseline.
    pub gone: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct FaultLine {
    pub access: &'static str,
    pub kernel: bool,
    pub count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct CountLine {
    pub name: String,
    pub count: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct FailedLine {
    pub call: &'static str,
    pub errno: u32,
    pub error: String,
    pub count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ScanLine {
    pub phase: &'static str,
    pub count: u64,
    /// Sum of the values, whose meaning depends on the phase.
    pub value: u64,
}

impl Report {
    /// The report of a trace; lists of ranges and threads hold at most `top` lines.
    #[must_use]
    pub fn new(header: &Header, state: &State, outcome: &Outcome, top: usize) -> Report {
        build::report(header, state, outcome, top)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// One JSON object on one line.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: a tree of strings, numbers and lists always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }
}
