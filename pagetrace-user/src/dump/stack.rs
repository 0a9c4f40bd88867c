//! Values of the events of the stack layer.

use super::line::Value;
use crate::event::{Body, FileId, KERNEL, Place};

/// As [`super::line::describe`]. The lists of a `symbol` and the bytes of a `build_id` are [`texts`].
pub(super) fn describe<'a>(
    body: &'a Body,
    path: &impl Fn(FileId) -> Option<&'a str>,
    put: &mut impl FnMut(&'static str, Value<'a>),
) {
    match body {
        Body::Stack { of, id } => {
            put("of", Value::Text(of.word()));
            put("stack", Value::Number(u64::from(id.0)));
        }
        Body::StackNode { parent, place } => {
            if let Some(parent) = parent {
                put("parent", Value::Number(u64::from(parent.0)));
            }
            put_place(*place, path, put);
        }
        Body::Symbol { place, functions } => {
            put_place(*place, path, put);
            put("functions", Value::Functions(functions));
        }
        Body::BuildId { file, linked, .. } => {
            put("path", Value::Text(path(*file).unwrap_or_default()));
            if let Some(linked) = linked {
                put("addr", Value::Address(*linked));
            }
        }
        _ => {}
    }
}

/// A build id as it is written everywhere: hexadecimal.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put_place<'a>(
    place: Place,
    path: &impl Fn(FileId) -> Option<&'a str>,
    put: &mut impl FnMut(&'static str, Value<'a>),
) {
    match place {
        Place::File { file, offset } => {
            put("path", Value::Text(path(file).unwrap_or_default()));
            put("offset", Value::Number(offset));
        }
        Place::Address(address) => put("addr", Value::Address(address)),
        Place::Cut => put("cut", Value::Flag(true)),
        Place::Kernel(offset) => {
            put("path", Value::Text(KERNEL));
            put("offset", Value::Number(offset));
        }
    }
}
