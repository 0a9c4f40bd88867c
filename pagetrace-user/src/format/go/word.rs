//! One word, and the one that belongs to it.

use crate::event::HeapAct;
use crate::format::wire::Corrupt;
use crate::units::{HEAP_PAGE_BYTES, HeapPages};

/// Times are in units of 2^7 ns.
const TIME_LOST_BITS: u32 = 7;
const DELTA_SHIFT: u32 = 48;
const ADDRESS_MASK: u64 = 0x0000_FFFF_FFFF_E000;
const PAGES_MASK: u64 = 0x3FF;
/// Where addresses end.
const ADDRESS_END: u64 = 1 << 48;
/// From so many pages on, a word of its own holds their number.
const LARGE: u64 = 1024;
/// Ps are numbered from 0, below this: far more than any machine has CPUs.
const P_END: u32 = 1 << 16;

const SYNC: u64 = 0;
const BUFFER: u64 = 4;

/// A time that is this far from the last Sync needs a new one.
pub(super) const DELTA_END_NS: u64 = 1 << (16 + TIME_LOST_BITS);

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A time, ns.
    Sync(u64),
    /// A buffer of this P begins.
    Buffer(Option<u32>),
    Event(Run),
}

/// An event, its time in ns since the last Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub act: HeapAct,
    pub delta_ns: u64,
    pub addr: u64,
    pub pages: HeapPages,
}

/// Why an event cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its pages do not fit the format: addresses have 48 bits and are multiples of 8192")]
pub struct NotInGo;

/// The word at byte `at`, and where the next one stands; `None` at the end of `bytes`.
pub(super) fn at(bytes: &[u8], at: usize) -> Result<Option<(Word, usize)>, Corrupt> {
    if at >= bytes.len() {
        return Ok(None);
    }
    let (word, next) = integer(bytes, at).ok_or(Corrupt("the file ends in the middle of a word"))?;
    let act = match word & 3 {
        0 if word & 7 == BUFFER => return Ok(Some((Word::Buffer(p_of(word)?), next))),
        0 => {
            let ns = (word >> 3).checked_mul(1 << TIME_LOST_BITS).ok_or(Corrupt("a time beyond 64 bits"))?;
            return Ok(Some((Word::Sync(ns), next)));
        }
        1 => HeapAct::Alloc,
        2 => HeapAct::Free,
        _ => HeapAct::Scav,
    };
    let is_large = word & 4 != 0;
    let (pages, next) = match (is_large, word >> 3 & PAGES_MASK) {
        (false, 0) => return Err(Corrupt("an event of no pages")),
        (false, pages) => (pages, next),
        (true, 0) => integer(bytes, next).ok_or(Corrupt("the file ends in the middle of an event"))?,
        (true, _) => return Err(Corrupt("an event with two numbers of pages")),
    };
    let addr = word & ADDRESS_MASK;
    let end = pages.checked_mul(HEAP_PAGE_BYTES).and_then(|length| addr.checked_add(length));
    if (is_large && pages < LARGE) || end.is_none_or(|end| end > ADDRESS_END) {
        return Err(Corrupt("an event with an impossible number of pages"));
    }
    let delta_ns = (word >> DELTA_SHIFT) << TIME_LOST_BITS;
    Ok(Some((Word::Event(Run { act, delta_ns, addr, pages: HeapPages(pages) }), next)))
}

pub(super) fn sync(ns: u64) -> u64 {
    ns >> TIME_LOST_BITS << 3 | SYNC
}

pub(super) fn buffer(p: Option<u32>) -> u64 {
    let p = p.map_or(-1, i64::from);
    (p << 3) as u64 | BUFFER
}

/// One word or two; `run.delta_ns` is below [`DELTA_END_NS`].
pub(super) fn event(run: Run) -> Result<(u64, Option<u64>), NotInGo> {
    let Run { act, delta_ns, addr, pages: HeapPages(pages) } = run;
    let end = pages.checked_mul(HEAP_PAGE_BYTES).and_then(|length| addr.checked_add(length)).ok_or(NotInGo)?;
    if pages == 0 || addr & ADDRESS_MASK != addr || end > ADDRESS_END {
        return Err(NotInGo);
    }
    let code = match act {
        HeapAct::Alloc => 1,
        HeapAct::Free => 2,
        HeapAct::Scav => 3,
        HeapAct::Mark => return Err(NotInGo),
    };
    let word = (delta_ns.min(DELTA_END_NS - 1) >> TIME_LOST_BITS) << DELTA_SHIFT | addr | code;
    Ok(if pages < LARGE { (word | pages << 3, None) } else { (word | 4, Some(pages)) })
}

fn p_of(word: u64) -> Result<Option<u32>, Corrupt> {
    match word as i64 >> 3 {
        -1 => Ok(None),
        p => match u32::try_from(p) {
            Ok(p) if p < P_END => Ok(Some(p)),
            _ => Err(Corrupt("a P that no machine has")),
        },
    }
}

fn integer(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let next = at.checked_add(8)?;
    Some((u64::from_le_bytes(bytes.get(at..next)?.try_into().ok()?), next))
}
