//! The page trace that a Go runtime writes about itself (`.pt`): reader and writer.
//!
//! *Source.* `runtime/pagetrace_on.go` of Go 1.20 to 1.22, the releases that have it (`GOEXPERIMENT=pagetrace`).
//!
//! *Format.* Little-endian words of 64 bits; no header, no version, no end mark.
//!
//! | bits 0-2 | word | the rest |
//! |---|---|---|
//! | 0 | Sync | bits 3-63: time in units of 128 ns |
//! | 1, 2, 3 | Alloc, Free, Scav | bits 3-12 pages, 13-47 address, 48-63 units of 128 ns since the last Sync of the buffer |
//! | 4 | P | bits 3-63, signed: the P whose buffer begins here; -1: the one buffer for threads without a P |
//! | 5, 6, 7 | the same, large | the field of the pages is 0, the next word has them (1024 and more) |
//!
//! *Units.* Nanoseconds of `CLOCK_MONOTONIC`; pages of 8 KiB. Both parts of a time are rounded down: it is up to 254 ns
//! early.
//!
//! *Order.* Every P fills a buffer of 32768 bytes of its own and writes it when the next event does not fit; each begins
//! with P and Sync. Within a P time never goes back, in the file it does. The reader merges by time, then P.
//!
//! *What is missing, and how it shows.* A program that ends by itself writes the buffer of every P and, last of all, that
//! of no P. One that is killed or panics does not: the file then ends with another buffer, or a full one. A P that is
//! given up (`GOMAXPROCS` lowered) never writes its last buffer: the last that the file has of it is full. The first page
//! of the heap is in no trace: it is handed out before the tracer starts.

mod quirks;
mod reader;
mod scan;
mod word;
mod writer;

pub use reader::GoReader;
pub use word::NotInGo;
pub use writer::GoWriter;

use serde::Serialize;

/// The buffer of a P, in bytes.
const BUFFER_BYTES: usize = 32 << 10;

/// What stands in a Go runtime's own trace beside its events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GoFile {
    /// Whether the program wrote all of it.
    pub ended: bool,
    /// Words that are no events: times, and starts of buffers.
    pub syncs: u64,
    pub buffers: u64,
    /// Events of 16 bytes, for 1024 pages and more.
    pub large: u64,
    /// Different Ps, the threads without one not counted.
    pub ps: u64,
    pub events_without_p: u64,
    /// What is odd about the file.
    pub quirks: Vec<Quirk>,
}

/// Something odd about a file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quirk {
    /// The stable word used in JSON.
    pub kind: &'static str,
    pub count: u64,
    /// The sentence used in text.
    pub text: String,
}

/// Whether bytes that begin so are surely a Go runtime's own trace: the first buffer's P and time.
#[must_use]
pub fn begins(start: &[u8]) -> bool {
    begins_perhaps(start) && matches!(word::at(start, 8), Ok(Some((word::Word::Sync(1..), _))))
}

/// The same, for a file whose name says so: its first word is a P.
#[must_use]
pub fn begins_perhaps(start: &[u8]) -> bool {
    matches!(word::at(start, 0), Ok(Some((word::Word::Buffer(_), _))))
}
