//! The structure of an arena (`malloc_state`), where it lies, and the memory that belongs to it.
//!
//! *Format.* From `top` on it is the same in every version: `top`, `last_remainder`, 127 bins of two pointers each, 4 words of
//! a map of 4 bytes each, `next`, `next_free`, `attached_threads`, `system_mem`, `max_system_mem`. Before it are 10 fastbins,
//! none since 2.43, and before them a lock and flags: see [`FORMS`]. Arenas are a ring by `next`.
//! *Which.* A bin that is empty points to itself, and the last one always is: by that, and by all the others, the structure of
//! the main arena is found in the data of the C library. A walk that ends where it should is the proof.
//! *Source.* malloc/malloc.c and malloc/arena.c, glibc 2.26 to 2.43.

use super::Unwalkable;
use super::memory::Memory;
use crate::units::{PAGE_BYTES, Range};

/// Words from `top` to the end.
const WORDS: usize = 263;
const BINS: usize = 127;
const TOP: usize = 0;
const FIRST_BIN: usize = TOP + 2;
const NEXT: usize = FIRST_BIN + 2 * BINS + 2;
const SYSTEM: usize = NEXT + 3;

/// What is before `top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Bytes before the first fastbin.
    head: u64,
    fastbins: usize,
}

/// From 2.27 to 2.42, until 2.26, since 2.43: in this order of trying.
const FORMS: [Form; 3] =
    [Form { head: 16, fastbins: 10 }, Form { head: 8, fastbins: 10 }, Form { head: 8, fastbins: 0 }];
const MOST_FASTBINS: usize = 10;

/// Bytes to which the memory of arenas other than the main one is aligned (`HEAP_MAX_SIZE`): usually, and with huge pages.
const HEAP_ALIGNMENTS: [u64; 2] = [64 << 20, 8 << 20];
/// Arenas, and parts of an arena, that are believed.
const MOST_ARENAS: usize = 1 << 14;
const MOST_PARTS: usize = 1 << 16;

/// An arena's structure, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaState {
    pub addr: u64,
    form: Form,
    fastbins: Vec<u64>,
    /// From `top` on.
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

impl Form {
    /// Before `top`.
    fn bytes(self) -> u64 {
        self.head + 8 * self.fastbins as u64
    }
}

impl ArenaState {
    fn read(memory: &mut Memory, addr: u64, form: Form) -> Result<ArenaState, Unwalkable> {
        let fastbins: [u64; MOST_FASTBINS] = memory.words(addr.wrapping_add(form.head))?;
        let fastbins = fastbins.get(..form.fastbins).unwrap_or_default().to_vec();
        let words: [u64; WORDS] = memory.words(addr.wrapping_add(form.bytes()))?;
        if !is_state(addr.wrapping_add(form.bytes()), &words) {
            return Err(Unwalkable::Odd("an arena of an unknown form"));
        }
        Ok(ArenaState { addr, form, fastbins, words: words.to_vec() })
    }

    /// The same, as it is now.
    pub fn again(&self, memory: &mut Memory) -> Result<ArenaState, Unwalkable> {
        ArenaState::read(memory, self.addr, self.form)
    }

    fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    pub fn size(&self) -> u64 {
        self.word(SYSTEM)
    }

    /// The first chunk of each fastbin, the smallest chunks first; 0: none.
    pub fn fastbins(&self) -> &[u64] {
        &self.fastbins
    }

    /// Each bin as the chunk that its list takes it for: its address, then what it points to ahead and back.
    pub fn bins(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let top = self.addr.wrapping_add(self.form.bytes());
        let (pairs, _) = self.words.get(FIRST_BIN..FIRST_BIN + 2 * BINS).unwrap_or_default().as_chunks::<2>();
        pairs.iter().enumerate().map(move |(index, [ahead, back])| (bin(top, index), *ahead, *back))
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
        let state_bytes = self.form.bytes() + 8 * WORDS as u64;
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

/// A bin's address as a chunk, in a structure whose `top` is there: its pointers are where a chunk has them.
fn bin(top: u64, index: usize) -> u64 {
    top.wrapping_add(8 * (FIRST_BIN + 2 * index) as u64).wrapping_sub(16)
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
    let mut tops = (0..).map(|index| start.wrapping_add(8 * index)).zip(words.windows(WORDS));
    let Some((top, _)) = tops.find(|(top, words)| is_state(*top, words)) else { return Ok(None) };
    match FORMS.iter().find_map(|form| ring(memory, top.wrapping_sub(form.bytes()), *form)) {
        Some(ring) => Ok(Some(ring)),
        None => Err(Unwalkable::Odd("arenas that are no ring")),
    }
}

fn ring(memory: &mut Memory, first: u64, form: Form) -> Option<Vec<ArenaState>> {
    let main = ArenaState::read(memory, first, form).ok()?;
    let mut next = main.word(NEXT);
    let mut arenas = vec![main];
    while next != first {
        let arena = ArenaState::read(memory, next, form).ok().filter(|_| arenas.len() < MOST_ARENAS)?;
        next = arena.word(NEXT);
        arenas.push(arena);
    }
    Some(arenas)
}
