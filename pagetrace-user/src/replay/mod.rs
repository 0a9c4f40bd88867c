//! Replay: the events of a trace folded into a state.
//!
//! The fold is pure: the same events give the same state, and odd events are counted as anomalies, never refused.
//! Two sources stand side by side and are never mixed: the *levels* (the kernel's counters, exact at every event that
//! tells them) and the *page set* (which addresses hold which frames). The ledger prints their difference.
//!
//! *What changes the page set.* A frame with an address puts its pages there (cut to the mappings it meets). A free takes
//! a page only while its address still holds that frame. Unmapping, `brk` down, `MAP_FIXED` and the advices that drop
//! pages at once (`DONTNEED`, `DONTNEED_LOCKED`, `REMOVE`, `GUARD_INSTALL`) take a range; `FREE`, `COLD` and `PAGEOUT` take
//! nothing by themselves: frees tell. `mremap` moves pages. A reading replaces. Mapped files come in by fault-around
//! without an event for each page: the level says so at once, the page set at the next reading.
//!
//! *Calls take time.* A call's event stands where the call returned. What another thread mapped within that time in the
//! same place is newer and stays, and so does a page that came in while a mapping was made (`MAP_POPULATE`).

mod anomaly;
mod arenas;
pub mod calls;
mod frames;
mod heap;
mod ledger;
mod levels;
mod mappers;
pub mod mappings;
mod movers;
mod objects;
mod reading;
pub mod resident;
mod returned;
mod stacks;
mod tally;
pub mod vma;
mod window;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub use anomaly::{Anomaly, Oddity};
pub use arenas::{ArenaReading, ArenaUse, ArenaUses};
pub use heap::{Heap, HeapPage};
pub use ledger::{Class, Ledger, difference};
pub use levels::{Levels, Maker, Makers, Peak, RESIDENT, Task};
pub use mappers::MapperUse;
pub use movers::{Base, RangeMove, Snapshot, TaskMove};
pub use objects::{Estimate, Live, Objects};
pub use reading::{Closed, Correction};
pub use returned::Returned;
pub use stacks::{Given, HandedOut, Node, Stacks, Told};
pub use tally::{Gap, MAX_GAPS, MAX_ORDER, Tally, Volume, base_pages};
pub use window::{Moment, Window, fold_watched, fold_within};

use hashbrown::HashMap;

use anomaly::note;
use arenas::Arenas;
use mappings::Mappings;
use resident::{MakerId, Page, Resident};

use crate::event::{Body, Event, FileId, Layer, Scan, ScanKind, StackOf, Start, Why};
use crate::format::{Outcome, Trace};
use crate::units::Nanos;

/// Frames without an address that are remembered, so that a reading can say who made them.
const MAX_UNPLACED: usize = 1 << 22;
/// The kernel's status of a collapse that happened (`SCAN_SUCCEED`, include/trace/events/huge_memory.h).
const COLLAPSED: u64 = 1;

/// Folds all of a trace into its state.
///
/// # Errors
/// When the source cannot be read. Damage is not an error: it is in the outcome.
pub fn fold(reader: &mut impl Trace) -> io::Result<(State, Outcome)> {
    let mut state = State::new();
    while let Some(event) = reader.next_event()? {
        state.apply(event);
    }
    let outcome = reader.outcome();
    state.finish(outcome.is_whole());
    Ok((state, outcome))
}

/// A file that mappings name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    pub path: String,
    pub whole: bool,
    pub dev: u64,
    pub ino: u64,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub at: Nanos,
    pub code: u8,
    pub signal: u8,
}

