//! Page heaps in a capture: attaching to those of processes that come into view, and reading what was there before.

use std::io;
use std::sync::Arc;

use crate::event::{Body, HeapRun, Start, Why};
use crate::live::capture::Capture;
use crate::live::clock;
use crate::live::decode::{What, decode};
use crate::live::merge::Words;
use crate::live::spans::{self, Contents, Row};
use crate::live::target::Structure;
use crate::live::tcmalloc::{Asked, Found, Library};
use crate::units::Nanos;

/// How long what a probe of tcmalloc's tells takes to come true, under the heap's lock.
const COMES_TRUE_SOON: Nanos = Nanos(1_000_000);
/// How often a heap of tcmalloc's is read at once until two readings agree, how long until the next try, and how many.
const MOST_TRIES: u32 = 6;
const PUT_OFF: Nanos = Nanos(200_000_000);
const MOST_PUT_OFF: u32 = 100;

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
        let (owner, pid) = (target.owner, target.identity.pid);
        let (Some(why), Some(root), Some(structure)) =
            (target.heap.due.take(), target.heap.root, target.heap.structure())
        else {
            return false;
        };
        let mut before: Vec<HeapRun> = target.heap.recent.iter().map(|(_, run)| *run).collect();
        if let Structure::Tcmalloc(..) = structure {
            before = spans::of_tcmalloc(&before);
        }
        let mut last = target.heap.recent.back().map_or(Nanos(0), |(ts, _)| *ts);
        // What came while it was read puts the reading right, before it comes into the file itself.
        let (mut held, mut meanwhile): (Vec<(Nanos, Words)>, Vec<HeapRun>) = (Vec::new(), Vec::new());
        let mut earlier: Option<Vec<Row>> = None;
        let mut tries = 0;
        let contents = loop {
            let from = clock::now();
            let contents = match &structure {
                Structure::Go(offsets, attached) => spans::read(pid, root, offsets, &attached.all_ps),
                Structure::Tcmalloc(plan, map) => spans::tcmalloc::read(pid, root, plan, map),
            };
            let known = held.len();
            self.merge.settle(&mut |ts, words| held.push((ts, *words)));
            for (ts, words) in held.iter().skip(known) {
                let record = decode(*ts, words);
                if let What::Heap { run, .. } = record.what
                    && record.owner == owner
                {
                    meanwhile.push(run);
                    last = last.max(*ts);
                }
            }
            tries += 1;
            let contents = match (&structure, contents) {
                (Structure::Tcmalloc(..), Ok(contents)) => contents,
                (_, contents) => break contents,
            };
            // Nothing happened, nothing was under way.
            let is_quiet = last < Nanos(from.0.saturating_sub(COMES_TRUE_SOON.0));
            if is_quiet && earlier.as_ref() == Some(&contents.rows) {
                break Ok(contents);
            }
            earlier = is_quiet.then_some(contents.rows);
            if tries >= MOST_TRIES {
                self.put_off(index, why);
                break Err(io::ErrorKind::WouldBlock.into());
            }
        };
        match contents {
            Ok(Contents { rows, is_whole }) => {
                if !is_whole {
                    self.route.notes.push(format!(
                        "the list of the Ps of process {pid} was not found: up to 64 pages that each had put aside when its page \
                         heap was read count as having memory"
                    ));
                }
                if let Some(target) = self.route.targets.get_mut(&index) {
                    target.heap.put_off = 0;
                    target.push_own(at, 0, Body::HeapReading { why }, &self.route.writer);
                    let rows = spans::settle(&rows, &before, &meanwhile);
                    target.heap.silence.read(at, &rows);
                    for row in rows {
                        let body = Body::BaselineHeap { addr: row.addr, pages: row.pages, state: row.state };
                        target.push_own(at, 0, body, &self.route.writer);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.route.notes.push(format!("the page heap of process {pid} could not be read: {error}")),
        }
        for (ts, words) in held {
            self.route.take(ts, &words);
        }
        self.mute();
        true
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
