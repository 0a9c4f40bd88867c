//! A trace as the file of another tool, whose form the name's extension says.
//!
//! | extension | form |
//! |---|---|
//! | `.pt` | the page trace of the Go runtime: the heap layer's allocs, frees and scavs ([`crate::format::go`]) |
//! | `.folded` | a line a stack, for flame graph tools |
//! | `.svg`, `.png` | a flame graph |
//! | `.pb.gz` | a profile of pprof |
//! | `.json` | a profile of speedscope |
//! | `.jsonl` | every event as one JSON object a line, with header and trailer: [`crate::dump`] |
//! | `.csv` | every event as a row of a table: [`crate::dump::csv`] |
//! | `.events.parquet` or `.parquet`, `.stacks.parquet`, `.processes.parquet` | the same, and two more tables, for Parquet |
//! | `.pftrace` | counters of RSS, calls, phases of the collector and heap samples, for Perfetto |
//! | `heaptrack.*.gz`, `heaptrack.*.zst` | the objects of allocators, for heaptrack |
//!
//! From `.folded` to `.json` they are of weighted stacks ([`crate::stacks`]), which need the state of the whole trace. The
//! others are written while the trace is read, whatever its size.

mod heaptrack;
#[cfg(feature = "parquet")]
mod parquet;
mod perfetto;
mod pprof;
mod speedscope;
mod waiting;

use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use inferno::flamegraph;

use crate::dump::{self, Filter};
use crate::event::{Body, HeapAct};
use crate::format::go::GoWriter;
use crate::format::{Outcome, Trace};
use crate::picture::{self, shown};
use crate::stacks::{Of, Profile, weigh};

/// The forms there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Go,
    Folded,
    Flame,
    FlamePng,
    Pprof,
    Speedscope,
    Jsonl,
    Csv,
    HeaptrackGzip,
    HeaptrackZstd,
    Perfetto,
    #[cfg(feature = "parquet")]
    Parquet(Rows),
}

/// What a table of Parquet has a row for.
#[cfg(feature = "parquet")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Events,
    Stacks,
    Processes,
}

