//! A trace as the file of another tool, whose form the name's extension says.
//!
//! | extension | form |
//! |---|---|
//! | `.pt` | the page trace of the Go runtime: the heap layer's allocs, frees and scavs ([`crate::format::go`]) |

use std::io::{self, Write};
use std::path::Path;

use crate::event::{Body, HeapAct};
use crate::format::Trace;
use crate::format::go::GoWriter;

/// The forms there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Go,
}

impl Form {
    /// Every form with its extension.
    pub const ALL: [(&'static str, Form); 1] = [("pt", Form::Go)];

    /// The form of a file of this name; `None` where no form has its extension.
    #[must_use]
    pub fn of(path: &Path) -> Option<Form> {
        let extension = path.extension()?.to_str()?;
        Form::ALL.iter().find(|(known, _)| *known == extension).map(|&(_, form)| form)
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub events: u64,
    /// Events of the right layer that the form has no room for.
    pub unfit: u64,
    /// Events of other layers, which the form does not know.
    pub others: u64,
}

/// What stopped an export.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error("cannot read: {0}")]
    Read(io::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Writes all of `trace` to `out` in `form`.
///
/// # Errors
/// When the source cannot be read or `out` cannot be written. Damage is not an error: it is in the trace's outcome.
pub fn export(trace: &mut impl Trace, form: Form, out: &mut impl Write) -> Result<Exported, Stopped> {
    match form {
        Form::Go => go(trace, out),
    }
}

fn go(trace: &mut impl Trace, out: &mut impl Write) -> Result<Exported, Stopped> {
    let mut writer = GoWriter::new(out);
    let mut done = Exported::default();
    while let Some(event) = trace.next_event().map_err(Stopped::Read)? {
        if !matches!(event.body, Body::Heap(run) if run.act != HeapAct::Mark) {
            done.others = done.others.saturating_add(1);
        } else if writer.push(&event)?.is_err() {
            done.unfit = done.unfit.saturating_add(1);
        }
    }
    done.events = writer.events();
    writer.finish(trace.outcome().is_whole())?;
    Ok(done)
}
