//! Changes of text bytes that are under way, and waiting for them before the process ends.
//!
//! *Why.* A process that ends while the kernel attaches or detaches on its behalf leaves breakpoints that belong to
//! nobody: the targets live on, and pay for each. A whole attachment, in contrast, is taken away at its owner's end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct Flights {
    under_way: usize,
    closed: bool,
}

static FLIGHTS: Mutex<Flights> = Mutex::new(Flights { under_way: 0, closed: false });
static LANDED: Condvar = Condvar::new();

/// A change under way, until dropped.
pub struct Flight(());

/// Begins a change; `None` when the process is about to end.
pub fn begin() -> Option<Flight> {
    let mut flights = lock();
    if flights.closed {
        return None;
    }
    flights.under_way += 1;
    Some(Flight(()))
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut flights = lock();
        flights.under_way = flights.under_way.saturating_sub(1);
        LANDED.notify_all();
    }
}

/// Waits until no change is under way, on whatever thread, and lets none begin any more: the process may end then.
///
/// *Bound.* That of the kernel's work: it ends by itself.
pub fn settle() {
    let mut flights = lock();
    flights.closed = true;
    while flights.under_way > 0 {
        flights = LANDED.wait(flights).unwrap_or_else(PoisonError::into_inner);
    }
}

fn lock() -> MutexGuard<'static, Flights> {
    // Both fields are set whole: a panic elsewhere leaves nothing half done.
    FLIGHTS.lock().unwrap_or_else(PoisonError::into_inner)
}
