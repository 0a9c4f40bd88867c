//! The set of resident pages: by address, and by frame.
//!
//! *Units.* One entry is one base page. A range that cuts a page means the whole page.
//! *Invariants.* `holders` has, for a frame, the one page that was last said to hold it; a page leaves the set
//! together with its entry there. At most [`MAX_PAGES`] pages are held; what comes beyond is refused, not stored.
//! *Cost.* Pages stand in leaves of 64: about 34 bytes a page when dense, 1.6 KiB when alone.

mod holders;
mod leaf;
mod leaves;

use std::collections::BTreeMap;

use holders::Holders;
use leaf::{LEAF_PAGES, bit, slots};
use leaves::{Handle, Leaves};

use crate::event::StackId;
use crate::units::{Nanos, PAGE_BYTES, Pages, Pfn, Range};

/// Pages that the set takes: half a TiB. It bounds what a forged file can make a reader hold.
pub const MAX_PAGES: u64 = 1 << 27;

const LEAF_BYTES: u64 = LEAF_PAGES * PAGE_BYTES;
/// What [`Resident::stretches`] counts in.
pub const STRETCH_BYTES: u64 = LEAF_BYTES;

/// Who made a page resident: an index into the state's table of makers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MakerId(pub u32);

/// A resident base page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// `None`: a reading that could not see frames found it.
    pub pfn: Option<Pfn>,
    /// Page cache or shared memory; otherwise private anonymous.
    pub file: bool,
    pub maker: MakerId,
    /// Of the fault that brought it, or of the one before it of the same thread.
    pub stack: Option<StackId>,
    /// When it became resident, as far as an event or a reading tells.
    pub since: Nanos,
}

/// Pages of one kind of backing each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub anon: u64,
    pub file: u64,
}

impl Split {
    /// Both.
    #[must_use]
    pub fn all(self) -> u64 {
        self.anon.saturating_add(self.file)
    }
}

/// The resident pages of one address space.
#[derive(Clone, Default)]
pub struct Resident {
    leaves: Leaves,
    holders: Holders,
    pages: u64,
}

impl Resident {
    /// All pages.
    #[must_use]
    pub fn len(&self) -> Pages {
        Pages(self.pages)
    }

    /// Whether no page is resident.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The page at `addr`.
    #[must_use]
    pub fn get(&self, addr: u64) -> Option<Page> {
        self.leaves.get(leaf_of(addr))?.page(slot_of(addr))
    }

    /// The address that holds `pfn`.
    #[must_use]
    pub fn holder(&self, pfn: Pfn) -> Option<u64> {
        self.addr_of(self.holders.find(&self.leaves, pfn)?)
    }

    /// `page` is what `addr` holds from here on. False when the set is full.
    pub fn insert(&mut self, addr: u64, page: Page) -> bool {
        self.put(addr, page).is_some()
    }

    /// The same; gives the other address that held the frame until now, whose page stays. `None` when the set is full.
    pub fn put(&mut self, addr: u64, page: Page) -> Option<Option<u64>> {
        if self.pages >= MAX_PAGES && self.get(addr).is_none() {
            return None;
        }
        let (place, slot) = (self.leaves.find_or_make(leaf_of(addr))?, slot_of(addr));
        let handle = Handle::new(place, slot);
        let leaf = self.leaves.at_mut(place)?;
        if leaf.present & bit(slot) == 0 {
            self.pages = self.pages.saturating_add(1);
        } else if let Some(old) = leaf.pfn(slot).filter(|old| page.pfn != Some(*old)) {
            self.holders.forget(old, handle);
        }
        leaf.put(slot, page);
        // What the leaf keeps is what the page is found by.
        let held = leaf.pfn(slot).and_then(|pfn| self.holders.set(&self.leaves, pfn, handle));
        Some(held.and_then(|holder| self.addr_of(holder)))
    }

    /// Removes the page that holds `pfn`, where there is one, and says which.
    pub fn free(&mut self, pfn: Pfn) -> Option<(u64, Page)> {
        let handle = self.holders.take(&self.leaves, pfn)?;
        let (place, slot) = (handle.place(), handle.slot());
        let leaf = self.leaves.at_mut(place)?;
        let page = leaf.page(slot)?;
        leaf.present &= !bit(slot);
        let addr = address(leaf.number, slot);
        if leaf.present == 0 {
            self.leaves.remove(place);
        }
        self.pages = self.pages.saturating_sub(1);
        Some((addr, page))
    }

    /// Removes the page at `addr`, whose frame is another's by now.
    pub fn displace(&mut self, addr: u64) {
        self.remove(Range::of(addr, 1), |_, _| false);
    }

