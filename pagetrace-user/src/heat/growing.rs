//! A map that grows with its trace.
//!
//! *Bounds.* [`MOST_COLUMNS`] and [`MOST_ROWS`]: when there are more moments, every second one goes; when there are more
//! stretches, each becomes twice as long. Between moments pages may come and go unseen. As many rows again may be empty
//! ones between others of one mapping.

use std::collections::{BTreeMap, BTreeSet};

use super::{Block, Cell, Map, Moment};
use crate::event::{Body, Event, Member};
use crate::replay::State;
use crate::replay::resident::STRETCH_BYTES;
use crate::units::{Bytes, Nanos, Pages, Range};

pub const MOST_COLUMNS: usize = 160;
pub const MOST_ROWS: usize = 2048;
/// Empty rows within a mapping that do not part it.
const MOST_GAP: u64 = 64;
/// The time between two moments at first.
const FIRST_WIDTH_NS: u64 = 1_000;

/// What there is at one moment: cells by number of the stretch, and the kernel's counters.
#[derive(Clone, Debug, Default)]
struct Column {
    cells: BTreeMap<u64, Cell>,
    levels: [Pages; 3],
}

/// What is told of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Whether it is resident.
    Resident,
    /// What it is to a page heap too, and whether it was given back.
    All,
    /// What it is to a page heap alone: the trace tells of no resident pages, such as that of a Go runtime.
    Heap,
}

/// A map that grows.
#[derive(Clone, Debug)]
pub struct Growing {
    detail: Detail,
    /// The map begins so long after the first event.
    skip: Nanos,
    from: Option<Nanos>,
    width: u64,
    /// Each the state at the end of its time.
    columns: Vec<Column>,
    /// When the last of them is.
    to: Nanos,
    /// Bytes of a stretch, and the numbers of those that any column has or had.
    stretch: u64,
    rows: BTreeSet<u64>,
}

impl Growing {
    /// A map without a moment, of what comes from `skip` after the first event on.
    #[must_use]
    pub fn new(detail: Detail, skip: Nanos) -> Growing {
        Growing {
            detail,
            skip,
            from: None,
            width: FIRST_WIDTH_NS,
            columns: Vec::new(),
            to: Nanos(0),
            stretch: STRETCH_BYTES,
            rows: BTreeSet::new(),
        }
    }

    /// `event` follows on `state`.
    pub fn before(&mut self, state: &State, event: &Event) {
        let from = *self.from.get_or_insert(Nanos(event.ts.0.saturating_add(self.skip.0)));
        // What the kernel takes away at the end is no course of the program's, unless it goes on as another one.
        if event.ts < from || (state.ended() && !matches!(event.body, Body::Exec { .. })) {
            return;
        }
        // The rows of a reading come after what they replace was taken away.
        if matches!(event.body, Body::BaselineMap { .. } | Body::BaselinePages { .. }) {
            return;
        }
        self.until(state, event.ts.since(from).0);
        if matches!(event.body, Body::Exit { .. } | Body::MmGone) {
            self.end(state, event.ts);
        }
    }

    /// Columns for all time before `ns`, in which nothing happened since `state`.
    fn until(&mut self, state: &State, ns: u64) {
        let mut last_is_new = false;
        loop {
            let end = (self.columns.len() as u128).saturating_add(1).saturating_mul(u128::from(self.width));
            if end > u128::from(ns) {
                return;
            }
            // After a long rest, widening comes before filling.
            if self.columns.len() >= MOST_COLUMNS || ns / self.width > 2 * MOST_COLUMNS as u64 {
                self.widen();
                last_is_new = false;
                continue;
            }
            match self.columns.last().filter(|_| last_is_new).cloned() {
                Some(same) => self.columns.push(same),
                None => self.add(state),
            }
            last_is_new = true;
        }
    }

    /// The map, once the events have ended; `labels` are ranges by rising address, none within another, each with its name.
    #[must_use]
    pub fn finish(mut self, state: &State, labels: &[(Range, String)]) -> Map {
        if !state.ended() {
            let now = state.now();
            if state.is_cut() {
                self.until(state, now.since(self.from.unwrap_or(now)).0);
            }
            self.end(state, now);
        }
        self.drawn(labels)
    }

    /// The last moment.
    fn end(&mut self, state: &State, at: Nanos) {
        if self.columns.len() >= MOST_COLUMNS {
            self.widen();
        }
        self.add(state);
        self.to = at;
    }

    /// Of two columns the later one stays: it is the end of both.
    fn widen(&mut self) {
        let mut is_later = true;
        self.columns.retain(|_| {
            is_later = !is_later;
            is_later
        });
        self.rows = self.columns.iter().flat_map(|column| column.cells.keys().copied()).collect();
        self.width = self.width.saturating_mul(2);
    }

    fn add(&mut self, state: &State) {
        let column = loop {
            match self.column(state) {
                Some(column) => break column,
                None => self.lengthen(),
            }
        };
        self.rows.extend(column.cells.keys().copied());
        self.columns.push(column);
        while self.rows.len() > MOST_ROWS {
            self.lengthen();
        }
    }

