//! What is put aside: chunks that nobody uses, and that look as if they were in use.
//!
//! *Format.* Fastbins and the caches of threads (`tcache_perthread_struct`, a chunk in use) are lists of chunks of one size. From
//! 2.32 on a pointer in them is kept with its own place, without the last 12 bits, by exclusive or. A cache has 64 counts,
//! of 2 bytes, or of 1 until 2.29, and as many lists; those begin, and go on, where a chunk's memory does. Since 2.42 it has
//! 76, and what it counts is how many more chunks a list takes; of the last 12 each has the sizes up to a power of 2.
//! *Proof.* Each list has as many chunks of its sizes as it should and ends then. A chunk whose content is no cache is none.
//! *Source.* malloc/malloc.c, glibc 2.26 to 2.43.

use std::collections::HashSet;
use std::ops::Range;

use super::Unwalkable;
use super::memory::Memory;

/// Bytes by which chunks of one list are larger than those of the one before, and the first.
const STEP: u64 = 16;
const LEAST: u64 = 0x20;
/// Where a chunk's memory begins.
const HEAD: u64 = 16;
const FLAGS: u64 = 7;
/// Chunks of all lists of an arena or thread.
const MOST: usize = 1 << 20;

/// Readings of what looks like a cache, whose thread may go on.
const MOST_TRIES: u32 = 8;

/// Lists of chunks of one size each.
const LISTS: u32 = 64;
/// The list behind them: chunks of less than this, and each one after it of less than twice as much.
const FIRST_LARGE: u64 = 0x800;

/// How a cache is laid out: its lists and bytes a count, and whether it counts what a list still takes.
struct Layout {
    lists: usize,
    count_bytes: usize,
    counts_room: bool,
}

/// By the least size of a chunk that holds one.
const LAYOUTS: [(u64, Layout); 3] = [
    (0x300, Layout { lists: 76, count_bytes: 2, counts_room: true }),
    (0x290, Layout { lists: 64, count_bytes: 2, counts_room: false }),
    (0x250, Layout { lists: 64, count_bytes: 1, counts_room: false }),
];
/// Words of the largest: 76 counts and 76 lists.
const MOST_WORDS: usize = 95;

/// How pointers of lists are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pointers {
    Plain,
    Mangled,
}

impl Pointers {
    const ALL: [Pointers; 2] = [Pointers::Mangled, Pointers::Plain];

    fn clear(self, place: u64, kept: u64) -> u64 {
        match self {
            Pointers::Plain => kept,
            Pointers::Mangled => place >> 12 ^ kept,
        }
    }
}

/// The chunks in an arena's fastbins.
pub fn fast(memory: &mut Memory, fastbins: &[u64]) -> Result<HashSet<u64>, Unwalkable> {
    let mut last = Unwalkable::Odd("fastbins that do not end");
    for pointers in Pointers::ALL {
        let mut chunks = HashSet::new();
        let lists = fastbins.iter().zip(0..).map(|(first, index)| (*first, sizes(index), None));
        match lists_of(memory, lists, pointers, &mut chunks) {
            Ok(()) => return Ok(chunks),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The chunks that a thread has put aside in a chunk of this size, with their sizes; none where it holds something else, or
/// never stands still.
pub fn cached(memory: &mut Memory, (cache, size): (u64, u64)) -> Vec<(u64, u64)> {
    for _ in 0..MOST_TRIES {
        memory.forget();
        let layout = LAYOUTS.iter().find(|(least, _)| size >= *least);
        let Some(lists) = layout.and_then(|(_, layout)| counts(memory, cache, layout)) else { return Vec::new() };
        let sized = || {
            let all = lists.iter().zip(0..);
            // A list begins where its first chunk's memory does.
            all.map(|((count, first), index)| (first.saturating_sub(HEAD), sizes(index), Some(*count)))
        };
        for pointers in Pointers::ALL {
            let mut chunks = HashSet::new();
            if lists_of(memory, sized(), pointers, &mut chunks).is_ok() {
                let mut chunks: Vec<u64> = chunks.into_iter().collect();
                chunks.sort_unstable();
                return chunks.into_iter().filter_map(|at| Some((at, size_of(memory, at).ok()?))).collect();
            }
        }
    }
    Vec::new()
}

/// The sizes of the chunks in a list.
fn sizes(list: u32) -> Range<u64> {
    match list.checked_sub(LISTS) {
        None => {
            let size = LEAST + u64::from(list) * STEP;
            size..size + STEP
        }
        Some(0) => sizes(LISTS - 1).end..FIRST_LARGE,
        Some(large) => {
            let most = FIRST_LARGE << large.min(32);
            most / 2..most
        }
    }
}

/// How many chunks each list of a cache has, and its first pointer; `None` where one of these is without the other.
fn counts(memory: &mut Memory, cache: u64, layout: &Layout) -> Option<Vec<(u64, u64)>> {
    let words: [u64; MOST_WORDS] = memory.words(cache.saturating_add(HEAD)).ok()?;
    let (counts, firsts) = words.split_at_checked(layout.lists * layout.count_bytes / 8)?;
    let bytes: Vec<u8> = counts.iter().flat_map(|word| word.to_le_bytes()).collect();
    let counts = bytes.chunks_exact(layout.count_bytes);
    let mut counts: Vec<u64> =
        counts.map(|count| count.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))).collect();
    if layout.counts_room {
        // Of an empty list it is as much as of any other.
        let most = counts.iter().copied().max()?;
        counts.iter_mut().for_each(|count| *count = most - *count);
    }
    let lists: Vec<(u64, u64)> = counts.into_iter().zip(firsts.iter().copied()).collect();
    lists.iter().all(|(count, first)| (*count == 0) == (*first == 0)).then_some(lists)
}

fn size_of(memory: &mut Memory, chunk: u64) -> Result<u64, Unwalkable> {
    let [_, tagged] = memory.words(chunk)?;
    Ok(tagged & !FLAGS)
}

/// Follows lists: the first chunk, the sizes of all, and how many, where that is known.
fn lists_of(
    memory: &mut Memory,
    lists: impl Iterator<Item = (u64, Range<u64>, Option<u64>)>,
    pointers: Pointers,
    chunks: &mut HashSet<u64>,
) -> Result<(), Unwalkable> {
    for (first, sizes, expected) in lists {
        let (mut chunk, mut count) = (first, 0_u64);
        while chunk != 0 {
            if !chunk.is_multiple_of(STEP) || chunks.len() >= MOST || !chunks.insert(chunk) {
                return Err(Unwalkable::Odd("a list of chunks that does not end"));
            }
            let [_, tagged, kept] = memory.words(chunk)?;
            if !sizes.contains(&(tagged & !FLAGS)) {
                return Err(Unwalkable::Odd("a list of chunks of other sizes"));
            }
            let place = chunk.saturating_add(HEAD);
            chunk = pointers.clear(place, kept);
            // A cache's lists go from memory to memory, fastbins from chunk to chunk.
            if expected.is_some() {
                chunk = chunk.saturating_sub(HEAD);
            }
            count += 1;
        }
        if expected.is_some_and(|expected| expected != count) {
            return Err(Unwalkable::Odd("a list of chunks that is not as long as it should be"));
        }
    }
    Ok(())
}
