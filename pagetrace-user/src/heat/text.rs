//! A map for people, on a terminal: a line for some neighbouring rows, a letter for some neighbouring moments.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Block, Cell, Heat, Map};
use crate::report::span;
use crate::units::{Bytes, PAGE_BYTES, Pages};

/// Lines of one block.
const MOST_LINES: usize = 8;
/// Columns before the letters.
const MARGIN: usize = 2;
const NARROWEST: usize = 20;
/// By rising share of the addresses that is resident.
const SHADES: [char; 4] = ['\u{2591}', '\u{2592}', '\u{2593}', '\u{2588}'];
/// By rising part of the peak.
const BARS: [char; 8] =
    ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];
const FREE: char = 'o';
const GIVEN_BACK: char = '-';

const RESIDENT_STYLE: Style = AnsiColor::Red.on_default();
const LIVE_STYLE: Style = AnsiColor::Green.on_default();
const FREE_STYLE: Style = AnsiColor::Yellow.on_default();
const GIVEN_BACK_STYLE: Style = AnsiColor::Blue.on_default();

impl Heat {
    /// The `top` blocks that had the most, their cells on lines of at most `width` columns; with colours, which the caller
    /// takes out where they are not wanted.
    #[must_use]
    pub fn text(&self, top: Option<usize>, width: usize) -> String {
        let mut out = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = self.write(top, width.max(NARROWEST).saturating_sub(MARGIN), &mut out);
        out
    }

    fn write(&self, top: Option<usize>, width: usize, out: &mut String) -> fmt::Result {
        let map = &self.map;
        let (from, length) = (map.from.0, map.length().0);
        let to = from.saturating_add(length);
        writeln!(out, "{}: addresses from +{} to +{}", self.title(), span(0, from), span(0, to))?;
        if self.is_empty() {
            return writeln!(out, "no page was there");
        }
        self.legend(out)?;
        if self.has_rss {
            course(map, width, out)?;
        }
        let (blocks, left_out) = map.heaviest(top);
        for block in blocks {
            self.block(block, width, out)?;
        }
        let end = format!("+{}", span(0, to));
        let gap = width.saturating_sub(end.len());
        writeln!(out, "\n  {:<gap$}{end}", format!("+{}", span(0, from)))?;
        if left_out > 0 {
            writeln!(out, "  and {left_out} more ranges (--top)")?;
        }
        if let Some(last) = map.moments.last().filter(|_| self.has_rss) {
            let placed = Pages(last.sum.resident).bytes();
            writeln!(out, "  at the end {placed} of an RSS of {} have an address", last.rss())?;
        }
        Ok(())
    }

    fn legend(&self, out: &mut String) -> fmt::Result {
        let shades: String = SHADES.iter().collect();
        let part = |style: Style, sign: &str, text: &str| format!("{style}{sign}{style:#} {text}");
        let mut parts = Vec::new();
        if self.has_rss {
            parts.push(part(RESIDENT_STYLE, &shades, "resident, up to a quarter and to all of the addresses"));
        }
        if self.has_page_heap() {
            parts.push(part(LIVE_STYLE, &shades, "most of it in use by the page heap"));
            parts.push(part(FREE_STYLE, &FREE.to_string(), "most of it free in the page heap"));
        }
        if self.has_given_back() {
            parts.push(part(GIVEN_BACK_STYLE, &GIVEN_BACK.to_string(), "most of it given back, not resident"));
        }
        for part in parts {
            writeln!(out, "  {part}")?;
        }
        Ok(())
    }

    fn block(&self, block: &Block, width: usize, out: &mut String) -> fmt::Result {
        let moments = self.map.moments.len();
        let used = |cell: Cell| if self.has_rss { cell.resident } else { cell.live };
        let most = (0..moments).map(|at| used(block.at(at))).max().unwrap_or_default();
        let end = used(block.at(moments.saturating_sub(1)));
        let label = if block.label.is_empty() { "[not mapped any more at the end]" } else { &block.label };
        let (most, end) = (Pages(most).bytes(), Pages(end).bytes());
        writeln!(out, "\n{:#x} {label}: {}, most {most}, at the end {end}", block.range.start, block.range.bytes())?;
        let (lines, rows_each) = block.joined(MOST_LINES);
        let whole = (self.map.row.0 / PAGE_BYTES).saturating_mul(rows_each as u64);
        for line in lines {
            write!(out, "{:MARGIN$}", "")?;
            let mut last = Style::new();
            for at in 0..width {
                let cell = line.get(moment_at(at, width, moments)).copied().unwrap_or_default();
                let (letter, style) = self.letter(cell, whole);
                if style != last {
                    write!(out, "{last:#}{style}")?;
                    last = style;
                }
                out.push(letter);
            }
            writeln!(out, "{last:#}")?;
        }
        Ok(())
    }

    fn letter(&self, cell: Cell, whole: u64) -> (char, Style) {
        let told = cell.live.saturating_add(cell.free);
        let there = if self.has_rss { cell.resident } else { told };
        if cell.given_back > there {
            return (GIVEN_BACK, GIVEN_BACK_STYLE);
        }
        if there == 0 {
            return (' ', Style::new());
        }
        let other = there.saturating_sub(told);
        if cell.free > cell.live.max(other) {
            return (FREE, FREE_STYLE);
        }
        let style = if cell.live > other { LIVE_STYLE } else { RESIDENT_STYLE };
        (scaled(&SHADES, there, whole), style)
    }
}

/// The moment at a place of a line: where it stands for more, the last of them.
fn moment_at(at: usize, width: usize, moments: usize) -> usize {
    (at.saturating_add(1).saturating_mul(moments).div_ceil(width.max(1))).saturating_sub(1)
}

/// The sign for `part` of `whole`, of which there is some.
fn scaled(signs: &[char], part: u64, whole: u64) -> char {
    // What is exactly a step belongs to the sign below it.
    let step = (u128::from(part) * signs.len() as u128).div_ceil(u128::from(whole.max(1)));
    let at = usize::try_from(step).unwrap_or(usize::MAX).saturating_sub(1);
    signs.get(at).or(signs.last()).copied().unwrap_or(' ')
}

/// The RSS as one line.
fn course(map: &Map, width: usize, out: &mut String) -> fmt::Result {
    let peak = map.moments.iter().map(|moment| moment.rss().0).max().unwrap_or_default();
    let bars = (0..width).map(|at| {
        let rss = map.moments.get(moment_at(at, width, map.moments.len())).map_or(0, |moment| moment.rss().0);
        if rss == 0 { ' ' } else { scaled(&BARS, rss, peak) }
    });
    writeln!(out, "\nRSS, at most {}\n{:MARGIN$}{}", Bytes(peak), "", bars.collect::<String>())
}
