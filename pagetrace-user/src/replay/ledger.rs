//! The ledger: what is resident, by class, against the kernel's own counters.
//!
//! *Units.* Base pages. *Invariant.* `rss = sum of classes + unexplained`, always; and every page is in one class.

use super::State;
use super::heap::HeapPage;
use super::levels::{Levels, RESIDENT};
use super::mappings::{Kind, Mapping};
use super::resident::Page;
use crate::event::{ArenaPages, Member};
use crate::units::{Bytes, Nanos, Pages};

/// What resident pages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Heap,
    Anonymous,
    Stack,
    File,
    Shmem,
    Other,
}

impl Class {
    /// All, in the order of reports.
    pub const ALL: [Class; 6] = [Class::Heap, Class::Anonymous, Class::Stack, Class::File, Class::Shmem, Class::Other];

    /// The stable word used in JSON and text.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Class::Heap => "heap",
            Class::Anonymous => "anonymous",
            Class::Stack => "stack",
            Class::File => "file",
            Class::Shmem => "shmem",
            Class::Other => "other",
        }
    }
}

/// The state of the books at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub at: Nanos,
    /// The kernel's counters, as the last events told them.
    pub levels: Levels,
    classes: [u64; 6],
    /// The page set by the kernel's members (file, anon, shmem).
    members: [u64; 3],
    /// Pages in the page table that no counter of the RSS counts (hugetlbfs and the like): in no class.
    pub uncounted: Pages,
    /// Pages outside of every known mapping: in class `other`.
    pub unmapped: Pages,
    /// Of the classes `heap` and `anonymous`: what the page heap of an allocator says of them.
    in_heap: [u64; 5],
    /// Of the same, outside of a page heap: given back for whenever the kernel needs it, which has not taken it yet.
    pub lazy: Pages,
}

impl Ledger {
    /// The RSS: the level of each member or, where none was told, its pages.
    #[must_use]
    pub fn rss(&self) -> Pages {
        Pages(RESIDENT.iter().map(|&member| self.level(member).0).fold(0, u64::saturating_add))
    }

    /// A member's level or, where none was told, its pages.
    #[must_use]
    pub fn level(&self, member: Member) -> Pages {
        self.levels.of(member).unwrap_or_else(|| self.pages_of(member))
    }

    /// A member's pages in the page set; none for swap entries.
    #[must_use]
    pub fn pages_of(&self, member: Member) -> Pages {
        let at = RESIDENT.iter().position(|&resident| resident == member);
        Pages(at.and_then(|at| self.members.get(at)).copied().unwrap_or(0))
    }

    /// The pages of one class: those of the page set, and those that a counter tells without their place.
    #[must_use]
    pub fn class(&self, class: Class) -> Pages {
        let unplaced = match class {
            Class::File => self.unplaced(Member::File),
            Class::Shmem => self.unplaced(Member::Shmem),
            _ => Pages(0),
        };
        Pages(self.placed(class).0.saturating_add(unplaced.0))
    }

    /// The pages of one class in the page set.
    #[must_use]
    pub fn placed(&self, class: Class) -> Pages {
        Pages(self.classes.get(class as usize).copied().unwrap_or(0))
    }

    /// Pages of files or of shared memory that the kernel counts and no event or reading has placed: a fault maps the
    /// neighbours too that are in the page cache. The counter alone says of which class they are; of anonymous pages it
    /// does not, so that there the difference stays unexplained.
    #[must_use]
    pub fn unplaced(&self, member: Member) -> Pages {
        match member {
            Member::File | Member::Shmem => Pages(self.level(member).0.saturating_sub(self.pages_of(member).0)),
            Member::Anon | Member::Swap => Pages(0),
        }
    }

    /// Resident pages that are this to a page heap.
    #[must_use]
    pub fn in_heap(&self, what: HeapPage) -> Pages {
        Pages(self.in_heap.get(what as usize).copied().unwrap_or(0))
    }

    /// Bytes of the RSS that stand in no class; negative when the classes hold more than the counters say.
    #[must_use]
    pub fn unexplained(&self) -> i64 {
        let classes = Class::ALL.iter().map(|&class| self.class(class).0).fold(0, u64::saturating_add);
        difference(Pages(classes).bytes(), self.rss().bytes())
    }

