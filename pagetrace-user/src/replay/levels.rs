//! The counters of the RSS as the kernel told them, and who moved them.
//!
//! *Invariant.* For a member whose level was always known, the sum over all makers of `grew - shrank` is its change.

use std::collections::BTreeMap;

use super::resident::MakerId;
use crate::event::{Actor, Member};
use crate::units::{Nanos, Pages, Tid};

/// The members that are resident: all but swap entries.
pub const RESIDENT: [Member; 3] = [Member::File, Member::Anon, Member::Shmem];

/// One level for each [`Member`]; `None` before the first event that tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels([Option<Pages>; 4]);

impl Levels {
    /// Every level known to be zero.
    #[must_use]
    pub fn zero() -> Levels {
        Levels([Some(Pages(0)); 4])
    }

    /// A member's level.
    #[must_use]
    pub fn of(&self, member: Member) -> Option<Pages> {
        self.0.get(usize::from(member.code())).copied().flatten()
    }

    /// The new level of a member; the old one is returned.
    pub fn set(&mut self, member: Member, level: Pages) -> Option<Pages> {
        self.0.get_mut(usize::from(member.code())).and_then(|slot| slot.replace(level))
    }

    /// The RSS as far as levels are known.
    #[must_use]
    pub fn resident(&self) -> Pages {
        Pages(RESIDENT.iter().filter_map(|&member| self.of(member)).map(|pages| pages.0).fold(0, u64::saturating_add))
    }
}

/// A task that made pages resident, of the process (`actor` is `None`) or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task {
    pub tid: Tid,
    pub actor: Option<Actor>,
}

/// What one task did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maker {
    pub task: Task,
    /// Rises and falls of the RSS while it acted.
    pub grew: Pages,
    pub shrank: Pages,
    /// Huge pages that it put together.
    pub collapses: u64,
}

/// All tasks seen, by first appearance. The first entry stands for the recorder's readings.
#[derive(Clone, Debug)]
pub struct Makers {
    all: Vec<Maker>,
    ids: BTreeMap<Task, MakerId>,
    last: (Task, MakerId),
}

/// Pages that a reading found and no event explains.
pub const READING: MakerId = MakerId(0);

impl Default for Makers {
    fn default() -> Makers {
        let task = Task { tid: Tid(0), actor: None };
        let maker = Maker { task, grew: Pages(0), shrank: Pages(0), collapses: 0 };
        Makers { all: vec![maker], ids: BTreeMap::from([(task, READING)]), last: (task, READING) }
    }
}

impl Makers {
    /// The id of a task, a new one for a new task.
    pub fn id(&mut self, task: Task) -> MakerId {
        if self.last.0 == task {
            return self.last.1;
        }
        let next = MakerId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let id = *self.ids.entry(task).or_insert(next);
        if id == next {
            self.all.push(Maker { task, grew: Pages(0), shrank: Pages(0), collapses: 0 });
        }
        self.last = (task, id);
        id
    }

    /// Nobody has moved anything so far.
    pub(super) fn begin_anew(&mut self) {
        for maker in &mut self.all {
            (maker.grew, maker.shrank, maker.collapses) = (Pages(0), Pages(0), 0);
        }
    }

    /// All of them; the index is the id.
    #[must_use]
    pub fn all(&self) -> &[Maker] {
        &self.all
    }

    pub(super) fn get_mut(&mut self, id: MakerId) -> Option<&mut Maker> {
        self.all.get_mut(id.0 as usize)
    }

    /// A member of the RSS went from `old` to `new` while `id` acted.
    pub(super) fn moved(&mut self, id: MakerId, old: Pages, new: Pages) {
        if let Some(maker) = self.get_mut(id) {
            maker.grew.0 = maker.grew.0.saturating_add(new.0.saturating_sub(old.0));
            maker.shrank.0 = maker.shrank.0.saturating_add(old.0.saturating_sub(new.0));
        }
    }
}

/// The highest RSS of the present program, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    pub rss: Pages,
    pub at: Nanos,
}
