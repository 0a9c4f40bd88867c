//! One report as a page: all that the other views of a trace say, with its course over time, in one file.
//!
//! The page needs nothing but itself: no network, no fonts, no scripts of others. It is a function of the trace alone.
//! Text stands in it as text and can be read without scripts; what is drawn (the timeline, the flame graphs, the map of
//! addresses) comes as JSON in the page and is drawn by its own script.
//!
//! *Order.* What to trust, the books, the course over time, what came back, the allocator's page heap and objects, the
//! stacks, the addresses, who moved, leaks, counts.
//!
//! *Safety.* Names of a traced machine are hostile until escaped: the template escapes all text, and in the JSON no `<`,
//! `>` or `&` stands. Letters that are not seen, or turn the direction of others, become escapes.
//!
//! *Bounds.* One pass over the events. Beside the state, the timeline keeps at most [`timeline::MOST_BUCKETS`] buckets and
//! the map of addresses is one of [`crate::heat`]; both halve their resolution as the trace grows.

mod arenas;
pub mod flame;
mod fold;
pub mod heat;
mod ledger;
mod page;
mod tables;
pub mod timeline;
mod trust;

use std::io;

use serde::Serialize;

use crate::format::{Outcome, Trace};
use crate::picture::shown;
use flame::Flame;
use heat::Heat;
use timeline::Timeline;

/// What the page's script draws.
#[derive(Clone, Debug, Serialize)]
pub struct Drawn {
    pub from_ns: u64,
    pub to_ns: u64,
    pub peak_ns: u64,
    /// Whether the trace tells of resident pages at all: a Go runtime's own does not.
    pub has_rss: bool,
    pub timeline: Timeline,
    pub flames: Vec<Flame>,
    pub heat: Heat,
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    pub html: String,
    pub drawn: Drawn,
    pub outcome: Outcome,
}

/// The page of a trace; lists of ranges, threads and stacks hold at most `top` lines.
///
/// # Errors
/// When the source cannot be read. Damage is not an error: it is in the outcome, and on the page.
pub fn page(trace: &mut impl Trace, top: usize) -> io::Result<Page> {
    let folded = fold::fold(trace, top)?;
    let html = page::render(&folded).map_err(io::Error::other)?;
    Ok(Page { html, drawn: folded.drawn, outcome: folded.outcome })
}
