//! The trace file (`.pgt`).

mod block;
mod decode;
mod encode;
mod encoder;
mod reader;
mod recent;
mod state;
mod wire;

pub use encoder::Encoder;
pub use reader::{Damage, FormatError, Outcome, Reader};

/// The first eight bytes of every trace file.
pub const MAGIC: [u8; 8] = *b"\x89PGT\r\n\x1a\n";

/// The version of the format that this module writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// No block is longer than this, its head included.
pub const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// The fixed part at the start of every block.
pub const HEAD_BYTES: usize = 36;

/// No text in an event is longer than this; a writer cuts longer ones.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// No header or trailer is longer than this (8192 CPUs make a trailer of 5 MiB).
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Numbers kept of the frames that became resident.
const FRAMES_KEPT: u64 = 1 << 17;

/// Numbers kept of the frames that were given back.
const FREED_KEPT: u64 = 1 << 14;
