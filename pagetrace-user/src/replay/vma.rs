//! The calls of the vma layer, applied to the mappings and the page set.
//!
//! *Source.* mm/mmap.c, mm/mremap.c, mm/madvise.c of Linux 6.18; flag values of include/uapi/asm-generic/mman*.h.

use super::anomaly::{Oddity, note};
use super::levels::READING;
use super::mappings::{Kind, Mapping, kind_of_file};
use super::{State, calls};
use crate::event::{Body, Call, Event, FileId};
use crate::units::{Nanos, PAGE_BYTES, Range, Tid};

const MAP_SHARED: u32 = 0x1;
const MAP_FIXED: u32 = 0x10;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_GROWSDOWN: u32 = 0x100;
const MAP_STACK: u32 = 0x2_0000;
const MAP_HUGETLB: u32 = 0x4_0000;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;
const SHM_REMAP: u32 = 0x4000;
const MREMAP_DONTUNMAP: u32 = 4;

/// A call that was under way from `began` to `ts`, on thread `tid`.
#[derive(Clone, Copy)]
struct During {
    began: Nanos,
    ts: Nanos,
    tid: Tid,
}

impl During {
    /// Whether another thread made the mapping while the call ran: it is newer than what the call saw.
    fn is_newer(self, mapping: &Mapping) -> bool {
        self.began < mapping.born && mapping.born <= self.ts && mapping.tid != self.tid
    }
}

/// Whether the call replaces what is mapped in its range.
#[must_use]
pub fn replaces(call: Call, flags: u32) -> bool {
    match call {
        Call::Shmat => flags & SHM_REMAP != 0,
        _ => flags & MAP_FIXED != 0 && flags & MAP_FIXED_NOREPLACE == 0,
    }
}

impl State {
    pub(super) fn vma(&mut self, event: &Event) {
        let (ts, tid) = (event.ts, event.tid);
        match &event.body {
            Body::Map { range, prot, flags, file, offset, call, began } => {
                let during = During { began: *began, ts, tid };
                let kind = self.kind_of_map(event.ts, *call, *flags, *file);
                let mapping = Mapping {
                    range: *range,
                    prot: *prot,
                    kind,
                    file: *file,
                    offset: offset.0,
                    name: None,
                    born: ts,
                    tid,
                    read: false,
                    grows_down: flags & MAP_GROWSDOWN != 0,
                };
                self.map(mapping, replaces(*call, *flags), during);
            }
            Body::Unmap { range, began, .. } => self.unmap(*range, During { began: *began, ts, tid }),
            Body::Brk { old, new } => {
                let (old, new) = (page_up(*old), page_up(*new));
                if new < old {
                    self.unmap(Range { start: new, end: old }, During { began: ts, ts, tid });
                } else {
                    self.mappings.grow_heap(Range { start: old, end: new }, ts, tid);
                }
            }
            Body::Remap { old, new, flags, began } => self.remap(*old, *new, *flags, During { began: *began, ts, tid }),
            Body::Advise { range, advice, began, .. } if calls::drops_pages(*advice) && self.is_range(*range) => {
                self.resident.remove(*range, |_, page| page.since >= *began && page.maker != READING);
            }
            Body::Protect { range, prot } if self.is_range(*range) => self.mappings.protect(*range, *prot),
            _ => {}
        }
    }

    fn kind_of_map(&mut self, ts: Nanos, call: Call, flags: u32, file: Option<FileId>) -> Kind {
        let shared = call != Call::Shmat && flags & MAP_SHARED != 0;
        match file {
            _ if call == Call::Shmat => Kind::Shmem,
            _ if flags & MAP_HUGETLB != 0 && flags & MAP_ANONYMOUS != 0 => Kind::Uncounted,
            Some(id) if flags & MAP_ANONYMOUS == 0 => kind_of_file(self.path_of(ts, id), shared),
            _ if shared => Kind::Shmem,
            _ if flags & (MAP_STACK | MAP_GROWSDOWN) != 0 => Kind::Stack,
            _ => Kind::Anonymous,
        }
    }

