//! Arenas, into bytes and out of them.

use super::state::{Block, op};
use super::wire::{Corrupt, In, Out};
use crate::event::{Arena, ArenaPages, Body, Chunks, Why};
use crate::units::{Bytes, PAGE_BYTES, Pages};

const IS_MAIN: u8 = 1;
const SETTLED: u8 = 2;

pub(super) fn write(body: &Body, block: &mut Block, out: &mut Out) {
    match body {
        Body::ArenaReading { why, name, path } => {
            out.bytes.extend_from_slice(&[op::rare::ARENA_READING, why.code()]);
            out.text(name);
            out.text(path);
        }
        Body::Arena(arena) => {
            let is_main = if arena.is_main { IS_MAIN } else { 0 };
            let settled = if arena.settled { SETTLED } else { 0 };
            out.bytes.extend_from_slice(&[op::rare::ARENA, is_main | settled]);
            out.varint(arena.addr);
            out.varint(arena.size.0);
            for chunks in [arena.in_use, arena.cached, arena.fast, arena.free] {
                out.varint(chunks.count);
                out.varint(chunks.bytes.0);
            }
            out.varint(arena.top.0);
        }
        Body::ArenaPages(row) => {
            out.bytes.extend_from_slice(&[op::rare::ARENA_PAGES, u8::from(row.trims)]);
            out.signed(block.arena_end, row.addr);
            for value in [row.pages.0, row.in_use.0, row.kept.0, row.free.0] {
                out.varint(value);
            }
            did(row, block);
        }
        _ => {}
    }
}

pub(super) fn read_reading(bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let why = Why::try_from(bytes.byte()?).map_err(|_| Corrupt("an unknown value of an enumeration"))?;
    Ok(Body::ArenaReading { why, name: bytes.text()?, path: bytes.text()? })
}

pub(super) fn read_arena(bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let flags = bytes.byte()?;
    if flags > IS_MAIN | SETTLED {
        return Err(Corrupt("unknown flags of an arena"));
    }
    let (addr, size) = (bytes.varint()?, Bytes(bytes.varint()?));
    let mut chunks = || Ok(Chunks { count: bytes.varint()?, bytes: Bytes(bytes.varint()?) });
    let (in_use, cached, fast, free) = (chunks()?, chunks()?, chunks()?, chunks()?);
    let (is_main, settled) = (flags & IS_MAIN != 0, flags & SETTLED != 0);
    Ok(Body::Arena(Arena { addr, is_main, settled, size, in_use, cached, fast, free, top: Bytes(bytes.varint()?) }))
}

pub(super) fn read_pages(block: &mut Block, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let trims = bytes.byte()?;
    if trims > 1 {
        return Err(Corrupt("an unknown flag of pages of an arena"));
    }
    let (addr, pages) = (bytes.signed(block.arena_end)?, Pages(bytes.varint()?));
    let mut sum = || Ok(Bytes(bytes.varint()?));
    let row = ArenaPages { addr, pages, in_use: sum()?, kept: sum()?, free: sum()?, trims: trims == 1 };
    did(&row, block);
    Ok(Body::ArenaPages(row))
}

/// After a row, on both sides.
fn did(row: &ArenaPages, block: &mut Block) {
    block.arena_end = row.addr.wrapping_add(row.pages.0.wrapping_mul(PAGE_BYTES));
}
