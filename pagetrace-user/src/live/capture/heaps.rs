//! Page heaps in a capture: attaching to those of processes that come into view, and reading what was there before.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::event::{Body, HeapRun, Start, Why};
use crate::live::capture::Capture;
use crate::live::clock;
use crate::live::decode::{What, decode};
use crate::live::merge::Words;
use crate::live::spans::{self, Contents, Row};
use crate::live::target::Structure;
use crate::live::tcmalloc::{Asked, Found, Library};
use crate::units::{Nanos, Pid};

/// How long what a probe of tcmalloc's tells takes to come true, under the heap's lock.
const COMES_TRUE_SOON: Nanos = Nanos(1_000_000);
/// How often a heap of tcmalloc's is read at once until two readings agree, how long until the next try, and how many.
const MOST_TRIES: u32 = 6;
const PUT_OFF: Nanos = Nanos(200_000_000);
const MOST_PUT_OFF: u32 = 100;

/// A record that waits: its time, its words and its tail.
type Taken = (Nanos, Words, Vec<u64>);

impl Capture {
    /// Attaches to the page heaps of the processes that came into view since.
    pub(super) fn attend(&mut self) {
        for (index, how) in std::mem::take(&mut self.route.to_attend) {
            let Some(target) = self.route.targets.get_mut(&index).filter(|target| !target.has_ended()) else {
                continue;
            };
            let found = self.heaps.of_process(&mut self.kernel, target.identity.pid);
            // A program that was attached to before it began has no past that has to be read.
            let is_whole = how == Start::Executed && found.as_ref().is_some_and(|found| found.was_there);
            target.heap.due = (!is_whole && found.is_some()).then_some(Why::Start);
            target.heap.attached = found.map(|found| found.attached);
            target.heap.is_go = target.heap.attached.is_some();
            self.kernel.has_frame_pointers(target.identity.pid, target.heap.is_go);
            self.attend_libraries(index);
            self.attend_objects(index);
        }
        for index in std::mem::take(&mut self.route.to_look_at) {
            self.attend_libraries(index);
            self.attend_objects(index);
        }
    }

    /// Attaches to the page heaps of the libraries that a process has mapped.
    fn attend_libraries(&mut self, index: u32) {
        let Some(target) = self.route.targets.get(&index).filter(|target| !target.has_ended()) else { return };
        let asked = Asked { pid: target.identity.pid, began: target.heap.began, is_go: target.heap.is_go };
        let looked = self.page_heaps.of_process(&mut self.kernel, asked);
        let is_new = |library: &Arc<Library>| !target.heap.libraries.iter().any(|known| Arc::ptr_eq(known, library));
        let new: Vec<Found> = looked.libraries.into_iter().filter(|found| is_new(&found.library)).collect();
        // Nothing is known of what such a heap did until now.
        let has_past = target.heap.libraries.is_empty() && new.iter().any(|found| !found.whole);
        let at = if has_past { self.settle() } else { Nanos(0) };
        let Some(target) = self.route.targets.get_mut(&index) else { return };
        if has_past {
            target.push_own(at, 0, Body::HeapReading { why: Why::Start }, &self.route.writer);
            target.heap.due = Some(Why::Start);
        }
        for Found { library, .. } in new {
            // What the header does not tell any more.
            if !target.is_waiting() && target.told.insert(library.note.clone()) {
                target.notes.push(library.note_with_points());
            }
            target.heap.libraries.push(library);
        }
        for other in looked.others {
            let note = format!("the heap of {other} is not walked: only that of glibc is");
            if target.told.insert(note.clone()) {
                target.notes.push(note);
            }
        }
        let is_go = target.heap.is_go;
        for refusal in looked.refused {
            // That of the C library of every process is no news.
            if target.heap.refused.insert(refusal.clone()) && is_go {
                self.route.notes.push(format!("{} ({}): {refusal}", target.comm, target.identity.pid));
            }
        }
    }

    /// Reads one page heap that is due and whose place is known; `false` when there is none.
    pub(super) fn read_heap(&mut self) -> bool {
        let now = clock::now();
        if !self.route.targets.values().any(|target| target.has_heap_to_read(now)) {
            return false;
        }
        let at = self.settle();
        let found = self.route.targets.iter_mut().find(|(_, target)| target.has_heap_to_read(now));
        let Some((&index, target)) = found else { return false };
        let (Some(why), Some(root), Some(structure)) =
            (target.heap.due.take(), target.heap.root, target.heap.structure())
        else {
            return false;
        };
        match structure {
            Structure::Go(offsets, attached) => {
                self.read_go(index, why, at, |pid| spans::read(pid, root, &offsets, &attached.all_ps))
            }
            Structure::Tcmalloc(plan, map) => {
                self.read_at_rest(index, why, |pid| spans::tcmalloc::read(pid, root, &plan, &map));
            }
        }
        self.mute();
        true
    }

    /// Reads a heap while it goes on.
    fn read_go(&mut self, index: u32, why: Why, at: Nanos, read: impl Fn(Pid) -> io::Result<Contents>) {
        let Some(target) = self.route.targets.get(&index) else { return };
        let (owner, pid) = (target.owner, target.identity.pid);
        let before: Vec<HeapRun> = target.heap.recent.iter().map(|(_, run)| *run).collect();
        let contents = read(pid);
        // What came while it was read puts the reading right, before it comes into the file itself.
        let held = self.hold();
        match contents {
            Ok(Contents { rows, is_whole }) => {
                if !is_whole {
                    self.route.notes.push(format!(
                        "the list of the Ps of process {pid} was not found: up to 64 pages that each had put aside when its page \
                         heap was read count as having memory"
                    ));
                }
                let rows = spans::settle(&rows, &before, &runs_of(&held, owner));
                self.write_reading(index, (at, why), rows);
            }
            Err(error) => self.route.notes.push(format!("the page heap of process {pid} could not be read: {error}")),
        }
        self.release(held);
    }

