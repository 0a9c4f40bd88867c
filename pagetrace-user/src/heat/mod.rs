//! Addresses over time: what was resident where and when, what of it an allocator had in use, and what was given back.
//!
//! A column is a moment, a row a stretch of addresses; a cell counts the pages of the stretch at that moment.
//!
//! *Units.* Pages of 4 KiB in cells; times since the first event.
//! *Invariant.* Of a moment, the resident pages of all cells are the page set of the ledger, and what the kernel's counters
//! tell beyond them has no place.

mod growing;
mod svg;
mod text;

use std::io;

use serde::Serialize;

pub use growing::{Detail, Growing, MOST_COLUMNS, MOST_ROWS};

use crate::format::{Outcome, Trace};
use crate::picture::shown;
use crate::replay::{State, Window, difference, fold_watched};
use crate::units::{Bytes, Nanos, PAGE_BYTES, Pages, Range};

/// Blocks that are drawn where nothing else is asked for, and the least of them as a part of the greatest.
const TOP: usize = 10;
const PARTS: u64 = 200;

/// Pages of one stretch at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub resident: u64,
    /// Of those, what a page heap has handed out; of a trace that does not tell what is resident, of all pages.
    pub live: u64,
    /// The same of what it keeps for later: neither handed out nor given back.
    pub free: u64,
    /// Given back to the kernel and not resident.
    pub given_back: u64,
}

impl Cell {
    fn add(&mut self, more: Cell) {
        self.resident = self.resident.saturating_add(more.resident);
        self.live = self.live.saturating_add(more.live);
        self.free = self.free.saturating_add(more.free);
        self.given_back = self.given_back.saturating_add(more.given_back);
    }

    /// Pages that are worth a look.
    fn weight(self) -> u64 {
        self.resident.max(self.live.saturating_add(self.free)).saturating_add(self.given_back)
    }
}

/// All cells of one moment, and what the kernel's counters said then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the map begins.
    pub at: Nanos,
    /// File, anon, shmem.
    pub levels: [Pages; 3],
    pub sum: Cell,
}

impl Moment {
    fn rss(&self) -> Bytes {
        Pages(self.levels.iter().map(|level| level.0).fold(0, u64::saturating_add)).bytes()
    }
}

/// Neighbouring rows of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub range: Range,
    pub label: String,
    /// By rising address: a cell for each moment.
    pub rows: Vec<Vec<Cell>>,
}

impl Block {
    /// All rows at one moment.
    fn at(&self, moment: usize) -> Cell {
        self.rows.iter().filter_map(|row| row.get(moment)).fold(Cell::default(), |mut sum, cell| {
            sum.add(*cell);
            sum
        })
    }

    /// Neighbouring rows as one each, so that there are at most `most`; and how many rows each of them is.
    fn joined(&self, most: usize) -> (Vec<Vec<Cell>>, usize) {
        let rows_each = self.rows.len().div_ceil(most.max(1)).max(1);
        let join = |rows: &[Vec<Cell>]| {
            let mut joined: Vec<Cell> = Vec::new();
            for row in rows {
                joined.resize(row.len().max(joined.len()), Cell::default());
                joined.iter_mut().zip(row).for_each(|(sum, cell)| sum.add(*cell));
            }
            joined
        };
        (self.rows.chunks(rows_each).map(join).collect(), rows_each)
    }
}

/// A map of addresses over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// When it begins, since the first event.
    pub from: Nanos,
    /// The time of a column.
    pub width: Nanos,
    /// Addresses of a row.
    pub row: Bytes,
    pub moments: Vec<Moment>,
    /// By rising address.
    pub blocks: Vec<Block>,
}

impl Map {
    /// How long it is.
    fn length(&self) -> Nanos {
        self.moments.last().map(|moment| moment.at).unwrap_or_default()
    }

    /// The `top` blocks that had the most at any moment, by rising address, and how many are left out; where nothing else
    /// is asked for, [`TOP`] of those that had at least one in [`PARTS`] of what the greatest had.
    fn heaviest(&self, top: Option<usize>) -> (Vec<&Block>, usize) {
        let most = |block: &Block| (0..self.moments.len()).map(|at| block.at(at).weight()).max().unwrap_or_default();
        let mut blocks: Vec<(u64, &Block)> = self.blocks.iter().map(|block| (most(block), block)).collect();
        blocks.sort_by_key(|(most, block)| (std::cmp::Reverse(*most), block.range.start));
        let (all, greatest) = (blocks.len(), blocks.first().map_or(0, |(most, _)| *most));
        if top.is_none() {
            blocks.retain(|(most, _)| most.saturating_mul(PARTS) >= greatest);
        }
        blocks.truncate(top.unwrap_or(TOP));
        blocks.sort_by_key(|(_, block)| block.range.start);
        let left_out = all.saturating_sub(blocks.len());
        (blocks.into_iter().map(|(_, block)| block).collect(), left_out)
    }
}

/// The map of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heat {
    pub comm: String,
    pub tgid: u32,
    /// Whether the trace tells of resident pages at all: a Go runtime's own does not.
    pub has_rss: bool,
    pub map: Map,
}

