//! Frame numbers seen lately, to name one by its place instead of by its number.
//!
//! Memory is given back in the order in which it was touched, and the kernel hands out first what was freed
//! last: one step from the last named place is the most likely next one, and costs nothing to write.
//!
//! *Invariants.* Writer and reader do the same pushes and moves in the same order. Memory is bounded by the
//! capacity and grows only as numbers come.

use super::wire::Corrupt;

/// The last `CAPACITY` pushed numbers, each with its position: 0 for the first ever pushed.
#[derive(Debug)]
pub(super) struct Recent<const CAPACITY: u64> {
    entries: Vec<u64>,
    /// Numbers ever pushed.
    total: u64,
    /// A position: what it means is the user's.
    pub cursor: u64,
}

impl<const CAPACITY: u64> Recent<CAPACITY> {
    pub fn new() -> Recent<CAPACITY> {
        Recent { entries: Vec::new(), total: 0, cursor: 0 }
    }

    pub fn push(&mut self, pfn: u64) {
        match self.entries.get_mut(slot::<CAPACITY>(self.total)) {
            Some(oldest) => *oldest = pfn,
            None => self.entries.push(pfn),
        }
        self.total = self.total.wrapping_add(1);
    }

    /// The number at `position`, while it is kept.
    pub fn get(&self, position: u64) -> Option<u64> {
        let kept = position < self.total && self.total - position <= CAPACITY;
        if kept { self.entries.get(slot::<CAPACITY>(position)).copied() } else { None }
    }

    /// As [`Recent::get`], for a position that a file names.
    pub fn named(&self, position: u64) -> Result<u64, Corrupt> {
        self.get(position).ok_or(Corrupt("a frame that is not in the table"))
    }

    /// The position after the newest.
    pub fn end(&self) -> u64 {
        self.total
    }
}

/// Finds the position of a number: the writer's side only. It may miss one that is there, never the reverse.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// Slots of the entries by a hash of the number: the newest with that hash.
    slots: Vec<u32>,
}

impl Finder {
    /// Notes the number that was pushed to `recent` last.
    pub fn note_newest<const CAPACITY: u64>(&mut self, recent: &Recent<CAPACITY>) {
        if self.slots.len() < recent.entries.len() {
            self.slots.clear();
            self.slots.resize(recent.entries.len().next_power_of_two().max(256), 0);
            for (place, &pfn) in recent.entries.iter().enumerate() {
                self.set(pfn, place);
            }
        }
        let newest = recent.total.wrapping_sub(1);
        if let Some(pfn) = recent.get(newest) {
            self.set(pfn, slot::<CAPACITY>(newest));
        }
    }

    pub fn find<const CAPACITY: u64>(&self, recent: &Recent<CAPACITY>, pfn: u64) -> Option<u64> {
        let place = u64::from(*self.slots.get(self.hash(pfn))?);
        if recent.entries.get(usize::try_from(place).ok()?) != Some(&pfn) {
            return None;
        }
        let newest = recent.total.checked_sub(1)?;
        let back = newest.wrapping_sub(place) % CAPACITY;
        newest.checked_sub(back)
    }

    fn set(&mut self, pfn: u64, place: usize) {
        let at = self.hash(pfn);
        if let (Some(slot), Ok(place)) = (self.slots.get_mut(at), u32::try_from(place)) {
            *slot = place;
        }
    }

    fn hash(&self, pfn: u64) -> usize {
        let mixed = pfn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (mixed as usize) & self.slots.len().saturating_sub(1)
    }
}

/// Where a position lies in the ring of `CAPACITY` entries: known to the compiler, which then needs no division.
fn slot<const CAPACITY: u64>(position: u64) -> usize {
    usize::try_from(position % CAPACITY).unwrap_or(usize::MAX)
}
