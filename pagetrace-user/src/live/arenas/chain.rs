//! The chunks of a part of an arena, one after the other.
//!
//! *Format.* A chunk begins with the size of the one before it, which counts only if that is free, and its own size, in whose
//! low bits stand: the one before is in use (1), it is a mapping of its own (2), it is not the main arena's (4). A free chunk
//! goes on with pointers to those ahead and back in its list.
//! *Proof.* The chain ends exactly where the arena says. Each free chunk, and each bin, is ahead of exactly one, and behind
//! exactly one: the sums over who points equal the sum over who is there ([`Links`]).

use std::collections::HashSet;

use super::Unwalkable;
use super::memory::Memory;
use super::pages::{Edge, PageRows, Purpose};
use super::state::Part;
use crate::event::Chunks;
use crate::units::{Bytes, Range};

const BEFORE_IN_USE: u64 = 1;
const IS_MAPPING: u64 = 2;
const FOREIGN: u64 = 4;
const FLAGS: u64 = 7;

const LEAST: u64 = 0x20;
/// A header and nothing else: what ends a part that does not grow any more.
const FENCE: u64 = 0x10;
/// Chunks of these sizes may be what a thread puts aside in: a chunk may be 16 bytes larger than it has to be.
const CACHE_CHUNKS: [u64; 6] = [0x300, 0x310, 0x290, 0x2a0, 0x250, 0x260];
/// Of those, how many are looked at.
const MOST_CACHES: usize = 1 << 16;

/// Sums of who is in the lists, and of who points to whom.
#[derive(Clone, Copy, Debug, Default)]
pub struct Links {
    there: u64,
    ahead: u64,
    back: u64,
}

impl Links {
    pub fn add(&mut self, own: u64, ahead: u64, back: u64) {
        self.there = self.there.wrapping_add(mixed(own));
        self.ahead = self.ahead.wrapping_add(mixed(ahead));
        self.back = self.back.wrapping_add(mixed(back));
    }

    pub fn are_whole(&self) -> bool {
        self.there == self.ahead && self.there == self.back
    }
}

/// One number for each address, such that sums of different addresses differ (the finalizer of MurmurHash3).
fn mixed(addr: u64) -> u64 {
    let mut word = addr ^ addr >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ word >> 33
}

/// What the chunks of an arena add up to.
#[derive(Default)]
pub struct Sums {
    pub in_use: Chunks,
    pub fast: Chunks,
    pub free: Chunks,
    pub top: u64,
    pub links: Links,
    /// Chunks in use that may be what a thread puts aside in.
    pub caches: Vec<(u64, u64)>,
    pub rows: PageRows,
}

/// Walks through a part. `fast` are the chunks in fastbins, which look as if they were in use.
pub fn walk(
    memory: &mut Memory,
    part: Part,
    is_main: bool,
    fast: &HashSet<u64>,
    sums: &mut Sums,
) -> Result<(), Unwalkable> {
    sums.rows.add(Range { start: part.range.start, end: part.first }, Purpose::Own)?;
    let fence = part.range.end.saturating_sub(FENCE);
    let limit = part.top.unwrap_or(fence);
    let (mut at, mut head) = (part.first, memory.words::<4>(part.first)?);
    while at < limit {
        let [_, tagged, ahead, back] = head;
        let size = tagged & !FLAGS;
        let is_fence = part.top.is_none() && size == FENCE && at.saturating_add(2 * FENCE) == part.range.end;
        let next = at.saturating_add(size);
        if is_main && size == FENCE {
            return Err(Unwalkable::Odd("something else in the program moves the end of the heap too (sbrk)"));
        }
        if !(size >= LEAST || is_fence) || !size.is_multiple_of(16) || next > limit {
            return Err(Unwalkable::Odd("a chunk of an impossible size"));
        }
        if tagged & IS_MAPPING != 0 || is_main && tagged & FOREIGN != 0 {
            return Err(Unwalkable::Odd("a chunk of another's"));
        }
        head = memory.words::<4>(next)?;
        let range = Range { start: at, end: next };
        let [before, tagged, ..] = head;
        if is_fence {
            sums.rows.add(range, Purpose::Own)?;
        } else if tagged & BEFORE_IN_USE == 0 {
            if before != size {
                return Err(Unwalkable::Odd("a free chunk of two sizes"));
            }
            count(&mut sums.free, size);
            sums.links.add(at, ahead, back);
            sums.rows.add(range, Purpose::Free)?;
        } else if fast.contains(&at) {
            count(&mut sums.fast, size);
            sums.rows.add(range, Purpose::Kept)?;
        } else {
            count(&mut sums.in_use, size);
            if CACHE_CHUNKS.contains(&size) && sums.caches.len() < MOST_CACHES {
                sums.caches.push((at, size));
            }
            sums.rows.add(range, Purpose::InUse)?;
        }
        at = next;
    }
    let [_, tagged, ..] = head;
    let size = tagged & !FLAGS;
    if part.top.is_some() {
        if at != limit || at.saturating_add(size) != part.range.end {
            return Err(Unwalkable::Odd("it grew while it was read"));
        }
        sums.top = size;
        sums.rows.add(Range { start: at, end: part.range.end }, Purpose::Free)?;
        sums.rows.end_idle(if is_main { Edge::Brk } else { Edge::Heap })?;
    } else {
        if size != 0 {
            return Err(Unwalkable::Odd("a part that does not end"));
        }
        sums.rows.add(Range { start: fence, end: part.range.end }, Purpose::Own)?;
    }
    sums.rows.end_page()
}

pub fn count(chunks: &mut Chunks, bytes: u64) {
    chunks.count += 1;
    chunks.bytes = Bytes(chunks.bytes.0.saturating_add(bytes));
}
