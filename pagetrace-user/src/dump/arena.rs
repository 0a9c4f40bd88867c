//! The values of arenas.

use super::line::Value;
use crate::event::Body;

pub(super) fn describe<'a>(body: &'a Body, put: &mut impl FnMut(&'static str, Value<'a>)) {
    use Value::{Address, Flag, Number};
    match body {
        Body::Arena(arena) => {
            put("addr", Address(arena.addr));
            put("bytes", Number(arena.size.0));
            put("whole", Flag(arena.settled));
            put("is_main", Flag(arena.is_main));
            for (count, bytes, chunks) in [
                ("in_use_count", "in_use_bytes", arena.in_use),
                ("cached_count", "cached_bytes", arena.cached),
                ("fast_count", "fast_bytes", arena.fast),
                ("free_count", "free_bytes", arena.free),
            ] {
                put(count, Number(chunks.count));
                put(bytes, Number(chunks.bytes.0));
            }
            put("top_bytes", Number(arena.top.0));
        }
        Body::ArenaPages(row) => {
            put("addr", Address(row.addr));
            put("bytes", Number(row.pages.bytes().0));
            put("npages", Number(row.pages.0));
            put("in_use_bytes", Number(row.in_use.0));
            put("kept_bytes", Number(row.kept.0));
            put("free_bytes", Number(row.free.0));
            put("trims", Flag(row.trims));
        }
        _ => {}
    }
}
