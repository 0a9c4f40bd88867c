//! One pass over a trace, and all that a page shows of it.

use std::io;

use super::flame::Flame;
use super::heat::Heat;
use super::{Drawn, timeline};
use crate::format::{Outcome, Trace};
use crate::heat::{self, Detail};
use crate::leaks::Leaks;
use crate::replay::State;
use crate::report::Report;
use crate::stacks::{Of, Unit, Weighing};
use crate::units::Nanos;

/// The flame graphs, in their order.
const FLAMES: [Of; 6] = [Of::Resident, Of::Mapped, Of::Returned, Of::Faults, Of::Heap, Of::Objects];

/// All that is known of a trace.
pub(super) struct Folded {
    pub report: Report,
    /// Where objects were recorded, or the runs of a page heap.
    pub leaks: Option<Leaks>,
    pub drawn: Drawn,
    pub outcome: Outcome,
}

/// Folds all of a trace; lists hold at most `top` lines.
pub(super) fn fold(trace: &mut impl Trace, top: usize) -> io::Result<Folded> {
    let mut state = State::new();
    let mut weighing = Weighing::new(None);
    FLAMES.into_iter().for_each(|of| weighing.add(of));
    let (mut timeline, mut map) = (timeline::Growing::default(), heat::Growing::new(Detail::Resident, Nanos(0)));
    while let Some(event) = trace.next_event()? {
        weighing.before(&state, event);
        map.before(&state, event);
        state.apply(event);
        timeline.after(&state, event);
    }
    let outcome = trace.outcome();
    state.finish(outcome.is_whole());
    let header = trace.header();
    let report = Report::new(header, &state, &outcome, top);
    let mut flame = |of| Flame::of(of, &weighing.profile(header, &state, of));
    let flames =
        if state.stacks().is_empty() { Vec::new() } else { FLAMES.into_iter().filter_map(&mut flame).collect() };
    let has_leaks = header.object_period_bytes.is_some() || Unit::of(header, &state) == Unit::Run;
    let leaks = has_leaks.then(|| Leaks::new(header, &state, Nanos(0)));
    let drawn = Drawn {
        from_ns: report.from_ns,
        to_ns: report.to_ns,
        peak_ns: report.peak_ns,
        has_rss: report.go.is_none(),
        timeline: timeline.finish(),
        flames,
        heat: Heat::of(map.finish(&state, &heat::labels(&state))),
    };
    Ok(Folded { report, leaks, drawn, outcome })
}
