//! Arenas: what an allocator held when they were read, and how much of that is resident now.
//!
//! *Invariant.* The resident parts of an arena sum to its resident pages. Where only some pages of a row are resident that
//! hold several things (the others are in swap), each has its part of them.
//! *Bound.* Rows beyond [`MOST_ROWS`] and arenas beyond [`MOST_ARENAS`] are left out.

use std::collections::BTreeMap;

use super::State;
use super::ledger::Class;
use crate::event::{Arena, ArenaPages, Why};
use crate::units::{Bytes, Nanos, PAGE_BYTES, Pages, Range};

const MOST_ROWS: usize = 1 << 22;
const MOST_ARENAS: usize = 1 << 16;

/// When whose arenas were read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaReading {
    pub at: Nanos,
    pub why: Why,
    pub name: String,
    pub path: String,
}

/// The last reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Arenas {
    reading: Option<ArenaReading>,
    arenas: Vec<Arena>,
    /// By their first address, with the arena that they are of.
    rows: BTreeMap<u64, (usize, ArenaPages)>,
}

/// An arena, and what of it is resident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaUse {
    pub arena: Arena,
    pub in_use: Bytes,
    pub kept: Bytes,
    pub free: Bytes,
    /// The allocator's own structures.
    pub own: Bytes,
    /// Of all that: in pages that the allocator would give back if it were asked to.
    pub trims: Bytes,
}

/// The arenas of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaUses {
    pub reading: ArenaReading,
    pub arenas: Vec<ArenaUse>,
}

impl ArenaUse {
    #[must_use]
    pub fn resident(&self) -> Bytes {
        Bytes([self.in_use, self.kept, self.free, self.own].iter().fold(0, |sum, part| sum.saturating_add(part.0)))
    }

    /// Adds a row of which so many pages are resident.
    fn add(&mut self, row: &ArenaPages, resident: Pages) {
        let resident = resident.0.min(row.pages.0);
        let whole = resident.saturating_mul(PAGE_BYTES);
        let mut left = whole;
        let mut part = |bytes: Bytes| {
            let share = u128::from(bytes.0) * u128::from(resident) / u128::from(row.pages.0.max(1));
            let share = u64::try_from(share).unwrap_or(u64::MAX).min(left);
            left -= share;
            share
        };
        for (sum, bytes) in [(&mut self.in_use, row.in_use), (&mut self.kept, row.kept), (&mut self.free, row.free)] {
            sum.0 = sum.0.saturating_add(part(bytes));
        }
        self.own.0 = self.own.0.saturating_add(left);
        if row.trims {
            self.trims.0 = self.trims.0.saturating_add(whole);
        }
    }
}

impl Arenas {
    pub(super) fn begin(&mut self, at: Nanos, why: Why, (name, path): (&str, &str)) {
        let reading = ArenaReading { at, why, name: name.to_owned(), path: path.to_owned() };
        *self = Arenas { reading: Some(reading), ..Arenas::default() };
    }

    pub(super) fn arena(&mut self, arena: Arena) {
        if self.arenas.len() < MOST_ARENAS {
            self.arenas.push(arena);
        }
    }

    pub(super) fn row(&mut self, row: ArenaPages) {
        if let Some(whose) = self.arenas.len().checked_sub(1)
            && self.rows.len() < MOST_ROWS
        {
            self.rows.insert(row.addr, (whose, row));
        }
    }

    /// The row that has an address.
    pub(super) fn row_of(&self, addr: u64) -> Option<&ArenaPages> {
        let (_, (_, row)) = self.rows.range(..=addr).next_back()?;
        Range::of(row.addr, row.pages.bytes().0).contains(addr).then_some(row)
    }
}

impl State {
    /// The arenas as they were read last, and what of them is resident; `None`: none were. Cost: a walk over all resident
    /// pages.
    #[must_use]
    pub fn arenas(&self) -> Option<ArenaUses> {
        let reading = self.arenas.reading.clone()?;
        let mut arenas: Vec<ArenaUse> =
            self.arenas.arenas.iter().map(|arena| ArenaUse { arena: *arena, ..ArenaUse::default() }).collect();
        let mut resident: BTreeMap<u64, u64> = BTreeMap::new();
        self.each_page(|addr, page, mapping| {
            let counted = self.classify(mapping, page);
            let is_its = matches!(counted, Some((Class::Heap | Class::Anonymous, _)));
            if is_its && let Some(row) = self.arena_page(addr, page) {
                let pages = resident.entry(row.addr).or_default();
                *pages = pages.saturating_add(1);
            }
        });
        for (addr, pages) in resident {
            if let Some((whose, row)) = self.arenas.rows.get(&addr)
                && let Some(arena) = arenas.get_mut(*whose)
            {
                arena.add(row, Pages(pages));
            }
        }
        Some(ArenaUses { reading, arenas })
    }
}
