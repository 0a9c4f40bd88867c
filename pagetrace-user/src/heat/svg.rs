//! A map as a picture: the RSS by member above, and below it the blocks that have the most, all on one axis of time.

use askama::Template;

use super::{Block, Cell, Heat, Map};
use crate::units::{Bytes, Nanos, PAGE_BYTES, Pages};

const WIDTH: u64 = 1000;
/// Between them lies what is drawn.
const LEFT: u64 = 84;
const RIGHT: u64 = 990;
/// Of the course of the RSS.
const COURSE_TOP: u64 = 98;
const COURSE_HEIGHT: u64 = 120;
const LINE_HEIGHT: u64 = 4;
/// Lines of one block; of more rows, a line is the mean of its rows.
const MOST_LINES: usize = 40;
const LEAST_HEIGHT: u64 = 12;
const LABEL_HEIGHT: u64 = 28;
const AXIS_HEIGHT: u64 = 26;
/// Letters of a label, of which a line has room for so many beside the numbers.
const LABEL_LETTERS: usize = 70;
/// Steps of a part that differ in colour.
const STEPS: u64 = 32;

type Colour = [u64; 3];
const RESIDENT: Colour = [214, 94, 0];
const LIVE: Colour = [38, 132, 78];
const FREE: Colour = [222, 170, 0];
const GIVEN_BACK: Colour = [130, 110, 200];
const PLACED: Colour = [27, 35, 48];
const ABSENT: Colour = [240, 242, 245];
/// File, shmem and anon, from the bottom to the top, and where each stands in the levels.
const MEMBERS: [(&str, &str, usize); 3] = [("file", "#4a7db5", 0), ("shmem", "#57a05a", 2), ("anon", "#ea8a2c", 1)];

#[derive(Template)]
#[template(path = "heat.svg")]
struct Picture {
    width: u64,
    height: u64,
    left: u64,
    right: u64,
    title: String,
    about: String,
    keys: Vec<Key>,
    grid: Vec<Grid>,
    areas: Vec<Area>,
    /// What of the RSS has an address, as a line; empty where that is all of it.
    placed: String,
    blocks: Vec<Drawn>,
    /// Where the axis of time is.
    axis: u64,
    ticks: Vec<Tick>,
    rest: String,
}

struct Key {
    x: u64,
    /// Of its text.
    y: u64,
    fill: String,
    text: &'static str,
}

struct Grid {
    y: u64,
    text: String,
}

struct Area {
    path: String,
    fill: &'static str,
}

struct Drawn {
    y: u64,
    height: u64,
    label: String,
    about: String,
    size: String,
    rects: Vec<Rect>,
}

struct Rect {
    x: u64,
    y: u64,
    width: u64,
    height: u64,
    fill: String,
}

struct Tick {
    x: u64,
    anchor: &'static str,
    text: String,
}

impl Heat {
    /// The `top` blocks that had the most, as a picture.
    ///
    /// # Errors
    /// None that a trace could cause: only those of the template engine itself.
    pub fn svg(&self, top: Option<usize>) -> Result<String, askama::Error> {
        let map = &self.map;
        let (heaviest, left_out) = map.heaviest(top);
        let mut y = if self.has_rss { COURSE_TOP + COURSE_HEIGHT } else { COURSE_TOP - LABEL_HEIGHT };
        let mut blocks = Vec::new();
        for block in heaviest {
            y = y.saturating_add(LABEL_HEIGHT);
            let drawn = self.drawn(block, y);
            y = y.saturating_add(drawn.height);
            blocks.push(drawn);
        }
        let axis = y.saturating_add(4);
        let more = (left_out > 0).then(|| format!("and {left_out} more ranges with less (--top)"));
        let rest = more.into_iter().chain(self.without_address()).collect::<Vec<_>>().join("; ");
        let (row, column) = (map.row, seconds(map.width));
        let picture = Picture {
            width: WIDTH,
            height: axis.saturating_add(AXIS_HEIGHT).saturating_add(if rest.is_empty() { 0 } else { 24 }),
            left: LEFT,
            right: RIGHT,
            title: format!("{}: addresses over time", self.title()),
            about: if self.has_rss {
                format!(
                    "above, the RSS by member; below, addresses downward: {row} a row, {column} a column; the stronger, the more is resident"
                )
            } else {
                format!("addresses downward: {row} a row, {column} a column; the stronger, the more of it")
            },
            keys: self.keys(),
            grid: if self.has_rss { grid(map) } else { Vec::new() },
            areas: if self.has_rss { areas(map) } else { Vec::new() },
            placed: if self.is_all_placed() { String::new() } else { placed(map) },
            blocks,
            axis,
            ticks: ticks(map),
            rest,
        };
        picture.render()
    }

