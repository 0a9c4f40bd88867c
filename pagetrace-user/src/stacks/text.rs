//! Stacks for people.

use std::fmt::Write;

use super::{Frame, Profile, Sample};
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
        let _ = match self.events {
            0 => writeln!(out, "no event of the trace has a stack"),
            events => writeln!(
                out,
                "{} of {events} events have a stack of their own; the others count as the one before them of their thread",
                self.events_with_stack
            ),
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
            for frame in stack.iter().rev().take(MOST_FRAMES) {
                let _ = writeln!(out, "    {}", shown(frame));
            }
            if stack.len() > MOST_FRAMES {
                let _ = writeln!(out, "    and {} more", stack.len() - MOST_FRAMES);
            }
            if let Some(between) = between {
                let _ = writeln!(out, "  {}", between.name);
            }
        }
    }

    fn weight(&self, value: u64) -> String {
        if self.unit == "bytes" { Bytes(value).to_string() } else { value.to_string() }
    }
}

/// A frame as one line.
fn shown(frame: &Frame) -> String {
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    let name = frame.name.escape_debug();
    if !frame.file.is_empty() {
        return format!("{name}{inlined}  {}:{}", frame.file.escape_debug(), frame.line);
    }
    let image = frame.image.rsplit('/').next().unwrap_or_default();
    if image.is_empty() || frame.name.starts_with(image) {
        return format!("{name}{inlined}");
    }
    format!("{name}{inlined}  {}", image.escape_debug())
}
