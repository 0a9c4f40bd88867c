//! Blocks into events: the reader of a trace file, from any stream.
//!
//! *Cost.* Holds one block, the contexts of it, the frame tables (at most 1.5 MiB) and, while it reads header or
//! trailer, their text (at most [`super::TEXT_BYTES_MAX`]), whatever the bytes claim.

use std::io::{self, Read};

use super::block::{self, CpuSet, Head, Kind};
use super::decode::EventReader;
use super::go::GoFile;
use super::wire::{Corrupt, In};
use super::{BLOCK_BYTES_MAX, MAGIC, TEXT_BYTES_MAX, Trace, VERSION};
use crate::event::{Event, Header, Trailer};
use crate::units::Nanos;

/// Why a stream cannot be read as a trace at all.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not a single byte.
    #[error("it is empty")]
    Empty,
    /// Another magic: `start` holds up to 16 bytes of what stands there.
    #[error("it is not a pagetrace file")]
    Foreign { start: Vec<u8> },
    #[error("its format is version {version}, and this program reads up to version {VERSION}")]
    Newer { version: u32 },
    /// Preamble or header are cut or changed: nothing can be read.
    #[error("its header is damaged at byte {offset}: {why}")]
    Header { offset: u64, why: String },
}

/// Where a file stops being what a writer wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Of the first block that cannot be trusted; everything before it is whole.
    pub offset: u64,
    pub why: String,
}

/// How the reading ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// There when the recording was finished.
    pub trailer: Option<Trailer>,
    pub damage: Option<Damage>,
    /// Events read.
    pub events: u64,
    /// Bytes of the valid prefix.
    pub bytes: u64,
    /// Blocks of the valid prefix, header and trailer included; of a Go runtime's own trace, its buffers.
    pub blocks: u64,
    /// Of a Go runtime's own trace, which has no trailer, what it tells of itself instead.
    pub go: Option<GoFile>,
}

impl Outcome {
    /// Whether the file is all that its writer meant to write.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        (self.trailer.is_some() || self.go.as_ref().is_some_and(|go| go.ended)) && self.damage.is_none()
    }

    /// Whether it ends after a whole block, without what ends a file: the writer was killed, or is still writing.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        !self.is_whole() && self.damage.is_none()
    }
}

/// Reads a trace from any stream, block by block.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    header: Header,
    events: EventReader,
    /// The block being read; `payload_at..` of it is not decoded yet.
    block: Vec<u8>,
    payload_at: usize,
    open: Option<OpenBlock>,
    ended: bool,
    /// The block in hand is the first part of one that was being written.
    torn: bool,
    outcome: Outcome,
}

/// What is left to check of the block being read.
#[derive(Debug)]
struct OpenBlock {
    head: Head,
    offset: u64,
    length: u64,
    read: u32,
    cpus: CpuSet,
    last: Nanos,
    cpus_claimed: Vec<u8>,
}

/// What is said of a block of which a part is there.
const CUT: &str = "the file ends in the middle of a block";

enum Loaded {
    Block(Head),
    /// The stream ends here, after a whole block.
    End,
}

