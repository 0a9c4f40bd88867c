//! The structure of an arena (`malloc_state`), where it lies, and the memory that belongs to it.
//!
//! *Format.* From fastbins on it is the same in every version: 10 fastbins, `top`, `last_remainder`, 127 bins of two pointers
//! each, 4 words of a map, `next`, `next_free`, `attached_threads`, `system_mem`, `max_system_mem`. What is before (a lock and
//! flags) takes 16 bytes, or 8 until 2.26. Arenas are a ring by `next`.
//! *Which.* A bin that is empty points to itself, and the last one always is: by that, and by all the others, the structure of
//! the main arena is found in the data of the C library. A walk that ends where it should is the proof.
//! *Source.* malloc/malloc.c and malloc/arena.c, glibc 2.26 to 2.41.

use super::Unwalkable;
use super::memory::Memory;
use crate::units::{PAGE_BYTES, Range};

/// Words from the first fastbin to the end.
pub const WORDS: usize = 273;
const FASTBINS: usize = 10;
const BINS: usize = 127;
const TOP: usize = FASTBINS;
const FIRST_BIN: usize = FASTBINS + 2;
const NEXT: usize = FIRST_BIN + 2 * BINS + 2;
const SYSTEM: usize = NEXT + 3;
/// Bytes before the first fastbin, in this order of trying.
const HEADS: [u64; 2] = [16, 8];

/// Bytes to which the memory of arenas other than the main one is aligned (`HEAP_MAX_SIZE`): usually, and with huge pages.
const HEAP_ALIGNMENTS: [u64; 2] = [64 << 20, 8 << 20];
/// Arenas, and parts of an arena, that are believed.
const MOST_ARENAS: usize = 1 << 14;
const MOST_PARTS: usize = 1 << 16;

/// An arena's structure, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaState {
    pub addr: u64,
    /// Of the first fastbin.
    at: u64,
    words: Vec<u64>,
}

/// A part of an arena's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// All of it: the arena's own structures, and chunks from `first` on.
    pub range: Range,
    pub first: u64,
    /// The last chunk of the part that grows; the others end with a header of size 0.
    pub top: Option<u64>,
}

impl ArenaState {
    /// One whose first fastbin is at `at`.
    fn new(at: u64, head: u64, words: &[u64]) -> Option<ArenaState> {
        is_state(at, words).then(|| ArenaState { addr: at.wrapping_sub(head), at, words: words.to_vec() })
    }

    pub fn read(memory: &mut Memory, addr: u64, head: u64) -> Result<ArenaState, Unwalkable> {
        let at = addr.wrapping_add(head);
        let words: [u64; WORDS] = memory.words(at)?;
        ArenaState::new(at, head, &words).ok_or(Unwalkable::Odd("an arena of an unknown form"))
    }

    /// The same, as it is now.
    pub fn again(&self, memory: &mut Memory) -> Result<ArenaState, Unwalkable> {
        ArenaState::read(memory, self.addr, self.at.wrapping_sub(self.addr))
    }

    fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    pub fn size(&self) -> u64 {
        self.word(SYSTEM)
    }

    /// The first chunk of each fastbin, the smallest chunks first; 0: none.
    pub fn fastbins(&self) -> &[u64] {
        self.words.get(..FASTBINS).unwrap_or_default()
    }

    /// Each bin as the chunk that its list takes it for: its address, then what it points to ahead and back.
    pub fn bins(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let (pairs, _) = self.words.get(FIRST_BIN..FIRST_BIN + 2 * BINS).unwrap_or_default().as_chunks::<2>();
        pairs.iter().enumerate().map(|(index, [ahead, back])| (bin(self.at, index), *ahead, *back))
    }