    /// Removes the pages in `range`, but for those that `keep` wants; how many went.
    pub fn remove(&mut self, range: Range, mut keep: impl FnMut(u64, Page) -> bool) -> Pages {
        let mut gone = 0_u64;
        let Some((first, last)) = span(range) else { return Pages(0) };
        for place in self.leaves.places(first, last) {
            let Some(leaf) = self.leaves.at_mut(place) else { continue };
            let index = leaf.number;
            for slot in slots(leaf.present & mask(index, range)) {
                let Some(page) = leaf.page(slot).filter(|page| !keep(address(index, slot), *page)) else { continue };
                leaf.present &= !bit(slot);
                gone = gone.saturating_add(1);
                if let Some(pfn) = page.pfn {
                    self.holders.forget(pfn, Handle::new(place, slot));
                }
            }
            if leaf.present == 0 {
                self.leaves.remove(place);
            }
        }
        self.pages = self.pages.saturating_sub(gone);
        Pages(gone)
    }

    /// Takes the pages in `range` out into a set of their own, which knows them by address only.
    pub fn take(&mut self, range: Range) -> Resident {
        let mut taken = Resident::default();
        self.remove(range, |addr, page| {
            let place = taken.leaves.find_or_make(leaf_of(addr));
            if let Some(leaf) = place.and_then(|place| taken.leaves.at_mut(place)) {
                leaf.put(slot_of(addr), page);
                taken.pages = taken.pages.saturating_add(1);
            }
            false
        });
        taken
    }

    /// How many pages of `range` are resident.
    #[must_use]
    pub fn count(&self, range: Range) -> Split {
        self.count_unless(range, |_| 0)
    }

    /// How many pages of `range` are in this set and not in `other`.
    #[must_use]
    pub fn count_without(&self, other: &Resident, range: Range) -> Split {
        self.count_unless(range, |leaf| other.leaves.get(leaf).map_or(0, |leaf| leaf.present))
    }

    /// How many pages of `range` are in this set and not in `other`.
    #[must_use]
    pub fn count_since(&self, other: &Outline, range: Range) -> Split {
        self.count_unless(range, |leaf| other.leaves.get(&leaf).copied().unwrap_or(0))
    }

    /// Every page, by rising address.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Page)> + '_ {
        self.leaves.iter().flat_map(|leaf| {
            slots(leaf.present).filter_map(|slot| leaf.page(slot).map(|page| (address(leaf.number, slot), page)))
        })
    }

    /// The pages of `range` as runs of neighbours, by rising address.
    #[must_use]
    pub fn runs(&self, range: Range) -> Vec<Range> {
        let mut runs: Vec<Range> = Vec::new();
        let Some((first, last)) = span(range) else { return runs };
        for leaf in self.leaves.range(first, last) {
            for slot in slots(leaf.present & mask(leaf.number, range)) {
                let page = Range::of(address(leaf.number, slot), PAGE_BYTES);
                match runs.last_mut() {
                    Some(run) if run.end == page.start => run.end = page.end,
                    _ => runs.push(page),
                }
            }
        }
        runs
    }

    /// How many pages each stretch of [`STRETCH_BYTES`] holds, by rising address; only those that hold any.
    pub fn stretches(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.leaves.iter().map(|leaf| (address(leaf.number, 0), u64::from(leaf.present.count_ones())))
    }

    /// The same of a part of the address space.
    pub fn stretches_in(&self, range: Range) -> impl Iterator<Item = (u64, u64)> + '_ {
        let leaves = span(range).into_iter().flat_map(|(first, last)| self.leaves.range(first, last));
        leaves.map(move |leaf| {
            let present = leaf.present & mask(leaf.number, range);
            (address(leaf.number, 0), u64::from(present.count_ones()))
        })
    }

    /// Which addresses are resident, without anything else.
    #[must_use]
    pub fn outline(&self) -> Outline {
        Outline { leaves: self.leaves.iter().map(|leaf| (leaf.number, leaf.present)).collect() }
    }

    fn count_unless(&self, range: Range, without: impl Fn(u64) -> u64) -> Split {
        let mut split = Split::default();
        let Some((first, last)) = span(range) else { return split };
        for leaf in self.leaves.range(first, last) {
            let present = leaf.present & mask(leaf.number, range) & !without(leaf.number);
            split.file = split.file.saturating_add(u64::from((present & leaf.file).count_ones()));
            split.anon = split.anon.saturating_add(u64::from((present & !leaf.file).count_ones()));
        }
        split
    }

    fn addr_of(&self, page: Handle) -> Option<u64> {
        self.leaves.at(page.place()).map(|leaf| address(leaf.number, page.slot()))
    }
}

/// Which addresses were resident at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    leaves: BTreeMap<u64, u64>,
}

impl Outline {
    /// How many pages of `range` were resident then.
    #[must_use]
    pub fn count(&self, range: Range) -> u64 {
        self.count_without(&Resident::default(), range)
    }

    /// How many pages of `range` were resident then and are not in `now`.
    #[must_use]
    pub fn count_without(&self, now: &Resident, range: Range) -> u64 {
        let Some((first, last)) = span(range) else { return 0 };
        let still = |index: &u64| now.leaves.get(*index).map_or(0, |leaf| leaf.present);
        self.leaves
            .range(first..=last)
            .map(|(index, present)| u64::from((present & mask(*index, range) & !still(index)).count_ones()))
            .fold(0, u64::saturating_add)
    }
}

