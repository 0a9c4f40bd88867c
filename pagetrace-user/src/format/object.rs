//! Events of the object layer, into bytes and out of them.

use super::state::{Block, op};
use super::wire::{Corrupt, In, Out};
use crate::event::{Body, CallCount, LibraryId, Object, ObjectAct, ObjectCall, Who};
use crate::units::Bytes;

/// Calls and acts that a number can tell.
const CALLS: u64 = 64;
const ACTS: u64 = 4;

const UNKNOWN: Corrupt = Corrupt("an unknown value of an enumeration");

fn number(who: Who) -> u64 {
    u64::from(who.library.0) * CALLS + u64::from(who.call.code())
}

fn who(number: u64) -> Result<Who, Corrupt> {
    let library = u8::try_from(number / CALLS).map_err(|_| Corrupt("a number beyond its field"))?;
    let call = ObjectCall::try_from((number % CALLS) as u8).map_err(|_| UNKNOWN)?;
    Ok(Who { call, library: LibraryId(library) })
}

pub(super) fn write(object: &Object, block: &mut Block, out: &mut Out) {
    let act = u64::from(object.act.code()) * 2 + u64::from(object.moves);
    out.varint(number(object.who) * ACTS * 2 + act);
    out.signed(block.object_addr, object.addr);
    out.varint(object.bytes.0);
    block.object_addr = object.addr;
}

pub(super) fn read(block: &mut Block, bytes: &mut In<'_>) -> Result<Object, Corrupt> {
    let what = bytes.varint()?;
    let act = ObjectAct::try_from((what / 2 % ACTS) as u8).map_err(|_| UNKNOWN)?;
    let who = who(what / (ACTS * 2))?;
    let addr = bytes.signed(block.object_addr)?;
    block.object_addr = addr;
    Ok(Object { act, addr, bytes: Bytes(bytes.varint()?), who, moves: what % 2 == 1 })
}

/// An event of the layer that is no object.
pub(super) fn write_rare(body: &Body, out: &mut Out) {
    match body {
        Body::Library { id, whole, name, path } => {
            out.bytes.extend_from_slice(&[op::rare::LIBRARY, id.0, u8::from(*whole)]);
            out.text(name);
            out.text(path);
        }
        Body::Calls { who, count } => {
            out.byte(op::rare::CALLS);
            out.varint(number(*who));
            for value in [count.calls, count.bytes.0, count.nested, count.failed] {
                out.varint(value);
            }
        }
        _ => {}
    }
}

pub(super) fn read_library(bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let (id, whole) = (LibraryId(bytes.byte()?), bytes.byte()?);
    if whole > 1 {
        return Err(Corrupt("an unknown flag of a library"));
    }
    Ok(Body::Library { id, whole: whole == 1, name: bytes.text()?, path: bytes.text()? })
}

pub(super) fn read_count(bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    let who = who(bytes.varint()?)?;
    let (calls, asked, nested, failed) = (bytes.varint()?, bytes.varint()?, bytes.varint()?, bytes.varint()?);
    Ok(Body::Calls { who, count: CallCount { calls, bytes: Bytes(asked), nested, failed } })
}
