//! What each allocator was asked for, and what is resident of the ranges where its objects lie.
//!
//! Libraries whose objects lie in one range share a heap, as the C++ runtime does with the C library: they are one
//! allocator. What else lies in such a range, its own tables for instance, counts as without objects.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Moment;
use crate::event::{Header, LibraryId};
use crate::replay::{Estimate, Live, State};
use crate::units::{PAGE_BYTES, Range};

/// One allocator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Allocator {
    /// Its libraries.
    pub name: String,
    /// Of objects that live; of a sampled recording an estimate, with the standard error of the bytes.
    pub objects: u64,
    pub live_bytes: u64,
    pub error_bytes: u64,
    /// Resident in the ranges where its objects lie.
    pub resident_bytes: u64,
    /// Of that, pages that hold an object, and what is empty in them; 0 where objects were sampled.
    pub page_bytes: u64,
    pub empty_bytes: u64,
}

#[derive(Default)]
struct Sum {
    libraries: BTreeSet<LibraryId>,
    ranges: Vec<Range>,
    estimate: Estimate,
    pages: u64,
    empty: u64,
}

/// Sums by allocator; objects come in the order of their addresses.
pub(super) struct Allocators<'a> {
    state: &'a State,
    moment: &'a Moment,
    sums: Vec<Sum>,
    /// The ranges where objects lie, by their end: where each begins, and whose it is.
    ranges: BTreeMap<u64, (u64, usize)>,
}

impl<'a> Allocators<'a> {
    pub fn new(header: &Header, state: &'a State, moment: &'a Moment, objects: &[(u64, &Live)]) -> Allocators<'a> {
        let mut ranges: BTreeMap<u64, (Range, BTreeSet<LibraryId>)> = BTreeMap::new();
        let followers = objects.iter().skip(1).map(|(addr, _)| *addr).chain([u64::MAX]);
        let mut range = Range { start: 0, end: 0 };
        for (&(addr, live), next) in objects.iter().zip(followers) {
            let end = addr.saturating_add(live.bytes.0.max(1)).min(next);
            if !range.contains(addr) || end > range.end {
                // One object may lie in several.
                for mapping in moment.mappings.meeting(Range { start: addr, end }) {
                    range = mapping.range;
                    ranges.entry(range.end).or_insert_with(|| (range, BTreeSet::new())).1.insert(live.who.library);
                }
            } else if let Some((_, libraries)) = ranges.get_mut(&range.end) {
                libraries.insert(live.who.library);
            }
        }
        let mut sums: Vec<Sum> = Vec::new();
        for (range, libraries) in ranges.values() {
            let (meets, apart): (Vec<Sum>, Vec<Sum>) =
                sums.into_iter().partition(|sum: &Sum| !sum.libraries.is_disjoint(libraries));
            let mut joined = Sum { libraries: libraries.clone(), ranges: vec![*range], ..Sum::default() };
            for sum in meets {
                joined.libraries.extend(sum.libraries);
                joined.ranges.extend(sum.ranges);
            }
            sums = apart;
            sums.push(joined);
        }
        let whose = sums.iter().enumerate();
        let ranges = whose.flat_map(|(at, sum)| sum.ranges.iter().map(move |range| (range.end, (range.start, at))));
        let ranges = ranges.collect();
        let mut allocators = Allocators { state, moment, sums, ranges };
        let period = header.object_period_bytes.unwrap_or(0);
        for (addr, live) in objects {
            if let Some(sum) = allocators.of(*addr) {
                sum.estimate.add(live.bytes, period);
            }
        }
        allocators
    }

    fn of(&mut self, addr: u64) -> Option<&mut Sum> {
        let (_, (start, at)) = self.ranges.range(addr.saturating_add(1)..).next()?;
        if addr < *start {
            return None;
        }
        self.sums.get_mut(*at)
    }

    /// Resident pages at `addr` hold an object.
    pub fn add_pages(&mut self, addr: u64, bytes: u64, empty: u64) {
        if let Some(sum) = self.of(addr) {
            sum.pages = sum.pages.saturating_add(bytes);
            sum.empty = sum.empty.saturating_add(empty);
        }
    }

    /// The one with most live bytes first.
    pub fn sums(self) -> Vec<Allocator> {
        let (state, moment) = (self.state, self.moment);
        let mut sums: Vec<Allocator> = self
            .sums
            .into_iter()
            .map(|sum| {
                let name = |id| state.objects().libraries().get(id).map_or("", |library| library.name.as_str());
                let names: BTreeSet<&str> = sum.libraries.iter().map(name).collect();
                let pages = sum.ranges.iter().map(|range| moment.resident.count(*range));
                Allocator {
                    name: names.into_iter().collect::<Vec<_>>().join(", "),
                    objects: sum.estimate.objects.round() as u64,
                    live_bytes: sum.estimate.bytes.round() as u64,
                    error_bytes: sum.estimate.error().round() as u64,
                    resident_bytes: pages.fold(0, u64::saturating_add).saturating_mul(PAGE_BYTES),
                    page_bytes: sum.pages,
                    empty_bytes: sum.empty,
                }
            })
            .collect();
        sums.sort_by(|a, b| b.live_bytes.cmp(&a.live_bytes).then_with(|| a.name.cmp(&b.name)));
        sums
    }
}
