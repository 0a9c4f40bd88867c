//! Records of objects.

use pagetrace_common::control::object_cookie;
use pagetrace_common::record;

use crate::event::{Body, LibraryId, Object, ObjectAct, ObjectCall, Who};
use crate::live::decode::What;
use crate::units::Bytes;

/// The words of an object: address, bytes, call and library.
pub(super) fn object(flags: u8, word: &dyn Fn(usize) -> u64) -> What {
    let (call, library) = object_cookie::unpack(word(2));
    let call = ObjectCall::try_from(call);
    let act = ObjectAct::try_from(flags & record::OBJECT_ACT);
    let (Ok(call), Ok(act)) = (call, act) else { return What::Unknown };
    let who = Who { call, library: LibraryId(library) };
    let moves = flags & record::OBJECT_MOVES != 0;
    What::Event(Body::Object(Object { act, addr: word(0), bytes: Bytes(word(1)), who, moves }))
}