    /// Reads a heap until two readings agree and no event has come meanwhile; else it is put off.
    fn read_at_rest(&mut self, index: u32, why: Why, read: impl Fn(Pid) -> io::Result<Contents>) {
        let mut earlier: Option<Vec<Row>> = None;
        for _ in 0..MOST_TRIES {
            let at = self.settle();
            let Some(target) = self.route.targets.get(&index).filter(|target| !target.has_ended()) else { return };
            let (owner, pid) = (target.owner, target.identity.pid);
            let last = target.heap.recent.back().map_or(Nanos(0), |(ts, _)| *ts);
            let contents = read(pid);
            let held = self.hold();
            let rows = match contents {
                Ok(contents) => contents.rows,
                Err(error) => {
                    self.route.notes.push(format!("the page heap of process {pid} could not be read: {error}"));
                    return self.release(held);
                }
            };
            // Nothing was under way, nothing happened.
            let is_quiet = at.since(last) > COMES_TRUE_SOON && runs_of(&held, owner).is_empty();
            if is_quiet && earlier.as_ref() == Some(&rows) {
                self.write_reading(index, (at, why), rows);
                return self.release(held);
            }
            earlier = is_quiet.then_some(rows);
            self.release(held);
        }
        self.put_off(index, why);
    }

    /// The records from the last moment that was settled until now.
    fn hold(&mut self) -> Vec<Taken> {
        let mut held = Vec::new();
        self.merge.settle(&mut |ts, words, tail| held.push((ts, *words, tail.to_vec())));
        held
    }

    fn release(&mut self, held: Vec<Taken>) {
        for (ts, words, tail) in held {
            self.route.take(ts, &words, &tail);
        }
    }

    /// Of a process that ends just now there are no rows, and what events told of its heap stays.
    fn write_reading(&mut self, index: u32, (at, why): (Nanos, Why), rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let Some(target) = self.route.targets.get_mut(&index) else { return };
        target.heap.put_off = 0;
        target.push_own(at, 0, Body::HeapReading { why }, &self.route.writer);
        target.heap.silence.read(at, &rows);
        for row in rows {
            let body = Body::BaselineHeap { addr: row.addr, pages: row.pages, state: row.state };
            target.push_own(at, 0, body, &self.route.writer);
        }
    }

    /// Reads what the runs of the page heaps hold, of every process that is there still.
    pub(super) fn read_uses(&mut self) {
        let alive = self.route.targets.iter().filter(|(_, target)| !target.has_ended() && target.exited.is_none());
        for index in alive.map(|(&index, _)| index).collect::<Vec<u32>>() {
            let at = self.settle();
            let Some(target) = self.route.targets.get(&index) else { continue };
            let (Some(root), Some(Structure::Go(offsets, _))) = (target.heap.root, target.heap.structure()) else {
                continue;
            };
            let (owner, pid) = (target.owner, target.identity.pid);
            let read = spans::uses::read(pid, root, &offsets);
            let held = self.hold();
            match read {
                Ok(uses) => {
                    let uses = spans::uses::settle(uses, &runs_of(&held, owner));
                    if let Some(target) = self.route.targets.get_mut(&index) {
                        for used in uses {
                            target.push_own(at, 0, Body::SpanUse(used), &self.route.writer);
                        }
                    }
                }
                // Who ends just now has nothing any more.
                Err(error) if Path::new(&format!("/proc/{pid}/exe")).exists() => {
                    self.route
                        .notes
                        .push(format!("what the page heap of process {pid} holds could not be read: {error}"));
                }
                Err(_) => {}
            }
            self.release(held);
        }
        self.mute();
    }

    /// A heap of tcmalloc's changed whenever it was read: later, perhaps.
    fn put_off(&mut self, index: u32, why: Why) {
        let Some(target) = self.route.targets.get_mut(&index) else { return };
        target.heap.put_off = target.heap.put_off.saturating_add(1);
        if target.heap.put_off > MOST_PUT_OFF {
            return;
        }
        if target.heap.put_off < MOST_PUT_OFF {
            target.heap.due = Some(why);
            target.heap.not_before = Nanos(clock::now().0.saturating_add(PUT_OFF.0));
            return;
        }
        let note = "its page heap changed whenever it was read: its runs are known since the attach only";
        target.notes.push(note.to_owned());
        self.route.notes.push(format!("{} ({}): {note}", target.comm, target.identity.pid));
    }

    /// What there is to say of the page heaps that are recorded.
    #[must_use]
    pub fn heap_notes(&self) -> Vec<String> {
        let targets = || self.route.targets.values().filter(|target| !target.has_ended());
        let libraries = targets().flat_map(|target| {
            let of = format!("{} ({})", target.comm, target.identity.pid);
            target.heap.libraries.iter().map(move |library| format!("{of}: {}", library.note))
        });
        targets()
            .filter_map(|target| {
                let attached: &Arc<_> = target.heap.attached.as_ref()?;
                Some(format!("{} ({}): {}", target.comm, target.identity.pid, attached.note))
            })
            .chain(libraries)
            .collect()
    }
}

/// What these records say of the page heap of an owner.
fn runs_of(held: &[Taken], owner: u32) -> Vec<HeapRun> {
    let records = held.iter().map(|(ts, words, tail)| decode(*ts, words, tail));
    let runs = records.filter_map(|record| match record.what {
        What::Heap { run, .. } if record.owner == owner => Some(run),
        _ => None,
    });
    runs.collect()
}
