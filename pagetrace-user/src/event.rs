//! Events: what a trace file holds and every view reads, in typed units.
//!
//! An [`Event`] belongs to one process (the file's header names it) and has one time and one CPU. Between the
//! kernel's records and a file's bytes it is the middle of three representations; only the format knows its
//! bytes, and only the recorder knows the kernel's records.
//!
//! *Invariants.* In a file events are in time order. A [`Body::MapFile`] stands before the first event that
//! names its id. A reading is a [`Body::Reading`], its rows ([`Body::BaselineMap`], [`Body::BaselinePages`]) and
//! nothing between them; all of it carries the time at which the reading began: every event after it in the
//! file may or may not be contained in what was read, and applying such an event again changes nothing.

mod arena;
mod ends;
mod heap;
mod object;
mod stack;

use crate::units::{Bytes, Comm, HeapPages, Nanos, Pages, Pfn, Pid, Range, Tid};

pub use arena::{Arena, ArenaPages, Chunks};
pub use ends::{CounterRow, DirtyFile, FilePages, Header, Probe, Trailer};
pub use heap::{HeapAct, HeapRun, HeapState, Span, SpanKind, SpanUse};
pub use object::{CallCount, LibraryId, Object, ObjectAct, ObjectCall, Who};
pub use stack::{Function, KERNEL, Place, StackId, StackOf};

/// One thing that happened to the process of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub ts: Nanos,
    pub cpu: u16,
    /// The acting thread: of the process itself, or of the actor. 0 when the recorder itself is the source.
    pub tid: Tid,
    /// The acting task when it is not of this process: khugepaged, kswapd, a remote writer, another adviser.
    pub actor: Option<Actor>,
    pub body: Body,
}

/// A task that acted on another's memory; its thread id is the event's `tid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    pub tgid: Pid,
    pub comm: Comm,
}

