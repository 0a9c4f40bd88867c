//! One walk over the live objects in the order of their addresses: what each page holds, and for whom.
//!
//! *Bound.* Pages are looked at only where an object begins or ends; those between are full, and counted.

use std::collections::BTreeMap;

use super::allocators::{Allocator, Allocators};
use super::{Moment, Size, room_beside};
use crate::event::{Header, StackId};
use crate::replay::resident::Outline;
use crate::replay::{Live, State};
use crate::stacks::same_lines;
use crate::units::{Nanos, PAGE_BYTES, Range};

/// What one stack's old objects keep.
#[derive(Default)]
pub(super) struct Sum {
    pub empty: u64,
    pub pages: u64,
    pub alone: u64,
    pub objects: u64,
    pub bytes: u64,
    pub first: Option<Nanos>,
    pub last: Nanos,
    pub call: &'static str,
}

impl Sum {
    fn add(&mut self, live: &Live) {
        self.objects = self.objects.saturating_add(1);
        self.bytes = self.bytes.saturating_add(live.bytes.0);
        self.first = Some(self.first.map_or(live.since, |first| first.min(live.since)));
        self.last = self.last.max(live.since);
        self.call = live.who.call.word();
    }
}

/// What live objects keep, at one moment.
#[derive(Default)]
pub(super) struct Held {
    pub sites: BTreeMap<Option<StackId>, Sum>,
    pub allocators: Vec<Allocator>,
    pub page_bytes: u64,
    pub live_bytes: u64,
    pub beside_bytes: u64,
    pub empty_bytes: u64,
    pub young_bytes: u64,
    pub objects: u64,
    pub uncertain: u64,
    pub sizes: Vec<Size>,
}

/// A live object in its place.
struct Placed<'a> {
    addr: u64,
    live: &'a Live,
    /// The one that stands for all of the same lines.
    stack: Option<StackId>,
    is_old: bool,
}

/// What is on one page, as far as the walk has come.
#[derive(Default)]
struct PageUse {
    start: u64,
    live: u64,
    beside: u64,
    /// The stacks of its objects, and whether the object is old.
    stacks: Vec<(Option<StackId>, bool)>,
}

impl PageUse {
    fn at(start: u64) -> PageUse {
        PageUse { start, ..PageUse::default() }
    }

    fn add(&mut self, object: &Placed<'_>, bytes: u64) {
        self.live = self.live.saturating_add(bytes);
        self.stacks.push((object.stack, object.is_old));
    }
}

impl Held {
    pub fn of(header: &Header, state: &State, moment: &Moment, older_than: Nanos) -> Held {
        let objects: Vec<(u64, &Live)> = state.objects().live().collect();
        let mut held = Held { objects: objects.len() as u64, ..Held::default() };
        held.uncertain = objects.iter().filter(|(_, live)| state.objects().is_uncertain(live)).count() as u64;
        let mut allocators = Allocators::new(header, state, moment, &objects);
        if header.object_period_bytes == Some(0) {
            let lines = same_lines(state, objects.iter().filter_map(|(_, live)| live.stack));
            let objects = objects.iter().map(|&(addr, live)| {
                let stack = live.stack.map(|stack| lines.get(&stack).copied().unwrap_or(stack));
                Placed { addr, live, stack, is_old: moment.now.since(live.since) >= older_than }
            });
            held.walk(&moment.resident, &objects.collect::<Vec<_>>(), &mut allocators);
        }
        held.allocators = allocators.sums();
        held
    }

    fn walk(&mut self, resident: &Outline, objects: &[Placed<'_>], allocators: &mut Allocators<'_>) {
        let mut page = PageUse::default();
        let followers = objects.iter().skip(1).map(|object| object.addr).chain([u64::MAX]);
        for (object, next) in objects.iter().zip(followers) {
            if object.is_old {
                self.sites.entry(object.stack).or_default().add(object.live);
            }
            let (addr, bytes) = (object.addr, object.live.bytes.0);
            // Of two that overlap, one is gone and its end was not told.
            let end = addr.saturating_add(bytes).min(next);
            let (first, last) = (page_of(addr), page_of(end.saturating_sub(1).max(addr)));
            if first != page.start {
                self.close(&std::mem::replace(&mut page, PageUse::at(first)), resident, allocators);
            }
            page.add(object, end.min(first.saturating_add(PAGE_BYTES)).saturating_sub(addr));
            if last != first {
                self.close(&std::mem::replace(&mut page, PageUse::at(last)), resident, allocators);
                let between = Range { start: first.saturating_add(PAGE_BYTES), end: last };
                self.fill(object, resident.count(between).saturating_mul(PAGE_BYTES), allocators);
                page.add(object, end.saturating_sub(last));
            }
            let beside = end.saturating_add(room_beside(bytes)).min(next).min(last.saturating_add(PAGE_BYTES));
            page.beside = page.beside.saturating_add(beside.saturating_sub(end));
        }
        self.close(&page, resident, allocators);
    }

    /// Pages that an object fills.
    fn fill(&mut self, object: &Placed<'_>, bytes: u64, allocators: &mut Allocators<'_>) {
        self.page_bytes = self.page_bytes.saturating_add(bytes);
        self.live_bytes = self.live_bytes.saturating_add(bytes);
        allocators.add_pages(object.addr, bytes, 0);
        if object.is_old {
            let sum = self.sites.entry(object.stack).or_default();
            sum.pages = sum.pages.saturating_add(bytes);
            sum.alone = sum.alone.saturating_add(bytes);
        }
    }

    /// A page is known whole.
    fn close(&mut self, page: &PageUse, resident: &Outline, allocators: &mut Allocators<'_>) {
        if page.stacks.is_empty() || resident.count(Range::of(page.start, PAGE_BYTES)) == 0 {
            return;
        }
        let empty = PAGE_BYTES.saturating_sub(page.live).saturating_sub(page.beside);
        self.page_bytes = self.page_bytes.saturating_add(PAGE_BYTES);
        self.live_bytes = self.live_bytes.saturating_add(page.live);
        self.beside_bytes = self.beside_bytes.saturating_add(page.beside);
        self.empty_bytes = self.empty_bytes.saturating_add(empty);
        allocators.add_pages(page.start, PAGE_BYTES, empty);
        let is_alone = page.stacks.iter().all(|(stack, _)| Some(stack) == page.stacks.first().map(|(stack, _)| stack));
        let mut old: Vec<Option<StackId>> =
            page.stacks.iter().filter(|(_, is_old)| *is_old).map(|(stack, _)| *stack).collect();
        old.sort_unstable();
        old.dedup();
        let parts = old.len() as u64;
        let Some(part) = empty.checked_div(parts) else {
            self.young_bytes = self.young_bytes.saturating_add(empty);
            return;
        };
        for (stack, rest) in old.into_iter().zip((0..empty % parts).map(|_| 1).chain(std::iter::repeat(0))) {
            let sum = self.sites.entry(stack).or_default();
            sum.empty = sum.empty.saturating_add(part).saturating_add(rest);
            sum.pages = sum.pages.saturating_add(PAGE_BYTES);
            if is_alone {
                sum.alone = sum.alone.saturating_add(PAGE_BYTES);
            }
        }
    }
}

fn page_of(addr: u64) -> u64 {
    addr & !(PAGE_BYTES - 1)
}
