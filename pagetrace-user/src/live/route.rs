//! Route: every record to the process that owns the address space, and into its file.
//!
//! *Invariant.* Each decoded record is written (it became one event of one file, or
//! the kernel's part of a stack) or skipped (nobody's any more, or of
//! a process that the selection does not want).
//! *Bound.* Verdicts on processes that are gone are forgotten when they become many.

mod introduce;
mod notice;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::{Body, Call, Event, Header, Start, Trailer};
use crate::failure::Failure;
use crate::live::decode::{What, decode};
use crate::live::maps::PROT_EXEC;
use crate::live::merge::Words;
use crate::live::names::{Names, segment_bytes};
use crate::live::process::Program;
use crate::live::select::Rule;
use crate::live::stacks::{Copied, Namer, Unwinding, Walked};
use crate::live::target::{Finished, Identity, SETTLE, Target};
use crate::live::writer::{FileNumber, Writer};
use crate::store::Store;
use crate::units::{Bytes, Comm, Nanos, Pid, Range};
use introduce::Introduced;
use notice::notice;

/// Verdicts kept at most.
const CACHE_LIMIT: usize = 4096;
/// How long after its last thread a process's address space may stay before its file counts as ended.
const EXIT_PATIENCE: Nanos = Nanos(1_000_000_000);
/// Ended files that wait for the session's totals at most; older ones are finished without them.
const ENDED_LIMIT: usize = 256;
/// `SCAN_SUCCEED` (mm/khugepaged.c).
const SCAN_SUCCEED: u64 = 1;
/// The least time between two readings of one process that repair its pages.
pub const REPAIR_PAUSE: Nanos = Nanos(2_000_000_000);

/// A finished file, for the summary.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub identity: Identity,
    pub comm: Comm,
    pub number: FileNumber,
    pub events: u64,
    pub bytes: u64,
    pub path: Option<PathBuf>,
}

pub struct Route {
    rule: Rule,
    store: Arc<Store>,
    pub writer: Writer,
    host: Header,
    pub targets: BTreeMap<u32, Target>,
    next: u32,
    by_owner: HashMap<u32, u32>,
    /// The owner of the last record and its process: most records follow one of the same.
    last: Option<(u32, u32)>,
    by_identity: HashMap<Identity, u32>,
    verdicts: HashMap<Pid, bool>,
    names: Names,
    /// What the recorder itself starts, until it runs.
    pub started: Option<(Pid, Program)>,
    /// Address spaces that turned out not to be wanted, and their owner numbers.
    pub to_mute: Vec<(u64, u32)>,
    /// Processes that run another program than when they were last looked at.
    pub to_attend: Vec<(u32, Start)>,
    /// Processes that mapped a program or library since they were last looked at.
    pub to_look_at: BTreeSet<u32>,
    /// Processes that run another program, and the number of the address space that they had before.
    pub replaced: Vec<(u32, u32)>,
    /// When a process came into view last.
    pub last_came: Nanos,
    /// What went wrong and costs no more than what it says.
    pub notes: Vec<String>,
    /// What has to be said at once.
    pub warnings: Vec<String>,
    pub finished: Vec<FileReport>,
    /// Targets in the order of their ends.
    ended: std::collections::VecDeque<u32>,
    pub unwinding: Unwinding,
    namer: Namer,
    pub written: u64,
    pub skipped: u64,
    pub failure: Option<Failure>,
}

impl Route {
    #[must_use]
    pub fn new(rule: Rule, store: Arc<Store>, writer: Writer, host: Header) -> Route {
        Route {
            rule,
            store,
            writer,
            host,
            targets: BTreeMap::new(),
            next: 0,
            by_owner: HashMap::new(),
            last: None,
            by_identity: HashMap::new(),
            verdicts: HashMap::new(),
            names: Names::default(),
            started: None,
            to_mute: Vec::new(),
            to_attend: Vec::new(),
            to_look_at: BTreeSet::new(),
            replaced: Vec::new(),
            last_came: Nanos(0),
            notes: Vec::new(),
            warnings: Vec::new(),
            finished: Vec::new(),
            ended: std::collections::VecDeque::new(),
            unwinding: Unwinding::default(),
            namer: Namer::default(),
            written: 0,
            skipped: 0,
            failure: None,
        }
    }

