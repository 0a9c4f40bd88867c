//! Every event of a trace as one line: JSON with stable keys, words, or a row of a table ([`csv`]).
//!
//! *Format (JSON).* The first line is the header, `{"kind":"header",...}`; the last is the trailer,
//! `{"kind":"trailer",...}`, or, where the file has none, `{"kind":"end",...}` with `damage` (null for a file that only
//! stops) and, for a page trace of the Go runtime, `go` (what is odd about it: `quirks`); `format` then is null. Between them stands every event, in the file's order. Every line has `ts` (ns, monotonic), `cpu`, `layer`,
//! `kind`, `tgid` (the process of the file) and `tid` (the acting thread). The other keys are in [`line`].
//!
//! *Units.* Bytes and nanoseconds are integers; addresses are hex strings (`"0x7f00"`); a page is the header's
//! `page_bytes`, on the heap layer its `heap_page_bytes`.

mod arena;
pub mod csv;
pub mod line;
mod row;
mod stack;
mod text;

pub(crate) use stack::hex;

use std::io::{self, Write};

pub(crate) use row::json_of;
use serde::Serialize;

use crate::event::{Body, Event, FileId, Header, Layer, Probe, Trailer};
use crate::format::go::GoFile;
use crate::format::{Outcome, Trace, VERSION};
use crate::replay::{State, vma};
use crate::units::{Nanos, Range};

/// Which events are shown; an empty list means all. Header and trailer always are.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub layers: Vec<Layer>,
    pub kinds: Vec<String>,
}

impl Filter {
    fn wants(&self, event: &Event) -> bool {
        (self.layers.is_empty() || self.layers.contains(&event.body.layer()))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == line::kind(&event.body)))
    }
}

/// What stopped a dump.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error("cannot read: {0}")]
    Read(io::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Writes all of `reader` to `out`, and says how the file ended.
///
/// # Errors
/// When the source cannot be read or `out` cannot be written. Damage is not an error: it is in the outcome.
pub fn dump<W: Write>(reader: &mut impl Trace, filter: &Filter, json: bool, out: &mut W) -> Result<Outcome, Stopped> {
    write(reader, filter, if json { Form::Json } else { Form::Words }, out)
}

/// The same as a table of events, without header and trailer.
///
/// # Errors
/// Those of [`dump`].
pub fn table<W: Write>(reader: &mut impl Trace, out: &mut W) -> Result<Outcome, Stopped> {
    write(reader, &Filter::default(), Form::Csv(csv::Table::new()), out)
}

fn write(reader: &mut impl Trace, filter: &Filter, form: Form, out: &mut impl Write) -> Result<Outcome, Stopped> {
    let header = reader.header().clone();
    let mut lines =
        Lines { header: &header, form, row: Vec::with_capacity(512), before: Before::default(), last: Nanos(0) };
    lines.head(reader.outcome().go.as_ref(), out)?;
    while let Some(event) = reader.next_event().map_err(Stopped::Read)? {
        lines.event(event, filter, out)?;
    }
    let outcome = reader.outcome();
    lines.tail(&outcome, out)?;
    out.flush()?;
    Ok(outcome)
}

enum Form {
    Words,
    Json,
    Csv(csv::Table),
}

/// What the events before an event say of it.
#[derive(Default)]
pub(crate) struct Before {
    /// Of it, only mappings and files are kept: they tell what `MAP_FIXED` replaces and what a file id means.
    state: State,
}

impl Before {
    /// Takes the next event; what it replaces.
    pub fn take(&mut self, event: &Event) -> Vec<Range> {
        let replaced: Vec<Range> = match &event.body {
            Body::Map { range, flags, call, .. } if vma::replaces(*call, *flags) => {
                self.state.mappings().covered(*range)
            }
            _ => Vec::new(),
        };
        if changes_mappings(&event.body) {
            self.state.apply(event);
        }
        replaced
    }

    /// The path of a file.
    pub fn path(&self, id: FileId) -> Option<&str> {
        self.state.file(id).map(|file| file.path.as_str())
    }
}

struct Lines<'a> {
    header: &'a Header,
    form: Form,
    row: Vec<u8>,
    before: Before,
    /// Time of the last event.
    last: Nanos,
}