/// An index into the file's own table of mapped files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    // ---- vma layer ----
    /// A range became mapped (`mmap`, `shmat`). `prot` and `flags` are the call's own.
    Map { range: Range, prot: u32, flags: u32, file: Option<FileId>, offset: Bytes, call: Call, began: Nanos },
    /// A range was unmapped (`munmap`, `shmdt`). `began` is when the call was entered: a mapping of another
    /// thread that appears between `began` and the event's time at the same place is newer, and stays.
    Unmap { range: Range, call: Call, began: Nanos },
    /// The end of the heap moved from `old` to `new` (equal: it was asked for only).
    Brk { old: u64, new: u64 },
    /// `mremap`: `old` became `new`, by growth, shrinking or a move. `flags` are the call's own. A zero-length
    /// `old` (a second view of a shared mapping) moves nothing.
    Remap { old: Range, new: Range, flags: u32, began: Nanos },
    /// `madvise` or `process_madvise` (then `actor` may be set) on a range: `advice` is `MADV_*`.
    Advise { range: Range, advice: i32, call: Call, began: Nanos },
    /// `mprotect`: the range's protection became `prot`.
    Protect { range: Range, prot: u32 },
    /// A call failed: nothing changed. `addr` and `bytes` as asked; `errno` positive.
    Failed { call: Call, addr: u64, bytes: Bytes, errno: u32 },
    /// Image info: what the id stands for from here on. `path` as the kernel's maps show it. A file that was
    /// gone before its path could be read has the last component only, and `whole` is false.
    MapFile { id: FileId, path: String, whole: bool, dev: u64, ino: u64 },

    // ---- page layer ----
    /// A page fault on a user address; `kernel`: taken while the kernel ran (a copy to or from user memory).
    Fault { addr: u64, ip: u64, access: Access, kernel: bool },
    /// A frame of 2^`order` base pages became resident. `addr` is the start of the pages it backs, aligned to
    /// its size; `None` where no fault tells it. `level` is the member's new level. (`kind`: `alloc`)
    Frame { addr: Option<u64>, pfn: Pfn, order: u8, member: Member, level: Pages },
    /// A frame that was this process's went back to the kernel. (`kind`: `free`)
    Free { pfn: Pfn, order: u8 },
    /// One counter of the RSS has a new level (absolute).
    Rss { member: Member, level: Pages },
    /// The kernel looked at or moved pages of the process: not a change by itself, the `Rss` events are.
    Scan(Scan),

    // ---- heap layer ----
    /// The page heap of an allocator did something with a run of pages. One that is not Go's tells neither P nor goroutine
    /// nor span.
    Heap(HeapRun),

    // ---- object layer ----
    /// A function of an allocator gave memory to the program or took it back.
    Object(Object),

    // ---- stack layer ----
    /// Where the acting thread was in its own code at its last event of this kind.
    Stack { of: StackOf, id: StackId },

    // ---- task layer ----
    /// First event of a file: how the process came into view.
    Start { how: Start, parent: Pid },
    /// The process made a child process.
    Fork { child: Pid, child_comm: Comm },
    /// The process runs another program from here on, in a new, empty address space.
    Exec { comm: Comm, exe: String },
    /// The process ended. `code` is the exit status, `signal` what killed it (0: none).
    Exit { code: u8, signal: u8 },
    /// The address space was torn down: nothing of it is resident any more.
    MmGone,

    // ---- from the recorder ----
    /// A reading of /proc begins: whatever was known of the mappings (when `maps`) and of the resident pages in
    /// `range` is replaced by the rows that follow at the same time. An empty one without `maps` ends a reading of
    /// everything: the rows before it were all.
    Reading { why: Why, range: Range, maps: bool },
    /// A mapping that exists. `name` is the kernel's (`[heap]`, `[stack]`, `[anon:...]`, ...), empty for none.
    BaselineMap { range: Range, prot: u32, shared: bool, file: Option<FileId>, offset: Bytes, name: String },
    /// `pages` resident base pages from `addr`, their frames consecutive from `pfn` (`None`: not readable, the
    /// recorder lacks the right). `file`: page cache or shared anonymous; otherwise private anonymous. `swapped`:
    /// in swap instead of resident (then `pfn` is `None`).
    BaselinePages { addr: u64, pages: Pages, pfn: Option<Pfn>, file: bool, swapped: bool },
    /// A reading of the page heap begins: whatever was known of it is replaced by the rows that follow at the same time.
    /// Where none follows, nothing is known of what it did until now.
    HeapReading { why: Why },
    /// `pages` of the page heap from `addr`, and what they are.
    BaselineHeap { addr: u64, pages: HeapPages, state: HeapState },
    /// What a run of the page heap holds, at this moment.
    SpanUse(SpanUse),
    /// The arenas of an allocator were read: they follow at the same time, and replace what was known of arenas.
    ArenaReading { why: Why, name: String, path: String },
    /// One of them.
    Arena(Arena),
    /// Pages of the arena before.
    ArenaPages(ArenaPages),
    /// What the id stands for from here on: an allocator, and the file that its functions are in.
    /// `whole`: its functions were attached to before the program began; else what they did before this is not known.
    Library { id: LibraryId, whole: bool, name: String, path: String },
    /// How often one function was called since the recording of the process's objects began.
    Calls { who: Who, count: CallCount },
    /// A node of the tree of calls: the place, called from its parent's (`None`: it is where the thread began). Nodes are
    /// numbered from 0 in the order of the file.
    StackNode { parent: Option<StackId>, place: Place },
    /// The functions at a place, the innermost first: all but the last were inlined into the next.
    Symbol { place: Place, functions: Vec<Function> },
    /// The build id of a mapped file, and what to add to an offset of its code to get the address that it is linked for, modulo
    /// 2^64, where that is told.
    BuildId { file: FileId, id: Vec<u8>, linked: Option<u64> },
    /// Records of `layer` on the event's `cpu` were dropped between `from` and `to`.
    Lost { layer: Layer, from: Nanos, to: Nanos, count: u64 },
}

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal => $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant = $value),+ }

        impl $name {
            /// Every value, in wire order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The stable word used in JSON and text.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The integer used on the wire.
            #[must_use]
            pub fn code(self) -> u8 {
                self as u8
            }
        }

        impl TryFrom<u8> for $name {
            type Error = u8;

            /// The value with this wire integer; the integer itself when there is none.
            fn try_from(code: u8) -> Result<$name, u8> {
                match code { $($value => Ok($name::$variant),)+ _ => Err(code) }
            }
        }
    };
}
use wire_enum;

wire_enum! {
    /// The layers that have counters of their own.
    Layer { Vma = 0 => "vma", Page = 1 => "page", Task = 2 => "task", Heap = 3 => "heap", Object = 4 => "object", Stack = 5 => "stack" }
}

wire_enum! {
    /// What a fault wanted.
    Access { Read = 0 => "r", Write = 1 => "w", Exec = 2 => "x" }
}

wire_enum! {
    /// The members of the RSS, in the kernel's order (`MM_FILEPAGES` ...). Swap entries are not resident.
    Member { File = 0 => "file", Anon = 1 => "anon", Swap = 2 => "swap", Shmem = 3 => "shmem" }
}

wire_enum! {
    /// The system calls of the vma layer.
    Call {
        Mmap = 0 => "mmap", Munmap = 1 => "munmap", Mremap = 2 => "mremap", Brk = 3 => "brk",
        Madvise = 4 => "madvise", ProcessMadvise = 5 => "process_madvise", Mprotect = 6 => "mprotect",
        Shmat = 7 => "shmat", Shmdt = 8 => "shmdt",
    }
}

