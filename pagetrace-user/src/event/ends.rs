//! What stands at both ends of a trace file: all that is known before its first event, and what is known after its last.

/// What stands at the head of a trace file: all that is known before the first event.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Header {
    /// Version of the recorder, as text.
    pub recorder: String,
    pub tgid: u32,
    /// Kernel `start_boottime`, ns since boot: with `tgid` the identity of the process.
    pub start_boottime: u64,
    /// Lossy text of the kernel's comm.
    pub comm: String,
    pub exe: String,
    pub cmdline: Vec<String>,
    /// Bytes of a page of the vma and page layers, and of a Go heap.
    pub page_bytes: u64,
    pub heap_page_bytes: u64,
    /// One moment on both clocks: CLOCK_MONOTONIC ns, and ns since the Unix epoch.
    pub clock_monotonic: u64,
    pub clock_wall: u64,
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    pub cpus: u32,
    /// Bytes of the ring buffer of each CPU.
    pub ring_bytes: u64,
    /// Objects: bytes between two samples on average, 0 for every one; `None`: not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_period_bytes: Option<u64>,
    pub probes: Vec<Probe>,
    /// Limits that hold for this recording, each a sentence ("frames beyond 256 GiB are not joined").
    pub notes: Vec<String>,
}

/// An attach point, and why it is not attached if it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Probe {
    pub name: String,
    pub attached: bool,
    /// Empty when attached.
    pub reason: String,
}

/// What stands at the end of a whole trace file.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Trailer {
    /// CLOCK_MONOTONIC ns of the end of the recording.
    pub end: u64,
    /// `interrupted`, `terminated`, `duration`, `exited`, `loss`, `failed: ...`.
    pub reason: String,
    /// Counters of the whole session: seen = emitted + filtered + dropped in each row.
    pub counters: Vec<CounterRow>,
    /// Of the whole session: emitted = decoded = written + skipped.
    pub decoded: u64,
    pub written: u64,
    pub skipped: u64,
    /// Of this file: events that came from kernel records, all events, and the recorder's own (events - records).
    pub records: u64,
    pub events: u64,
    pub own_events: u64,
    /// Events whose time had to be moved forward to keep the order, in this session.
    pub late: u64,
    /// Runs of a program that the kernel skipped, by program name; only those not zero.
    pub recursion_misses: Vec<(String, u64)>,
    /// Frames whose owner could not be noted: a full table, or a frame beyond the table's reach.
    pub frames_unjoined: u64,
    /// Of this file: limits that were found out only while it was recorded, each a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Of this file: what its last reading found of resident pages of files; `None` of a process that ended before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_pages: Option<FilePages>,
}

/// Resident pages of files, but for those that only swap could hold, at the end of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct FilePages {
    /// As on the disk.
    pub clean_bytes: u64,
    /// To be written back.
    pub dirty_bytes: u64,
    /// Those with the most dirty pages, the most first.
    pub dirty_files: Vec<DirtyFile>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DirtyFile {
    pub path: String,
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
}

/// One CPU's counters of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct CounterRow {
    pub cpu: u32,
    pub layer: String,
    pub seen: u64,
    pub emitted: u64,
    pub filtered: u64,
    pub dropped: u64,
}

impl Trailer {
    /// Records dropped by the recorder's rings in the whole session.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counters.iter().map(|row| row.dropped).fold(0, u64::saturating_add)
    }
}