impl Lines<'_> {
    fn head(&mut self, go: Option<&GoFile>, out: &mut impl Write) -> io::Result<()> {
        match &self.form {
            Form::Words => text::head(self.header, go.is_some(), out),
            Form::Json => head_json(self.header, go, out),
            Form::Csv(table) => table.head(out),
        }
    }

    fn event(&mut self, event: &Event, filter: &Filter, out: &mut impl Write) -> io::Result<()> {
        self.last = event.ts;
        let replaced = self.before.take(event);
        if !filter.wants(event) {
            return Ok(());
        }
        self.row.clear();
        let path = |id| self.before.path(id);
        let tgid = self.header.tgid;
        match &mut self.form {
            Form::Words => text::event(event, self.header.clock_monotonic, &path, &replaced, &mut self.row),
            Form::Json => row::json(event, tgid, &path, &replaced, &mut self.row),
            Form::Csv(table) => table.event(event, tgid, &path, &replaced, &mut self.row),
        }
        self.row.push(b'\n');
        out.write_all(&self.row)
    }

    fn tail(&mut self, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
        match &self.form {
            Form::Words => text::tail(outcome, out),
            Form::Json => tail_json(self.header.tgid, self.last, outcome, out),
            Form::Csv(_) => Ok(()),
        }
    }
}

fn changes_mappings(body: &Body) -> bool {
    let Body::BaselinePages { .. } = body else {
        return matches!(body.layer(), Layer::Vma | Layer::Task) || matches!(body, Body::Reading { .. });
    };
    false
}

/// What every line begins with.
#[derive(Serialize)]
struct Common {
    kind: &'static str,
    ts: u64,
    cpu: u16,
    layer: &'static str,
    tgid: u32,
    tid: u32,
}

impl Common {
    fn new(kind: &'static str, ts: u64, tgid: u32) -> Common {
        Common { kind, ts, cpu: 0, layer: Layer::Task.word(), tgid, tid: tgid }
    }
}

#[derive(Serialize)]
struct HeaderLine<'a> {
    #[serde(flatten)]
    common: Common,
    version: &'a str,
    /// Version of the trace file; `None` for other forms.
    format: Option<u32>,
    comm: &'a str,
    exe: &'a str,
    cmdline: &'a [String],
    /// Of the process: ns since boot.
    start_boottime: u64,
    page_bytes: u64,
    heap_page_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_period_bytes: Option<u64>,
    clock_monotonic: u64,
    clock_wall: u64,
    boot_id: &'a str,
    kernel: &'a str,
    cpus: u32,
    ring_bytes: u64,
    probes: &'a [Probe],
    notes: &'a [String],
}

#[derive(Serialize)]
struct TrailerLine<'a> {
    #[serde(flatten)]
    common: Common,
    dropped: u64,
    #[serde(flatten)]
    trailer: &'a Trailer,
}

#[derive(Serialize)]
struct EndLine<'a> {
    #[serde(flatten)]
    common: Common,
    damage: Option<DamageAt<'a>>,
    events: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    go: Option<&'a GoFile>,
}

#[derive(Serialize)]
struct DamageAt<'a> {
    offset: u64,
    why: &'a str,
}

fn head_json(header: &Header, go: Option<&GoFile>, out: &mut impl Write) -> io::Result<()> {
    let line = HeaderLine {
        common: Common::new("header", header.clock_monotonic, header.tgid),
        version: &header.recorder,
        format: go.is_none().then_some(VERSION),
        comm: &header.comm,
        exe: &header.exe,
        cmdline: &header.cmdline,
        start_boottime: header.start_boottime,
        page_bytes: header.page_bytes,
        heap_page_bytes: header.heap_page_bytes,
        object_period_bytes: header.object_period_bytes,
        clock_monotonic: header.clock_monotonic,
        clock_wall: header.clock_wall,
        boot_id: &header.boot_id,
        kernel: &header.kernel,
        cpus: header.cpus,
        ring_bytes: header.ring_bytes,
        probes: &header.probes,
        notes: &header.notes,
    };
    put_line(&line, out)
}

fn tail_json(tgid: u32, last: Nanos, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    if let Some(trailer) = &outcome.trailer {
        let common = Common::new("trailer", trailer.end, tgid);
        return put_line(&TrailerLine { common, dropped: trailer.dropped(), trailer }, out);
    }
    let damage = outcome.damage.as_ref().map(|damage| DamageAt { offset: damage.offset, why: &damage.why });
    let common = Common::new("end", last.0, tgid);
    put_line(&EndLine { common, damage, events: outcome.events, bytes: outcome.bytes, go: outcome.go.as_ref() }, out)
}

fn put_line(line: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