wire_enum! {
    /// Why the recorder read /proc.
    Why {
        /// The process came into view.
        Start = 0 => "start",
        /// Records were dropped.
        Lost = 1 => "lost",
        /// A counter and the state known from the events disagree, or an event tells no address.
        Drift = 2 => "drift",
        /// The recording ends.
        End = 3 => "end",
    }
}

wire_enum! {
    /// How a process came into view.
    Start { Running = 0 => "running", Forked = 1 => "forked", Executed = 2 => "executed" }
}

wire_enum! {
    /// Kinds of [`Scan`].
    ScanKind {
        /// khugepaged or an adviser put small pages into a huge one. `value`: the kernel's status (1: done).
        Collapse = 0 => "collapse",
        /// khugepaged looked at a table of pages. `value`: the kernel's status.
        KhugepagedScan = 1 => "khugepaged_scan",
        /// A thread of the process had to reclaim for itself. `value`: pages reclaimed.
        DirectReclaim = 2 => "direct_reclaim",
        /// The same, for the limit of its memory cgroup. `value`: pages reclaimed.
        MemcgReclaim = 3 => "memcg_reclaim",
        /// A thread of the process migrated pages. `value`: pages moved.
        Migrate = 4 => "migrate",
        /// The OOM killer chose the process. `value`: 0.
        OomVictim = 5 => "oom_victim",
        /// The process's collector begins a cycle. `value`: 0, as in all that follow.
        GcStart = 6 => "gc_start",
        /// Marking is over: the world stands still.
        GcMarkTermination = 7 => "gc_mark_termination",
        /// The last marking is done.
        GcMarkEnd = 8 => "gc_mark_end",
        /// Sweeping begins.
        GcSweep = 9 => "gc_sweep",
    }
}

impl ScanKind {
    /// Whether the collector of the process's own runtime looked, and not the kernel.
    #[must_use]
    pub fn is_collector(self) -> bool {
        matches!(self, ScanKind::GcStart | ScanKind::GcMarkTermination | ScanKind::GcMarkEnd | ScanKind::GcSweep)
    }
}

impl HeapState {
    /// In use for this.
    #[must_use]
    pub fn of(kind: SpanKind) -> HeapState {
        match kind {
            SpanKind::Heap => HeapState::Heap,
            SpanKind::Stack => HeapState::Stack,
            SpanKind::Other => HeapState::Other,
        }
    }
}

/// A look of the kernel at pages, or of the process's own collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    pub kind: ScanKind,
    pub value: u64,
    /// When it began, where the kernel tells both ends.
    pub began: Option<Nanos>,
}

impl Body {
    /// Whether the recorder itself is the source, and not a kernel record.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(
            self,
            Body::MapFile { .. }
                | Body::Reading { .. }
                | Body::BaselineMap { .. }
                | Body::BaselinePages { .. }
                | Body::HeapReading { .. }
                | Body::BaselineHeap { .. }
                | Body::SpanUse(_)
                | Body::ArenaReading { .. }
                | Body::Arena(_)
                | Body::ArenaPages(_)
                | Body::Library { .. }
                | Body::Calls { .. }
                | Body::StackNode { .. }
                | Body::Symbol { .. }
                | Body::BuildId { .. }
                | Body::Lost { .. }
        )
    }

    /// The layer that the event belongs to.
    #[must_use]
    pub fn layer(&self) -> Layer {
        match self {
            Body::Map { .. }
            | Body::Unmap { .. }
            | Body::Brk { .. }
            | Body::Remap { .. }
            | Body::Advise { .. }
            | Body::Protect { .. }
            | Body::Failed { .. }
            | Body::MapFile { .. }
            | Body::BaselineMap { .. } => Layer::Vma,
            Body::Scan(scan) if scan.kind.is_collector() => Layer::Heap,
            Body::Fault { .. }
            | Body::Frame { .. }
            | Body::Free { .. }
            | Body::Rss { .. }
            | Body::Scan(_)
            | Body::Reading { .. }
            | Body::BaselinePages { .. } => Layer::Page,
            Body::Heap(_) | Body::HeapReading { .. } | Body::BaselineHeap { .. } | Body::SpanUse(_) => Layer::Heap,
            Body::ArenaReading { .. } | Body::Arena(_) | Body::ArenaPages(_) => Layer::Heap,
            Body::Object(_) | Body::Library { .. } | Body::Calls { .. } => Layer::Object,
            Body::Stack { .. } | Body::StackNode { .. } | Body::Symbol { .. } | Body::BuildId { .. } => Layer::Stack,
            Body::Start { .. } | Body::Fork { .. } | Body::Exec { .. } | Body::Exit { .. } | Body::MmGone => {
                Layer::Task
            }
            Body::Lost { layer, .. } => *layer,
        }
    }
}