fn leaf_of(addr: u64) -> u64 {
    addr / LEAF_BYTES
}

fn slot_of(addr: u64) -> u32 {
    (addr % LEAF_BYTES / PAGE_BYTES) as u32
}

fn address(leaf: u64, slot: u32) -> u64 {
    leaf.saturating_mul(LEAF_BYTES).saturating_add(u64::from(slot).saturating_mul(PAGE_BYTES))
}

/// The first and last leaf that `range` meets.
fn span(range: Range) -> Option<(u64, u64)> {
    (!range.is_empty()).then(|| (leaf_of(range.start), leaf_of(range.end.saturating_sub(1))))
}

/// The slots of `leaf` that `range` meets.
fn mask(leaf: u64, range: Range) -> u64 {
    let base = leaf.saturating_mul(LEAF_BYTES);
    let below = range.start.saturating_sub(base) / PAGE_BYTES;
    let upto = range.end.saturating_sub(base).div_ceil(PAGE_BYTES);
    first_slots(upto) & !first_slots(below)
}

fn first_slots(slots: u64) -> u64 {
    match u32::try_from(slots) {
        Ok(slots) if slots < LEAF_PAGES as u32 => bit(slots).wrapping_sub(1),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(pfn: u64) -> Page {
        Page { pfn: Some(Pfn(pfn)), file: pfn % 2 == 1, maker: MakerId(0), stack: None, since: Nanos(pfn) }
    }

    fn addresses(set: &Resident) -> Vec<u64> {
        set.iter().map(|(addr, _)| addr / PAGE_BYTES).collect()
    }

    #[test]
    fn pages_come_and_go_by_range_and_by_frame() {
        let mut set = Resident::default();
        for at in [1_u64, 62, 63, 64, 65, 128, 1 << 30] {
            assert!(set.insert(at * PAGE_BYTES, page(at + 1000)));
        }
        assert_eq!(addresses(&set), [1, 62, 63, 64, 65, 128, 1 << 30]);
        assert_eq!(set.count(Range { start: 62 * PAGE_BYTES, end: 65 * PAGE_BYTES }), Split { anon: 2, file: 1 });
        let run = Range { start: 62 * PAGE_BYTES, end: 65 * PAGE_BYTES };
        assert_eq!(set.runs(Range { start: 2 * PAGE_BYTES, end: 65 * PAGE_BYTES }), [run], "across two leaves");
        assert_eq!(set.remove(Range { start: 63 * PAGE_BYTES, end: 65 * PAGE_BYTES }, |_, _| false), Pages(2));
        assert_eq!(addresses(&set), [1, 62, 65, 128, 1 << 30]);
        assert_eq!(
            set.runs(Range { start: PAGE_BYTES, end: 129 * PAGE_BYTES }),
            [(1, 2), (62, 63), (65, 66), (128, 129)].map(|(a, b)| Range { start: a * PAGE_BYTES, end: b * PAGE_BYTES })
        );
        assert_eq!(set.free(Pfn(1064)), None, "its page is gone");
        assert_eq!(set.free(Pfn(1065)), Some((65 * PAGE_BYTES, page(1065))));
        assert_eq!(set.remove(Range { start: 0, end: u64::MAX }, |addr, _| addr == PAGE_BYTES), Pages(3));
        assert_eq!((addresses(&set), set.len()), (vec![1], Pages(1)));
    }

    #[test]
    fn a_frame_that_moved_on_is_not_freed_at_its_old_address() {
        let mut set = Resident::default();
        set.insert(0x1000, page(7));
        set.insert(0x1000, page(8));
        assert_eq!(set.free(Pfn(7)), None);
        set.insert(0x2000, page(8));
        assert_eq!(set.free(Pfn(8)).map(|(addr, _)| addr), Some(0x2000));
        assert_eq!(set.len(), Pages(1));
    }

    #[test]
    fn the_ends_of_the_address_space_hold() {
        let mut set = Resident::default();
        for addr in [0, u64::MAX, u64::MAX - PAGE_BYTES] {
            assert!(set.insert(addr, page(addr >> 12)));
        }
        assert_eq!(set.len(), Pages(3));
        assert_eq!(set.count(Range { start: 0, end: u64::MAX }).all(), 3);
        assert_eq!(set.take(Range { start: 1 << 60, end: u64::MAX }).len(), Pages(2));
        assert_eq!(set.outline().count_without(&Resident::default(), Range { start: 0, end: 1 }), 1);
        assert_eq!(set.outline().count_without(&set, Range { start: 0, end: u64::MAX }), 0);
        assert_eq!(set.count(Range { start: 5, end: 5 }).all() + set.count(Range { start: 9, end: 5 }).all(), 0);
    }
}
