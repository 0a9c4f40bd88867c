//! Which live objects keep which pages: memory that stays resident for the sake of little.
//!
//! *What is told.* A resident page that holds a live object cannot be given back. Its bytes are those that live objects were
//! asked for, those next to them that an allocator spends on headers and on rounding ([`room_beside`]), and the rest, which
//! is empty. A dense place has hardly anything empty; a few survivors on many pages have little else.
//! *To whom.* What is empty in a page is charged in equal parts to the stacks that its objects were given to, however many
//! objects each has there: it goes away only when the last of them goes. So the charges add up to what is empty.
//! *Runs.* Of a Go heap, where no objects are recorded, each run that holds objects is charged to the stack that it was handed out
//! to. Small objects of one size share a run: its stack is that of who needed a new one.
//! *When.* At the end of the trace, or just before the end of the process.
//!
//! *Units.* Bytes; pages of 4096 bytes. Where objects were sampled, what else lies on a page is not known: then only the
//! sums by allocator are told.

mod allocators;
mod pages;
mod runs;
mod text;

use std::cmp::Reverse;
use std::io;

use serde::Serialize;

use crate::event::{Body, Header};
use crate::format::{Outcome, Trace};
use crate::replay::State;
use crate::replay::mappings::Mappings;
use crate::replay::resident::Outline;
use crate::stacks::{Frame, Unit, frames_of};
use crate::units::Nanos;

pub use allocators::Allocator;
use pages::Held;
pub use runs::Size;

/// What one stack's objects keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Its part of what is empty.
    pub empty_bytes: u64,
    /// Pages that hold one of its objects, and those of them that hold nothing else; of runs, all in both.
    pub page_bytes: u64,
    pub alone_bytes: u64,
    pub objects: u64,
    /// That they were asked for.
    pub bytes: u64,
    /// When the first and the last of them were given, ns since the recording began.
    pub first_ns: u64,
    pub last_ns: u64,
    /// What they were asked for by: `malloc`; of runs what for: `objects`.
    pub call: &'static str,
    /// The outermost first; empty where no stack was recorded.
    pub frames: Vec<Frame>,
}

/// What live objects keep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frag {
    /// Whether objects are told, or what runs of a page heap hold.
    pub unit: Unit,
    /// Bytes between two samples, 0 for every object; absent: objects were not recorded.
    pub period_bytes: Option<u64>,
    /// From when on objects were recorded, ns since the recording began; absent: from the program's first call on.
    pub since_ns: Option<u64>,
    /// What is younger shares pages, but is charged nothing.
    pub older_than_ns: u64,
    /// Of resident pages that hold an object: all, and of that what objects take, headers and rounding, and what is empty.
    pub page_bytes: u64,
    pub live_bytes: u64,
    pub beside_bytes: u64,
    pub empty_bytes: u64,
    /// What is empty on pages that hold young objects only: charged to nobody.
    pub young_bytes: u64,
    /// Objects that live, and those of them whose end may have been dropped.
    pub objects: u64,
    pub uncertain: u64,
    pub allocators: Vec<Allocator>,
    /// Of runs, by the size of their objects, what has most that is empty first.
    pub sizes: Vec<Size>,
    /// The greatest part of what is empty first.
    pub sites: Vec<Site>,
}

/// Folds all of a trace, and tells what objects keep that were given at least so long before its end.
///
/// # Errors
/// When the source cannot be read. Damage is not an error: it is in the outcome.
pub fn measure(trace: &mut impl Trace, older_than: Nanos) -> io::Result<(Frag, Outcome)> {
    let mut state = State::new();
    let mut moment = None;
    while let Some(event) = trace.next_event()? {
        match event.body {
            // It did not end after all.
            Body::Exec { .. } => moment = None,
            Body::Exit { .. } | Body::MmGone if !state.ended() => moment = Some(Moment::of(&state)),
            _ => {}
        }
        state.apply(event);
    }
    let outcome = trace.outcome();
    state.finish(outcome.is_whole());
    let moment = moment.unwrap_or_else(|| Moment::of(&state));
    Ok((Frag::new(trace.header(), &state, &moment, older_than), outcome))
}

/// What an address space was at one moment.
struct Moment {
    resident: Outline,
    mappings: Mappings,
    now: Nanos,
}

impl Moment {
    fn of(state: &State) -> Moment {
        Moment { resident: state.resident().outline(), mappings: state.mappings().clone(), now: state.now() }
    }
}

impl Frag {
    /// Names come later in a trace than what they name: `state` is that of all of it.
    fn new(header: &Header, state: &State, moment: &Moment, older_than: Nanos) -> Frag {
        let unit = Unit::of(header, state);
        let held = match unit {
            Unit::Run => Held::of_runs(state, older_than),
            Unit::Object => Held::of(header, state, moment, older_than),
        };
        let from = state.tally().first.unwrap_or_default();
        let mut sites: Vec<Site> = held
            .sites
            .into_iter()
            .map(|(stack, sum)| Site {
                empty_bytes: sum.empty,
                page_bytes: sum.pages,
                alone_bytes: sum.alone,
                objects: sum.objects,
                bytes: sum.bytes,
                first_ns: sum.first.unwrap_or_default().since(from).0,
                last_ns: sum.last.since(from).0,
                call: sum.call,
                frames: stack.map(|stack| frames_of(state, stack)).unwrap_or_default(),
            })
            .collect();
        sites.sort_by(|a, b| {
            let key = |site: &Site| Reverse((site.empty_bytes, site.alone_bytes, site.page_bytes));
            (key(a), &a.frames, a.first_ns).cmp(&(key(b), &b.frames, b.first_ns))
        });
        Frag {
            unit,
            period_bytes: header.object_period_bytes,
            since_ns: state.objects().since().map(|since| since.since(from).0),
            older_than_ns: older_than.0,
            page_bytes: held.page_bytes,
            live_bytes: held.live_bytes,
            beside_bytes: held.beside_bytes,
            empty_bytes: held.empty_bytes,
            young_bytes: held.young_bytes,
            objects: held.objects,
            uncertain: held.uncertain,
            allocators: held.allocators,
            sizes: held.sizes,
            sites,
        }
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What an allocator may spend beside an object of this size: a header, and the rounding to the next of its sizes. glibc
/// takes at least 32 bytes and a multiple of 16; jemalloc, tcmalloc and mimalloc have at least four sizes between a power of
/// two and the next. More than that between two objects is room for another one.
#[must_use]
pub fn room_beside(bytes: u64) -> u64 {
    const LEAST: u64 = 32;
    (bytes / 4).max(LEAST)
}