impl Form {
    /// Every form with its extension.
    pub const ALL: &[(&'static str, Form)] = &[
        ("pt", Form::Go),
        ("folded", Form::Folded),
        ("svg", Form::Flame),
        ("png", Form::FlamePng),
        ("pb.gz", Form::Pprof),
        ("json", Form::Speedscope),
        ("jsonl", Form::Jsonl),
        ("csv", Form::Csv),
        ("gz", Form::HeaptrackGzip),
        ("zst", Form::HeaptrackZstd),
        ("pftrace", Form::Perfetto),
        #[cfg(feature = "parquet")]
        ("stacks.parquet", Form::Parquet(Rows::Stacks)),
        #[cfg(feature = "parquet")]
        ("processes.parquet", Form::Parquet(Rows::Processes)),
        #[cfg(feature = "parquet")]
        ("events.parquet", Form::Parquet(Rows::Events)),
        #[cfg(feature = "parquet")]
        ("parquet", Form::Parquet(Rows::Events)),
    ];
    /// What the name of a file of heaptrack begins with: its extension says no more than how it is compressed.
    pub const HEAPTRACK: &'static str = "heaptrack.";

    /// The form of a file of this name; `None` where no form has its extension.
    #[must_use]
    pub fn of(path: &Path) -> Option<Form> {
        let name = path.file_name()?.to_str()?;
        let has = |extension: &str| name.strip_suffix(extension).is_some_and(|rest| rest.ends_with('.'));
        let (_, form) = *Form::ALL.iter().find(|(known, _)| has(known))?;
        (!form.is_of_objects() || name.starts_with(Form::HEAPTRACK)).then_some(form)
    }

    /// Whether it has weighted stacks.
    #[must_use]
    pub fn is_of_stacks(self) -> bool {
        matches!(self, Form::Folded | Form::Flame | Form::FlamePng | Form::Pprof | Form::Speedscope)
    }

    /// Whether a trace without stacks is nothing to it.
    #[must_use]
    pub fn needs_stacks(self) -> bool {
        #[cfg(feature = "parquet")]
        if self == Form::Parquet(Rows::Stacks) {
            return true;
        }
        self.is_of_stacks()
    }

    /// Whether it has the objects of allocators.
    #[must_use]
    pub fn is_of_objects(self) -> bool {
        matches!(self, Form::HeaptrackGzip | Form::HeaptrackZstd)
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub events: u64,
    /// Stacks.
    pub stacks: u64,
    /// Events of the right layer that the form has no room for.
    pub unfit: u64,
    /// Events of other layers, which the form does not know.
    pub others: u64,
    /// Bytes between two objects that were written, where they are samples.
    pub period_bytes: Option<u64>,
}

/// What stopped an export.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error("cannot read: {0}")]
    Read(io::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Writes all of `trace` to `out` in `form`; what is weighed, where that is stacks, is `of`.
///
/// # Errors
/// When the source cannot be read or `out` cannot be written. Damage is not an error: it is in the trace's outcome.
pub fn export<W: Write + Send>(trace: &mut impl Trace, form: Form, of: Of, out: &mut W) -> Result<Exported, Stopped> {
    match form {
        Form::Go => go(trace, out),
        Form::Jsonl => events(dump::dump(trace, &Filter::default(), true, out)),
        Form::Csv => events(dump::table(trace, out)),
        Form::HeaptrackGzip => {
            let mut gzip = GzEncoder::new(out, Compression::default());
            let done = heaptrack::write(trace, &mut gzip)?;
            gzip.finish()?.flush()?;
            Ok(done)
        }
        Form::HeaptrackZstd => {
            let mut zstd = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            let done = heaptrack::write(trace, &mut zstd)?;
            zstd.finish()?.flush()?;
            Ok(done)
        }
        Form::Perfetto => perfetto::write(trace, out),
        #[cfg(feature = "parquet")]
        Form::Parquet(Rows::Events) => parquet::events(trace, out),
        #[cfg(feature = "parquet")]
        Form::Parquet(Rows::Stacks) => parquet::stacks(trace, out),
        #[cfg(feature = "parquet")]
        Form::Parquet(Rows::Processes) => parquet::processes(trace, out),
        Form::Folded | Form::Flame | Form::FlamePng | Form::Pprof | Form::Speedscope => stacks(trace, form, of, out),
    }
}

/// What writing every event came to.
fn events(done: Result<Outcome, dump::Stopped>) -> Result<Exported, Stopped> {
    match done {
        Ok(outcome) => Ok(Exported { events: outcome.events, ..Exported::default() }),
        Err(dump::Stopped::Read(error)) => Err(Stopped::Read(error)),
        Err(dump::Stopped::Write(error)) => Err(Stopped::Write(error)),
    }
}

fn stacks(trace: &mut impl Trace, form: Form, of: Of, out: &mut impl Write) -> Result<Exported, Stopped> {
    let (state, profile, outcome) = weigh(trace, of, None).map_err(Stopped::Read)?;
    if profile.samples.is_empty() {
        return Ok(Exported { events: outcome.events, ..Exported::default() });
    }
    let header = trace.header();
    match form {
        Form::Flame => out.write_all(flame(&profile)?.as_bytes())?,
        Form::FlamePng => {
            // On a picture there is nothing to click.
            let svg = flame(&profile)?.replacen("</style>", "#search { display: none }</style>", 1);
            out.write_all(&picture::png(&svg).map_err(io::Error::other)?)?;
        }
        Form::Pprof => pprof::write(header, &state, &profile, of.word(), out)?,
        Form::Speedscope => speedscope::write(&profile, &format!("{} ({})", header.comm, header.tgid), out)?,
        _ => out.write_all(profile.folded().as_bytes())?,
    }
    Ok(Exported { events: outcome.events, stacks: profile.samples.len() as u64, ..Exported::default() })
}

/// A flame graph as SVG.
fn flame(profile: &Profile) -> Result<String, Stopped> {
    let mut options = flamegraph::Options::default();
    options.title = profile.title.to_owned();
    options.count_name = profile.unit.to_owned();
    options.deterministic = true;
    // In XML some letters may not stand at all, not even as escapes of its own.
    let folded: Vec<String> = profile.folded().lines().map(shown).collect();
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.iter().map(String::as_str), &mut svg)
        .map_err(|error| Stopped::Write(io::Error::other(error)))?;
    String::from_utf8(svg).map_err(|error| Stopped::Write(io::Error::other(error)))
}

fn go(trace: &mut impl Trace, out: &mut impl Write) -> Result<Exported, Stopped> {
    let mut writer = GoWriter::new(out);
    let mut done = Exported::default();
    while let Some(event) = trace.next_event().map_err(Stopped::Read)? {
        if !matches!(event.body, Body::Heap(run) if run.act != HeapAct::Mark) {
            done.others = done.others.saturating_add(1);
        } else if writer.push(event)?.is_err() {
            done.unfit = done.unfit.saturating_add(1);
        }
    }
    done.events = writer.events();
    writer.finish(trace.outcome().is_whole())?;
    Ok(done)
}
