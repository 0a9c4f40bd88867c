//! A reading of /proc as it stands in the trace: what it replaces, and what no event had explained.
//!
//! *Passes.* A reading of everything comes in steps: the mappings, then pieces of the address space, one after the other
//! from 0 up, each with its own time. When a piece reaches the end of the last mapping, the pass is complete: the
//! books are closed as of that piece.
//! *Invariant.* A page that was known keeps its maker and its age when a reading finds it again. A reading that the
//! end of a damaged file cuts short is undone.

use std::sync::Arc;

use super::anomaly::{Oddity, note};
use super::levels::READING;
use super::mappings::{Kind, Mapping, Mappings, kind_of_file, kind_of_name};
use super::resident::{MakerId, Page, Resident, Split};
use super::{MappedFile, State};
use crate::event::{Body, Event, Why};
use crate::units::{Nanos, PAGE_BYTES, Pages, Pfn, Range, Tid};

/// End of any user address: rows beyond it are cut.
const USER_END: u64 = 1 << 56;

/// A reading whose rows are still coming.
pub(super) struct Open {
    why: Why,
    range: Range,
    at: Nanos,
    before: Resident,
    mappings_before: Option<Mappings>,
    placed: Split,
    /// Pages put there by the rows so far: as many as are resident in the range, unless rows overlap.
    rows: u64,
}

impl Open {
    /// Whether it replaces nothing: it only says that the rows before it were all.
    pub(super) fn is_end_mark(&self) -> bool {
        self.range.is_empty() && self.mappings_before.is_none()
    }
}

/// A reading of everything that has come to `upto`.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    why: Why,
    upto: u64,
    complete: bool,
}

/// What readings for one reason put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    pub readings: u64,
    /// Pages found that no event had told, in base pages.
    pub added: Split,
    /// Pages gone though no event had told.
    pub removed: Split,
    /// Pages whose frame was known and whose address the reading told: nothing was wrong.
    pub placed: Pages,
}

/// The last reading of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    pub why: Why,
    pub at: Nanos,
}

impl State {
    pub(super) fn begin_reading(&mut self, ts: Nanos, why: Why, range: Range, maps: bool) {
        let goes_on = !maps && self.pass.is_some_and(|pass| pass.why == why && range.start == pass.upto);
        if !goes_on {
            self.pass = (maps || range.start == 0).then_some(Pass { why, upto: 0, complete: false });
            let correction = self.corrections.entry(why).or_default();
            correction.readings = correction.readings.saturating_add(1);
        }
        let before = self.resident.take(range);
        let mappings_before = maps.then(|| std::mem::take(&mut self.mappings));
        self.reading = Some(Open { why, range, at: ts, before, mappings_before, placed: Split::default(), rows: 0 });
    }

    /// One row. Without a reading it is odd, and taken all the same.
    pub(super) fn row(&mut self, event: &Event) {
        if self.reading.is_none() {
            note(&mut self.anomalies, Oddity::RowWithoutReading, event.ts, 0);
        }
        match &event.body {
            Body::BaselineMap { range, prot, shared, file, offset, name } => {
                let kind = match file {
                    Some(id) => kind_of_file(self.path_of(event.ts, *id), *shared),
                    None => kind_of_name(name, *shared),
                };
                self.map_row(Mapping {
                    range: *range,
                    prot: *prot,
                    kind,
                    file: *file,
                    offset: offset.0,
                    name: (!name.is_empty()).then(|| Arc::from(name.as_str())),
                    born: Nanos(0),
                    tid: Tid(0),
                    read: true,
                    grows_down: kind == Kind::Stack && name == "[stack]",
                });
            }
            Body::BaselinePages { swapped: true, .. } => {}
            Body::BaselinePages { addr, pages, pfn, file, .. } => self.page_row(event.ts, *addr, *pages, *pfn, *file),
            _ => {}
        }
    }

    fn map_row(&mut self, mut mapping: Mapping) {
        if mapping.range.start > mapping.range.end {
            return note(&mut self.anomalies, Oddity::OddRange, self.now, mapping.range.start);
        }
        if let Some(open) = &self.reading {
            let known = open.mappings_before.as_ref().and_then(|before| before.at(mapping.range.start));
            if let Some(known) = known.filter(|known| known.file == mapping.file && known.kind.is_like(mapping.kind)) {
                (mapping.born, mapping.tid) = (known.born, known.tid);
                if known.kind == Kind::Stack && mapping.kind == Kind::Anonymous {
                    mapping.kind = Kind::Stack;
                }
            }
        }
        self.mappings.insert(mapping);
    }

