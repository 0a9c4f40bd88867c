//! Changes of text bytes that are under way, and waiting for them before the process ends.
//!
//! *Why.* A process that ends while the kernel attaches or detaches on its behalf leaves breakpoints that belong to
//! nobody: the targets live on, and pay for each. A whole attachment, in contrast, is taken away at its owner's end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A change under way, until dropped.
pub struct Flight(&'static Flights);

/// Begins a change; `None` when the process is about to end.
pub fn begin() -> Option<Flight> {
    FLIGHTS.begin()
}

/// Waits until no change is under way, on whatever thread, and lets none begin any more: the process may end then.
///
/// *Bound.* That of the kernel's work: it ends by itself.
pub fn settle() {
    FLIGHTS.settle();
}

static FLIGHTS: Flights = Flights::new();

struct Flights {
    state: Mutex<State>,
    landed: Condvar,
}

struct State {
    under_way: usize,
    closed: bool,
}

impl Flights {
    const fn new() -> Flights {
        Flights { state: Mutex::new(State { under_way: 0, closed: false }), landed: Condvar::new() }
    }

    fn begin(&'static self) -> Option<Flight> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.under_way += 1;
        Some(Flight(self))
    }

    fn settle(&self) {
        let mut state = self.lock();
        state.closed = true;
        while state.under_way > 0 {
            state = self.landed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Both fields are set whole: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way = state.under_way.saturating_sub(1);
        self.0.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn an_end_waits_and_lets_nothing_begin() {
        static OWN: Flights = Flights::new();
        static LANDED: AtomicBool = AtomicBool::new(false);
        let flight = OWN.begin();
        assert!(flight.is_some());
        std::thread::scope(|scope| {
            let end = scope.spawn(|| {
                OWN.settle();
                assert!(LANDED.load(Ordering::SeqCst), "it ended in the middle");
            });
            // The end has begun when nothing else may.
            while OWN.begin().is_some() {
                std::thread::yield_now();
            }
            assert!(!end.is_finished());
            LANDED.store(true, Ordering::SeqCst);
            drop(flight);
        });
        assert!(OWN.begin().is_none());
    }
}