    /// This moment; `None`: it has more rows than are kept.
    fn column(&self, state: &State) -> Option<Column> {
        let mut cells = BTreeMap::<u64, Cell>::new();
        for (addr, pages) in state.resident().stretches() {
            let cell = cells.entry(addr / self.stretch).or_default();
            cell.resident = cell.resident.saturating_add(pages);
            if cells.len() > MOST_ROWS {
                return None;
            }
        }
        if self.detail != Detail::Resident {
            let heap = state.heap();
            // What is neither in use nor given back is free. Where nothing tells what is resident, addresses that the heap
            // never got are no part of it.
            let put = |cell: &mut Cell, pages| cell.free = cell.free.saturating_add(pages);
            if self.detail == Detail::All {
                self.each_stretch(state, heap.extents().iter(), &mut cells, put)?;
            } else {
                self.each_stretch(state, heap.told_runs(), &mut cells, put)?;
            }
            self.each_stretch(state, heap.in_use_runs(), &mut cells, |cell, pages| {
                (cell.live, cell.free) = (cell.live.saturating_add(pages), cell.free.saturating_sub(pages));
            })?;
            self.each_stretch(state, heap.given_back_runs(), &mut cells, |cell, pages| {
                cell.free = cell.free.saturating_sub(pages);
            })?;
            self.given_back(state, &mut cells);
        }
        Some(Column { cells, levels: self.levels(state) })
    }

    /// File, anon, shmem: the kernel's counters or, where one was not told yet, the pages that are known.
    fn levels(&self, state: &State) -> [Pages; 3] {
        const MEMBERS: [Member; 3] = [Member::File, Member::Anon, Member::Shmem];
        let told = MEMBERS.map(|member| state.levels().of(member));
        if self.detail == Detail::All && told.contains(&None) {
            let ledger = state.ledger();
            return MEMBERS.map(|member| ledger.level(member));
        }
        told.map(Option::unwrap_or_default)
    }

    /// Shows `put` each cell that `ranges` meet, and its pages there: the resident ones, where the trace tells of those.
    fn each_stretch(
        &self,
        state: &State,
        ranges: impl Iterator<Item = Range>,
        cells: &mut BTreeMap<u64, Cell>,
        put: impl Fn(&mut Cell, u64),
    ) -> Option<()> {
        for range in ranges.filter(|range| !range.is_empty()) {
            if self.detail == Detail::All {
                for (addr, pages) in state.resident().stretches_in(range) {
                    put(cells.entry(addr / self.stretch).or_default(), pages);
                }
                continue;
            }
            let (first, last) = (range.start / self.stretch, range.end.saturating_sub(1) / self.stretch);
            if last.saturating_sub(first) >= MOST_ROWS as u64 {
                return None;
            }
            for row in first..=last {
                let part = self.stretch_of(row).meet(range).unwrap_or_default();
                put(cells.entry(row).or_default(), part.pages().0);
            }
            if cells.len() > MOST_ROWS {
                return None;
            }
        }
        Some(())
    }

