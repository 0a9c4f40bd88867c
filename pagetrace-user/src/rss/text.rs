//! What is resident, for people.

use std::fmt::{self, Write};

use super::{By, Line, Rss};
use crate::report::{left, put, shown, signed, span, table};
use crate::stacks::write_frames;
use crate::units::Bytes;

impl Rss {
    /// The first `top` lines.
    #[must_use]
    pub fn text(&self, top: usize) -> String {
        let mut out = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = self.write(top, &mut out);
        out
    }

    fn write(&self, top: usize, out: &mut String) -> fmt::Result {
        let (rss, at) = (Bytes(self.rss_bytes), span(0, self.at_ns));
        writeln!(out, "{} ({}): RSS {rss} at +{at}", shown(&self.comm), self.tgid)?;
        match (self.change_bytes, self.since_ns) {
            (Some(change), Some(since)) => writeln!(out, "change {} since +{}", signed(change), span(0, since))?,
            _ => writeln!(out, "change not known: the trace has no reading of all pages")?,
        }
        if self.by == By::Stack {
            self.stacks(top, out)?;
        } else {
            self.table(top, out)?;
        }
        if self.lines.len() > top {
            let rest = self.lines.iter().skip(top).map(|line| line.bytes).fold(0, u64::saturating_add);
            writeln!(out, "  and {} more with {} (--top)", self.lines.len() - top, Bytes(rest))?;
        }
        writeln!(out, "  unexplained {}, lost {} records", signed(self.unexplained_bytes), self.lost)
    }

    fn table(&self, top: usize, out: &mut String) -> fmt::Result {
        let mut table = table(&["resident", "change", "median age", "oldest", "by"]);
        for line in self.lines.iter().take(top) {
            let (median, oldest) = (age(line.median_age_ns), age(line.oldest_ns));
            table.add_row([Bytes(line.bytes).to_string(), change(line), median, oldest, shown(&line.what)]);
        }
        left(&mut table, 4);
        put(out, &table)
    }

    fn stacks(&self, top: usize, out: &mut String) -> fmt::Result {
        for line in self.lines.iter().take(top) {
            let (bytes, median, oldest) = (Bytes(line.bytes), age(line.median_age_ns), age(line.oldest_ns));
            writeln!(out, "\n{bytes}  change {}, median age {median}, oldest {oldest}", change(line))?;
            write_frames(out, line.frames.iter())?;
        }
        writeln!(out)
    }
}

fn change(line: &Line) -> String {
    line.change_bytes.map_or("?".to_owned(), signed)
}

fn age(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), |ns| format!("{:.1} s", ns as f64 / 1e9))
}
