//! Addresses over time: how much of which part of the address space was resident when.
//!
//! A column is a moment, a row a stretch of addresses; a cell has the pages of the stretch that were resident then.
//!
//! *Bounds.* [`MOST_COLUMNS`] and [`MOST_ROWS`]: when there are more moments, every second one goes; when there are more
//! stretches, each becomes twice as long. Between moments pages may come and go unseen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::event::{Body, Event};
use crate::replay::State;
use crate::replay::resident::STRETCH_BYTES;
use crate::units::{Bytes, Nanos, PAGE_BYTES, Range};

pub const MOST_COLUMNS: usize = 160;
pub const MOST_ROWS: usize = 2048;
/// The time between two moments at first.
const FIRST_WIDTH_NS: u64 = 1_000;

/// Resident pages by number of the stretch.
type Column = BTreeMap<u64, u64>;

/// A map that grows.
#[derive(Clone, Debug)]
pub struct Growing {
    from: Option<Nanos>,
    width: u64,
    /// Each the state at the end of its time.
    columns: Vec<Column>,
    /// Bytes of a stretch, and the numbers of those that any column has or had.
    stretch: u64,
    rows: BTreeSet<u64>,
}

impl Default for Growing {
    fn default() -> Growing {
        Growing {
            from: None,
            width: FIRST_WIDTH_NS,
            columns: Vec::new(),
            stretch: STRETCH_BYTES,
            rows: BTreeSet::new(),
        }
    }
}

impl Growing {
    /// `event` follows on `state`.
    pub fn before(&mut self, state: &State, event: &Event) {
        // What the kernel takes away at the end is no course of the program's, unless it goes on as another one.
        if state.ended() && !matches!(event.body, Body::Exec { .. }) {
            return;
        }
        // The rows of a reading come after what they replace was taken away.
        if matches!(event.body, Body::BaselineMap { .. } | Body::BaselinePages { .. }) {
            return;
        }
        let from = *self.from.get_or_insert(event.ts);
        self.until(state, event.ts.since(from).0);
        if matches!(event.body, Body::Exit { .. } | Body::MmGone) {
            self.end(state);
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
    pub fn finish(mut self, state: &State, labels: &[(Range, String)]) -> Heat {
        if !state.ended() {
            self.end(state);
        }
        self.drawn(labels)
    }

    /// The last moment.
    fn end(&mut self, state: &State) {
        if self.columns.len() >= MOST_COLUMNS {
            self.widen();
        }
        self.add(state);
    }

    /// Of two columns the later one stays: it is the end of both.
    fn widen(&mut self) {
        let mut is_later = true;
        self.columns.retain(|_| {
            is_later = !is_later;
            is_later
        });
        self.rows = self.columns.iter().flat_map(|column| column.keys().copied()).collect();
        self.width = self.width.saturating_mul(2);
    }

    fn add(&mut self, state: &State) {
        let column = loop {
            let mut column = Column::new();
            for (addr, pages) in state.resident().stretches() {
                let sum = column.entry(addr / self.stretch).or_default();
                *sum = sum.saturating_add(pages);
                if column.len() > MOST_ROWS {
                    break;
                }
            }
            if column.len() <= MOST_ROWS {
                break column;
            }
            self.lengthen();
        };
        self.rows.extend(column.keys().copied());
        self.columns.push(column);
        while self.rows.len() > MOST_ROWS {
            self.lengthen();
        }
    }

    fn lengthen(&mut self) {
        self.stretch = self.stretch.saturating_mul(2);
        for column in &mut self.columns {
            let mut joined = Column::new();
            for (stretch, pages) in std::mem::take(column) {
                let sum = joined.entry(stretch / 2).or_default();
                *sum = sum.saturating_add(pages);
            }
            *column = joined;
        }
        self.rows = std::mem::take(&mut self.rows).into_iter().map(|stretch| stretch / 2).collect();
    }

    fn drawn(self, labels: &[(Range, String)]) -> Heat {
        let mut blocks: Vec<Block> = Vec::new();
        for stretch in self.columns.iter().flat_map(|column| column.keys().copied()).collect::<BTreeSet<u64>>() {
            let here = Range::of(stretch.saturating_mul(self.stretch), self.stretch);
            let label = label_of(labels, here);
            let cells = runs(self.columns.iter().map(|column| column.get(&stretch).copied().unwrap_or(0)));
            match blocks.last_mut() {
                Some(block) if block.range.end == here.start && block.label == label => {
                    block.range.end = here.end;
                    block.rows.push(cells);
                }
                _ => blocks.push(Block { range: here, label, rows: vec![cells] }),
            }
        }
        let hex = |addr: u64| format!("{addr:#x}");
        Heat {
            width_ns: self.width,
            columns: self.columns.len(),
            row_pages: self.stretch / PAGE_BYTES,
            blocks: (blocks.into_iter())
                .map(|block| Rows { addr: hex(block.range.start), label: block.label, rows: block.rows })
                .collect(),
        }
    }
}

struct Block {
    range: Range,
    label: String,
    rows: Vec<Vec<[u64; 2]>>,
}

/// Equal neighbours as value and number.
fn runs(cells: impl Iterator<Item = u64>) -> Vec<[u64; 2]> {
    let mut runs: Vec<[u64; 2]> = Vec::new();
    for cell in cells {
        match runs.last_mut() {
            Some([value, times]) if *value == cell => *times = times.saturating_add(1),
            _ => runs.push([cell, 1]),
        }
    }
    runs
}

/// The name of the range that has the most of these addresses.
fn label_of(labels: &[(Range, String)], here: Range) -> String {
    let first = labels.partition_point(|(range, _)| range.end <= here.start);
    let there = labels.iter().skip(first).take_while(|(range, _)| range.start < here.end);
    let parts = there.filter_map(|(range, label)| Some((range.meet(here)?.bytes(), label)));
    let most = parts.fold(None::<(Bytes, &String)>, |most, next| most.filter(|most| most.0 >= next.0).or(Some(next)));
    most.map(|(_, label)| label.clone()).unwrap_or_default()
}

/// A map, as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heat {
    /// The time of a column; the first begins with the recording.
    pub width_ns: u64,
    pub columns: usize,
    /// Pages of a row's addresses.
    pub row_pages: u64,
    /// Neighbouring rows of one name, by rising address.
    pub blocks: Vec<Rows>,
}

/// Rows side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Of the first.
    pub addr: String,
    pub label: String,
    /// Each as runs of equal cells: resident pages, and how many columns.
    pub rows: Vec<Vec<[u64; 2]>>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::event::{Member, Start};
    use crate::units::{Pages, Pfn, Pid, Tid};

    fn grown(frames: u64, step_ns: u64, spread: u64) -> (Growing, Heat) {
        let (mut state, mut growing) = (State::new(), Growing::default());
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
            let (growing, heat) = grown(frames, step, spread);
            assert!(heat.columns <= MOST_COLUMNS && growing.rows.len() <= MOST_ROWS);
            let rows: Vec<&Vec<[u64; 2]>> = heat.blocks.iter().flat_map(|block| &block.rows).collect();
            assert!(rows.iter().all(|row| row.iter().map(|run| run[1]).sum::<u64>() == heat.columns as u64));
            assert_eq!(rows.iter().map(|row| row.last().unwrap()[0]).sum::<u64>(), frames, "{step} {spread}");
            // Of the last moment the map alone knows.
            let columns = growing.columns.iter().map(|column| column.values().sum::<u64>());
            assert!(columns.clone().zip(columns.skip(1)).all(|(before, after)| before <= after), "pages only came");
        }
    }
}
