//! One process of a recording: what is known of it, and its way into its file.
//!
//! *File.* It is made a moment after the process came into view ([`SETTLE`] or [`SETTLE_EVENTS`]), so that a program
//! that is just being started gives it its name; until then events wait here.

mod mappings;
mod stacks;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bytes::Bytes as Block;
use rustix::fs::{major, minor};

use crate::event::{Actor, Body, Event, FileId, FilePages, Header, HeapRun, LibraryId, Trailer, Why};
use crate::failure::Failure;
use crate::format::Encoder;
use crate::live::heap::Attached;
use crate::live::objects::Library;
use crate::live::process::Program;
use crate::live::reading::Reading;
use crate::live::silence::Silence;
use crate::live::stacks::ProcessStacks;
use crate::live::tcmalloc;
use crate::live::writer::{FileNumber, Writer};
use crate::store::Store;
use crate::symbols::go::offsets::GoOffsets;
use crate::symbols::tcmalloc::{PageMap, Plan};
use crate::units::{Comm, Nanos, Pid, Tid};

/// How long a new process may still change its name before its file is made.
pub const SETTLE: Nanos = Nanos(60_000_000);
/// Events that wait for that at most.
const SETTLE_EVENTS: usize = 2048;

/// How long a page heap takes from a probe to what it tells of, if the thread is not held up for longer.
const COMES_TRUE_WITHIN: Nanos = Nanos(100_000_000);
/// Stacks without an end are noted when they are more than one in so many.
const NOTED_PART: u64 = 50;
/// Events of a page heap that are kept that long.
const MOST_RECENT: usize = 1 << 16;

/// A process, as the kernel tells it apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub pid: Pid,
    pub start_boottime: u64,
}

/// Where its events go.
enum Output {
    Waiting(Vec<Event>),
    Open {
        encoder: Box<Encoder>,
        number: FileNumber,
    },
    /// Ended: its blocks are written, only the trailer is missing.
    Ended {
        encoder: Box<Encoder>,
        number: FileNumber,
    },
}

pub struct Target {
    pub identity: Identity,
    pub comm: Comm,
    /// Who made it.
    pub parent: Pid,
    /// Its present address space, as the kernel's maps know it.
    pub mm: u64,
    pub owner: u32,
    pub seen_at: Nanos,
    /// When its last thread ended.
    pub exited: Option<Nanos>,
    pub mm_gone: bool,
    /// What it ran when it was last looked at.
    pub program: Program,
    pub heap: PageHeap,
    /// Allocators whose functions are attached to.
    pub libraries: BTreeMap<LibraryId, Arc<Library>>,
    /// The counts of its calls are in its file.
    pub is_counted: bool,
    pub stacks: ProcessStacks,
    /// What was found out about the recording since its file's header was written.
    pub notes: Vec<String>,
    /// What was said of page heaps, there or here.
    pub told: BTreeSet<String>,
    pub reading: Option<Reading>,
    /// What the last reading of all found of files.
    pub file_pages: Option<FilePages>,
    /// A reading that is due, why, and not before when.
    pub due: Option<(Why, Nanos)>,
    /// The earliest time of the next repair.
    pub next_repair: Nanos,
    /// Shared segments attached, by address: their bytes.
    pub segments: HashMap<u64, u64>,
    pub levels: [u64; 4],
    /// Base pages freed less those that counters fell by, since the last reading.
    pub balance: i64,
    files: HashMap<(u64, u64, String), FileId>,
    output: Output,
    /// Events that came from records.
    pub records: u64,
    events: u64,
    /// The time of the last one.
    last: Nanos,
}

impl Target {
    #[must_use]
    pub fn new(identity: Identity, comm: Comm, parent: Pid, (mm, owner): (u64, u32), seen_at: Nanos) -> Target {
        Target {
            identity,
            comm,
            parent,
            mm,
            owner,
            seen_at,
            exited: None,
            mm_gone: false,
            program: Program::default(),
            heap: PageHeap::default(),
            libraries: BTreeMap::new(),
            is_counted: false,
            stacks: ProcessStacks::default(),
            notes: Vec::new(),
            told: BTreeSet::new(),
            reading: None,
            file_pages: None,
            due: None,
            next_repair: Nanos(0),
            segments: HashMap::new(),
            levels: [0; 4],
            balance: 0,
            files: HashMap::new(),
            output: Output::Waiting(Vec::new()),
            records: 0,
            events: 0,
            last: seen_at,
        }
    }

