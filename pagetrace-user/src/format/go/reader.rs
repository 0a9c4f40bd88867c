//! The words of a file as events, merged by time, then P.
//!
//! *Cost.* Holds the bytes of the file (8 an event, at most [`BYTES_MAX`]) and 16 for each of its buffers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read};

use super::quirks;
use super::scan::{Lane, Scanned, scan};
use super::word::{self, Run, Word};
use crate::event::{Body, Event, Header, HeapRun};
use crate::format::{Damage, Outcome, Trace};
use crate::units::{HEAP_PAGE_BYTES, Nanos, PAGE_BYTES, Tid};

/// Bytes of a file that are read; the rest is left out as damage. A busy program writes so much in half an hour.
const BYTES_MAX: u64 = 1 << 30;

/// Reads a Go runtime's own trace.
#[derive(Debug)]
pub struct GoReader {
    header: Header,
    bytes: Vec<u8>,
    cursors: Vec<Cursor>,
    /// The next event of each P: time, and index into `cursors`, which are in order of the Ps.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    /// The one that is lent.
    event: Option<Event>,
    outcome: Outcome,
}

/// Where the reading of one P is.
#[derive(Debug)]
struct Cursor {
    p: Option<u32>,
    lane: Lane,
    /// Index of the buffer, and byte in the file.
    buffer: usize,
    at: usize,
    base_ns: u64,
    last_ns: u64,
    pending: Option<Run>,
}

impl GoReader {
    /// Reads all of `source`.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn new(source: impl Read) -> io::Result<GoReader> {
        let mut bytes = Vec::new();
        source.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let is_longer = bytes.len() as u64 > BYTES_MAX;
        bytes.truncate(BYTES_MAX as usize);
        let mut found = scan(&bytes);
        if is_longer && found.damage.is_none() {
            let why = "the rest is more than a reader of this form of file holds".to_owned();
            found.damage = Some(Damage { offset: BYTES_MAX, why });
        }
        let outcome = Outcome {
            trailer: None,
            damage: found.damage.clone(),
            events: 0,
            bytes: found.valid as u64,
            blocks: found.buffers,
            go: Some(quirks::judge(&found)),
        };
        let header = header(&found);
        let mut reader = GoReader { header, bytes, cursors: Vec::new(), next: BinaryHeap::new(), event: None, outcome };
        for (p, lane) in found.lanes {
            let at = lane.buffers.first().map_or(0, |&(start, _)| start);
            let cursor = Cursor { p, lane, buffer: 0, at, base_ns: 0, last_ns: 0, pending: None };
            reader.cursors.push(cursor);
            reader.advance(reader.cursors.len().saturating_sub(1));
        }
        Ok(reader)
    }

    /// Finds the next event of a P.
    fn advance(&mut self, index: usize) {
        let Some(cursor) = self.cursors.get_mut(index) else { return };
        cursor.pending = None;
        while let Some(&(_, end)) = cursor.lane.buffers.get(cursor.buffer) {
            if cursor.at >= end {
                cursor.buffer = cursor.buffer.saturating_add(1);
                cursor.at = cursor.lane.buffers.get(cursor.buffer).map_or(0, |&(start, _)| start);
                continue;
            }
            // SANITY: the first pass has read the same words without finding fault.
            let Ok(Some((word, next))) = word::at(&self.bytes, cursor.at) else { return };
            cursor.at = next;
            match word {
                Word::Sync(ns) => cursor.base_ns = ns,
                Word::Buffer(_) => {}
                Word::Event(run) => {
                    cursor.last_ns = cursor.last_ns.max(cursor.base_ns.saturating_add(run.delta_ns));
                    cursor.pending = Some(run);
                    self.next.push(Reverse((cursor.last_ns, index)));
                    return;
                }
            }
        }
    }
}

impl Trace for GoReader {
    fn header(&self) -> &Header {
        &self.header
    }

    fn next_event(&mut self) -> io::Result<Option<&Event>> {
        let Some(Reverse((ns, index))) = self.next.pop() else { return Ok(None) };
        let Some(cursor) = self.cursors.get(index) else { return Ok(None) };
        let (p, pending) = (cursor.p, cursor.pending);
        self.advance(index);
        let Some(Run { act, addr, pages, .. }) = pending else { return Ok(None) };
        self.outcome.events = self.outcome.events.saturating_add(1);
        let body = Body::Heap(HeapRun { act, addr, pages, p, goid: None, span: None });
        Ok(Some(self.event.insert(Event { ts: Nanos(ns), cpu: 0, tid: Tid(0), actor: None, body })))
    }

    fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }
}

fn header(found: &Scanned) -> Header {
    let notes = [
        "a page trace of the Go runtime has no header: process, program, host and wall clock are not known, nor CPU and \
         thread of an event",
        "times are up to 254 ns early; order between different Ps is that of these times",
        "the first page of the heap is missing: the runtime takes it before its tracer starts",
    ];
    Header {
        recorder: "Go runtime".to_owned(),
        page_bytes: PAGE_BYTES,
        heap_page_bytes: HEAP_PAGE_BYTES,
        clock_monotonic: found.first.unwrap_or_default().0,
        notes: notes.map(str::to_owned).to_vec(),
        ..Header::default()
    }
}
