//! The page set against two plain maps: by address and by frame, whatever comes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::event::StackId;
use crate::replay::resident::{MakerId, Page, Resident};
use crate::units::{Nanos, PAGE_BYTES, Pages, Pfn, Range};

#[derive(Clone, Debug)]
enum Step {
    Put { addr: u64, pfn: Option<u64>, displaces: bool },
    Free(u64),
    Remove { range: Range, but: u64 },
    Move { range: Range, by: u64 },
}

/// What the set is said to be.
#[derive(Default)]
struct Model {
    pages: BTreeMap<u64, Page>,
    holders: BTreeMap<u64, u64>,
}

impl Model {
    fn forget(&mut self, addr: u64, page: Page) {
        if let Some(pfn) = page.pfn
            && self.holders.get(&pfn.0) == Some(&addr)
        {
            self.holders.remove(&pfn.0);
        }
    }

    fn put(&mut self, addr: u64, page: Page) -> Option<u64> {
        if let Some(old) = self.pages.insert(addr, page).filter(|old| old.pfn != page.pfn) {
            self.forget(addr, old);
        }
        page.pfn.and_then(|pfn| self.holders.insert(pfn.0, addr)).filter(|holder| *holder != addr)
    }

    fn free(&mut self, pfn: u64) -> Option<(u64, Page)> {
        let addr = self.holders.remove(&pfn)?;
        Some((addr, self.pages.remove(&addr)?))
    }

    fn remove(&mut self, range: Range, keep: impl Fn(u64) -> bool) -> Vec<(u64, Page)> {
        let gone: Vec<(u64, Page)> = self.pages.range(range.start..range.end).map(|(at, page)| (*at, *page)).collect();
        let gone: Vec<(u64, Page)> = gone.into_iter().filter(|(addr, _)| !keep(*addr)).collect();
        for (addr, page) in &gone {
            self.pages.remove(addr);
            self.forget(*addr, *page);
        }
        gone
    }
}

/// Neighbours, and pages of leaves that lie apart.
fn addr() -> impl Strategy<Value = u64> {
    let leaves = prop_oneof![0_u64..3, Just(256_u64), Just(512), Just(1 << 20)];
    (leaves, 0_u64..64).prop_map(|(leaf, slot)| (leaf * 64 + slot) * PAGE_BYTES)
}

fn range() -> impl Strategy<Value = Range> {
    (addr(), 0_u64..150).prop_map(|(start, pages)| Range::of(start, pages * PAGE_BYTES))
}

fn step() -> impl Strategy<Value = Step> {
    let pfn = || prop_oneof![4 => 0_u64..100, 1 => (0_u64..20).prop_map(|far| far << 30)];
    let put = (addr(), proptest::option::weighted(0.9, pfn()), any::<bool>());
    prop_oneof![
        6 => put.prop_map(|(addr, pfn, displaces)| Step::Put { addr, pfn, displaces }),
        3 => pfn().prop_map(Step::Free),
        1 => (range(), 1_u64..4).prop_map(|(range, but)| Step::Remove { range, but: but * 3 * PAGE_BYTES }),
        1 => (range(), 0_u64..300).prop_map(|(range, by)| Step::Move { range, by: by * PAGE_BYTES }),
    ]
}

proptest! {
    #[test]
    fn the_page_set_is_what_two_maps_say(steps in proptest::collection::vec(step(), 0..300)) {
        let (mut set, mut model) = (Resident::default(), Model::default());
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { addr, pfn, displaces } => {
                    let (maker, since) = (MakerId(index as u32), Nanos(index as u64));
                    let stack = index.is_multiple_of(2).then_some(StackId(index as u32));
                    let page = Page { pfn: pfn.map(Pfn), file: index.is_multiple_of(3), maker, stack, since };
                    let holder = model.put(addr, page);
                    prop_assert_eq!(set.put(addr, page), Some(holder));
                    if let Some(holder) = holder.filter(|_| displaces) {
                        set.displace(holder);
                        model.pages.remove(&holder);
                    }
                }
                Step::Free(pfn) => prop_assert_eq!(set.free(Pfn(pfn)), model.free(pfn)),
                Step::Remove { range, but } => {
                    let keep = |addr: u64| addr.is_multiple_of(but);
                    let gone = set.remove(range, |addr, _| keep(addr));
                    prop_assert_eq!(gone, Pages(model.remove(range, keep).len() as u64));
                }
                Step::Move { range, by } => {
                    let taken: Vec<(u64, Page)> = set.take(range).iter().collect();
                    prop_assert_eq!(&taken, &model.remove(range, |_| false));
                    for (addr, page) in taken {
                        prop_assert!(set.insert(addr + by, page));
                        model.put(addr + by, page);
                    }
                }
            }
            prop_assert_eq!(set.len(), Pages(model.pages.len() as u64));
            prop_assert!(set.iter().eq(model.pages.iter().map(|(addr, page)| (*addr, *page))));
            for pfn in (0..100).chain((0..20).map(|far| far << 30)) {
                prop_assert_eq!(set.holder(Pfn(pfn)), model.holders.get(&pfn).copied());
            }
        }
    }
}
