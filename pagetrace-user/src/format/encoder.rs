//! Events into blocks: the writer of a trace file, without the file.

use bytes::{Bytes, BytesMut};

use super::block::{self, CpuSet, Head, Kind};
use super::encode::{EventWriter, bound};
use super::wire::Out;
use super::{BLOCK_BYTES_MAX, HEAD_BYTES, MAGIC, TEXT_BYTES_MAX, VERSION};
use crate::event::{Event, Header, Trailer};
use crate::units::Nanos;

/// Turns events into the bytes of a trace file.
///
/// What [`Encoder::take_ready`], [`Encoder::flush`] and [`Encoder::finish`] give, one after the other, is the
/// file. Every piece ends with a whole block. Memory: one block, what is ready and not taken, and the frame
/// tables (at most 2.3 MiB, grown as frames come).
#[derive(Debug)]
pub struct Encoder {
    events: EventWriter,
    /// Payload of the open block.
    payload: Out,
    cpus: CpuSet,
    count: u32,
    first: Nanos,
    last: Nanos,
    ready: BytesMut,
    /// Whether `ready` holds a block that was closed because it was full.
    full: bool,
    next_index: u32,
    total_events: u64,
    moved: u64,
    handed_out: u64,
}

impl Encoder {
    /// An encoder whose first bytes are the preamble and `header`.
    #[must_use]
    pub fn new(header: &Header) -> Encoder {
        let mut encoder = Encoder {
            events: EventWriter::new(),
            payload: Out::default(),
            cpus: CpuSet::default(),
            count: 0,
            first: Nanos(0),
            last: Nanos(0),
            ready: BytesMut::new(),
            full: false,
            next_index: 0,
            total_events: 0,
            moved: 0,
            handed_out: 0,
        };
        encoder.ready.extend_from_slice(&preamble());
        encoder.text(Kind::Header, &header_text(header));
        encoder
    }

    /// Adds an event. One that is earlier than the event before it is written with the time of that one, and
    /// counted in [`Encoder::moved`].
    pub fn push(&mut self, event: &Event) {
        let cpus = self.cpus.bytes.len().max(usize::from(event.cpu / 8) + 1);
        if HEAD_BYTES + cpus + self.payload.bytes.len() + bound(event) > BLOCK_BYTES_MAX {
            self.close();
            self.full = true;
        }
        if event.ts < self.last {
            self.moved += 1;
        }
        let ts = event.ts.max(self.last);
        if self.count == 0 {
            self.first = ts;
            self.events.begin(ts);
        }
        self.last = ts;
        self.cpus.add(event.cpu);
        self.count += 1;
        self.total_events += 1;
        self.events.write(event, ts, &mut self.payload);
    }

    /// The blocks that are full, when there are any; the first time with preamble and header before them. To be
    /// asked after every [`Encoder::push`]: what is not taken stays in memory.
    pub fn take_ready(&mut self) -> Option<Bytes> {
        self.full.then(|| self.take())
    }

    /// All bytes of what was pushed so far, the open block closed whatever its size. Empty when nothing is
    /// pending.
    pub fn flush(&mut self) -> Bytes {
        self.close();
        self.take()
    }

    /// The last bytes of the file. Nothing may be pushed afterwards: a reader takes it for damage.
    pub fn finish(&mut self, trailer: &Trailer) -> Bytes {
        self.close();
        let text = serde_json::to_vec(trailer).unwrap_or_default();
        self.text(Kind::Trailer, &text);
        self.take()
    }

    /// Events pushed so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.total_events
    }

    /// Bytes of the blocks closed so far, handed out or ready.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.handed_out + self.ready.len() as u64
    }

    /// Events whose time was moved forward to keep the order.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether events wait in the open block for [`Encoder::flush`].
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.count > 0 || !self.ready.is_empty()
    }

    fn take(&mut self) -> Bytes {
        self.full = false;
        self.handed_out += self.ready.len() as u64;
        self.ready.split().freeze()
    }

    fn close(&mut self) {
        if self.count == 0 {
            return;
        }
        let head = Head {
            index: self.next_index,
            kind: Kind::Events,
            more: false,
            count: self.count,
            first: self.first.0,
            last: self.last.0,
        };
        block::seal(head, &self.cpus.bytes, &self.payload.bytes, &mut self.ready);
        self.next_index = self.next_index.wrapping_add(1);
        self.count = 0;
        self.payload.bytes.clear();
        self.cpus.bytes.clear();
    }

    /// Blocks of one text.
    fn text(&mut self, kind: Kind, text: &[u8]) {
        let mut pieces = text.chunks(BLOCK_BYTES_MAX - HEAD_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let time = self.last.0;
            let more = pieces.peek().is_some();
            let head = Head { index: self.next_index, kind, more, count: 0, first: time, last: time };
            block::seal(head, &[], piece, &mut self.ready);
            self.next_index = self.next_index.wrapping_add(1);
        }
    }
}

fn preamble() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// The header as text. A command line that would make it longer than a reader accepts is left out, with a note.
fn header_text(header: &Header) -> Vec<u8> {
    let text = serde_json::to_vec(header).unwrap_or_default();
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let mut shorter = header.clone();
    shorter.cmdline.clear();
    shorter.notes.push("the command line is too long for the header and left out".to_owned());
    serde_json::to_vec(&shorter).unwrap_or_default()
}
