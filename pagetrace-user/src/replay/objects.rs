//! The objects of allocators: which live, and what came and went.
//!
//! *Loss.* An object whose end was dropped looks as if it lived. So every object that was there when records of this layer
//! were dropped is uncertain from then on, and counted apart. One whose beginning was dropped is never heard of in a
//! sampled recording; in one of every object its end is the end of something unknown, as of what was there before.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::anomaly::Oddity;
use super::tally::Volume;
use crate::event::{CallCount, LibraryId, Object, ObjectAct, StackId, Who};
use crate::units::{Bytes, Nanos, Tid};

/// Objects that a reader holds at most.
const MOST: usize = 1 << 26;

/// An object that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub bytes: Bytes,
    pub since: Nanos,
    /// The thread that asked for it.
    pub tid: Tid,
    pub who: Who,
    /// Where it was asked for.
    pub stack: Option<StackId>,
}

/// An allocator and its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Library {
    pub name: String,
    pub path: String,
}

/// Objects in a sum: each sample stands for as many as its size makes likely.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    pub samples: u64,
    pub objects: f64,
    pub bytes: f64,
    /// Of the bytes.
    variance: f64,
}

impl Estimate {
    /// Adds an object of a recording with this period in bytes (0: every object).
    pub fn add(&mut self, bytes: Bytes, period: u64) {
        let size = bytes.0 as f64;
        // NOTE: no sample is of nothing, but a file may say so.
        let chance = if period == 0 || bytes.0 == 0 { 1.0 } else { -(-size / period as f64).exp_m1() };
        self.samples = self.samples.saturating_add(1);
        self.objects += 1.0 / chance;
        self.bytes += size / chance;
        self.variance += size * size * (1.0 - chance) / (chance * chance);
    }

    /// The standard error of the bytes.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// What the events so far say about objects.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    live: HashMap<u64, Live>,
    /// By thread: what the first half of a call that moves has ended.
    moving: HashMap<Tid, (u64, Live)>,
    /// By thread: the object that it was given last.
    last: HashMap<Tid, u64>,
    libraries: BTreeMap<LibraryId, Library>,
    counts: BTreeMap<Who, CallCount>,
    /// Recorded ones.
    pub allocs: Volume,
    pub frees: u64,
    /// Ends of objects whose beginning is not in the trace.
    pub unknown_frees: u64,
    /// The end of the last gap in this layer.
    gap: Option<Nanos>,
    /// From when on all allocators of the program were recorded; `None`: from its first call on.
    since: Option<Nanos>,
}

impl Objects {
    /// The objects that live, by rising address: a sum of estimates depends on their order.
    pub fn live(&self) -> impl Iterator<Item = (u64, &Live)> {
        let mut live: Vec<(u64, &Live)> = self.live.iter().map(|(addr, live)| (*addr, live)).collect();
        live.sort_unstable_by_key(|(addr, _)| *addr);
        live.into_iter()
    }

    /// Whether the end of an object may have been dropped.
    #[must_use]
    pub fn is_uncertain(&self, live: &Live) -> bool {
        self.gap.is_some_and(|gap| live.since <= gap)
    }

    /// From when on all allocators of the program were recorded; `None`: from its first call on.
    #[must_use]
    pub fn since(&self) -> Option<Nanos> {
        self.since
    }

    #[must_use]
    pub fn libraries(&self) -> &BTreeMap<LibraryId, Library> {
        &self.libraries
    }

    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Who, CallCount> {
        &self.counts
    }

    /// Whether there was any event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty() && self.counts.is_empty() && self.allocs.count == 0 && self.frees == 0
    }

    /// Another program: its memory is empty.
    pub(super) fn begin_anew(&mut self) {
        self.live.clear();
        self.moving.clear();
        self.last.clear();
        self.since = None;
    }

    pub(super) fn library(&mut self, ts: Nanos, id: LibraryId, whole: bool, (name, path): (&str, &str)) {
        if !whole {
            self.since = Some(ts);
        }
        self.libraries.insert(id, Library { name: name.to_owned(), path: path.to_owned() });
    }

    pub(super) fn count(&mut self, who: Who, more: CallCount) {
        let sum = self.counts.entry(who).or_default();
        sum.calls = sum.calls.saturating_add(more.calls);
        sum.bytes = Bytes(sum.bytes.0.saturating_add(more.bytes.0));
        sum.nested = sum.nested.saturating_add(more.nested);
        sum.failed = sum.failed.saturating_add(more.failed);
    }

    pub(super) fn lost(&mut self, until: Nanos) {
        self.gap = self.gap.max(Some(until));
        // Which half of a call was dropped is not known.
        self.moving.clear();
    }

    /// Applies an event; `odd` is told of everything odd about it, with an address.
    pub(super) fn apply(&mut self, ts: Nanos, tid: Tid, object: &Object, mut odd: impl FnMut(Oddity, u64)) {
        let Object { act, addr, bytes, who, moves } = *object;
        match act {
            ObjectAct::Alloc => {
                self.allocs.add(bytes);
                if moves {
                    self.moving.remove(&tid);
                }
                self.last.insert(tid, addr);
                self.put(addr, Live { bytes, since: ts, tid, who, stack: None }, &mut odd);
            }
            ObjectAct::Free => {
                self.frees = self.frees.saturating_add(1);
                match self.live.remove(&addr) {
                    Some(live) if moves => {
                        self.moving.insert(tid, (addr, live));
                    }
                    Some(_) => {}
                    None => {
                        self.unknown_frees = self.unknown_frees.saturating_add(1);
                        // Of samples, only those are told whose beginning was.
                        if bytes.0 > 0 {
                            odd(Oddity::ObjectFreeUnknown, addr);
                        }
                        if moves {
                            self.moving.remove(&tid);
                        }
                    }
                }
            }
            ObjectAct::Kept => match self.moving.remove(&tid).filter(|(moved, _)| *moved == addr) {
                Some((_, live)) => {
                    self.frees = self.frees.saturating_sub(1);
                    self.put(addr, live, &mut odd);
                }
                None if bytes.0 > 0 => {
                    self.put(addr, Live { bytes, since: ts, tid, who, stack: None }, &mut odd);
                }
                None => {}
            },
        }
    }

    /// Where the thread was when it was given its last object.
    pub(super) fn stack(&mut self, tid: Tid, stack: StackId) {
        let given = self.last.get(&tid).and_then(|addr| self.live.get_mut(addr));
        // Another thread may have taken it back by now, and got the same memory.
        if let Some(live) = given.filter(|live| live.tid == tid) {
            live.stack = Some(stack);
        }
    }

    fn put(&mut self, addr: u64, live: Live, odd: &mut impl FnMut(Oddity, u64)) {
        if self.live.len() >= MOST && !self.live.contains_key(&addr) {
            return odd(Oddity::SetFull, addr);
        }
        if self.live.insert(addr, live).is_some() {
            odd(Oddity::ObjectAllocTwice, addr);
        }
    }
}