/// Why a block cannot be had.
enum Bad {
    Io(io::Error),
    Corrupt(&'static str),
}

impl From<Corrupt> for Bad {
    fn from(corrupt: Corrupt) -> Bad {
        Bad::Corrupt(corrupt.0)
    }
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Bad {
        Bad::Io(error)
    }
}

impl<R: Read> Reader<R> {
    /// Reads preamble and header.
    pub fn new(mut source: R) -> Result<Reader<R>, FormatError> {
        let mut start = Vec::new();
        read_up_to(&mut source, &mut start, 16)?;
        check_preamble(&start)?;
        let mut reader = Reader {
            source,
            header: Header::default(),
            events: EventReader::new(),
            block: Vec::new(),
            payload_at: 0,
            open: None,
            ended: false,
            torn: false,
            outcome: Outcome { bytes: 16, ..Outcome::default() },
        };
        reader.header = reader.read_header().map_err(|bad| match bad {
            Bad::Io(error) => FormatError::Io(error),
            Bad::Corrupt(why) => FormatError::Header { offset: reader.outcome.bytes, why: why.to_owned() },
        })?;
        Ok(reader)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next event, lent until the one after it; `None` at the end of the valid prefix, and ever after.
    pub fn next_event(&mut self) -> Result<Option<&Event>, io::Error> {
        match self.advance() {
            Ok(true) => Ok(Some(self.events.event())),
            Ok(false) => Ok(None),
            Err(Bad::Io(error)) => {
                self.ended = true;
                Err(error)
            }
            Err(Bad::Corrupt(why)) => {
                self.ended = true;
                let offset = self.open.take().map_or(self.outcome.bytes, |open| open.offset);
                self.outcome.damage = Some(Damage { offset, why: why.to_owned() });
                Ok(None)
            }
        }
    }

    /// Goes on where the reading ended, in a stream that has grown since; false where it cannot: behind a trailer, or at
    /// damage that no more bytes mend.
    pub fn resume(&mut self) -> bool {
        let is_torn = self.outcome.damage.as_ref().is_some_and(|damage| damage.why == CUT);
        if self.outcome.trailer.is_some() || (self.outcome.damage.is_some() && !is_torn) {
            return false;
        }
        (self.torn, self.ended, self.outcome.damage) = (is_torn, false, None);
        true
    }

    /// How the reading ended: complete once [`Reader::next_event`] gave `None`.
    pub fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Whether there is another event.
    fn advance(&mut self) -> Result<bool, Bad> {
        while !self.ended {
            if self.open_block_event()? {
                self.outcome.events += 1;
                return Ok(true);
            }
            match self.load()? {
                Loaded::End => self.ended = true,
                Loaded::Block(head) => match head.kind {
                    Kind::Events => self.open(head)?,
                    Kind::Trailer => self.trailer(head)?,
                    Kind::Header => return Err(Bad::Corrupt("a second header")),
                },
            }
        }
        Ok(false)
    }

    /// Reads the next event of the open block; false when it is done, or there is none.
    fn open_block_event(&mut self) -> Result<bool, Bad> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let mut rest = In { rest: self.block.get(self.payload_at..).unwrap_or_default() };
        if open.read < open.head.count {
            self.events.read(&mut rest)?;
            let event = self.events.event();
            self.payload_at = self.block.len().saturating_sub(rest.rest.len());
            open.read += 1;
            open.last = event.ts;
            open.cpus.add(event.cpu);
            return Ok(true);
        }
        if !rest.rest.is_empty() || open.last.0 != open.head.last || open.cpus.bytes != open.cpus_claimed {
            return Err(Bad::Corrupt("a block's head and its events disagree"));
        }
        self.outcome.bytes = open.offset.saturating_add(open.length);
        self.outcome.blocks += 1;
        self.open = None;
        Ok(false)
    }

    fn open(&mut self, head: Head) -> Result<(), Bad> {
        let parsed = block::parse(&self.block, head.index)?;
        let cpus_claimed = parsed.cpus.to_vec();
        self.payload_at = self.block.len().saturating_sub(parsed.payload.len());
        self.events.begin(Nanos(head.first));
        self.open = Some(OpenBlock {
            head,
            offset: self.outcome.bytes,
            length: self.block.len() as u64,
            read: 0,
            cpus: CpuSet::default(),
            last: Nanos(head.first),
            cpus_claimed,
        });
        Ok(())
    }

    fn read_header(&mut self) -> Result<Header, Bad> {
        match self.load()? {
            Loaded::Block(head) if head.kind == Kind::Header => {
                let text = self.text(head)?;
                serde_json::from_slice(&text).map_err(|_| Bad::Corrupt("its text is not a header"))
            }
            Loaded::Block(_) => Err(Bad::Corrupt("the first block is no header")),
            Loaded::End => Err(Bad::Corrupt("the file ends before its header")),
        }
    }

