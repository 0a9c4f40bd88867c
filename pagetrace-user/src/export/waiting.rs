//! Objects in their order, each held until its stack is known, or it is known to have none.
//!
//! A stack stands behind its event, a few lines and microseconds later, with events of other threads in between; whether a
//! call that moves took its object back is known when it returns.
//!
//! *Cost.* Holds what happened in [`PATIENCE`] at most, and [`MOST`] entries.

use std::collections::{HashMap, VecDeque};

use crate::event::StackId;
use crate::units::{Bytes, Nanos, Tid};

/// How long an entry is held.
const PATIENCE: Nanos = Nanos(10_000_000);
/// Entries that are held.
const MOST: usize = 1 << 16;

/// What happens, in the order of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Given {
        addr: u64,
        bytes: Bytes,
        stack: Option<StackId>,
    },
    Taken {
        addr: u64,
        moves: bool,
    },
    Kept {
        addr: u64,
        bytes: Bytes,
    },
    /// Another program runs: all of them are gone.
    Gone,
    /// What was there before is not known.
    Attached,
    /// Pages.
    Rss(u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub at: Nanos,
    pub tid: Tid,
    pub act: Act,
    /// More may become known of it.
    is_open: bool,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    entries: VecDeque<Entry>,
    /// How many have left.
    gone: u64,
    /// By thread: the number of its last entry that is open.
    open: HashMap<Tid, u64>,
}

impl Waiting {
    pub fn push(&mut self, at: Nanos, tid: Tid, act: Act) {
        self.entries.push_back(Entry { at, tid, act, is_open: false });
    }

    pub fn given(&mut self, at: Nanos, tid: Tid, addr: u64, bytes: Bytes) {
        self.open(at, tid, Act::Given { addr, bytes, stack: None }, true);
    }

    pub fn taken(&mut self, at: Nanos, tid: Tid, addr: u64, moves: bool) {
        self.open(at, tid, Act::Taken { addr, moves }, moves);
    }

    pub fn kept(&mut self, at: Nanos, tid: Tid, addr: u64, bytes: Bytes) {
        let kept = Act::Kept { addr, bytes };
        match self.opened(tid) {
            Some(entry) if matches!(entry.act, Act::Taken { addr: taken, .. } if taken == addr) => {
                (entry.act, entry.is_open) = (kept, false);
            }
            _ => self.open(at, tid, kept, false),
        }
    }

    /// The thread's last event was here.
    pub fn stack(&mut self, tid: Tid, id: StackId) {
        if let Some(entry) = self.opened(tid)
            && let Act::Given { stack, .. } = &mut entry.act
        {
            (*stack, entry.is_open) = (Some(id), false);
        }
    }

    /// The first one, if it is complete or has waited for long enough.
    pub fn next(&mut self, now: Nanos) -> Option<Entry> {
        let first = self.entries.front()?;
        if first.is_open && now.since(first.at) < PATIENCE && self.entries.len() < MOST {
            return None;
        }
        self.last()
    }

    /// The first one, complete or not.
    pub fn last(&mut self) -> Option<Entry> {
        let first = self.entries.pop_front()?;
        self.gone += 1;
        Some(first)
    }

    /// The thread's last entry, if it is here and open.
    fn opened(&mut self, tid: Tid) -> Option<&mut Entry> {
        let number = *self.open.get(&tid)?;
        let at = usize::try_from(number.checked_sub(self.gone)?).ok()?;
        self.entries.get_mut(at).filter(|entry| entry.is_open)
    }

    /// A thread that does the next thing has nothing more to tell of the one before.
    fn open(&mut self, at: Nanos, tid: Tid, act: Act, is_open: bool) {
        if let Some(before) = self.opened(tid) {
            before.is_open = false;
        }
        if is_open {
            self.open.insert(tid, self.gone + self.entries.len() as u64);
        } else {
            self.open.remove(&tid);
        }
        self.entries.push_back(Entry { at, tid, act, is_open });
    }
}
