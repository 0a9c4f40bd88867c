//! Who moved: the change since the base, by range and by task.
//!
//! *Invariant.* A page is in at most one range, so `gained` and `lost` of all ranges add up to what changed inside
//! mappings. A page that went and came back is neither.

use super::arenas::ArenaUses;
use super::ledger::Ledger;
use super::levels::{Levels, Maker};
use super::mappers::MapperUse;
use super::mappings::{Kind, Mapping};
use super::resident::{MakerId, Outline};
use super::returned::Returned;
use super::{State, Task};
use crate::units::{Nanos, Pages, Range};

/// A mapping, or neighbours of one name, and what happened to its pages since the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeMove {
    pub range: Range,
    /// Path, kernel's name, or what it is for in brackets.
    pub label: String,
    pub resident: Pages,
    pub gained: Pages,
    pub lost: Pages,
    /// Unmapped since the base.
    pub gone: bool,
}

/// A task, and what it did to the RSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskMove {
    pub task: Task,
    /// Rises and falls of the RSS while it acted.
    pub grew: Pages,
    pub shrank: Pages,
    /// Pages still resident that it made so, as far as events tell who.
    pub resident: Pages,
    pub collapses: u64,
}

/// Where the recording started from: the first reading of everything, or nothing for a process seen from birth.
#[derive(Clone, Debug, Default)]
pub struct Base {
    pub ledger: Ledger,
    outline: Outline,
    mappings: Vec<(Range, String)>,
}

/// The state at one moment, with what changed since the base.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub ledger: Ledger,
    pub ranges: Vec<RangeMove>,
    pub tasks: Vec<TaskMove>,
    /// What had been given back and was resident again.
    pub returned: Vec<Returned>,
    pub arenas: Option<ArenaUses>,
    pub mappers: Vec<MapperUse>,
}

impl State {
    /// What a report shows: the moment before the process ended, or now. Ranges and tasks, the greatest change first.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.at_exit.as_deref().cloned().unwrap_or_else(|| self.take_snapshot())
    }

    pub(super) fn take_snapshot(&self) -> Snapshot {
        let (ranges, tasks) = (self.ranges(), self.tasks());
        let (arenas, mappers) = (self.arenas(), self.mappers());
        Snapshot { ledger: self.ledger(), ranges, tasks, returned: self.returned(), arenas, mappers }
    }

    pub(super) fn set_base(&mut self, at: Nanos) {
        let mut ledger = self.ledger();
        ledger.at = at;
        let mappings = self.grouped();
        self.base = Some(Base { ledger, outline: self.resident.outline(), mappings });
        self.bases = self.bases.wrapping_add(1);
    }

    /// The base of an address space that begins empty.
    pub(super) fn set_empty_base(&mut self, at: Nanos) {
        let mut base = Base::default();
        (base.ledger.at, base.ledger.levels) = (at, Levels::zero());
        self.base = Some(base);
        self.bases = self.bases.wrapping_add(1);
    }

    /// Where changes are counted from.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    fn grouped(&self) -> Vec<(Range, String)> {
        let mut groups: Vec<(Range, String)> = Vec::new();
        let mut last: Option<&Mapping> = None;
        for mapping in self.mappings.iter() {
            let joins = last.is_some_and(|last| {
                last.range.end == mapping.range.start
                    && (last.kind, last.file, &last.name) == (mapping.kind, mapping.file, &mapping.name)
            });
            match groups.last_mut() {
                Some((range, _)) if joins => range.end = mapping.range.end,
                _ => groups.push((mapping.range, self.label(mapping))),
            }
            last = Some(mapping);
        }
        groups
    }

    /// What a mapping is called: its path, the kernel's name, or what it is for in brackets.
    #[must_use]
    pub fn label(&self, mapping: &Mapping) -> String {
        let path = mapping.file.and_then(|id| self.files.get(&id)).map(|file| file.path.as_str());
        match (path, mapping.name.as_deref(), mapping.kind) {
            (Some(path), _, _) if !path.is_empty() => path.to_owned(),
            (_, Some(name), _) => name.to_owned(),
            (_, _, Kind::Heap) => "[heap]".to_owned(),
            (_, _, Kind::Stack) => "[thread stack]".to_owned(),
            (_, _, Kind::File) => "[file]".to_owned(),
            (_, _, Kind::Shmem) => "[shared]".to_owned(),
            (_, _, Kind::Uncounted) => "[hugetlb]".to_owned(),
            (_, _, Kind::Anonymous | Kind::Special) => "[anonymous]".to_owned(),
        }
    }

    fn ranges(&self) -> Vec<RangeMove> {
        let none = Base::default();
        let base = self.base.as_ref().unwrap_or(&none);
        let mut moves = Vec::new();
        for (range, label) in self.grouped() {
            moves.push(RangeMove {
                range,
                label,
                resident: Pages(self.resident.count(range).all()),
                gained: Pages(self.resident.count_since(&base.outline, range).all()),
                lost: Pages(base.outline.count_without(&self.resident, range)),
                gone: false,
            });
        }
        for (whole, label) in &base.mappings {
            let mut at = whole.start;
            let mapped = self.mappings.covered(*whole);
            let ends = mapped.iter().copied().chain([Range { start: whole.end, end: whole.end }]);
            for part in ends {
                let range = Range { start: at, end: part.start };
                at = part.end;
                let lost = Pages(base.outline.count_without(&self.resident, range));
                if !range.is_empty() && lost.0 > 0 {
                    let (label, resident, gained) = (label.clone(), Pages(0), Pages(0));
                    moves.push(RangeMove { range, label, resident, gained, lost, gone: true });
                }
            }
        }
        moves.sort_by_key(|moved| {
            let change = moved.gained.0.abs_diff(moved.lost.0);
            (std::cmp::Reverse((change, moved.resident.0)), moved.range.start)
        });
        moves
    }

    fn tasks(&self) -> Vec<TaskMove> {
        let mut resident: Vec<u64> = vec![0; self.makers.all().len()];
        for (_, page) in self.resident.iter() {
            let MakerId(id) = page.maker;
            if let Some(pages) = resident.get_mut(id as usize) {
                *pages = pages.saturating_add(1);
            }
        }
        let mut moves: Vec<TaskMove> = (self.makers.all().iter().zip(resident))
            .map(|(&Maker { task, grew, shrank, collapses }, resident)| TaskMove {
                task,
                grew,
                shrank,
                resident: Pages(resident),
                collapses,
            })
            .filter(|moved| (moved.grew.0, moved.shrank.0, moved.resident.0, moved.collapses) != (0, 0, 0, 0))
            .collect();
        moves
            .sort_by_key(|moved| (std::cmp::Reverse((moved.grew.0.max(moved.shrank.0), moved.resident.0)), moved.task));
        moves
    }
}
