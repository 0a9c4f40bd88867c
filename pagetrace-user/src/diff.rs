//! What stands behind more or less memory than before: weighted stacks of two traces, or of one at two times.
//!
//! Stacks are the same when they have the same functions in the same order, whatever the lines: another build of a program
//! may be compared with the one before.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::replay::difference;
use crate::stacks::{Frame, Profile, write_frames};
use crate::units::Bytes;

/// One stack before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub before: u64,
    pub after: u64,
    pub change: i64,
    /// The outermost first; as they stand in the later one, where it has them.
    pub frames: Vec<Frame>,
}

/// Everything that changed, the greatest change first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    pub title: &'static str,
    pub unit: &'static str,
    pub before: u64,
    pub after: u64,
    pub change: i64,
    pub changes: Vec<Change>,
}

impl Diff {
    /// Compares two profiles of one kind.
    #[must_use]
    pub fn new(before: &Profile, after: &Profile) -> Diff {
        let mut sums: BTreeMap<Vec<&str>, Change> = BTreeMap::new();
        for (profile, is_later) in [(before, false), (after, true)] {
            for sample in &profile.samples {
                let frames: Vec<&Frame> = profile.frames_of(sample).collect();
                let names = frames.iter().map(|frame| frame.name.as_str()).collect();
                let empty = || Change { before: 0, after: 0, change: 0, frames: Vec::new() };
                let sum = sums.entry(names).or_insert_with(empty);
                let value = if is_later { &mut sum.after } else { &mut sum.before };
                *value = value.saturating_add(sample.value);
                sum.frames = frames.into_iter().cloned().collect();
            }
        }
        let mut changes: Vec<Change> = sums
            .into_values()
            .map(|change| Change { change: difference(Bytes(change.before), Bytes(change.after)), ..change })
            .filter(|change| change.change != 0)
            .collect();
        changes.sort_by(|a, b| {
            let size = |change: &Change| change.change.unsigned_abs();
            size(b).cmp(&size(a)).then_with(|| a.frames.cmp(&b.frames))
        });
        Diff {
            title: after.title,
            unit: after.unit,
            before: before.total,
            after: after.total,
            change: difference(Bytes(before.total), Bytes(after.total)),
            changes,
        }
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The `top` greatest changes, for people.
    #[must_use]
    pub fn text(&self, top: usize) -> String {
        let mut out = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}: {} before, {} after, {}",
            self.title,
            self.weight(self.before),
            self.weight(self.after),
            self.signed(self.change)
        );
        for change in self.changes.iter().take(top) {
            let (before, after) = (self.weight(change.before), self.weight(change.after));
            let _ = writeln!(out, "\n{}  ({before} before, {after} after)", self.signed(change.change));
            let _ = write_frames(&mut out, change.frames.iter());
        }
        if self.changes.len() > top {
            let _ = writeln!(out, "\nand {} more stacks that changed (--top)", self.changes.len() - top);
        }
        out
    }

    fn weight(&self, value: u64) -> String {
        if self.unit == "bytes" { Bytes(value).to_string() } else { value.to_string() }
    }

    fn signed(&self, change: i64) -> String {
        let sign = if change < 0 { '-' } else { '+' };
        format!("{sign}{}", self.weight(change.unsigned_abs()))
    }
}