    /// Pages that were given back to the kernel and are not resident, in rows that have, or had, anything else: what was
    /// given back may be as large as the address space.
    fn given_back(&self, state: &State, cells: &mut BTreeMap<u64, Cell>) {
        let resident = state.resident();
        let mut put = |range: Range, change: fn(u64, u64) -> u64| {
            let (first, last) = (range.start / self.stretch, range.end.saturating_sub(1) / self.stretch);
            let mut rows: Vec<u64> = cells.range(first..=last).map(|(row, _)| *row).collect();
            rows.extend(self.rows.range(first..=last));
            rows.sort_unstable();
            rows.dedup();
            for row in rows {
                let part = self.stretch_of(row).meet(range).unwrap_or_default();
                let absent = part.pages().0.saturating_sub(resident.count(part).all());
                let cell = cells.entry(row).or_default();
                cell.given_back = change(cell.given_back, absent);
            }
        };
        let of_calls = state.stacks().given_back_ranges();
        let mut ranges: Vec<Range> = of_calls.chain(state.heap().given_back_runs()).collect();
        ranges.sort_unstable();
        let mut open: Option<Range> = None;
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            match &mut open {
                Some(open) if range.start <= open.end => open.end = open.end.max(range.end),
                _ => open.replace(range).into_iter().for_each(|range| put(range, u64::saturating_add)),
            }
        }
        open.into_iter().for_each(|range| put(range, u64::saturating_add));
        // What a heap never used, nobody gave back.
        state.heap().never_used_runs().for_each(|range| put(range, u64::saturating_sub));
    }

    fn stretch_of(&self, row: u64) -> Range {
        Range::of(row.saturating_mul(self.stretch), self.stretch)
    }

    fn lengthen(&mut self) {
        self.stretch = self.stretch.saturating_mul(2);
        for column in &mut self.columns {
            let mut joined = BTreeMap::<u64, Cell>::new();
            for (stretch, cell) in std::mem::take(&mut column.cells) {
                joined.entry(stretch / 2).or_default().add(cell);
            }
            column.cells = joined;
        }
        self.rows = std::mem::take(&mut self.rows).into_iter().map(|stretch| stretch / 2).collect();
    }

    fn drawn(self, labels: &[(Range, String)]) -> Map {
        let mut blocks: Vec<Block> = Vec::new();
        let used = self.columns.iter().flat_map(|column| &column.cells).filter(|(_, cell)| **cell != Cell::default());
        let (mut last, mut room) = (None, MOST_ROWS as u64);
        for stretch in used.map(|(stretch, _)| *stretch).collect::<BTreeSet<u64>>() {
            let here = self.stretch_of(stretch);
            let named = label_of(labels, here);
            let label = named.map(|(_, label)| label.clone()).unwrap_or_default();
            let cells: Vec<Cell> =
                self.columns.iter().map(|column| column.cells.get(&stretch).copied().unwrap_or_default()).collect();
            let gap = blocks.last().map_or(0, |block| here.start.saturating_sub(block.range.end) / self.stretch);
            // Within one mapping, what nobody touched is part of the picture.
            let is_within = named.is_some() && named == last && gap <= MOST_GAP.min(room);
            match blocks.last_mut() {
                Some(block) if block.label == label && (gap == 0 || is_within) => {
                    room = room.saturating_sub(gap);
                    block.rows.extend((0..gap).map(|_| vec![Cell::default(); cells.len()]));
                    block.range.end = here.end;
                    block.rows.push(cells);
                }
                _ => blocks.push(Block { range: here, label, rows: vec![cells] }),
            }
            last = named;
        }
        let from = self.from.unwrap_or_default();
        let to = self.to.since(from);
        let moments = self.columns.iter().zip(1_u64..).map(|(column, number)| {
            let sum = column.cells.values().fold(Cell::default(), |mut sum, cell| {
                sum.add(*cell);
                sum
            });
            Moment { at: Nanos(number.saturating_mul(self.width).min(to.0)), levels: column.levels, sum }
        });
        Map { from: self.skip, width: Nanos(self.width), row: Bytes(self.stretch), moments: moments.collect(), blocks }
    }
}

/// The range that has the most of these addresses, and its name.
fn label_of(labels: &[(Range, String)], here: Range) -> Option<&(Range, String)> {
    let first = labels.partition_point(|(range, _)| range.end <= here.start);
    let there = labels.iter().skip(first).take_while(|(range, _)| range.start < here.end);
    let parts = there.filter_map(|named| Some((named.0.meet(here)?.bytes(), named)));
    parts
        .fold(None::<(Bytes, &(Range, String))>, |most, next| most.filter(|most| most.0 >= next.0).or(Some(next)))
        .map(|(_, named)| named)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::event::{Member, Start};
    use crate::units::{Pfn, Pid, Tid};

    fn grown(frames: u64, step_ns: u64, spread: u64) -> (Growing, Map) {
        let (mut state, mut growing) = (State::new(), Growing::new(Detail::All, Nanos(0)));
        let event = |ts: u64, body: Body| Event { ts: Nanos(ts), cpu: 0, tid: Tid(1), actor: None, body };
        let mut events = vec![event(0, Body::Start { how: Start::Forked, parent: Pid(1) })];
        events.extend((1..=frames).map(|n| {
            let (member, level) = (Member::Anon, Pages(n));
            event(n * step_ns, Body::Frame { addr: Some(n * spread), pfn: Pfn(n), order: 0, member, level })
        }));
        for event in &events {
            growing.before(&state, event);
            state.apply(event);
        }
        (growing.clone(), growing.finish(&state, &[(Range { start: 0, end: u64::MAX }, "all".to_owned())]))
    }

    #[test]
    fn every_page_is_in_the_last_column_whatever_the_resolution() {
        for (frames, step, spread) in [
            (1, 1, 4096),
            (2_000, 1_000, 4096),
            (5_000, 7, STRETCH_BYTES),
            (5_000, 1 << 30, 9 * STRETCH_BYTES),
            (1, u64::MAX, 4096),
        ] {
            let (growing, map) = grown(frames, step, spread);
            assert!(map.moments.len() <= MOST_COLUMNS && growing.rows.len() <= MOST_ROWS);
            let rows: Vec<&Vec<Cell>> = map.blocks.iter().flat_map(|block| &block.rows).collect();
            assert!(rows.iter().all(|row| row.len() == map.moments.len()));
            assert_eq!(rows.iter().map(|row| row.last().unwrap().resident).sum::<u64>(), frames, "{step} {spread}");
            // Of the last moment the map alone knows.
            let columns =
                growing.columns.iter().map(|column| column.cells.values().map(|cell| cell.resident).sum::<u64>());
            assert!(columns.clone().zip(columns.skip(1)).all(|(before, after)| before <= after), "pages only came");
        }
    }
}