    /// Whether the cells are all of the RSS, always.
    fn is_all_placed(&self) -> bool {
        !self.has_rss || self.map.moments.iter().all(|moment| Pages(moment.sum.resident).bytes() >= moment.rss())
    }

    fn without_address(&self) -> Option<String> {
        let last = self.map.moments.last().filter(|_| !self.is_all_placed())?;
        let placed = Pages(last.sum.resident).bytes();
        Some(format!("at the end {placed} of an RSS of {} have an address", last.rss()))
    }

    /// What the colours mean: of the RSS, and below it of the cells.
    fn keys(&self) -> Vec<Key> {
        let (mut of_rss, mut of_cells): (Vec<(String, &'static str)>, Vec<_>) = Default::default();
        if self.has_rss {
            let moments = &self.map.moments;
            let has =
                |place: usize| moments.iter().any(|moment| moment.levels.get(place).is_some_and(|pages| pages.0 > 0));
            let there = MEMBERS.into_iter().filter(|(_, _, place)| has(*place));
            of_rss.extend(there.map(|(name, fill, _)| (fill.to_owned(), name)));
            if !self.is_all_placed() {
                of_rss.push((hex(PLACED), "of the RSS, what has an address"));
            }
            of_cells.push((hex(RESIDENT), "resident"));
        }
        if self.has_page_heap() {
            of_cells.extend([(hex(LIVE), "in use by the page heap"), (hex(FREE), "free in the page heap")]);
        }
        if self.has_given_back() {
            of_cells.push((hex(GIVEN_BACK), "given back, not resident"));
        }
        let lines = [of_rss, of_cells].into_iter().filter(|line| !line.is_empty());
        let placed = lines.zip(0_u64..).flat_map(|(line, number)| {
            let mut x = LEFT;
            line.into_iter().map(move |(fill, text)| {
                let key = Key { x, y: 62 + 18 * number, fill, text };
                x = x.saturating_add(text.len() as u64 * 8 + 36);
                key
            })
        });
        placed.collect()
    }

    fn drawn(&self, block: &Block, y: u64) -> Drawn {
        let moments = self.map.moments.len();
        let used = |cell: Cell| if self.has_rss { cell.resident } else { cell.live };
        let most = (0..moments).map(|at| used(block.at(at))).max().unwrap_or_default();
        let end = used(block.at(moments.saturating_sub(1)));
        let name = if block.label.is_empty() { "[not mapped any more at the end]" } else { &block.label };
        let label = format!("{:#x} {}", block.range.start, end_of(name));
        let (lines, rows_each) = block.joined(MOST_LINES);
        let line_height =
            (lines.len() as u64).saturating_mul(LINE_HEIGHT).max(LEAST_HEIGHT) / (lines.len() as u64).max(1);
        let mut rects = Vec::new();
        for (line, number) in lines.iter().zip(0_u64..) {
            let rows = (self.map.row.0 / PAGE_BYTES).saturating_mul(rows_each as u64);
            let mut at = 0;
            for run in line.chunk_by(|a, b| self.colour(*a, rows) == self.colour(*b, rows)) {
                let (from, to) = (column(at, moments), column(at + run.len(), moments));
                at += run.len();
                let fill = run.first().and_then(|cell| self.colour(*cell, rows));
                let y = y.saturating_add(number.saturating_mul(line_height));
                rects.extend(fill.map(|fill| Rect {
                    x: from,
                    y,
                    width: to.saturating_sub(from),
                    height: line_height,
                    fill: hex(fill),
                }));
            }
        }
        Drawn {
            y,
            height: line_height.saturating_mul(lines.len() as u64),
            label,
            about: format!("most {}, at the end {}", Pages(most).bytes(), Pages(end).bytes()),
            size: block.range.bytes().to_string(),
            rects,
        }
    }

    /// The colour of a cell, of `rows` pages; `None`: nothing is there.
    fn colour(&self, cell: Cell, rows: u64) -> Option<Colour> {
        let told = cell.live.saturating_add(cell.free);
        let other = if self.has_rss { cell.resident.saturating_sub(told) } else { 0 };
        let parts = [(other, RESIDENT), (cell.live, LIVE), (cell.free, FREE), (cell.given_back, GIVEN_BACK)];
        // In steps, so that cells that look alike are drawn as one.
        let step = |pages: u64| u128::from(pages).saturating_mul(u128::from(STEPS)).div_ceil(u128::from(rows.max(1)));
        let parts = parts.map(|(pages, colour)| (step(pages).min(u128::from(STEPS)) as u64, colour));
        let sum: u64 = parts.iter().map(|(part, _)| part).sum();
        if sum == 0 {
            return None;
        }
        // A single page is seen, too: the root of the part, from a sixth on.
        let strength = 171 + (853 * (sum.min(STEPS) * 1024 * 1024 / STEPS).isqrt() / 1024).min(853);
        let mut mixed = ABSENT;
        for (at, value) in mixed.iter_mut().enumerate() {
            let strong: u64 =
                parts.iter().map(|(part, colour)| part * colour.get(at).copied().unwrap_or_default()).sum();
            *value = (*value * (1024 - strength) + strong / sum * strength) / 1024;
        }
        Some(mixed)
    }
}

/// Where a column begins.
fn column(at: usize, columns: usize) -> u64 {
    let wide = u128::from(RIGHT - LEFT);
    LEFT + u64::try_from(at as u128 * wide / (columns.max(1) as u128)).unwrap_or(RIGHT - LEFT).min(RIGHT - LEFT)
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The last letters of a name, which say more than the first.
fn end_of(name: &str) -> String {
    let letters = name.chars().count();
    if letters <= LABEL_LETTERS {
        return name.to_owned();
    }
    let end: String = name.chars().skip(letters - LABEL_LETTERS + 3).collect();
    format!("...{end}")
}

fn seconds(time: Nanos) -> String {
    match time.0 {
        ns if ns < 1_000_000 => format!("{} us", ns as f64 / 1e3),
        ns if ns < 1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        ns => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn peak(map: &Map) -> u64 {
    map.moments.iter().map(|moment| moment.rss().0).max().unwrap_or_default().max(PAGE_BYTES)
}

/// Where a level is drawn.
fn height_of(bytes: u64, peak: u64) -> u64 {
    let up = u128::from(bytes) * u128::from(COURSE_HEIGHT) / u128::from(peak.max(1));
    (COURSE_TOP + COURSE_HEIGHT).saturating_sub(u64::try_from(up).unwrap_or(COURSE_HEIGHT))
}

fn grid(map: &Map) -> Vec<Grid> {
    let peak = peak(map);
    let mut step = PAGE_BYTES;
    while peak / step > 4 {
        step = step.saturating_mul(2);
    }
    (0..=peak / step).map(|n| n * step).map(|at| Grid { y: height_of(at, peak), text: Bytes(at).to_string() }).collect()
}

/// The members of the RSS, one upon the other.
fn areas(map: &Map) -> Vec<Area> {
    let (peak, columns) = (peak(map), map.moments.len());
    let mut below = vec![0_u64; columns];
    let mut areas = Vec::new();
    for (_, fill, place) in MEMBERS {
        let above: Vec<u64> = (map.moments.iter().zip(&below))
            .map(|(moment, below)| {
                below.saturating_add(moment.levels.get(place).copied().unwrap_or_default().bytes().0)
            })
            .collect();
        let mut path = String::new();
        let steps = (0..columns).map(|at| (column(at, columns), column(at + 1, columns)));
        for ((from, to), bytes) in steps.clone().zip(&above) {
            let (y, first) = (height_of(*bytes, peak), if path.is_empty() { 'M' } else { 'L' });
            path += &format!("{first}{from} {y}H{to}");
        }
        for ((from, to), bytes) in steps.rev().zip(below.iter().rev()) {
            path += &format!("L{to} {}H{from}", height_of(*bytes, peak));
        }
        if above != below {
            areas.push(Area { path: path + "Z", fill });
        }
        below = above;
    }
    areas
}

/// The pages of all cells.
fn placed(map: &Map) -> String {
    let (peak, columns) = (peak(map), map.moments.len());
    let steps = map.moments.iter().enumerate().map(|(at, moment)| {
        let y = height_of(Pages(moment.sum.resident).bytes().0, peak).max(COURSE_TOP);
        format!("{}{} {y}H{}", if at == 0 { 'M' } else { 'L' }, column(at, columns), column(at + 1, columns))
    });
    steps.collect()
}

fn ticks(map: &Map) -> Vec<Tick> {
    const MOST_TICKS: u64 = 8;
    let length = map.length().0;
    let mut step: u64 = 1_000;
    'found: loop {
        for times in [1, 2, 5] {
            if length / step.saturating_mul(times) <= MOST_TICKS {
                step = step.saturating_mul(times);
                break 'found;
            }
        }
        step = step.saturating_mul(10);
    }
    let whole = u128::from(map.width.0).saturating_mul(map.moments.len() as u128).max(1);
    let digits = 9_usize.saturating_sub(step.ilog10() as usize);
    (0..=length / step)
        .map(|n| n.saturating_mul(step))
        .map(|at| {
            let x = LEFT + u64::try_from(u128::from(at) * u128::from(RIGHT - LEFT) / whole).unwrap_or(RIGHT - LEFT);
            let time = Nanos(map.from.0.saturating_add(at)).as_secs_f64();
            // What stands at the very right would not be on the picture.
            let anchor = if x + 30 > RIGHT { "end" } else { "middle" };
            Tick { x, anchor, text: format!("+{time:.digits$} s") }
        })
        .collect()
}
