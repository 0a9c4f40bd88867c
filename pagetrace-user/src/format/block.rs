//! The frame around every block: length, checksum, place in the file, kind, counters, CPU set.
//!
//! *Format.* As in the module doc of [`super`]. *Invariant.* What [`seal`] makes, [`parse`] accepts, and
//! nothing with a bit of it changed.

use super::wire::Corrupt;
use super::{BLOCK_BYTES_MAX, HEAD_BYTES};

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Header = 1,
    Events = 2,
    Trailer = 3,
}

/// The fixed part of a block, without length and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its number in the file, from 0.
    pub index: u32,
    pub kind: Kind,
    /// Its text goes on in the next block.
    pub more: bool,
    /// Of the events in it.
    pub count: u32,
    pub first: u64,
    pub last: u64,
}

/// A block whose checksum held.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub head: Head,
    /// Bit `n % 8` of byte `n / 8` is CPU `n`; no zero byte at the end.
    pub cpus: &'a [u8],
    pub payload: &'a [u8],
}

/// A whole block. The caller keeps head, CPU set and payload within [`BLOCK_BYTES_MAX`].
pub(super) fn seal(head: Head, cpus: &[u8], payload: &[u8], into: &mut bytes::BytesMut) {
    let begin = into.len();
    let length = HEAD_BYTES + cpus.len() + payload.len();
    into.reserve(length);
    into.extend_from_slice(&(length as u32).to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&head.index.to_le_bytes());
    into.extend_from_slice(&[head.kind as u8, u8::from(head.more)]);
    into.extend_from_slice(&(cpus.len() as u16).to_le_bytes());
    into.extend_from_slice(&head.count.to_le_bytes());
    into.extend_from_slice(&head.first.to_le_bytes());
    into.extend_from_slice(&head.last.to_le_bytes());
    into.extend_from_slice(cpus);
    into.extend_from_slice(payload);
    let crc = into.get(begin..).map_or(0, checksum);
    if let Some(place) = into.get_mut(begin + 4..begin + 8) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// The length in bytes that a block claims for itself in its first four; `None` when no block has it.
pub(super) fn claimed_length(start: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32_at(start, 0)?).ok()?;
    (HEAD_BYTES..=BLOCK_BYTES_MAX).contains(&length).then_some(length)
}

/// Checks a block of the length that it claims. `index`: its number in the file.
pub(super) fn parse(block: &[u8], index: u32) -> Result<Parsed<'_>, Corrupt> {
    let short = Corrupt("a block shorter than its head");
    if u32_at(block, 4).ok_or(short)? != checksum(block) {
        return Err(Corrupt("the checksum of a block does not hold"));
    }
    let (fixed, rest) = block.split_at_checked(HEAD_BYTES).ok_or(short)?;
    let (kind, more) = match fixed.get(12..14) {
        Some([1, more @ (0 | 1)]) => (Kind::Header, *more == 1),
        Some([2, 0]) => (Kind::Events, false),
        Some([3, more @ (0 | 1)]) => (Kind::Trailer, *more == 1),
        _ => return Err(Corrupt("a block of unknown kind")),
    };
    let cpus = fixed.get(14..16).and_then(|two| two.try_into().ok()).map(u16::from_le_bytes).ok_or(short)?;
    let (cpus, payload) = rest.split_at_checked(usize::from(cpus)).ok_or(Corrupt("a CPU set longer than its block"))?;
    let head = Head {
        index: u32_at(fixed, 8).ok_or(short)?,
        kind,
        more,
        count: u32_at(fixed, 16).ok_or(short)?,
        first: u64_at(fixed, 20).ok_or(short)?,
        last: u64_at(fixed, 28).ok_or(short)?,
    };
    if head.index != index {
        return Err(Corrupt("a block is missing, or stands in the wrong place"));
    }
    Ok(Parsed { head, cpus, payload })
}

/// CRC-32C over a block without its own four bytes.
fn checksum(block: &[u8]) -> u32 {
    let crc = crc32c::crc32c(block.get(..4).unwrap_or_default());
    crc32c::crc32c_append(crc, block.get(8..).unwrap_or_default())
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A set of CPUs as it stands in a block.
#[derive(Debug, Default)]
pub(super) struct CpuSet {
    pub bytes: Vec<u8>,
}

impl CpuSet {
    pub fn add(&mut self, cpu: u16) {
        let at = usize::from(cpu / 8);
        if self.bytes.len() <= at {
            self.bytes.resize(at + 1, 0);
        }
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte |= 1 << (cpu % 8);
        }
    }
}
