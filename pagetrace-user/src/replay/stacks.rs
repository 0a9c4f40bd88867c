//! Stacks: the tree of calls, the names of its places, and whose memory was made where.
//!
//! *Whose.* A page belongs to the stack of the fault that brought it; where the bound on the rate of stacks left that fault
//! without one, to the stack of the thread's last fault that had one, which is counted apart. A range belongs to the
//! stack of the call that made or moved it last.
//! *Bound.* Nodes and names beyond [`MOST_NODES`] are not kept.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use rangemap::RangeMap;

use crate::event::{Body, Call, Event, FileId, Function, HeapAct, HeapRun, Object, ObjectAct, Place, StackId, StackOf};
use crate::units::{Nanos, Range, Tid};

/// Nodes of a trace that are kept.
const MOST_NODES: usize = 1 << 22;

/// A node of the tree of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub parent: Option<StackId>,
    pub place: Place,
}

/// How many events of a kind there were, and how many of them have a stack of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub events: u64,
    pub stacks: u64,
}

/// A range was given back to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub at: Nanos,
    pub stack: Option<StackId>,
}

/// A run of a page heap was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOut {
    pub at: Nanos,
    /// To whom; `None`: no stack was recorded.
    pub stack: Option<StackId>,
}

/// What a thread did last.
#[derive(Clone, Debug, Default)]
struct Thread {
    fault: Option<StackId>,
    mapped: Option<Range>,
    gave_back: Option<(Range, Nanos)>,
    /// The run of pages that a page heap handed out to it last.
    run: Option<(Range, Nanos)>,
}

/// What a trace says of stacks.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    nodes: Vec<Node>,
    names: HashMap<Place, Vec<Function>>,
    build_ids: BTreeMap<FileId, Vec<u8>>,
    threads: HashMap<Tid, Thread>,
    /// The thread that was asked for last, and the stack of its last fault: most pages come to the thread of the one before.
    asked: Option<(Tid, Option<StackId>)>,
    faults: Told,
    calls: Told,
    objects: Told,
    runs: Told,
    /// Times that each stack faulted.
    by_fault: HashMap<StackId, u64>,
    /// Who mapped which range last.
    mapped: RangeMap<u64, StackId>,
    /// Which runs of a page heap were handed out, and not taken back.
    handed_out: RangeMap<u64, HandedOut>,
    /// Who gave which range back last.
    given_back: RangeMap<u64, Given>,
}

impl Stacks {
    /// The next event of the trace.
    #[inline]
    pub(super) fn apply(&mut self, event: &Event) {
        match &event.body {
            // Most events, and none of them tells of a stack.
            Body::Frame { .. } | Body::Free { .. } | Body::Rss { .. } => {}
            Body::Fault { .. } if event.actor.is_none() => self.faults.events = self.faults.events.saturating_add(1),
            _ => self.apply_rest(event),
        }
    }

    fn apply_rest(&mut self, event: &Event) {
        match &event.body {
            Body::Heap(run) => self.run(event.ts, event.tid, run),
            Body::Object(Object { act: ObjectAct::Alloc, .. }) => {
                self.objects.events = self.objects.events.saturating_add(1);
            }
            Body::Map { range, .. } | Body::Remap { new: range, .. } => self.called(event, Some(*range), None),
            Body::Brk { old, new } => self.called(event, Some(Range { start: *old, end: *new }), None),
            Body::Advise { range, advice, .. } => {
                let gives = super::calls::gives_back(*advice);
                self.called(event, None, gives.then_some(*range));
            }
            Body::Unmap { range, .. } => {
                self.called(event, None, None);
                if !range.is_empty() {
                    self.mapped.remove(range.start..range.end);
                    self.given_back.remove(range.start..range.end);
                }
            }
            Body::Protect { .. } | Body::Failed { .. } => self.called(event, None, None),
            Body::Stack { of, id } => self.stack(event.tid, *of, *id),
            Body::StackNode { parent, place } if self.nodes.len() < MOST_NODES => {
                self.nodes.push(Node { parent: *parent, place: *place });
            }
            Body::Symbol { place, functions } if self.names.len() < MOST_NODES => {
                self.names.insert(*place, functions.clone());
            }
            Body::BuildId { file, id, .. } => {
                self.build_ids.insert(*file, id.clone());
            }
            // Another program: what was mapped is gone.
            Body::Exec { .. } | Body::MmGone => {
                self.threads.clear();
                self.asked = None;
                (self.mapped, self.given_back) = (RangeMap::new(), RangeMap::new());
                if !matches!(event.body, Body::MmGone) {
                    // What the heap of the program that ended had in use at last stays told.
                    self.handed_out = RangeMap::new();
                }
            }
            _ => {}
        }
    }

    fn called(&mut self, event: &Event, mapped: Option<Range>, gave_back: Option<Range>) {
        let call = match &event.body {
            Body::Map { call, .. } | Body::Advise { call, .. } => Some(*call),
            _ => None,
        };
        if event.actor.is_some() || call == Some(Call::ProcessMadvise) {
            return;
        }
        self.calls.events = self.calls.events.saturating_add(1);
        let is_some = |range: &Range| range.start < range.end;
        let (mapped, gave_back) = (mapped.filter(is_some), gave_back.filter(is_some));
        if let Some(range) = mapped {
            // Whoever did it before did not do this.
            self.mapped.remove(range.start..range.end);
            self.given_back.remove(range.start..range.end);
        }
        if let Some(range) = gave_back {
            self.given_back.insert(range.start..range.end, Given { at: event.ts, stack: None });
        }
        let thread = self.threads.entry(event.tid).or_default();
        (thread.mapped, thread.gave_back) = (mapped, gave_back.map(|range| (range, event.ts)));
    }