/// What the events so far say about the process.
#[derive(Default)]
pub struct State {
    now: Nanos,
    mappings: Mappings,
    resident: Resident,
    levels: Levels,
    makers: Makers,
    unplaced: HashMap<u64, (MakerId, Nanos)>,
    /// Pages whose frame another task freed: it may have put them into another frame, without an event.
    moved: HashMap<u64, Page>,
    /// Anonymous pages that a counter told and nothing else, by who acted, and when the last ones came.
    faceless: BTreeMap<MakerId, (u64, Nanos)>,
    files: BTreeMap<FileId, MappedFile>,
    shmem_files: BTreeSet<FileId>,
    reading: Option<reading::Open>,
    pass: Option<reading::Pass>,
    corrections: BTreeMap<Why, Correction>,
    closed: Option<Closed>,
    base: Option<Base>,
    /// How often it was set, and how many of those times somebody has looked at.
    bases: u64,
    bases_shown: u64,
    /// What was asked for, where changes are not counted from the first reading on.
    changes_since: Option<Nanos>,
    peak: Peak,
    heap: Heap,
    arenas: Arenas,
    objects: Objects,
    stacks: Stacks,
    tally: Tally,
    anomalies: Vec<Anomaly>,
    started: Option<Start>,
    image: Option<(String, String)>,
    exit: Option<Exit>,
    gone: bool,
    is_cut: bool,
    at_exit: Option<Box<Snapshot>>,
}

impl State {
    /// Nothing known.
    #[must_use]
    pub fn new() -> State {
        State::default()
    }

    /// The next event of the trace.
    pub fn apply(&mut self, event: &Event) {
        if event.ts < self.now {
            note(&mut self.anomalies, Oddity::TimeWentBack, event.ts, 0);
        }
        self.now = self.now.max(event.ts);
        self.close_reading_before(event);
        self.tally.add(event);
        self.stacks.apply(event);
        // A reading may already see the address space of the exec that is under way: that is not odd.
        if self.gone
            && matches!(event.body, Body::Map { .. } | Body::Brk { .. } | Body::Remap { .. } | Body::Frame { .. })
        {
            return note(&mut self.anomalies, Oddity::AfterTheEnd, event.ts, 0);
        }
        match &event.body {
            Body::Map { .. }
            | Body::Unmap { .. }
            | Body::Brk { .. }
            | Body::Remap { .. }
            | Body::Advise { .. }
            | Body::Protect { .. } => self.vma(event),
            Body::MapFile { id, path, whole, dev, ino } => {
                let file = MappedFile { path: path.clone(), whole: *whole, dev: *dev, ino: *ino };
                if self.files.insert(*id, file).is_some_and(|old| old.path != *path) {
                    note(&mut self.anomalies, Oddity::FileRenamed, event.ts, u64::from(id.0));
                }
            }
            Body::Frame { addr, pfn, order, member, level } => self.frame(event, *addr, *pfn, *order, *member, *level),
            Body::Free { pfn, order } => self.free(event.ts, *pfn, *order, event.actor.is_some()),
            Body::Rss { member, level } => self.level_alone(event, *member, *level),
            Body::Scan(Scan { kind: ScanKind::Collapse, value: COLLAPSED, .. }) => {
                let maker = self.maker(event);
                if let Some(maker) = self.makers.get_mut(maker) {
                    maker.collapses = maker.collapses.saturating_add(1);
                }
            }
            Body::Start { how, .. } => {
                self.started.get_or_insert(*how);
                self.heap.begin(*how);
                if *how != Start::Running {
                    self.set_empty_base(event.ts);
                }
            }
            Body::Exec { comm, exe } => {
                self.clear();
                self.heap.begin_anew();
                self.arenas = Arenas::default();
                self.objects.begin_anew();
                self.image = Some((comm.to_text(), exe.clone()));
                (self.gone, self.at_exit) = (false, None);
                (self.levels, self.peak) = (Levels::default(), Peak::default());
                self.set_empty_base(event.ts);
            }
            Body::Exit { code, signal } => {
                self.keep_snapshot();
                self.exit = Some(Exit { at: event.ts, code: *code, signal: *signal });
            }
            Body::MmGone => {
                self.keep_snapshot();
                self.clear();
                (self.gone, self.levels) = (true, Levels::zero());
            }
            Body::Reading { why, range, maps } => self.begin_reading(event.ts, *why, *range, *maps),
            Body::BaselineMap { .. } | Body::BaselinePages { .. } => self.row(event),
            Body::Heap(run) => {
                let odd = |what, example| note(&mut self.anomalies, what, event.ts, example);
                self.heap.apply(event.ts, run, odd);
            }
            Body::HeapReading { why } => {
                self.heap.begin_reading();
                if *why == Why::Start {
                    // Events of a heap whose past was not known yet could not but look odd.
                    self.anomalies.retain(|anomaly| !anomaly.what.is_of_heap());
                }
            }
            &Body::BaselineHeap { addr, pages, state } => {
                let odd = |what, example| note(&mut self.anomalies, what, event.ts, example);
                self.heap.row(event.ts, (addr, pages, state), odd);
            }
            Body::SpanUse(used) => self.heap.holds(*used),
            Body::ArenaReading { why, name, path } => self.arenas.begin(event.ts, *why, (name, path)),
            Body::Arena(arena) => self.arenas.arena(*arena),
            Body::ArenaPages(row) => self.arenas.row(*row),
            Body::Object(object) => {
                let odd = |what, example| note(&mut self.anomalies, what, event.ts, example);
                self.objects.apply(event.ts, event.tid, object, odd);
            }
            Body::Library { id, whole, name, path } => self.objects.library(event.ts, *id, *whole, (name, path)),
            Body::Calls { who, count } => self.objects.count(*who, *count),
            Body::Lost { layer: Layer::Object, to, .. } => self.objects.lost(*to),
            Body::Failed { .. } | Body::Fault { .. } | Body::Scan(_) | Body::Fork { .. } | Body::Lost { .. } => {}
            &Body::Stack { of: StackOf::Object, id } => self.objects.stack(event.tid, id),
            Body::Stack { .. } | Body::StackNode { .. } | Body::Symbol { .. } | Body::BuildId { .. } => {}
        }
    }