impl Heat {
    /// Folds a trace: from `since` after the first event, or the first event itself, to `at`, or the end.
    ///
    /// # Errors
    /// When the source cannot be read. Damage is not an error: it is in the outcome.
    pub fn of(trace: &mut impl Trace, window: Window) -> io::Result<(Heat, Outcome)> {
        let has_rss = trace.outcome().go.is_none();
        let detail = if has_rss { Detail::All } else { Detail::Heap };
        let mut growing = Growing::new(detail, window.since.unwrap_or_default());
        let until = Window { since: None, at: window.at };
        let (state, outcome) = fold_watched(trace, until, |_, _| {}, |state, event| growing.before(state, event))?;
        let labels =
            if has_rss { labels(&state) } else { vec![(Range { start: 0, end: u64::MAX }, "[page heap]".to_owned())] };
        let header = trace.header();
        let (comm, _) = state.image().unwrap_or((&header.comm, &header.exe));
        let (comm, tgid) = (comm.to_owned(), header.tgid);
        Ok((Heat { comm, tgid, has_rss, map: growing.finish(&state, &labels) }, outcome))
    }

    /// Whether any page is told of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.blocks.is_empty()
    }

    /// Whether a page heap tells of any page.
    fn has_page_heap(&self) -> bool {
        self.map.moments.iter().any(|moment| moment.sum.live > 0 || moment.sum.free > 0)
    }

    /// Whether anything was given back.
    fn has_given_back(&self) -> bool {
        self.map.moments.iter().any(|moment| moment.sum.given_back > 0)
    }

    /// Whose map it is.
    fn title(&self) -> String {
        if self.has_rss {
            format!("{} ({})", shown(&self.comm), self.tgid)
        } else {
            "page trace of the Go runtime".to_owned()
        }
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        let map = &self.map;
        let columns = map.moments.iter().map(|moment| {
            let (rss, [file, anon, shmem]) = (moment.rss(), moment.levels.map(|level| level.bytes().0));
            let cells = CellLine::of(moment.sum);
            ColumnLine {
                at_ns: map.from.0.saturating_add(moment.at.0),
                rss_bytes: rss.0,
                file_bytes: file,
                anon_bytes: anon,
                shmem_bytes: shmem,
                elsewhere_bytes: difference(Bytes(cells.resident_bytes), rss),
                cells,
            }
        });
        let blocks = map.blocks.iter().map(|block| BlockLine {
            addr: format!("{:#x}", block.range.start),
            bytes: block.range.bytes().0,
            label: &block.label,
            rows: block.rows.iter().map(|row| runs(row)).collect(),
        });
        let lines = Lines {
            comm: &self.comm,
            tgid: self.tgid,
            from_ns: map.from.0,
            to_ns: map.from.0.saturating_add(map.length().0),
            column_ns: map.width.0,
            row_bytes: map.row.0,
            columns: columns.collect(),
            blocks: blocks.collect(),
        };
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(&lines).unwrap_or_default()
    }
}

/// Ranges by rising address, with their names, safe to look at.
pub(crate) fn labels(state: &State) -> Vec<(Range, String)> {
    let ranges = state.snapshot().ranges;
    let mut labels: Vec<(Range, String)> = ranges.into_iter().map(|moved| (moved.range, shown(&moved.label))).collect();
    labels.sort();
    labels
}

#[derive(Serialize)]
struct Lines<'a> {
    comm: &'a str,
    tgid: u32,
    /// Since the first event.
    from_ns: u64,
    to_ns: u64,
    column_ns: u64,
    row_bytes: u64,
    columns: Vec<ColumnLine>,
    blocks: Vec<BlockLine<'a>>,
}

#[derive(Serialize)]
struct ColumnLine {
    at_ns: u64,
    rss_bytes: u64,
    file_bytes: u64,
    anon_bytes: u64,
    shmem_bytes: u64,
    /// What the counters tell beyond the cells.
    elsewhere_bytes: i64,
    #[serde(flatten)]
    cells: CellLine,
}

#[derive(Serialize)]
struct BlockLine<'a> {
    addr: String,
    bytes: u64,
    label: &'a str,
    /// By rising address, each a run of equal cells after the other.
    rows: Vec<Vec<RunLine>>,
}

#[derive(Serialize)]
struct RunLine {
    columns: u64,
    #[serde(flatten)]
    cells: CellLine,
}

#[derive(Serialize)]
struct CellLine {
    resident_bytes: u64,
    live_bytes: u64,
    free_bytes: u64,
    given_back_bytes: u64,
}

impl CellLine {
    fn of(cell: Cell) -> CellLine {
        let bytes = |pages: u64| pages.saturating_mul(PAGE_BYTES);
        CellLine {
            resident_bytes: bytes(cell.resident),
            live_bytes: bytes(cell.live),
            free_bytes: bytes(cell.free),
            given_back_bytes: bytes(cell.given_back),
        }
    }
}

fn runs(row: &[Cell]) -> Vec<RunLine> {
    let same = row.chunk_by(|a, b| a == b);
    same.filter_map(|run| Some(RunLine { columns: run.len() as u64, cells: CellLine::of(*run.first()?) })).collect()
}