    /// Adds an event. `true` when it is time to make the file ([`Target::open`]).
    pub fn push(&mut self, event: Event, writer: &Writer) -> bool {
        self.events += 1;
        self.last = event.ts;
        if !event.body.is_own() {
            self.records += 1;
        }
        match &mut self.output {
            Output::Waiting(events) => {
                events.push(event);
                events.len() >= SETTLE_EVENTS
            }
            Output::Open { encoder, number } | Output::Ended { encoder, number } => {
                encoder.push(&event);
                while let Some(block) = encoder.take_ready() {
                    writer.append(*number, block);
                }
                false
            }
        }
    }

    /// Adds an event of the recorder's own.
    pub fn push_own(&mut self, ts: Nanos, cpu: u16, body: Body, writer: &Writer) -> bool {
        self.push(Event { ts, cpu, tid: Tid(0), actor: None, body }, writer)
    }

    /// The number of a file in this trace; an event tells what it stands for before it is first used.
    pub fn file(&mut self, ts: Nanos, file: NamedFile, writer: &Writer) -> FileId {
        let key = (file.dev, file.ino, file.path);
        if let Some(id) = self.files.get(&key) {
            return *id;
        }
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        let body = Body::MapFile { id, path: key.2.clone(), whole: file.whole, dev: key.0, ino: key.1 };
        self.files.insert(key, id);
        self.push_own(ts, 0, body, writer);
        id
    }

    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.output, Output::Waiting(_))
    }

    /// Makes the file and puts in what waited.
    ///
    /// *Errors.* The store's.
    pub fn open(&mut self, host: &Header, store: &Store, writer: &Writer, number: FileNumber) -> Result<(), Failure> {
        let Output::Waiting(events) = &mut self.output else { return Ok(()) };
        let events = std::mem::take(events);
        let mut header = host.clone();
        header.comm = self.comm.to_text();
        header.tgid = self.identity.pid.0;
        header.start_boottime = self.identity.start_boottime;
        let now = Program::of(self.identity.pid, self.identity.start_boottime);
        let program = if now.is_known() { now } else { std::mem::take(&mut self.program) };
        program.describe(&mut header);
        if let Some(attached) = &self.heap.attached {
            header.probes.extend(attached.probes.iter().cloned());
            header.notes.push(attached.note.clone());
        }
        for library in &self.heap.libraries {
            header.probes.extend(library.probes.iter().cloned());
            header.notes.push(library.note.clone());
            self.told.insert(library.note.clone());
        }
        header.notes.extend(self.heap.refused.iter().cloned());
        for library in self.libraries.values() {
            header.probes.extend(library.probes.iter().cloned());
            header.notes.push(library.note.clone());
        }
        let wall = host.clock_wall.saturating_add(self.seen_at.0.saturating_sub(host.clock_monotonic));
        let file = store.create(self.comm, self.identity.pid, wall / 1_000_000_000)?;
        writer.open(number, file);
        let mut encoder = Box::new(Encoder::new(&header));
        for event in &events {
            encoder.push(event);
            while let Some(block) = encoder.take_ready() {
                writer.append(number, block);
            }
        }
        writer.append(number, encoder.flush());
        self.output = Output::Open { encoder, number };
        Ok(())
    }

    /// Closes the current block, so that a crash from here on costs nothing of it.
    pub fn flush(&mut self, writer: &Writer) {
        if let Output::Open { encoder, number } = &mut self.output {
            let block: Block = encoder.flush();
            writer.append(*number, block);
        }
    }

    /// The process has ended: what is left is the trailer.
    pub fn end(&mut self, writer: &Writer) {
        self.flush(writer);
        self.reading = None;
        self.due = None;
        let output = std::mem::replace(&mut self.output, Output::Waiting(Vec::new()));
        self.output = match output {
            Output::Open { encoder, number } => Output::Ended { encoder, number },
            other => other,
        };
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.output, Output::Ended { .. })
    }

    /// Whether its page heap has to be read and can be.
    #[must_use]
    pub fn has_heap_to_read(&self, now: Nanos) -> bool {
        let heap = &self.heap;
        !self.has_ended()
            && heap.due.is_some()
            && heap.not_before <= now
            && heap.root.is_some()
            && heap.structure().is_some()
    }

    /// Writes the trailer and finishes the file. Its number, events and bytes.
    pub fn finish(&mut self, mut trailer: Trailer, writer: &Writer) -> Option<Finished> {
        let (Output::Open { encoder, number } | Output::Ended { encoder, number }) = &mut self.output else {
            return None;
        };
        trailer.records = self.records;
        trailer.events = self.events;
        trailer.own_events = self.events - self.records.min(self.events);
        let is_recorded =
            self.heap.offsets().is_some() || self.heap.libraries.iter().any(|library| library.is_attached);
        if is_recorded && self.heap.root.is_none() {
            self.notes.push("its page heap gave no event: what it holds is not in the file".to_owned());
        }
        let (told, cut) = (self.stacks.told, self.stacks.cut);
        if cut * NOTED_PART > told {
            self.notes.push(format!("{cut} of {told} stacks have no end: calls farther out are not known"));
        }
        trailer.notes = std::mem::take(&mut self.notes);
        trailer.file_pages = self.file_pages.take().filter(|_| self.exited.is_none());
        let block = encoder.finish(&trailer);
        writer.append(*number, block);
        writer.finish(*number);
        Some(Finished { number: *number, events: self.events, bytes: encoder.bytes() })
    }

    /// Leaves the file unfinished, as far as it came.
    pub fn keep(&mut self, writer: &Writer) {
        self.flush(writer);
        if let Output::Open { number, .. } | Output::Ended { number, .. } = &self.output {
            writer.keep(*number);
        }
    }

    /// The acting task as an event names it: nothing for the process's own threads.
    #[must_use]
    pub fn actor(&self, tgid: Pid, comm: impl FnOnce() -> Comm) -> Option<Actor> {
        (tgid != self.identity.pid).then(|| Actor { tgid, comm: comm() })
    }
}

