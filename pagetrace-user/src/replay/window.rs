//! A part of a trace: what there is at one moment, and what changed since another.
//!
//! Names come later in a trace than what they name, so the rest of the trace is read too, for them alone.

use std::io;

use super::levels::Peak;
use super::tally::Tally;
use super::{MappedFile, State};
use crate::event::{Body, Event};
use crate::format::{Outcome, Trace};
use crate::units::Nanos;

/// Two moments, each so long after the first event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Changes are counted from here on; `None`: from the first reading on, and so where the process had ended by then.
    pub since: Option<Nanos>,
    /// What there is at this moment; `None`: at the end, or just before the process's.
    pub at: Option<Nanos>,
}

/// When a state is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Changes are counted from here on. The last one counts: another program begins anew.
    Base,
    /// This is what there is. The last one counts: a process that seemed to end may run another program.
    End,
}

/// Folds this part of a trace; `look` is shown the state at its moments.
///
/// # Errors
/// When the source cannot be read. Damage is not an error: it is in the outcome.
pub fn fold_within(
    trace: &mut impl Trace,
    window: Window,
    look: impl FnMut(&State, Moment),
) -> io::Result<(State, Outcome)> {
    fold_watched(trace, window, look, |_, _| {})
}

/// The same; `watch` is shown each event of this part, and the state that it follows on.
///
/// # Errors
/// When the source cannot be read.
pub fn fold_watched(
    trace: &mut impl Trace,
    window: Window,
    mut look: impl FnMut(&State, Moment),
    mut watch: impl FnMut(&State, &Event),
) -> io::Result<(State, Outcome)> {
    let mut state = State::new();
    let mut since = window.since;
    while let Some(event) = trace.next_event()? {
        let first = state.tally.first.unwrap_or(event.ts);
        let age = event.ts.since(first);
        if state.is_cut {
            state.learn(event);
            continue;
        }
        state.close_reading_before(event);
        if let Some(from) = since.filter(|from| age > *from || window.at.is_some_and(|at| age > at)) {
            state.begin_changes(Nanos(first.0.saturating_add(from.0)));
            since = None;
        }
        state.look_at_base(&mut look);
        if let Some(at) = window.at.filter(|at| age > *at) {
            state.now = Nanos(first.0.saturating_add(at.0));
            state.is_cut = true;
            if !state.ended() {
                look(&state, Moment::End);
            }
            state.learn(event);
            continue;
        }
        watch(&state, event);
        state.apply_with(event, &mut look);
    }
    let outcome = trace.outcome();
    if !state.is_cut {
        state.finish(outcome.is_whole());
        if since.is_some() {
            state.begin_changes(state.now);
        }
        state.look_at_base(&mut look);
        if !state.ended() {
            look(&state, Moment::End);
        }
    }
    Ok((state, outcome))
}

impl State {
    /// As [`State::apply`]; `look` is shown the state where changes are counted from a new moment on, and just before the
    /// process ends.
    pub fn apply_with(&mut self, event: &Event, look: &mut impl FnMut(&State, Moment)) {
        self.close_reading_before(event);
        self.look_at_base(look);
        if !self.ended() && matches!(event.body, Body::Exit { .. } | Body::MmGone) {
            look(self, Moment::End);
        }
        self.apply(event);
    }

    /// Shows the state where changes are counted from a new moment on, once for each.
    pub fn look_at_base(&mut self, look: &mut impl FnMut(&State, Moment)) {
        if self.bases != self.bases_shown {
            self.bases_shown = self.bases;
            look(self, Moment::Base);
        }
    }

    /// Whether rows of a reading may still be missing: what it replaces is not all there again.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.reading.as_ref().is_some_and(|open| !open.is_end_mark())
    }

    /// Whether the trace goes on after what is told here.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Changes are counted from here on.
    fn begin_changes(&mut self, at: Nanos) {
        if self.ended() {
            return;
        }
        self.set_base(at);
        self.makers.begin_anew();
        let Tally { first, last, events, lost, gap_count, .. } = self.tally;
        let gaps = std::mem::take(&mut self.tally.gaps);
        self.tally = Tally { first, last, events, lost, gap_count, gaps, ..Tally::default() };
        self.peak = Peak { rss: self.levels.resident(), at };
        self.changes_since = Some(at);
    }

    /// Takes from an event what it says of names alone.
    fn learn(&mut self, event: &Event) {
        match &event.body {
            Body::StackNode { .. } | Body::Symbol { .. } | Body::BuildId { .. } => self.stacks.apply(event),
            Body::MapFile { id, path, whole, dev, ino } => {
                let file = MappedFile { path: path.clone(), whole: *whole, dev: *dev, ino: *ino };
                self.files.entry(*id).or_insert(file);
            }
            _ => {}
        }
    }
}