    /// The parts of the arena.
    pub fn parts(&self, memory: &mut Memory, is_main: bool) -> Result<Vec<Part>, Unwalkable> {
        let (top, size) = (self.word(TOP), self.size());
        if size == 0 {
            return Ok(Vec::new());
        }
        if is_main {
            let [_, head] = memory.words(top)?;
            let end = top.saturating_add(head & !7);
            let range = Range { start: end.saturating_sub(size), end };
            return Ok(vec![Part { range, first: range.start.next_multiple_of(16), top: Some(top) }]);
        }
        let found = HEAP_ALIGNMENTS.iter().find_map(|alignment| self.parts_of(memory, top, *alignment).transpose());
        found.unwrap_or(Err(Unwalkable::Odd("an arena that is in none of its parts")))
    }

    /// Parts that are aligned so, the last first; `None`: they are not.
    fn parts_of(&self, memory: &mut Memory, top: u64, alignment: u64) -> Result<Option<Vec<Part>>, Unwalkable> {
        let heap_of = |addr: u64| addr & !(alignment - 1);
        // The structure follows the head of the first part.
        let head = self.addr - heap_of(self.addr);
        if !matches!(head, 0x20 | 0x30) {
            return Ok(None);
        }
        let state_bytes = (self.at - self.addr) + 8 * WORDS as u64;
        let (mut parts, mut heap, mut total) = (Vec::new(), heap_of(top), 0_u64);
        while heap != 0 {
            let [arena, earlier, size] = memory.words(heap)?;
            let is_part = arena == self.addr && size > head && size <= alignment && size.is_multiple_of(PAGE_BYTES);
            if !is_part || parts.len() >= MOST_PARTS {
                return if parts.is_empty() { Ok(None) } else { Err(Unwalkable::Odd("a part of an unknown form")) };
            }
            let own = if heap == heap_of(self.addr) { head + state_bytes } else { head };
            let first = heap.saturating_add(own).next_multiple_of(16);
            let top = parts.is_empty().then_some(top);
            parts.push(Part { range: Range::of(heap, size), first, top });
            total = total.saturating_add(size);
            heap = earlier;
        }
        if total != self.size() {
            return Err(Unwalkable::Odd("parts that do not add up"));
        }
        Ok(Some(parts))
    }
}

/// A bin's address as a chunk: its pointers are where a chunk has them.
fn bin(at: u64, index: usize) -> u64 {
    at.wrapping_add(8 * (FIRST_BIN + 2 * index) as u64).wrapping_sub(16)
}

fn is_state(at: u64, words: &[u64]) -> bool {
    let (Some(top), Some(system), Some(most)) = (words.get(TOP), words.get(SYSTEM), words.get(SYSTEM + 1)) else {
        return false;
    };
    let Some(bins) = words.get(FIRST_BIN..FIRST_BIN + 2 * BINS) else { return false };
    let (pairs, _) = bins.as_chunks::<2>();
    let last = bin(at, BINS - 1);
    pairs.last() == Some(&[last, last])
        && pairs.iter().enumerate().all(|(index, [ahead, back])| {
            let own = bin(at, index);
            *ahead != 0 && *back != 0 && (*ahead == own) == (*back == own)
        })
        && *top != 0
        && system <= most
}

/// The arenas of the C library whose data has these words: the main one first. `None`: there is none.
pub fn find(memory: &mut Memory, start: u64, words: &[u64]) -> Result<Option<Vec<ArenaState>>, Unwalkable> {
    let found = words.windows(WORDS).enumerate().find_map(|(index, words)| {
        let at = start.wrapping_add(8 * index as u64);
        is_state(at, words).then_some((at, words))
    });
    let Some((at, words)) = found else { return Ok(None) };
    let rings = HEADS.iter().map(|head| ring(memory, ArenaState::new(at, *head, words)?, *head));
    match rings.flatten().next() {
        Some(ring) => Ok(Some(ring)),
        None => Err(Unwalkable::Odd("arenas that are no ring")),
    }
}

fn ring(memory: &mut Memory, main: ArenaState, head: u64) -> Option<Vec<ArenaState>> {
    let (first, mut next) = (main.addr, main.word(NEXT));
    let mut arenas = vec![main];
    while next != first {
        let arena = ArenaState::read(memory, next, head).ok().filter(|_| arenas.len() < MOST_ARENAS)?;
        next = arena.word(NEXT);
        arenas.push(arena);
    }
    Some(arenas)
}