    /// Closes the reading whose rows ended with the event before this one.
    fn close_reading_before(&mut self, event: &Event) {
        if self.reading.is_some()
            && !matches!(event.body, Body::MapFile { .. } | Body::BaselineMap { .. } | Body::BaselinePages { .. })
            && let Some(open) = self.reading.take()
        {
            self.close_reading(open);
        }
    }

    /// The events have ended; `whole`: as they should, so that a reading at the very end is complete.
    pub fn finish(&mut self, whole: bool) {
        match self.reading.take() {
            Some(open) if whole || open.is_end_mark() => self.close_reading(open),
            Some(open) => self.undo_reading(open),
            None => {}
        }
    }

    /// Everything odd, one entry for each kind.
    #[must_use]
    pub fn anomalies(&self) -> &[Anomaly] {
        &self.anomalies
    }

    #[must_use]
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    #[must_use]
    pub fn resident(&self) -> &Resident {
        &self.resident
    }

    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    #[must_use]
    pub fn makers(&self) -> &Makers {
        &self.makers
    }

    /// The page heap of the process's allocator.
    #[must_use]
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// The objects of the process's allocators.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Where in the process's code its memory was made.
    #[must_use]
    pub fn stacks(&self) -> &Stacks {
        &self.stacks
    }

    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What readings put right, by their reason.
    #[must_use]
    pub fn corrections(&self) -> &BTreeMap<Why, Correction> {
        &self.corrections
    }

    /// The last reading of everything: since then, only events.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }

    #[must_use]
    pub fn peak(&self) -> Peak {
        self.peak
    }

    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Whether the address space is gone, or the process said that it ends.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.gone || self.exit.is_some()
    }

    /// Comm and path of the program that runs since the last exec in the trace.
    #[must_use]
    pub fn image(&self) -> Option<(&str, &str)> {
        self.image.as_ref().map(|(comm, exe)| (comm.as_str(), exe.as_str()))
    }

    /// A file that the trace has described so far.
    #[must_use]
    pub fn file(&self, id: FileId) -> Option<&MappedFile> {
        self.files.get(&id)
    }

    /// Every file that the trace has described so far.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &MappedFile)> {
        self.files.iter().map(|(id, file)| (*id, file))
    }

    /// Since when changes are counted, where that was asked for; else since [`State::base`].
    #[must_use]
    pub fn changes_since(&self) -> Option<Nanos> {
        self.changes_since
    }

    /// The time of the last event.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.now
    }

    fn clear(&mut self) {
        self.mappings = Mappings::default();
        self.resident = Resident::default();
        self.unplaced.clear();
        self.faceless.clear();
        self.moved.clear();
        self.pass = None;
    }

    fn keep_snapshot(&mut self) {
        if self.at_exit.is_none() && !self.gone {
            self.at_exit = Some(Box::new(self.take_snapshot()));
        }
    }
}
