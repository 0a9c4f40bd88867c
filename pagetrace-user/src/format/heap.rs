//! Events of the heap layer, into bytes and out of them.

use super::state::{Block, op};
use super::wire::{Corrupt, In, Out};
use crate::event::{Body, HeapAct, HeapRun, HeapState, Span, SpanKind, SpanUse};
use crate::units::{HEAP_PAGE_BYTES, HeapPages};

/// The byte after the opcode: the act, then these, then the pages from [`PAGES_SHIFT`] on.
const ACT: u8 = 3;
const SAME_P: u8 = 4;
const BY_BYTES: u8 = 8;
const PAGES_SHIFT: u32 = 4;

/// The byte before a span and a goroutine: 0 for no span, else its kind + 1; then these.
const KIND: u8 = 3;
const HAS_CLASS: u8 = 4;
const HAS_GOID: u8 = 8;

const UNKNOWN: Corrupt = Corrupt("an unknown value of an enumeration");

/// Whether the run has nothing that only the long form can tell.
pub(super) fn is_short(run: &HeapRun) -> bool {
    run.goid.is_none() && run.span.is_none()
}

/// All of a run but its span and its goroutine.
pub(super) fn write_run(run: &HeapRun, block: &mut Block, out: &mut Out) {
    let back = run.addr.wrapping_sub(block.heap_end);
    let (same_p, by_bytes) = (run.p == block.heap_p, !back.is_multiple_of(HEAP_PAGE_BYTES));
    // Up to 15 pages stand in the byte itself.
    let few = u8::try_from(run.pages.0).ok().filter(|&pages| pages < 16).unwrap_or(0);
    let flags = if same_p { SAME_P } else { 0 } | if by_bytes { BY_BYTES } else { 0 };
    out.byte(run.act.code() | flags | few << PAGES_SHIFT);
    if !same_p {
        out.varint(run.p.map_or(0, |p| u64::from(p) + 1));
    }
    if by_bytes {
        out.signed(block.heap_end, run.addr);
    } else {
        out.signed(0, (back as i64 / HEAP_PAGE_BYTES as i64) as u64);
    }
    if few == 0 {
        out.varint(run.pages.0);
    }
    did(run.addr, run.pages, block);
    block.heap_p = run.p;
}

pub(super) fn read_run(block: &mut Block, bytes: &mut In<'_>) -> Result<HeapRun, Corrupt> {
    let what = bytes.byte()?;
    let act = HeapAct::try_from(what & ACT).map_err(|_| UNKNOWN)?;
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
    did(addr, pages, block);
    block.heap_p = p;
    Ok(HeapRun { act, addr, pages, p, goid: None, span: None })
}

/// What [`write_run`] leaves out.
pub(super) fn write_span(run: &HeapRun, block: &mut Block, out: &mut Out) {
    let class = run.span.map_or(0, |span| span.class);
    let kind = run.span.map_or(0, |span| span.kind.code() + 1);
    let flags = if class == 0 { 0 } else { HAS_CLASS } | if run.goid.is_some() { HAS_GOID } else { 0 };
    out.byte(kind | flags);
    if class != 0 {
        out.byte(class);
    }
    if let Some(goid) = run.goid {
        out.signed(block.heap_goid, goid);
        block.heap_goid = goid;
    }
}

pub(super) fn read_span(run: HeapRun, block: &mut Block, bytes: &mut In<'_>) -> Result<HeapRun, Corrupt> {
    let what = bytes.byte()?;
    if what > KIND | HAS_CLASS | HAS_GOID {
        return Err(Corrupt("unknown flags of a run of a heap"));
    }
    let class = if what & HAS_CLASS != 0 { bytes.byte()? } else { 0 };
    let span = match (what & KIND).checked_sub(1) {
        Some(kind) => Some(Span { kind: SpanKind::try_from(kind).map_err(|_| UNKNOWN)?, class }),
        None => None,
    };
    let goid = if what & HAS_GOID != 0 {
        block.heap_goid = bytes.signed(block.heap_goid)?;
        Some(block.heap_goid)
    } else {
        None
    };
    Ok(HeapRun { goid, span, ..run })
}

/// A row of a reading.
pub(super) fn write_row(addr: u64, pages: HeapPages, state: HeapState, block: &mut Block, out: &mut Out) {
    out.bytes.extend_from_slice(&[op::rare::BASELINE_HEAP, state.code()]);
    out.signed(block.heap_end, addr);
    out.varint(pages.0);
    did(addr, pages, block);
}

pub(super) fn read_row(block: &mut Block, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let state = HeapState::try_from(bytes.byte()?).map_err(|_| UNKNOWN)?;
    let addr = bytes.signed(block.heap_end)?;
    let pages = HeapPages(bytes.varint()?);
    did(addr, pages, block);
    Ok(Body::BaselineHeap { addr, pages, state })
}

/// What a run holds.
pub(super) fn write_use(used: &SpanUse, block: &mut Block, out: &mut Out) {
    out.byte(op::rare::SPAN_USE);
    out.signed(block.heap_end, used.addr);
    for value in [used.pages.0, used.object_bytes, used.objects] {
        out.varint(value);
    }
    did(used.addr, used.pages, block);
}

pub(super) fn read_use(block: &mut Block, bytes: &mut In<'_>) -> Result<SpanUse, Corrupt> {
    let addr = bytes.signed(block.heap_end)?;
    let pages = HeapPages(bytes.varint()?);
    let used = SpanUse { addr, pages, object_bytes: bytes.varint()?, objects: bytes.varint()? };
    did(addr, pages, block);
    Ok(used)
}

/// After a run, on both sides.
fn did(addr: u64, pages: HeapPages, block: &mut Block) {
    block.heap_end = addr.wrapping_add(pages.0.wrapping_mul(HEAP_PAGE_BYTES));
}