    fn add(&mut self, class: Class, member: Member) {
        if let Some(pages) = self.classes.get_mut(class as usize) {
            *pages = pages.saturating_add(1);
        }
        if let Some(pages) =
            RESIDENT.iter().position(|&resident| resident == member).and_then(|at| self.members.get_mut(at))
        {
            *pages = pages.saturating_add(1);
        }
    }
}

/// `to - from`, at the limits of an `i64` where it does not fit.
#[must_use]
pub fn difference(from: Bytes, to: Bytes) -> i64 {
    let size = i64::try_from(from.0.abs_diff(to.0)).unwrap_or(i64::MAX);
    if to < from { size.saturating_neg() } else { size }
}

impl State {
    /// The books as they stand. Cost: a walk over all resident pages.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger { at: self.now, levels: self.levels, ..Ledger::default() };
        self.each_page(|addr, page, mapping| {
            match self.classify(mapping, page) {
                Some((class, member)) => {
                    ledger.add(class, member);
                    if matches!(class, Class::Heap | Class::Anonymous) {
                        self.allocator_state(addr, page, &mut ledger);
                    }
                }
                None => ledger.uncounted.0 = ledger.uncounted.0.saturating_add(1),
            }
            if mapping.is_none() {
                ledger.unmapped.0 = ledger.unmapped.0.saturating_add(1);
            }
        });
        ledger
    }

    /// Every resident page by rising address, with the mapping that it is in.
    pub fn each_page<'a>(&'a self, mut visit: impl FnMut(u64, Page, Option<&'a Mapping>)) {
        let mut mappings = self.mappings.iter().peekable();
        for (addr, page) in self.resident.iter() {
            while mappings.next_if(|mapping| mapping.range.end <= addr).is_some() {}
            visit(addr, page, mappings.peek().copied().filter(|mapping| mapping.range.contains(addr)));
        }
    }

    /// The class and the kernel's member that a page counts as; `None` where the kernel does not count it.
    #[must_use]
    pub fn classify(&self, mapping: Option<&Mapping>, page: Page) -> Option<(Class, Member)> {
        let shmem = mapping.is_some_and(|mapping| {
            mapping.kind == Kind::Shmem || mapping.file.is_some_and(|id| self.shmem_files.contains(&id))
        });
        classify(mapping.map(|mapping| mapping.kind), shmem, page)
    }
}

impl State {
    /// What an allocator says of a page.
    fn allocator_state(&self, addr: u64, page: Page, ledger: &mut Ledger) {
        if let Some(what) = self.heap.page(addr) {
            if let Some(pages) = ledger.in_heap.get_mut(what as usize) {
                *pages = pages.saturating_add(1);
            }
        } else if self.is_lazy(addr, page) {
            ledger.lazy.0 = ledger.lazy.0.saturating_add(1);
        }
    }

    /// Whether a page was given back for whenever the kernel needs it.
    fn is_lazy(&self, addr: u64, page: Page) -> bool {
        self.stacks.given_back(addr).is_some_and(|given| given.at >= page.since)
    }

    /// The row of an arena that a page is in, where nothing else is known of it.
    pub(super) fn arena_page(&self, addr: u64, page: Page) -> Option<&ArenaPages> {
        let row = self.arenas.row_of(addr)?;
        (self.heap.page(addr).is_none() && !self.is_lazy(addr, page)).then_some(row)
    }
}

/// Where a page counts; `None` where the kernel does not count it.
fn classify(kind: Option<Kind>, shmem: bool, page: Page) -> Option<(Class, Member)> {
    let member = match (page.file, shmem) {
        (false, _) => Member::Anon,
        (true, false) => Member::File,
        (true, true) => Member::Shmem,
    };
    let class = match (kind, member) {
        (Some(Kind::Uncounted), _) => return None,
        (None | Some(Kind::Special), _) => Class::Other,
        (_, Member::File) => Class::File,
        (_, Member::Shmem) => Class::Shmem,
        (Some(Kind::Heap), _) => Class::Heap,
        (Some(Kind::Stack), _) => Class::Stack,
        _ => Class::Anonymous,
    };
    Some((class, member))
}
