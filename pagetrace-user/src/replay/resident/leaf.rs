//! Neighbouring pages: one bit each for what all have, and an entry each for the rest.

use super::{MakerId, Page};
use crate::event::StackId;
use crate::units::{Nanos, Pfn};

pub const LEAF_PAGES: u64 = 64;
const NO_PFN: u64 = u64::MAX;
const NO_STACK: u32 = u32::MAX;

#[derive(Clone)]
pub struct Leaf {
    /// Which stretch of the address space it is: its first address over the bytes of a leaf.
    pub number: u64,
    /// A bit for each page that is there, and for those of them that are of a file.
    pub present: u64,
    pub file: u64,
    entries: [Entry; LEAF_PAGES as usize],
}

#[derive(Clone, Copy)]
struct Entry {
    pfn: u64,
    since: Nanos,
    maker: MakerId,
    stack: u32,
}

impl Leaf {
    pub fn new(number: u64) -> Box<Leaf> {
        let entry = Entry { pfn: NO_PFN, since: Nanos(0), maker: MakerId(0), stack: NO_STACK };
        Box::new(Leaf { number, present: 0, file: 0, entries: [entry; LEAF_PAGES as usize] })
    }

    pub fn page(&self, slot: u32) -> Option<Page> {
        let bit = bit(slot);
        let entry = self.entries.get(slot as usize).filter(|_| self.present & bit != 0)?;
        Some(Page {
            pfn: frame(entry.pfn),
            file: self.file & bit != 0,
            maker: entry.maker,
            stack: (entry.stack != NO_STACK).then_some(StackId(entry.stack)),
            since: entry.since,
        })
    }

    /// The frame of a page that is there.
    pub fn pfn(&self, slot: u32) -> Option<Pfn> {
        self.entries.get(slot as usize).filter(|_| self.present & bit(slot) != 0).and_then(|entry| frame(entry.pfn))
    }

    pub fn put(&mut self, slot: u32, page: Page) {
        let bit = bit(slot);
        self.present |= bit;
        self.file = if page.file { self.file | bit } else { self.file & !bit };
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            let pfn = page.pfn.map_or(NO_PFN, |pfn| pfn.0);
            let stack = page.stack.map_or(NO_STACK, |stack| stack.0);
            *entry = Entry { pfn, since: page.since, maker: page.maker, stack };
        }
    }
}

fn frame(pfn: u64) -> Option<Pfn> {
    (pfn != NO_PFN).then_some(Pfn(pfn))
}

/// The bit of one page.
pub fn bit(slot: u32) -> u64 {
    1_u64.checked_shl(slot).unwrap_or(0)
}

/// The slots that have a bit, by rising number.
pub fn slots(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let slot = (bits != 0).then(|| bits.trailing_zeros())?;
        bits &= bits.wrapping_sub(1);
        Some(slot)
    })
}
