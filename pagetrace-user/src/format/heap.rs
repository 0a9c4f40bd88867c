//! Events of the heap layer, into bytes and out of them.

use super::state::Block;
use super::wire::{Corrupt, In, Out};
use crate::event::{Body, HeapAct};
use crate::units::{HEAP_PAGE_BYTES, HeapPages};

/// The byte after the opcode: the act, then these, then the pages from [`PAGES_SHIFT`] on.
const ACT: u8 = 3;
const SAME_P: u8 = 4;
const BY_BYTES: u8 = 8;
const PAGES_SHIFT: u32 = 4;

pub(super) fn write(act: HeapAct, addr: u64, pages: HeapPages, p: Option<u32>, block: &mut Block, out: &mut Out) {
    let back = addr.wrapping_sub(block.heap_end);
    let (same_p, by_bytes) = (p == block.heap_p, !back.is_multiple_of(HEAP_PAGE_BYTES));
    // Up to 15 pages stand in the byte itself.
    let few = u8::try_from(pages.0).ok().filter(|&pages| pages < 16).unwrap_or(0);
    out.byte(act.code() | if same_p { SAME_P } else { 0 } | if by_bytes { BY_BYTES } else { 0 } | few << PAGES_SHIFT);
    if !same_p {
        out.varint(p.map_or(0, |p| u64::from(p) + 1));
    }
    if by_bytes {
        out.signed(block.heap_end, addr);
    } else {
        out.signed(0, (back as i64 / HEAP_PAGE_BYTES as i64) as u64);
    }
    if few == 0 {
        out.varint(pages.0);
    }
    did(addr, pages, p, block);
}

pub(super) fn read(block: &mut Block, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let what = bytes.byte()?;
    let act = HeapAct::try_from(what & ACT).map_err(|_| Corrupt("an unknown value of an enumeration"))?;
    let p = if what & SAME_P != 0 {
        block.heap_p
    } else {
        match bytes.varint()? {
            0 => None,
            more => Some(u32::try_from(more - 1).map_err(|_| Corrupt("a number beyond its field"))?),
        }
    };
    let addr = if what & BY_BYTES != 0 {
        bytes.signed(block.heap_end)?
    } else {
        block.heap_end.wrapping_add(bytes.signed(0)?.wrapping_mul(HEAP_PAGE_BYTES))
    };
    let few = what >> PAGES_SHIFT;
    let pages = HeapPages(if few == 0 { bytes.varint()? } else { u64::from(few) });
    did(addr, pages, p, block);
    Ok(Body::Heap { act, addr, pages, p })
}

/// After an event, on both sides.
fn did(addr: u64, pages: HeapPages, p: Option<u32>, block: &mut Block) {
    block.heap_end = addr.wrapping_add(pages.0.wrapping_mul(HEAP_PAGE_BYTES));
    block.heap_p = p;
}