    fn page_row(&mut self, ts: Nanos, addr: u64, pages: Pages, first: Option<Pfn>, file: bool) {
        let end = addr.saturating_add(pages.bytes().0).min(USER_END);
        let row = Range { start: addr, end };
        let mut open = self.reading.take();
        if let Some(open) = &open
            && row.meet(open.range) != Some(row)
        {
            note(&mut self.anomalies, Oddity::RowOutsideReading, open.at, addr);
        }
        for index in 0..row.bytes().0.div_ceil(PAGE_BYTES) {
            let addr = addr.saturating_add(index.saturating_mul(PAGE_BYTES));
            let pfn = first.map(|pfn| Pfn(pfn.0.saturating_add(index)));
            let known =
                open.as_ref().and_then(|open| open.before.get(addr)).filter(|old| pfn.is_none() || old.pfn == pfn);
            let page = match (known, pfn.and_then(|pfn| self.placed(pfn))) {
                (Some(old), _) => Page { file, ..old },
                (None, Some((maker, since))) => {
                    let is_new = open.as_ref().is_some_and(|open| open.before.get(addr).is_none());
                    if let Some(open) = open.as_mut().filter(|_| is_new) {
                        let placed = if file { &mut open.placed.file } else { &mut open.placed.anon };
                        *placed = placed.saturating_add(1);
                    }
                    Page { pfn, file, maker, stack: None, since }
                }
                (None, None) => {
                    match open.as_ref().and_then(|open| open.before.get(addr)).or(self.moved_from(addr)) {
                        // The page moved to another frame: into a huge one, or by migration.
                        Some(old) if old.file == file => Page { pfn, ..old },
                        _ => {
                            let (maker, since) = self.found(ts, file, open.as_ref().map(|open| open.why));
                            Page { pfn, file, maker, stack: None, since }
                        }
                    }
                }
            };
            if !self.resident.insert(addr, page) {
                note(&mut self.anomalies, Oddity::SetFull, ts, addr);
                break;
            }
            if let Some(open) = open.as_mut().filter(|open| open.range.contains(addr)) {
                open.rows = open.rows.saturating_add(1);
            }
        }
        self.reading = open;
    }

    /// Who made a page that a reading found and no event tells, and when: whoever alone can have, as the counters rose
    /// while nobody else acted; else that is not known.
    fn found(&mut self, ts: Nanos, file: bool, why: Option<Why>) -> (MakerId, Nanos) {
        if file || why == Some(Why::Start) || self.faceless.len() != 1 {
            return (READING, ts);
        }
        match self.faceless.iter_mut().next() {
            Some((maker, (pages, since))) if *pages > 0 => {
                *pages -= 1;
                (*maker, *since)
            }
            _ => (READING, ts),
        }
    }

    /// The rows have ended: what differs from what was known is a correction, unless nothing was known.
    pub(super) fn close_reading(&mut self, open: Open) {
        let now = self.resident.count(open.range).all();
        if open.rows > now {
            note(&mut self.anomalies, Oddity::RowsOverlap, open.at, open.range.start);
        }
        let mut added = self.resident.count_without(&open.before, open.range);
        added.anon = added.anon.saturating_sub(open.placed.anon);
        added.file = added.file.saturating_sub(open.placed.file);
        let removed = open.before.count_without(&self.resident, open.range);
        let correction = self.corrections.entry(open.why).or_default();
        if open.why != Why::Start {
            correction.added.anon = correction.added.anon.saturating_add(added.anon);
            correction.added.file = correction.added.file.saturating_add(added.file);
            correction.removed.anon = correction.removed.anon.saturating_add(removed.anon);
            correction.removed.file = correction.removed.file.saturating_add(removed.file);
            correction.placed.0 = correction.placed.0.saturating_add(open.placed.all());
        }
        let Some(pass) = self.pass.as_mut().filter(|pass| open.range.start <= pass.upto) else { return };
        pass.upto = pass.upto.max(open.range.end);
        let last = self.mappings.iter().rfind(|mapping| mapping.kind != Kind::Uncounted);
        if !pass.complete && last.is_some_and(|last| last.range.end <= pass.upto) {
            pass.complete = true;
            self.faceless.clear();
            self.moved.clear();
            self.closed = Some(Closed { why: open.why, at: open.at });
            if self.base.is_none() {
                self.set_base(open.at);
            }
        }
    }

    /// The file ended before the rows did: back to what was known.
    pub(super) fn undo_reading(&mut self, open: Open) {
        note(&mut self.anomalies, Oddity::ReadingCutShort, open.at, open.range.start);
        self.resident.remove(open.range, |_, _| false);
        for (addr, page) in open.before.iter() {
            self.resident.insert(addr, page);
        }
        if let Some(before) = open.mappings_before {
            self.mappings = before;
        }
    }

    /// The path of a file, empty (and an anomaly) when the trace has not told it.
    pub(super) fn path_of(&mut self, ts: Nanos, id: crate::event::FileId) -> &str {
        if !self.files.contains_key(&id) {
            note(&mut self.anomalies, Oddity::UnknownFile, ts, u64::from(id.0));
        }
        self.files.get(&id).map_or("", |file: &MappedFile| file.path.as_str())
    }
}

impl Kind {
    /// Whether a reading that says `other` can mean the same mapping: /proc does not tell thread stacks.
    fn is_like(self, other: Kind) -> bool {
        self == other || (self == Kind::Stack && other == Kind::Anonymous)
    }
}
