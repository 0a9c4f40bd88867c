//! Events of the task layer, into bytes and out of them.

use super::state::op;
use super::wire::{Corrupt, In, Out};
use crate::event::{Body, Start};
use crate::units::{Comm, Pid};

/// An event of the layer but the end of an address space.
pub(super) fn write_rare(body: &Body, out: &mut Out) {
    match body {
        Body::Start { how, parent } => {
            out.bytes.extend_from_slice(&[op::rare::START, how.code()]);
            out.varint(u64::from(parent.0));
        }
        Body::Fork { child, child_comm } => {
            out.byte(op::rare::FORK);
            out.varint(u64::from(child.0));
            out.bytes.extend_from_slice(&child_comm.0);
        }
        Body::Exec { comm, exe } => {
            out.byte(op::rare::EXEC);
            out.bytes.extend_from_slice(&comm.0);
            out.text(exe);
        }
        Body::Exit { code, signal } => out.bytes.extend_from_slice(&[op::rare::EXIT, *code, *signal]),
        _ => {}
    }
}

/// The event whose second byte was `kind`.
pub(super) fn read_rare(kind: u8, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
    Ok(match kind {
        op::rare::START => {
            let how = Start::try_from(bytes.byte()?).map_err(|_| Corrupt("an unknown value of an enumeration"))?;
            Body::Start { how, parent: Pid(bytes.narrow()?) }
        }
        op::rare::FORK => Body::Fork { child: Pid(bytes.narrow()?), child_comm: comm(bytes, 16)? },
        op::rare::EXEC => Body::Exec { comm: comm(bytes, 16)?, exe: bytes.text()? },
        op::rare::EXIT => Body::Exit { code: bytes.byte()?, signal: bytes.byte()? },
        _ => return Err(Corrupt("an unknown kind of event")),
    })
}

/// A comm of which the first `used` bytes are written.
pub(super) fn comm(bytes: &mut In<'_>, used: usize) -> Result<Comm, Corrupt> {
    let mut comm = Comm::default();
    comm.0.get_mut(..used).ok_or(Corrupt("a comm of more than 16 bytes"))?.copy_from_slice(bytes.bytes(used)?);
    Ok(comm)
}
