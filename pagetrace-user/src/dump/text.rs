//! The lines for people: time since the recording began, CPU, thread, layer, kind, then words.

use std::io::{self, Write};

use super::{line, row};
use crate::event::{Event, FileId, Header};
use crate::format::Outcome;
use crate::units::Range;

pub(super) fn head(header: &Header, is_go: bool, out: &mut impl Write) -> io::Result<()> {
    if is_go {
        writeln!(out, "# page trace of the Go runtime: it has no header")?;
        return columns(out);
    }
    let attached = header.probes.iter().filter(|probe| probe.attached).count();
    writeln!(
        out,
        "# {} ({}) exe={} kernel={} recorder={} probes={attached}/{}",
        header.comm.escape_debug(),
        header.tgid,
        header.exe.escape_debug(),
        header.kernel.escape_debug(),
        header.recorder.escape_debug(),
        header.probes.len()
    )?;
    columns(out)
}

fn columns(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "# {:>14} {:>3} {:>8} {:<5} {:<8}", "seconds", "cpu", "tid", "layer", "kind")
}

pub(super) fn event<'a>(
    event: &'a Event,
    began: u64,
    path: &impl Fn(FileId) -> Option<&'a str>,
    replaced: &'a [Range],
    row: &mut Vec<u8>,
) {
    let (sign, since) = if event.ts.0 < began { ("-", began - event.ts.0) } else { ("", event.ts.0 - began) };
    let seconds = format!("{sign}{}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
    // SANITY: writing to a Vec cannot fail.
    let _ = write!(
        row,
        "{seconds:>16} {:>3} {:>8} {:<5} {:<8}",
        event.cpu,
        event.tid.0,
        event.body.layer().word(),
        line::kind(&event.body)
    );
    row::words(event, path, replaced, row);
    while row.last() == Some(&b' ') {
        row.pop();
    }
}

pub(super) fn tail(outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    for quirk in outcome.go.iter().flat_map(|go| &go.quirks) {
        writeln!(out, "# odd: {} ({})", quirk.text, quirk.count)?;
    }
    match (&outcome.trailer, &outcome.damage) {
        (Some(trailer), _) => {
            let (reason, dropped) = (trailer.reason.escape_debug(), trailer.dropped());
            writeln!(
                out,
                "# end: {reason}; {} events; session: {dropped} dropped, {} skipped",
                trailer.events, trailer.skipped
            )
        }
        (None, Some(damage)) => {
            writeln!(out, "# damaged at byte {}: {}; {} events before it", damage.offset, damage.why, outcome.events)
        }
        (None, None) if outcome.is_whole() => writeln!(out, "# end: the program's own; {} events", outcome.events),
        (None, None) => writeln!(out, "# unfinished: no trailer; {} events", outcome.events),
    }
}
