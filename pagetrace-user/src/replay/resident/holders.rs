//! Which page holds a frame: a hash table of pages, by the frames that they have.
//!
//! The table has no frame numbers: a page knows its own. *Invariant.* Every page in it is there, and holds the frame that it
//! is found by. *Cost.* 5 bytes an entry, of which between an eighth and more than a half stand empty.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::leaves::{Handle, Leaves};
use crate::units::Pfn;

#[derive(Clone, Default)]
pub struct Holders {
    pages: HashTable<Handle>,
    /// Seeded anew for each set: no file can aim at it.
    hasher: DefaultHashBuilder,
}

impl Holders {
    pub fn find(&self, leaves: &Leaves, pfn: Pfn) -> Option<Handle> {
        self.pages.find(self.hasher.hash_one(pfn.0), |page| holds(leaves, *page, pfn)).copied()
    }

    /// `page`, which holds `pfn`, is where it is found from here on; gives the other page that was until now.
    pub fn set(&mut self, leaves: &Leaves, pfn: Pfn, page: Handle) -> Option<Handle> {
        let hash = self.hasher.hash_one(pfn.0);
        if let Some(holder) = self.pages.find_mut(hash, |page| holds(leaves, *page, pfn)) {
            let old = std::mem::replace(holder, page);
            return (old != page).then_some(old);
        }
        let hash_of = |page: &Handle| self.hasher.hash_one(frame(leaves, *page).unwrap_or_default().0);
        self.pages.insert_unique(hash, page, hash_of);
        None
    }

    /// Takes the entry of a frame out.
    pub fn take(&mut self, leaves: &Leaves, pfn: Pfn) -> Option<Handle> {
        let entry = self.pages.find_entry(self.hasher.hash_one(pfn.0), |page| holds(leaves, *page, pfn)).ok()?;
        Some(entry.remove().0)
    }

    /// `page` will not hold `pfn` any more: the frame is not found there, if it was.
    pub fn forget(&mut self, pfn: Pfn, page: Handle) {
        if let Ok(entry) = self.pages.find_entry(self.hasher.hash_one(pfn.0), |holder| *holder == page) {
            entry.remove();
        }
    }
}

fn frame(leaves: &Leaves, page: Handle) -> Option<Pfn> {
    leaves.at(page.place())?.pfn(page.slot())
}

fn holds(leaves: &Leaves, page: Handle, pfn: Pfn) -> bool {
    frame(leaves, page) == Some(pfn)
}