    fn map(&mut self, mapping: Mapping, replaces: bool, during: During) {
        let range = mapping.range;
        if !self.is_range(range) {
            return;
        }
        // A mapping that a reading has already shown here, in a range that the call found free, is this very one.
        let shown: Vec<Range> = if replaces {
            Vec::new()
        } else {
            self.mappings.meeting(range).filter(|mapping| mapping.read).map(|mapping| mapping.range).collect()
        };
        self.resident.remove(range, |addr, page| {
            page.since >= during.began || (page.maker == READING && shown.iter().any(|shown| shown.contains(addr)))
        });
        self.mappings.insert(mapping);
    }

    fn unmap(&mut self, range: Range, during: During) {
        if !self.is_range(range) {
            return;
        }
        let newer: Vec<(Range, Nanos)> = (self.mappings.meeting(range))
            .filter(|mapping| during.is_newer(mapping))
            .map(|mapping| (mapping.range, mapping.born))
            .collect();
        self.mappings.remove(range, |mapping| during.is_newer(mapping));
        // Pages of a newer mapping came at the earliest while the unmapping ran (it may be populated as it is made).
        self.resident.remove(range, |addr, page| {
            page.since >= during.began && newer.iter().any(|(newer, _)| newer.contains(addr))
        });
    }

    fn remap(&mut self, old: Range, new: Range, flags: u32, during: During) {
        if !self.is_range(old) || !self.is_range(new) {
            return;
        }
        if old.start == new.start && !old.is_empty() {
            self.resize(old, new, during);
            return;
        }
        let sources: Vec<Mapping> = if old.is_empty() {
            // A second view of a shared mapping: the first stays as it is.
            let whole = self.mappings.at(old.start).cloned();
            whole
                .into_iter()
                .map(|mapping| mapping.part(Range { start: old.start, end: mapping.range.end.max(old.start) }))
                .collect()
        } else if flags & MREMAP_DONTUNMAP != 0 {
            let meeting = self.mappings.meeting(old).filter_map(|mapping| Some(mapping.part(mapping.range.meet(old)?)));
            meeting.filter(|mapping| !during.is_newer(mapping)).collect()
        } else {
            self.mappings.remove(old, |mapping| during.is_newer(mapping))
        };
        let already_there = sources.is_empty();
        if already_there && self.mappings.at(new.start).is_some_and(|mapping| mapping.read) {
            // A reading has shown the mapping at its new place.
            return;
        }
        let moved = if old.is_empty() { Default::default() } else { self.resident.take(old) };
        self.resident.remove(new, |_, page| page.since >= during.began);
        self.mappings.remove(new, |_| false);
        let count = sources.len();
        for (index, source) in sources.into_iter().enumerate() {
            let start = new.start.saturating_add(source.range.start.saturating_sub(old.start));
            let last = index.saturating_add(1) == count;
            let end = if last { new.end } else { start.saturating_add(source.range.bytes().0).min(new.end) };
            let (born, tid) = (during.ts, during.tid);
            self.mappings.insert(Mapping { range: Range { start, end }, born, tid, read: false, ..source });
        }
        for (addr, page) in moved.iter() {
            let offset = addr.saturating_sub(old.start);
            let at = new.start.saturating_add(offset);
            if self.mappings.at(addr).is_some_and(|mapping| during.is_newer(mapping)) {
                self.resident.insert(addr, page);
            } else if new.contains(at) && self.resident.get(at).is_none() {
                self.resident.insert(at, page);
            }
        }
    }

    /// `mremap` in place.
    fn resize(&mut self, old: Range, new: Range, during: During) {
        if new.end < old.end {
            self.unmap(Range { start: new.end, end: old.end }, during);
            return;
        }
        let Some(last) = old.end.checked_sub(1).and_then(|addr| self.mappings.at(addr)) else { return };
        let grown = Range { start: old.end, end: new.end };
        let mapping = Mapping {
            born: during.ts,
            tid: during.tid,
            read: false,
            ..last.part(Range { start: old.end, end: old.end })
        };
        self.mappings.insert(Mapping { range: grown, ..mapping });
    }

    fn is_range(&mut self, range: Range) -> bool {
        if range.start > range.end {
            note(&mut self.anomalies, Oddity::OddRange, self.now, range.start);
        }
        range.start <= range.end
    }
}

/// The end of the page that `addr` is in, or `addr` when it is the start of one.
fn page_up(addr: u64) -> u64 {
    addr.checked_next_multiple_of(PAGE_BYTES).unwrap_or(!(PAGE_BYTES - 1))
}
