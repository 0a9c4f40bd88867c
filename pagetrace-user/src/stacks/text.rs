//! Stacks for people.

use std::fmt::{self, Write};

use super::{Frame, Others, Profile, Sample};
use crate::units::Bytes;

/// Frames of one stack that are shown.
const MOST_FRAMES: usize = 24;

impl Profile {
    /// The `top` heaviest stacks, each from the innermost function outward.
    #[must_use]
    pub fn text(&self, top: usize) -> String {
        let mut out = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = writeln!(out, "{}: {}", self.title, self.weight(self.total));
        let (all, told) = (self.events, self.events_with_stack);
        let _ = match self.others {
            _ if all == told => writeln!(out, "{all} of {all} events have a stack"),
            Others::AsBefore => {
                writeln!(
                    out,
                    "{told} of {all} events have a stack; the others count as the one before them of their thread"
                )
            }
            Others::Apart => writeln!(out, "{told} of {all} events have a stack; the others are told apart"),
        };
        for sample in self.samples.iter().take(top) {
            self.sample(sample, &mut out);
        }
        if self.samples.len() > top {
            let rest: u64 = self.samples.iter().skip(top).map(|sample| sample.value).fold(0, u64::saturating_add);
            let _ = writeln!(out, "\nand {} more stacks with {} (--top)", self.samples.len() - top, self.weight(rest));
        }
        out
    }

    fn sample(&self, sample: &Sample, out: &mut String) {
        let share = if self.total == 0 { 0.0 } else { sample.value as f64 * 100.0 / self.total as f64 };
        let _ = writeln!(out, "\n{}  {share:.1} %", self.weight(sample.value));
        let frames: Vec<&Frame> = self.frames_of(sample).collect();
        for stack in frames.split_inclusive(|frame| frame.is_between()) {
            let (between, stack) = match stack.split_last() {
                Some((last, stack)) if last.is_between() => (Some(last), stack),
                _ => (None, stack),
            };
            // SANITY: writing to a String cannot fail.
            let _ = write_frames(out, stack.iter().copied());
            if let Some(between) = between {
                let _ = writeln!(out, "  {}", between.name);
            }
        }
    }

    fn weight(&self, value: u64) -> String {
        if self.unit == "bytes" { Bytes(value).to_string() } else { value.to_string() }
    }
}

/// Lists frames that are given from the outermost on, the innermost first; the outermost of very many are counted only.
pub(crate) fn write_frames<'a>(
    out: &mut String,
    frames: impl DoubleEndedIterator<Item = &'a Frame> + ExactSizeIterator,
) -> fmt::Result {
    let more = frames.len().saturating_sub(MOST_FRAMES);
    for frame in frames.rev().take(MOST_FRAMES) {
        writeln!(out, "    {frame}")?;
    }
    if more > 0 { writeln!(out, "    and {more} more") } else { Ok(()) }
}

impl fmt::Display for Frame {
    /// On one line: name, source or image.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inlined = if self.inlined { " (inlined)" } else { "" };
        let name = self.name.escape_debug();
        write!(f, "{name}{inlined}")?;
        if !self.file.is_empty() {
            return write!(f, "  {}:{}", self.file.escape_debug(), self.line);
        }
        let image = self.image.rsplit('/').next().unwrap_or_default();
        if image.is_empty() || self.name.starts_with(image) {
            return Ok(());
        }
        write!(f, "  {}", image.escape_debug())
    }
}
