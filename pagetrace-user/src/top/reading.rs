//! The thread that reads: a trace into shots, of its end as it grows, and of moments that are asked for.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::shot::{Folding, Shot, Step};
use crate::event::{Event, Header};
use crate::failure::{Code, Failure};
use crate::format::{Outcome, Trace};
use crate::input::{self, Input};
use crate::units::Nanos;

/// Between two looks at a file that grows.
const SHORTEST: Duration = Duration::from_millis(500);
/// A look may take a part of the time until the next: this one.
const SHARE: u32 = 10;
/// Events between two times that somebody may want something else.
const PATIENCE: u64 = 1 << 16;

/// A wish: its number, and the moment.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub number: u64,
    pub at_ns: Option<u64>,
}

/// What the thread says.
pub enum Said {
    /// Of the wish of this number.
    Shot(u64, Box<Shot>),
    /// How far it has come.
    Progress(String),
    Failed(Failure),
}

/// The thread's end of the talk.
pub struct Reading {
    pub wishes: Receiver<Wish>,
    /// The number of the last wish; `u64::MAX`: it shall end.
    pub newest: Arc<AtomicU64>,
    pub say: Sender<Said>,
}

/// Why the reading of a trace stopped before its end.
enum Stop {
    /// Nobody listens any more.
    Quit,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl Reading {
    /// Reads until nobody listens any more.
    pub fn run(self, path: &Path) {
        if let Err(Stop::Failed(failure)) = self.follow(path) {
            // Whoever quits meanwhile need not know.
            let _ = self.say.send(Said::Failed(failure));
        }
    }

    fn follow(&self, path: &Path) -> Result<(), Stop> {
        let mut wish = Wish { number: 0, at_ns: None };
        let mut trace = input::open(&now_at(path))?;
        let mut folding = Folding::default();
        let (mut is_due, mut pause) = (true, SHORTEST);
        loop {
            let events = self.read_on(path, &mut trace, &mut folding)?;
            let outcome = trace.outcome();
            let goes_on = trace.resume();
            if !goes_on {
                folding.finish(outcome.is_whole());
            }
            is_due |= events > 0;
            // What is half written will be whole at the next look.
            let is_half = goes_on && (folding.is_reading() || outcome.damage.is_some());
            if is_due && wish.at_ns.is_none() && !(is_half && events > 0) {
                if goes_on && folding.is_reading() {
                    // Left so by a recorder that is gone: nobody will end that reading, so it counts for nothing.
                    self.show_past(path, wish.number, Nanos(u64::MAX), &folding.course())?;
                } else {
                    let began = Instant::now();
                    let shot = folding.shot(trace.header(), &outcome);
                    self.say(Said::Shot(wish.number, Box::new(shot)))?;
                    pause = began.elapsed().saturating_mul(SHARE).max(SHORTEST);
                }
                is_due = false;
            }
            let next = match goes_on.then(|| self.wishes.recv_timeout(pause)) {
                None => Some(self.wishes.recv().map_err(|_| Stop::Quit)?),
                Some(Ok(next)) => Some(next),
                Some(Err(RecvTimeoutError::Timeout)) => None,
                Some(Err(RecvTimeoutError::Disconnected)) => return Err(Stop::Quit),
            };
            if let Some(next) = next {
                // Only the last wish counts.
                wish = self.wishes.try_iter().last().unwrap_or(next);
                is_due = true;
                if let Some(at) = wish.at_ns {
                    self.show_past(path, wish.number, Nanos(at), &folding.course())?;
                }
            }
        }
    }

    /// Applies what there is of the trace; how many events that was.
    fn read_on(&self, path: &Path, trace: &mut Input, folding: &mut Folding) -> Result<u64, Stop> {
        let mut events = 0_u64;
        while let Some(event) = trace.next_event().map_err(|error| unreadable(path, &error))? {
            folding.apply(event);
            events = events.saturating_add(1);
            if events.is_multiple_of(PATIENCE) {
                if self.newest.load(Ordering::Relaxed) == u64::MAX {
                    return Err(Stop::Quit);
                }
                self.say(Said::Progress(progress(events, folding.so_far())))?;
            }
        }
        Ok(events)
    }

    /// Folds the file up to a moment, unless another is wished meanwhile.
    fn show_past(&self, path: &Path, number: u64, at: Nanos, course: &[Step]) -> Result<(), Stop> {
        let trace = input::open(&now_at(path))?;
        let mut watched = Watched { trace, reading: self, number, events: 0, first: None, last: Nanos(0) };
        let mut shot = match Shot::at(&mut watched, at) {
            Ok(shot) => shot,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(unreadable(path, &error).into()),
        };
        shot.course = course.to_vec();
        shot.end_ns = watched.so_far().0;
        self.say(Said::Shot(number, Box::new(shot)))
    }

    fn say(&self, said: Said) -> Result<(), Stop> {
        self.say.send(said).map_err(|_| Stop::Quit)
    }
}

/// A trace whose reading can be ended by a newer wish.
struct Watched<'a> {
    trace: Input,
    reading: &'a Reading,
    number: u64,
    events: u64,
    first: Option<Nanos>,
    last: Nanos,
}

impl Watched<'_> {
    fn so_far(&self) -> Nanos {
        self.last.since(self.first.unwrap_or_default())
    }
}

impl Trace for Watched<'_> {
    fn header(&self) -> &Header {
        self.trace.header()
    }

    fn next_event(&mut self) -> io::Result<Option<&Event>> {
        self.events = self.events.saturating_add(1);
        if self.events.is_multiple_of(PATIENCE) {
            let said = self.reading.say.send(Said::Progress(progress(self.events, self.so_far())));
            if said.is_err() || self.reading.newest.load(Ordering::Relaxed) != self.number {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        let event = self.trace.next_event()?;
        if let Some(event) = event {
            self.first.get_or_insert(event.ts);
            self.last = event.ts;
        }
        Ok(event)
    }

    fn outcome(&self) -> Outcome {
        self.trace.outcome()
    }
}

/// Where the file lies now: a recorder that ends takes `.part` off its name.
fn now_at(path: &Path) -> PathBuf {
    if path.extension() == Some(OsStr::new("part")) && !path.exists() {
        return path.with_extension("");
    }
    path.to_owned()
}

fn progress(events: u64, so_far: Nanos) -> String {
    format!("reading: {events} events, up to +{:.1} s", so_far.0 as f64 / 1e9)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot read {}", path.display()), error.to_string(), "")
}