    fn run(&mut self, at: Nanos, tid: Tid, run: &HeapRun) {
        let range = Range::of(run.addr, run.pages.bytes().0);
        let is_given = run.act == HeapAct::Alloc && range.start < range.end;
        self.runs.events = self.runs.events.saturating_add(u64::from(run.act == HeapAct::Alloc));
        if is_given {
            self.handed_out.insert(range.start..range.end, HandedOut { at, stack: None });
        } else if range.start < range.end && run.act != HeapAct::Scav {
            self.handed_out.remove(range.start..range.end);
        }
        self.threads.entry(tid).or_default().run = is_given.then_some((range, at));
    }

    fn stack(&mut self, tid: Tid, of: StackOf, id: StackId) {
        let thread = self.threads.entry(tid).or_default();
        match of {
            StackOf::Fault => {
                thread.fault = Some(id);
                self.asked = None;
                self.faults.stacks = self.faults.stacks.saturating_add(1);
                let count = self.by_fault.entry(id).or_default();
                *count = count.saturating_add(1);
            }
            StackOf::Call => {
                self.calls.stacks = self.calls.stacks.saturating_add(1);
                if let Some(range) = thread.mapped.take() {
                    self.mapped.insert(range.start..range.end, id);
                }
                if let Some((range, at)) = thread.gave_back.take() {
                    self.given_back.insert(range.start..range.end, Given { at, stack: Some(id) });
                }
            }
            StackOf::Object => self.objects.stacks = self.objects.stacks.saturating_add(1),
            StackOf::Heap => {
                if let Some((range, at)) = thread.run.take() {
                    self.runs.stacks = self.runs.stacks.saturating_add(1);
                    self.handed_out.insert(range.start..range.end, HandedOut { at, stack: Some(id) });
                }
            }
        }
    }

    /// The stack of the last fault of a thread that has one.
    pub(super) fn of_fault(&mut self, tid: Tid) -> Option<StackId> {
        if let Some((_, stack)) = self.asked.filter(|(asked, _)| *asked == tid) {
            return stack;
        }
        let stack = self.threads.get(&tid).and_then(|thread| thread.fault);
        self.asked = Some((tid, stack));
        stack
    }

    /// Whether the trace has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Faults, and those that have a stack.
    #[must_use]
    pub fn faults(&self) -> Told {
        self.faults
    }

    /// System calls of the vma layer, and those that have a stack.
    #[must_use]
    pub fn calls(&self) -> Told {
        self.calls
    }

    /// Objects that were recorded, and those that have a stack.
    #[must_use]
    pub fn objects(&self) -> Told {
        self.objects
    }

    /// Runs that a page heap handed out, and those that have a stack.
    #[must_use]
    pub fn runs(&self) -> Told {
        self.runs
    }

    /// Runs of a page heap that were handed out while it was recorded, and not taken back.
    pub fn handed_out(&self) -> impl Iterator<Item = (Range, HandedOut)> {
        self.handed_out.iter().map(|(range, given)| (Range { start: range.start, end: range.end }, *given))
    }

    /// The run of a page heap at an address, if it was handed out while it was recorded.
    #[must_use]
    pub fn handed_out_at(&self, addr: u64) -> Option<HandedOut> {
        self.handed_out.get(&addr).copied()
    }

    /// How often each stack faulted.
    pub fn by_fault(&self) -> impl Iterator<Item = (StackId, u64)> {
        self.by_fault.iter().map(|(id, count)| (*id, *count))
    }

    /// Who mapped an address last.
    #[must_use]
    pub fn mapper(&self, addr: u64) -> Option<StackId> {
        self.mapped.get(&addr).copied()
    }

    /// The parts of a range that somebody mapped, and who did it last.
    pub fn mapped_within(&self, range: Range) -> impl Iterator<Item = (Range, StackId)> {
        let parts = self.mapped.overlapping(range.start..range.end);
        parts.filter_map(move |(part, id)| Some((Range { start: part.start, end: part.end }.meet(range)?, *id)))
    }

    /// When an address was given back last, and by whom.
    #[must_use]
    pub fn given_back(&self, addr: u64) -> Option<Given> {
        self.given_back.get(&addr).copied()
    }

    /// All that was given back, and neither mapped anew nor unmapped since, by rising address.
    pub fn given_back_ranges(&self) -> impl Iterator<Item = Range> {
        self.given_back.iter().map(|(range, _)| Range { start: range.start, end: range.end })
    }

    /// The places of a stack, the innermost first. A forged tree ends where it goes upward.
    pub fn places(&self, id: StackId) -> impl Iterator<Item = Place> {
        let mut next = Some(id);
        std::iter::from_fn(move || {
            let at = next?;
            let node = self.nodes.get(at.0 as usize)?;
            next = node.parent.filter(|parent| *parent < at);
            Some(node.place)
        })
    }

    /// The functions at a place, the innermost first; empty where no name is known.
    #[must_use]
    pub fn functions(&self, place: Place) -> &[Function] {
        self.names.get(&place).map_or(&[], Vec::as_slice)
    }

    /// The build id of a mapped file.
    #[must_use]
    pub fn build_id(&self, file: FileId) -> Option<&[u8]> {
        self.build_ids.get(&file).map(Vec::as_slice)
    }
}