    fn trailer(&mut self, head: Head) -> Result<(), Bad> {
        let text = self.text(head)?;
        let trailer = serde_json::from_slice(&text).map_err(|_| Bad::Corrupt("its text is not a trailer"))?;
        self.outcome.trailer = Some(trailer);
        self.ended = true;
        let mut more = Vec::new();
        if read_up_to(&mut self.source, &mut more, 1)? != 0 {
            return Err(Bad::Corrupt("bytes after the trailer"));
        }
        Ok(())
    }

    /// The text that begins in the loaded block.
    fn text(&mut self, first: Head) -> Result<Vec<u8>, Bad> {
        let mut text = Vec::new();
        let mut bytes = self.outcome.bytes;
        let mut blocks = 0u64;
        let mut head = first;
        loop {
            let parsed = block::parse(&self.block, head.index)?;
            if text.len() + parsed.payload.len() > TEXT_BYTES_MAX {
                return Err(Bad::Corrupt("a text beyond its limit"));
            }
            text.extend_from_slice(parsed.payload);
            bytes = bytes.saturating_add(self.block.len() as u64);
            blocks += 1;
            if !head.more {
                break;
            }
            head = match self.load_at(u64::from(head.index) + 1)? {
                Loaded::Block(next) if next.kind == first.kind => next,
                _ => return Err(Bad::Corrupt("a text that does not go on")),
            };
        }
        self.outcome.bytes = bytes;
        self.outcome.blocks += blocks;
        Ok(text)
    }

    /// Reads and checks the next block.
    fn load(&mut self) -> Result<Loaded, Bad> {
        self.load_at(self.outcome.blocks)
    }

    fn load_at(&mut self, index: u64) -> Result<Loaded, Bad> {
        if !std::mem::take(&mut self.torn) {
            self.block.clear();
        }
        match read_up_to(&mut self.source, &mut self.block, 4)? {
            0 => return Ok(Loaded::End),
            1..4 => return Err(Bad::Corrupt(CUT)),
            4.. => {}
        }
        let length = block::claimed_length(&self.block).ok_or(Corrupt("a block of impossible length"))?;
        if read_up_to(&mut self.source, &mut self.block, length)? != length {
            return Err(Bad::Corrupt(CUT));
        }
        // NOTE: the number of a block is kept modulo 2^32, as the writer does.
        Ok(Loaded::Block(block::parse(&self.block, index as u32)?.head))
    }
}

impl<R: Read> Trace for Reader<R> {
    fn header(&self) -> &Header {
        Reader::header(self)
    }

    fn next_event(&mut self) -> io::Result<Option<&Event>> {
        Reader::next_event(self)
    }

    fn outcome(&self) -> Outcome {
        Reader::outcome(self)
    }
}

fn check_preamble(start: &[u8]) -> Result<(), FormatError> {
    if start.is_empty() {
        return Err(FormatError::Empty);
    }
    let damaged = |why: &str| FormatError::Header { offset: 0, why: why.to_owned() };
    let magic = start.get(..MAGIC.len()).unwrap_or(start);
    if !MAGIC.starts_with(magic) {
        return Err(FormatError::Foreign { start: start.to_vec() });
    }
    let (Some(version), Some(crc), Some(covered)) =
        (block::u32_at(start, 8), block::u32_at(start, 12), start.get(..12))
    else {
        return Err(damaged("the file ends in its preamble"));
    };
    if crc != crc32c::crc32c(covered) {
        return Err(damaged("the checksum of the preamble does not hold"));
    }
    match version {
        1..=VERSION => Ok(()),
        0 => Err(damaged("a version that never was")),
        version => Err(FormatError::Newer { version }),
    }
}

/// Reads until `into` has `length` bytes or the stream ends; gives the bytes it then has. `length` is bounded by
/// the caller ([`BLOCK_BYTES_MAX`]).
fn read_up_to(source: &mut impl Read, into: &mut Vec<u8>, length: usize) -> io::Result<usize> {
    debug_assert!(length <= BLOCK_BYTES_MAX);
    let missing = length.saturating_sub(into.len()) as u64;
    source.by_ref().take(missing).read_to_end(into)?;
    Ok(into.len())
}
