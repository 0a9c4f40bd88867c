//! Arenas in a capture: read on a thread of their own, one process after the other, while records are taken.

use std::collections::VecDeque;
use std::thread::JoinHandle;

use crate::event::{Body, Why};
use crate::failure::Failure;
use crate::live::arenas::{self, Walked};
use crate::live::capture::{BUSY_PAUSE, Capture, End};
use crate::live::clock;
use crate::live::control::Control;
use crate::live::process;
use crate::units::Nanos;

/// Readings of a process at its beginning, and the pause between two: one that changes all the time does not verify each time.
const MOST_TRIES: u32 = 4;
const PAUSE: Nanos = Nanos(1_000_000_000);

/// Processes whose arenas are to be read.
#[derive(Default)]
pub(super) struct Walks {
    due: VecDeque<Due>,
    under_way: Option<Walk>,
}

/// A walk that is to be.
#[derive(Clone, Copy)]
struct Due {
    index: u32,
    why: Why,
    /// Walks before it that gave nothing.
    tried: u32,
    not_before: Nanos,
}

/// A walk through the arenas of one process.
struct Walk {
    due: Due,
    /// Of the address space that it began with.
    owner: u32,
    thread: JoinHandle<Result<Option<Walked>, String>>,
}

impl Capture {
    /// The arenas of these processes are to be read.
    pub(super) fn ask_for_arenas(&mut self, processes: &[u32], why: Why) {
        if self.page_heaps.are_wanted() {
            let due = processes.iter().map(|&index| Due { index, why, tried: 0, not_before: Nanos(0) });
            self.walks.due.extend(due);
        }
    }

    /// Reads the arenas of all processes at the end; an end when an abort comes between.
    pub(super) fn read_arenas(&mut self, control: &Control) -> Result<Option<End>, Failure> {
        let all: Vec<u32> = self.route.targets.keys().copied().collect();
        // What was to be known of the beginning is over.
        self.walks.due.clear();
        self.ask_for_arenas(&all, Why::End);
        while self.walk_arenas() {
            self.settle();
            self.tend(clock::now(), &mut |_| {})?;
            if control.is_aborted() {
                return Ok(Some(self.abort()));
            }
            std::thread::sleep(BUSY_PAUSE);
        }
        Ok(None)
    }

    /// Takes a walk that has ended, and begins the next one. `false` when there is none.
    pub(super) fn walk_arenas(&mut self) -> bool {
        if self.walks.under_way.as_ref().is_some_and(|walk| !walk.thread.is_finished()) {
            return true;
        }
        if let Some(walk) = self.walks.under_way.take() {
            self.walked(walk);
        }
        let now = clock::now();
        while let Some(next) = self.walks.due.iter().position(|due| due.not_before <= now) {
            let Some(due) = self.walks.due.remove(next) else { continue };
            let Some(target) = self.route.targets.get(&due.index) else { continue };
            if target.has_ended() || target.exited.is_some() || target.heap.is_go {
                continue;
            }
            let (pid, owner) = (target.identity.pid, target.owner);
            let thread = std::thread::Builder::new().name("pagetrace".to_owned()).spawn(move || arenas::walk(pid));
            match thread {
                Ok(thread) => {
                    self.walks.under_way = Some(Walk { due, owner, thread });
                    return true;
                }
                Err(error) => self.route.notes.push(format!("the arenas of process {pid} were not read: {error}")),
            }
        }
        false
    }

    fn walked(&mut self, Walk { due, owner, thread }: Walk) {
        let Ok(walked) = thread.join() else { return };
        let at = self.settle();
        let Some(target) = self.route.targets.get_mut(&due.index) else { return };
        let is_same = process::is_still(target.identity.pid, target.identity.start_boottime);
        // It is gone, or runs another program.
        if !is_same || target.has_ended() || target.owner != owner {
            return;
        }
        match walked {
            Ok(Some(walked)) => {
                let body = Body::ArenaReading { why: due.why, name: walked.name, path: walked.path };
                target.push_own(at, 0, body, &self.route.writer);
                for (arena, rows) in walked.arenas {
                    target.push_own(at, 0, Body::Arena(arena), &self.route.writer);
                    for row in rows {
                        target.push_own(at, 0, Body::ArenaPages(row), &self.route.writer);
                    }
                }
            }
            Ok(None) => {}
            // At the end it has to be now; that reading is due already, if this one took so long.
            Err(_)
                if due.why == Why::Start
                    && due.tried + 1 < MOST_TRIES
                    && !self.walks.due.iter().any(|other| other.index == due.index) =>
            {
                let not_before = Nanos(clock::now().0.saturating_add(PAUSE.0));
                self.walks.due.push_back(Due { tried: due.tried + 1, not_before, ..due });
            }
            Err(why) => {
                if target.told.insert(why.clone()) {
                    self.route.notes.push(format!("{} ({}): {why}", target.comm, target.identity.pid));
                    target.notes.push(why);
                }
            }
        }
    }
}
