//! How the thread that waits for signals steers the one that captures, and what it hears from it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::units::Nanos;

/// What ends a recording from outside, and how far it is.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicU8,
    abort: AtomicBool,
}

/// Why a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Interrupted = 1,
    Terminated = 2,
    Duration = 3,
    Exited = 4,
}

impl Control {
    /// Asks for an orderly end; the first reason stays.
    pub fn stop(&self, why: Stop) {
        let _ = self.stop.compare_exchange(0, why as u8, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Asks for an end at once, files unfinished.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::SeqCst);
    }

    /// Whether an end at once was asked for.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::SeqCst)
    }

    /// Why it has to end, once it has to.
    #[must_use]
    pub fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Ordering::SeqCst) {
            1 => Some(Stop::Interrupted),
            2 => Some(Stop::Terminated),
            3 => Some(Stop::Duration),
            4 => Some(Stop::Exited),
            _ => None,
        }
    }
}

impl Stop {
    /// As the trailer has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Stop::Interrupted => "interrupted",
            Stop::Terminated => "terminated",
            Stop::Duration => "duration",
            Stop::Exited => "exited",
        }
    }
}

/// Where a recording is, for the line on a terminal.
#[derive(Clone, Debug)]
pub struct Progress {
    pub since: Nanos,
    pub events: u64,
    pub processes: usize,
    pub lost: u64,
    /// What has to be said at once.
    pub warnings: Vec<String>,
}
