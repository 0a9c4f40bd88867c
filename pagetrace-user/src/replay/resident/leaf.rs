//! Neighbouring pages: one bit each for what all have, and columns of the rest.

use super::{MakerId, Page};
use crate::event::StackId;
use crate::units::{Nanos, Pfn};

pub const LEAF_PAGES: u64 = 64;
const NO_PFN: u64 = u64::MAX;
const NO_STACK: u32 = u32::MAX;

#[derive(Clone)]
pub struct Leaf {
    /// A bit for each page that is there, and for those of them that are of a file.
    pub present: u64,
    pub file: u64,
    pfn: [u64; LEAF_PAGES as usize],
    since: [Nanos; LEAF_PAGES as usize],
    maker: [MakerId; LEAF_PAGES as usize],
    stack: [u32; LEAF_PAGES as usize],
}

impl Leaf {
    pub fn new() -> Box<Leaf> {
        Box::new(Leaf {
            present: 0,
            file: 0,
            pfn: [NO_PFN; LEAF_PAGES as usize],
            since: [Nanos(0); LEAF_PAGES as usize],
            maker: [MakerId(0); LEAF_PAGES as usize],
            stack: [NO_STACK; LEAF_PAGES as usize],
        })
    }

    pub fn page(&self, slot: u32) -> Option<Page> {
        let bit = bit(slot);
        if self.present & bit == 0 {
            return None;
        }
        let at = slot as usize;
        let pfn = self.pfn.get(at).copied().filter(|&pfn| pfn != NO_PFN).map(Pfn);
        Some(Page {
            pfn,
            file: self.file & bit != 0,
            maker: self.maker.get(at).copied().unwrap_or_default(),
            stack: self.stack.get(at).copied().filter(|&stack| stack != NO_STACK).map(StackId),
            since: self.since.get(at).copied().unwrap_or_default(),
        })
    }

    pub fn put(&mut self, slot: u32, page: Page) {
        let bit = bit(slot);
        let at = slot as usize;
        self.present |= bit;
        self.file = if page.file { self.file | bit } else { self.file & !bit };
        if let Some(pfn) = self.pfn.get_mut(at) {
            *pfn = page.pfn.map_or(NO_PFN, |pfn| pfn.0);
        }
        if let Some(since) = self.since.get_mut(at) {
            *since = page.since;
        }
        if let Some(maker) = self.maker.get_mut(at) {
            *maker = page.maker;
        }
        if let Some(stack) = self.stack.get_mut(at) {
            *stack = page.stack.map_or(NO_STACK, |stack| stack.0);
        }
    }
}

/// The bit of one page.
pub fn bit(slot: u32) -> u64 {
    1_u64.checked_shl(slot).unwrap_or(0)
}
