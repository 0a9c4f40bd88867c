//! Which page holds a frame: a hash table of pages, by the frames that they have.
//!
//! The table has no frame numbers: a page knows its own. *Invariant.* Every page in it is there, and holds the frame that it
//! is found by. *Cost.* 5 bytes an entry, of which between an eighth and more than a half stand empty.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::leaves::{Handle, Leaves};
use crate::units::Pfn;

/// Frames that stand side by side: as many as a lookup looks at in one step, or a part of them.
const NEIGHBOURS: u64 = 8;

#[derive(Clone, Default)]
pub struct Holders {
    pages: HashTable<Handle>,
    /// Seeded anew for each set: no file can aim at it.
    hasher: DefaultHashBuilder,
}

impl Holders {
    pub fn find(&self, leaves: &Leaves, pfn: Pfn) -> Option<Handle> {
        self.pages.find(hash_of(&self.hasher, pfn), |page| holds(leaves, *page, pfn)).copied()
    }

    /// `page`, which holds `pfn`, is where it is found from here on; gives the other page that was until now.
    pub fn set(&mut self, leaves: &Leaves, pfn: Pfn, page: Handle) -> Option<Handle> {
        let hash = hash_of(&self.hasher, pfn);
        if let Some(holder) = self.pages.find_mut(hash, |page| holds(leaves, *page, pfn)) {
            let old = std::mem::replace(holder, page);
            return (old != page).then_some(old);
        }
        let rehash = |page: &Handle| hash_of(&self.hasher, frame(leaves, *page).unwrap_or_default());
        self.pages.insert_unique(hash, page, rehash);
        None
    }

    /// Takes the entry of a frame out.
    pub fn take(&mut self, leaves: &Leaves, pfn: Pfn) -> Option<Handle> {
        let entry = self.pages.find_entry(hash_of(&self.hasher, pfn), |page| holds(leaves, *page, pfn)).ok()?;
        Some(entry.remove().0)
    }

    /// `page` will not hold `pfn` any more: the frame is not found there, if it was.
    pub fn forget(&mut self, pfn: Pfn, page: Handle) {
        if let Ok(entry) = self.pages.find_entry(hash_of(&self.hasher, pfn), |holder| *holder == page) {
            entry.remove();
        }
    }
}

/// Frames that are neighbours stand side by side in the table: they come and go together. The table takes the low bits for
/// the place, and the high ones to tell apart what stands there.
fn hash_of(hasher: &DefaultHashBuilder, pfn: Pfn) -> u64 {
    let among = pfn.0 % NEIGHBOURS;
    let run = hasher.hash_one(pfn.0 / NEIGHBOURS);
    ((run & !(NEIGHBOURS - 1)) | among) ^ among.rotate_right(4)
}

fn frame(leaves: &Leaves, page: Handle) -> Option<Pfn> {
    leaves.at(page.place())?.pfn(page.slot())
}

fn holds(leaves: &Leaves, page: Handle, pfn: Pfn) -> bool {
    frame(leaves, page) == Some(pfn)
}