/// How a page heap is laid out in the process's memory.
#[derive(Clone, Debug)]
pub enum Structure {
    Go(GoOffsets, Arc<Attached>),
    Tcmalloc(Arc<Plan>, PageMap),
}

/// The page heap of a process, if it has one that is known.
#[derive(Default)]
pub struct PageHeap {
    pub attached: Option<Arc<Attached>>,
    /// The program is a Go program.
    pub is_go: bool,
    /// When its program began, if that was seen.
    pub began: Option<Nanos>,
    /// Libraries of tcmalloc's whose page heap is attached to, or could not be.
    pub libraries: Vec<Arc<tcmalloc::Library>>,
    /// Why those of its other allocators are not.
    pub refused: BTreeSet<String>,
    /// Where it lies; the first of its events tells.
    pub root: Option<u64>,
    /// Why it has to be read.
    pub due: Option<Why>,
    /// Not before then, after so many tries in vain.
    pub not_before: Nanos,
    pub put_off: u32,
    /// Its last events, which may not have come true yet when it is read.
    pub recent: VecDeque<(Nanos, HeapRun)>,
    pub silence: Silence,
}

impl PageHeap {
    /// Keeps an event for as long as what it says may take to come true.
    pub fn keep(&mut self, ts: Nanos, run: HeapRun) {
        while self.recent.len() >= MOST_RECENT
            || self.recent.front().is_some_and(|(then, _)| ts.since(*then) > COMES_TRUE_WITHIN)
        {
            self.recent.pop_front();
        }
        self.recent.push_back((ts, run));
        self.silence.heard(ts, &run);
    }

    /// How one that is recorded can be read.
    #[must_use]
    pub fn structure(&self) -> Option<Structure> {
        if let (Some(attached), Some(offsets)) = (&self.attached, self.offsets()) {
            return Some(Structure::Go(offsets, Arc::clone(attached)));
        }
        let mut attached = self.libraries.iter().filter(|library| library.is_attached);
        attached.find_map(|library| Some(Structure::Tcmalloc(Arc::clone(&library.plan), library.plan.map?)))
    }

    /// Where the fields lie, of one that is recorded.
    #[must_use]
    pub fn offsets(&self) -> Option<GoOffsets> {
        self.attached.as_ref()?.offsets
    }
}

/// A file and how it is called.
#[derive(Clone, Debug)]
pub struct NamedFile {
    pub dev: u64,
    pub ino: u64,
    pub path: String,
    pub whole: bool,
}

impl NamedFile {
    /// Whether a file that was found is this one.
    #[must_use]
    pub fn is(&self, found: &Metadata) -> bool {
        let dev = u64::from(major(found.dev())) << 32 | u64::from(minor(found.dev()));
        (dev, found.ino()) == (self.dev, self.ino)
    }
}

/// A file that has all it will have.
pub struct Finished {
    pub number: FileNumber,
    pub events: u64,
    pub bytes: u64,
}
