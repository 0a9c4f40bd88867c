//! What `export` writes, opened by the programs that it is for.

mod pprof;
mod speedscope;

use pagetrace_user::event::Event;
use pagetrace_user::export::{Exported, Form, export};
use pagetrace_user::format::Reader;
use pagetrace_user::stacks::Of;

use crate::fixture;

/// What is written of these events.
fn exported(events: &[Event], form: Form, of: Of) -> (Vec<u8>, Exported) {
    exported_file(&fixture::whole(events), form, of)
}

/// What is written of a trace.
fn exported_file(trace: &[u8], form: Form, of: Of) -> (Vec<u8>, Exported) {
    let mut out = Vec::new();
    let done = export(&mut Reader::new(trace).unwrap(), form, of, &mut out).unwrap();
    (out, done)
}
