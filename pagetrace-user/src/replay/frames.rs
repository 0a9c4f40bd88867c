//! Frames that come and go, and the levels that tell of them.

use super::anomaly::{Oddity, note};
use super::levels::Task;
use super::resident::{MakerId, Page};
use super::tally::{MAX_ORDER, base_pages};
use super::{MAX_UNPLACED, Peak, State};
use crate::event::{Event, Member};
use crate::units::{Nanos, PAGE_BYTES, Pages, Pfn, Range};

impl State {
    pub(super) fn maker(&mut self, event: &Event) -> MakerId {
        self.makers.id(Task { tid: event.tid, actor: event.actor })
    }

    /// A level without a frame: pages came or went whose place no event tells.
    pub(super) fn level_alone(&mut self, event: &Event, member: Member, level: Pages) {
        let (old, maker) = (self.levels.of(member), self.maker(event));
        if let (Member::Anon, Some(grown)) = (member, old.and_then(|old| level.0.checked_sub(old.0)))
            && grown > 0
        {
            let (pages, since) = self.faceless.entry(maker).or_default();
            (*pages, *since) = (pages.saturating_add(grown), event.ts);
        }
        self.level(event, maker, member, level);
    }

    fn level(&mut self, event: &Event, maker: MakerId, member: Member, level: Pages) {
        let old = self.levels.set(member, level);
        if member == Member::Swap {
            return;
        }
        match old {
            Some(old) => self.makers.moved(maker, old, level),
            None => {
                if let Some(base) = self
                    .base
                    .as_mut()
                    .filter(|base| base.ledger.at == event.ts && base.ledger.levels.of(member).is_none())
                {
                    base.ledger.levels.set(member, level);
                }
            }
        }
        let rss = self.levels.resident();
        if rss > self.peak.rss {
            self.peak = Peak { rss, at: event.ts };
        }
    }

    pub(super) fn frame(
        &mut self,
        event: &Event,
        addr: Option<u64>,
        pfn: Pfn,
        order: u8,
        member: Member,
        level: Pages,
    ) {
        let maker = self.maker(event);
        self.level(event, maker, member, level);
        if order > MAX_ORDER || pfn.0.checked_add(base_pages(order)).is_none() {
            return note(&mut self.anomalies, Oddity::OddFrame, event.ts, pfn.0);
        }
        let pages = base_pages(order);
        let Some(addr) = addr else {
            for index in 0..pages {
                if self.unplaced.len() >= MAX_UNPLACED {
                    break;
                }
                self.unplaced.insert(pfn.0.saturating_add(index), (maker, event.ts));
            }
            return;
        };
        let range = Range::of(addr, pages.saturating_mul(PAGE_BYTES));
        if !addr.is_multiple_of(range.bytes().0) || range.bytes() != Pages(pages).bytes() {
            note(&mut self.anomalies, Oddity::OddFrame, event.ts, addr);
        }
        if order == 0 {
            self.mappings.grow_down(addr);
        }
        let stack = if event.actor.is_none() { self.stacks.of_fault(event.tid) } else { None };
        let parts = if order == 0 { Vec::new() } else { self.mappings.covered(range) };
        if member == Member::Shmem
            && let Some(file) = self.mappings.at(addr).and_then(|mapping| mapping.file)
        {
            self.shmem_files.insert(file);
        }
        for index in 0..pages {
            let offset = index.saturating_mul(PAGE_BYTES);
            let (at, pfn) = (addr.saturating_add(offset), Pfn(pfn.0.saturating_add(index)));
            if !parts.is_empty() && !parts.iter().any(|part| part.contains(at)) {
                continue;
            }
            self.placed(pfn);
            let page = Page { pfn: Some(pfn), file: member != Member::Anon, maker, stack, since: event.ts };
            match self.resident.put(at, page) {
                Some(None) => {}
                Some(Some(holder)) => {
                    note(&mut self.anomalies, Oddity::FrameTwice, event.ts, pfn.0);
                    self.resident.displace(holder);
                }
                None => return note(&mut self.anomalies, Oddity::SetFull, event.ts, at),
            }
        }
    }

    /// A frame whose place was not known has one, or is gone; who made it, and when.
    pub(super) fn placed(&mut self, pfn: Pfn) -> Option<(MakerId, Nanos)> {
        // Most programs have none: not even the hash is wanted then.
        if self.unplaced.is_empty() { None } else { self.unplaced.remove(&pfn.0) }
    }

    /// The page at an address whose frame another task freed, if that may have moved it.
    pub(super) fn moved_from(&mut self, addr: u64) -> Option<Page> {
        if self.moved.is_empty() { None } else { self.moved.remove(&addr) }
    }

    pub(super) fn free(&mut self, ts: Nanos, pfn: Pfn, order: u8, by_other: bool) {
        if order > MAX_ORDER || pfn.0.checked_add(base_pages(order)).is_none() {
            return note(&mut self.anomalies, Oddity::OddFrame, ts, pfn.0);
        }
        for index in 0..base_pages(order) {
            let pfn = Pfn(pfn.0.saturating_add(index));
            self.placed(pfn);
            let freed = self.resident.free(pfn);
            if let Some((addr, page)) = freed.filter(|_| by_other && self.moved.len() < MAX_UNPLACED) {
                self.moved.insert(addr, page);
            }
        }
    }
}
