//! Leaves by address, each at a place of its own that it keeps: what names a place and a slot names a page in 32 bits.
//!
//! *Invariant.* A leaf is in the order of addresses as long as it is at its place. *Cost.* What was asked for lately is found
//! without a search: programs touch their memory, and give it back, a neighbourhood at a time.

use std::collections::BTreeMap;

use super::leaf::{LEAF_PAGES, Leaf};

/// Leaves that a set takes, so that a [`Handle`] names every page of them.
const MAX_LEAVES: u32 = 1 << 26;
/// Places that are remembered, by a hash of the leaf's number.
const HINTS: usize = 32;

/// The place of a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(u32);

/// A page: the place of its leaf, and its slot there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(u32);

impl Handle {
    pub fn new(Place(place): Place, slot: u32) -> Handle {
        Handle(place.wrapping_mul(LEAF_PAGES as u32) | slot)
    }

    pub fn place(self) -> Place {
        Place(self.0 / LEAF_PAGES as u32)
    }

    pub fn slot(self) -> u32 {
        self.0 % LEAF_PAGES as u32
    }
}

#[derive(Clone, Default)]
pub struct Leaves {
    by_number: BTreeMap<u64, Place>,
    places: Vec<Option<Box<Leaf>>>,
    vacant: Vec<Place>,
    /// Where leaves were found last; a leaf says itself whether it is the one.
    hints: [Place; HINTS],
}

impl Leaves {
    pub fn at(&self, Place(place): Place) -> Option<&Leaf> {
        self.places.get(place as usize)?.as_deref()
    }

    pub fn at_mut(&mut self, Place(place): Place) -> Option<&mut Leaf> {
        self.places.get_mut(place as usize)?.as_deref_mut()
    }

    pub fn get(&self, number: u64) -> Option<&Leaf> {
        self.at(*self.by_number.get(&number)?)
    }

    /// Those from `first` to `last`, by rising address.
    pub fn range(&self, first: u64, last: u64) -> impl Iterator<Item = &Leaf> {
        self.by_number.range(first..=last).filter_map(|(_, place)| self.at(*place))
    }

    /// All, by rising address.
    pub fn iter(&self) -> impl Iterator<Item = &Leaf> {
        self.by_number.values().filter_map(|place| self.at(*place))
    }

    /// The places of those from `first` to `last`, by rising address.
    pub fn places(&self, first: u64, last: u64) -> Vec<Place> {
        self.by_number.range(first..=last).map(|(_, place)| *place).collect()
    }

    /// The place of a leaf, an empty one where there was none; `None`: there are too many.
    pub fn find_or_make(&mut self, number: u64) -> Option<Place> {
        let hint = *self.hints.get(hint_of(number))?;
        if self.at(hint).is_some_and(|leaf| leaf.number == number) {
            return Some(hint);
        }
        self.search_or_make(number)
    }

    #[cold]
    fn search_or_make(&mut self, number: u64) -> Option<Place> {
        let place = match self.by_number.get(&number) {
            Some(place) => *place,
            None => self.make(number)?,
        };
        *self.hints.get_mut(hint_of(number))? = place;
        Some(place)
    }

    fn make(&mut self, number: u64) -> Option<Place> {
        let leaf = Some(Leaf::new(number));
        let place = match self.vacant.pop() {
            Some(place) => {
                *self.places.get_mut(place.0 as usize)? = leaf;
                place
            }
            None => {
                let place = u32::try_from(self.places.len()).ok().filter(|place| *place < MAX_LEAVES)?;
                self.places.push(leaf);
                Place(place)
            }
        };
        self.by_number.insert(number, place);
        Some(place)
    }

    /// Takes the leaf at a place out.
    pub fn remove(&mut self, place: Place) {
        if let Some(leaf) = self.places.get_mut(place.0 as usize).and_then(Option::take) {
            self.by_number.remove(&leaf.number);
            self.vacant.push(place);
        }
    }
}

/// Where the place of a leaf is remembered: neighbours, and arenas that lie far apart, at different ones.
fn hint_of(number: u64) -> usize {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - HINTS.ilog2())) as usize
}
