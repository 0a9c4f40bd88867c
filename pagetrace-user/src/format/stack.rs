//! Events of the stack layer, into bytes and out of them.

use super::state::{Block, op};
use super::wire::{Corrupt, In, Out};
use crate::event::{Body, FileId, Function, Place, StackId, StackOf};

const BEYOND: Corrupt = Corrupt("a number beyond its field");

/// Functions inlined into each other at one place that are written at most, and bytes of a name: an event fits into a block.
const MOST_FUNCTIONS: u64 = 16;
const MOST_NAME_BYTES: usize = 1024;

pub(super) fn write(of: StackOf, id: StackId, block: &mut Block, out: &mut Out) {
    out.byte(of.code());
    out.signed(block.stack, u64::from(id.0));
    block.stack = u64::from(id.0);
}

pub(super) fn read(block: &mut Block, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let of = StackOf::try_from(bytes.byte()?).map_err(|_| Corrupt("an unknown value of an enumeration"))?;
    let id = bytes.signed(block.stack)?;
    block.stack = id;
    Ok(Body::Stack { of, id: StackId(u32::try_from(id).map_err(|_| BEYOND)?) })
}

/// An event of the layer that is no stack.
pub(super) fn write_rare(body: &Body, out: &mut Out) {
    match body {
        Body::StackNode { parent, place } => {
            out.byte(op::rare::STACK_NODE);
            out.varint(parent.map_or(0, |parent| u64::from(parent.0) + 1));
            write_place(*place, out);
        }
        Body::Symbol { place, functions } => {
            out.byte(op::rare::SYMBOL);
            write_place(*place, out);
            // The outermost is the function itself: of many, those farthest in are left out.
            let from = functions.len().saturating_sub(MOST_FUNCTIONS as usize);
            let functions = functions.get(from..).unwrap_or_default();
            out.varint(functions.len() as u64);
            for Function { name, file, line } in functions {
                out.text_within(name, MOST_NAME_BYTES);
                out.text_within(file, MOST_NAME_BYTES);
                out.varint(u64::from(*line));
            }
        }
        Body::BuildId { file, id, linked } => {
            match linked {
                None => out.byte(op::rare::BUILD_ID),
                Some(linked) => {
                    out.byte(op::rare::BUILD_ID_LINKED);
                    out.varint(*linked);
                }
            }
            out.varint(u64::from(file.0));
            let id = id.get(..usize::from(u8::MAX)).unwrap_or(id);
            out.byte(id.len() as u8);
            out.bytes.extend_from_slice(id);
        }
        _ => {}
    }
}

/// No more bytes than this are written of these functions.
pub(super) fn bound(functions: &[Function]) -> usize {
    /// Lengths, and the line.
    const NUMBERS: usize = 3 + 3 + 5;
    let within = |text: &str| text.len().min(MOST_NAME_BYTES);
    let each = functions.iter().rev().take(MOST_FUNCTIONS as usize);
    each.map(|function| within(&function.name) + within(&function.file) + NUMBERS).sum()
}

pub(super) fn read_node(bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let parent = match bytes.varint()? {
        0 => None,
        more => Some(StackId(u32::try_from(more - 1).map_err(|_| BEYOND)?)),
    };
    Ok(Body::StackNode { parent, place: read_place(bytes)? })
}

pub(super) fn read_symbol(bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let place = read_place(bytes)?;
    let count = bytes.varint()?;
    if count > MOST_FUNCTIONS {
        return Err(Corrupt("too many functions at a place"));
    }
    let mut functions = Vec::new();
    for _ in 0..count {
        functions.push(Function { name: bytes.text()?, file: bytes.text()?, line: bytes.narrow()? });
    }
    Ok(Body::Symbol { place, functions })
}

pub(super) fn read_build_id(is_linked: bool, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let linked = if is_linked { Some(bytes.varint()?) } else { None };
    let file = FileId(bytes.narrow()?);
    let count = bytes.byte()?;
    Ok(Body::BuildId { file, id: bytes.bytes(usize::from(count))?.to_vec(), linked })
}

fn write_place(place: Place, out: &mut Out) {
    match place {
        Place::Cut => out.byte(0),
        Place::Address(address) => {
            out.byte(1);
            out.varint(address);
        }
        Place::File { file, offset } => {
            out.byte(2);
            out.varint(u64::from(file.0));
            out.varint(offset);
        }
        Place::Kernel(offset) => {
            out.byte(3);
            out.varint(offset);
        }
    }
}

fn read_place(bytes: &mut In<'_>) -> Result<Place, Corrupt> {
    match bytes.byte()? {
        0 => Ok(Place::Cut),
        1 => Ok(Place::Address(bytes.varint()?)),
        2 => Ok(Place::File { file: FileId(bytes.narrow()?), offset: bytes.varint()? }),
        3 => Ok(Place::Kernel(bytes.varint()?)),
        _ => Err(Corrupt("an unknown kind of place")),
    }
}
