//! Events as the words of a file, in buffers as the runtime fills and writes them.
//!
//! *Invariant.* What the runtime wrote and [`super::GoReader`] read comes out the same, word for word, for each P.
//! *Cost.* A buffer of 32 KiB for each P.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::BUFFER_BYTES;
use super::word::{self, DELTA_END_NS, NotInGo, Run};
use crate::event::{Body, Event, HeapAct, HeapRun};

/// Writes a Go runtime's own trace. Events come in time order.
#[derive(Debug)]
pub struct GoWriter<W> {
    out: W,
    /// By P; the threads without one are `None`.
    buffers: BTreeMap<Option<u32>, Buffer>,
    events: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    base_ns: u64,
}

impl<W: Write> GoWriter<W> {
    pub fn new(out: W) -> GoWriter<W> {
        GoWriter { out, buffers: BTreeMap::new(), events: 0 }
    }

    /// Adds an event. What is not of the heap layer has no place in the format and is passed over; `Err` in the result:
    /// it is of the heap layer, and still has none.
    ///
    /// # Errors
    /// When the bytes of a full buffer cannot be written.
    pub fn push(&mut self, event: &Event) -> io::Result<Result<(), NotInGo>> {
        let Body::Heap(HeapRun { act, addr, pages, p, .. }) = event.body else { return Ok(Ok(())) };
        if act == HeapAct::Mark {
            return Ok(Ok(()));
        }
        let ns = event.ts.0;
        let run = |base_ns| Run { act, delta_ns: ns.saturating_sub(base_ns), addr, pages };
        if let Err(error) = word::event(run(ns)) {
            return Ok(Err(error));
        }
        let buffer = self.buffers.entry(p).or_default();
        if buffer.bytes.is_empty() {
            buffer.put(word::buffer(p));
        }
        if ns.saturating_sub(buffer.base_ns) >= DELTA_END_NS {
            buffer.base_ns = ns;
            if buffer.has_room(1) {
                buffer.put(word::sync(ns));
            } else {
                buffer.write(p, ns, &mut self.out)?;
            }
        }
        let is_large = matches!(word::event(run(ns)), Ok((_, Some(_))));
        if !buffer.has_room(if is_large { 2 } else { 1 }) {
            buffer.write(p, ns, &mut self.out)?;
        }
        if let Ok((first, second)) = word::event(run(buffer.base_ns)) {
            buffer.put(first);
            second.into_iter().for_each(|second| buffer.put(second));
            self.events = self.events.saturating_add(1);
        }
        Ok(Ok(()))
    }

    /// Events written so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Writes what the buffers hold, and gives the destination back. `ended`: there was nothing after the last event;
    /// the buffer of no P, which stands last, then tells a reader so.
    ///
    /// # Errors
    /// When the bytes cannot be written.
    pub fn finish(mut self, ended: bool) -> io::Result<W> {
        let without_p = self.buffers.remove(&None);
        for buffer in self.buffers.values() {
            self.out.write_all(&buffer.bytes)?;
        }
        match without_p {
            Some(buffer) => self.out.write_all(&buffer.bytes)?,
            None if ended => self.out.write_all(&word::buffer(None).to_le_bytes())?,
            None => {}
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

impl Buffer {
    fn has_room(&self, words: usize) -> bool {
        self.bytes.len().saturating_add(words.saturating_mul(8)) <= BUFFER_BYTES
    }

    fn put(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }

    /// Writes it out and begins the next one, with the P and a time.
    fn write(&mut self, p: Option<u32>, ns: u64, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.bytes)?;
        self.bytes.clear();
        self.base_ns = ns;
        self.put(word::buffer(p));
        self.put(word::sync(ns));
        Ok(())
    }
}