    /// Takes one record.
    pub fn take(&mut self, ts: Nanos, words: &Words, tail: &[u64]) {
        let record = decode(ts, words, tail);
        if let What::Intro { mm, start_boottime, parent, comm, how, image } = record.what {
            let identity = Identity { pid: record.tgid, start_boottime };
            let at = (record.owner, record.cpu, record.tid);
            return self.introduce(ts, at, identity, Introduced { mm, parent, comm, how, image });
        }
        let index = match self.last {
            Some((owner, index)) if owner == record.owner => Some(index),
            _ => {
                let index = self.by_owner.get(&record.owner).copied();
                self.last = index.map(|index| (record.owner, index));
                index
            }
        };
        let Some(target) = index.and_then(|index| self.targets.get_mut(&index)) else {
            self.skipped += 1;
            return;
        };
        let names = &mut self.names;
        let actor = target.actor(record.tgid, || record.comm.unwrap_or_else(|| names.comm(record.tgid)));
        let body = match record.what {
            What::Event(body) => body,
            What::MapOfFile { range, prot, flags, offset, began, file } => {
                let named = names.file(ts, target.identity.pid, range, file);
                if prot & PROT_EXEC != 0 {
                    let place = (range, offset.0);
                    let pids = (target.identity.pid, target.parent);
                    target.stacks.mapped_more(&mut self.unwinding, pids, place, &named);
                    self.to_look_at.extend(index);
                }
                let file = Some(target.file(ts, named, &self.writer));
                Body::Map { range, prot, flags, file, offset, call: Call::Mmap, began }
            }
            What::Attach { addr, bytes, prot, fixed, began } => {
                let bytes = if bytes == 0 { segment_bytes(target.identity.pid, addr) } else { bytes };
                target.segments.insert(addr, bytes);
                // As `mmap` has it: MAP_SHARED, and MAP_FIXED where what was there is replaced.
                let (range, flags) = (Range::of_pages(addr, bytes), if fixed { 0x11 } else { 1 });
                Body::Map { range, prot, flags, file: None, offset: Bytes(0), call: Call::Shmat, began }
            }
            What::Detach { addr, began } => {
                let bytes = target.segments.remove(&addr).unwrap_or(0);
                Body::Unmap { range: Range::of_pages(addr, bytes), call: Call::Shmdt, began }
            }
            What::KernelStack { is_alone: false, .. } => {
                target.stacks.enter_kernel(record.tid, tail);
                self.written += 1;
                return;
            }
            What::KernelStack { of, .. } => {
                let id = target.stack(ts, (Walked::KernelOnly, tail), &mut self.unwinding, &self.writer);
                Body::Stack { of, id }
            }
            What::Stack { of, ip, sp, bp, from, is_walked, is_whole, has_returned, has_kernel, mended } => {
                let walked = if is_walked {
                    Walked::Addresses(tail)
                } else {
                    Walked::Copied(Copied { ip, sp, bp, from, words: tail, is_whole, has_returned, mended })
                };
                let kernel = target.stacks.leave_kernel(record.tid, has_kernel);
                let id = target.stack(ts, (walked, &kernel), &mut self.unwinding, &self.writer);
                Body::Stack { of, id }
            }
            // Of the two heaps that such a process has, its file tells of one.
            What::Heap { is_go: false, .. } if target.heap.is_go => {
                self.skipped += 1;
                return;
            }
            What::Heap { run, heap, .. } => {
                if heap.is_some() {
                    target.heap.root = heap;
                }
                target.heap.keep(ts, run);
                Body::Heap(run)
            }
            What::Intro { .. } | What::Unknown => {
                self.skipped += 1;
                return;
            }
        };
        notice(target, ts, record.owner, &body, actor.is_some());
        let gone = matches!(body, Body::MmGone);
        let full = target.push(Event { ts, cpu: record.cpu, tid: record.tid, actor, body }, &self.writer);
        self.written += 1;
        if gone {
            self.last = None;
            self.by_owner.remove(&record.owner);
        }
        if full && let Some(index) = index {
            self.open(index);
        }
    }

    /// Makes the file of a process, if it is still to be made.
    pub fn open(&mut self, index: u32) {
        if let Some(target) = self.targets.get_mut(&index)
            && let Err(failure) = target.open(&self.host, &self.store, &self.writer, FileNumber(index))
        {
            self.failure.get_or_insert(failure);
        }
    }

    /// Makes the files that are due, ends those whose process is gone, closes blocks.
    pub fn keep_house(&mut self, now: Nanos) {
        let indices: Vec<u32> =
            self.targets.iter().filter(|(_, target)| !target.has_ended()).map(|(at, _)| *at).collect();
        for index in indices {
            let Some(target) = self.targets.get(&index) else { continue };
            let over = target.exited.is_some_and(|exited| target.mm_gone || now.since(exited) > EXIT_PATIENCE);
            if target.is_waiting() && (over || now.since(target.seen_at) > SETTLE) {
                self.open(index);
            }
            let Some(target) = self.targets.get_mut(&index) else { continue };
            if over {
                target.end(&self.writer);
                self.by_identity.remove(&target.identity);
                self.ended.push_back(index);
            } else {
                target.flush(&self.writer);
                if let Some(warning) = target.heap.silence.told_at(now) {
                    self.warnings.push(format!("{} ({}): {warning}", target.comm, target.identity.pid));
                    target.notes.push(warning);
                }
            }
        }
        while self.ended.len() > ENDED_LIMIT {
            let Some(index) = self.ended.pop_front() else { break };
            let trailer = Trailer { end: now.0, reason: "exited".to_owned(), ..Trailer::default() };
            self.finish(index, &trailer);
        }
    }

    /// How many processes are being recorded.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.targets.values().filter(|target| !target.has_ended()).count()
    }

    /// Opens whatever still waits, so that every process has its file.
    pub fn open_all(&mut self) {
        let waiting: Vec<u32> =
            self.targets.iter().filter(|(_, target)| target.is_waiting()).map(|(at, _)| *at).collect();
        for index in waiting {
            self.open(index);
        }
    }

    /// Finishes every file with the session's totals.
    pub fn finish_all(&mut self, trailer: &Trailer) {
        let indices: Vec<u32> = self.targets.keys().copied().collect();
        for index in indices {
            self.finish(index, trailer);
        }
    }

    fn finish(&mut self, index: u32, trailer: &Trailer) {
        let Some(mut target) = self.targets.remove(&index) else { return };
        self.last = None;
        let mut trailer = trailer.clone();
        if target.exited.is_some() {
            trailer.reason = "exited".to_owned();
        }
        target.name_places(&mut self.namer, &self.writer);
        if let Some(Finished { number, events, bytes }) = target.finish(trailer, &self.writer) {
            let (identity, comm) = (target.identity, target.comm);
            self.finished.push(FileReport { identity, comm, number, events, bytes, path: None });
        }
        self.by_owner.retain(|_, at| *at != index);
    }

    /// Leaves every file unfinished.
    pub fn keep_all(&mut self) {
        for target in self.targets.values_mut() {
            target.keep(&self.writer);
        }
        self.targets.clear();
    }
}
