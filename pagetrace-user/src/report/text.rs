//! The report for people: what to trust first, then the books, then who moved.

use std::fmt::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use super::{Report, arenas, heap, objects, returned, uses, wall};
use crate::event::FilePages;
use crate::units::Bytes;

/// Gaps that text lists one by one.
const GAPS_SHOWN: usize = 5;

pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    if let Some(go) = &report.go {
        // SANITY: writing to a String cannot fail.
        let _ = heap::go_text(report, go, &mut out);
        return out;
    }
    // SANITY: as above.
    let _ = head(report, &mut out)
        .and_then(|()| trust(report, &mut out))
        .and_then(|()| books(report, &mut out))
        .and_then(|()| movers(report, &mut out))
        .and_then(|()| returned::section(report, &mut out))
        .and_then(|()| uses::section(report, &mut out))
        .and_then(|()| arenas::section(report, &mut out))
        .and_then(|()| heap::section(report, &mut out))
        .and_then(|()| objects::section(report, &mut out))
        .and_then(|()| counts(report, &mut out));
    out
}

fn head(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "{} ({})  {}", shown(&report.comm), report.tgid, shown(&report.exe))?;
    writeln!(
        out,
        "recorded {} from {}: {} events; Linux {}, pagetrace {}",
        span(report.from_ns, report.to_ns),
        wall::utc(report.from_wall_ns),
        report.events,
        shown(&report.kernel),
        shown(&report.recorder)
    )
}

fn trust(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "\nTrust")?;
    let since = |ns: u64| at(report, ns);
    match (&report.damage, &report.ended) {
        (Some(damage), _) => {
            line(
                out,
                "file",
                &format!("DAMAGED at byte {}: {}; shown is what stands before it", damage.offset, shown(&damage.why)),
            )?;
        }
        (None, None) => {
            line(out, "file", "UNFINISHED: the recorder was killed or still writes; shown is what is there")?
        }
        (None, Some(reason)) => line(out, "file", &format!("complete; ended: {}", shown(reason)))?,
    }
    line(
        out,
        "lost",
        &format!(
            "{} in {}",
            many(report.lost, "record"),
            many(report.gaps.len() as u64 + report.gaps_not_listed, "gap")
        ),
    )?;
    for gap in report.gaps.iter().take(GAPS_SHOWN) {
        line(
            out,
            "",
            &format!(
                "{} {} records on CPU {}, {} to {}",
                gap.count,
                gap.layer,
                gap.cpu,
                since(gap.from_ns),
                since(gap.to_ns)
            ),
        )?;
    }
    let more = (report.gaps.len().saturating_sub(GAPS_SHOWN) as u64).saturating_add(report.gaps_not_listed);
    if more > 0 {
        line(out, "", &format!("and {} more", many(more, "gap")))?;
    }
    session(report, out)?;
    let attached = report.probes.iter().filter(|probe| probe.attached).count();
    line(out, "probes", &format!("{attached} of {} attached", report.probes.len()))?;
    for probe in report.probes.iter().filter(|probe| !probe.attached) {
        line(out, "", &format!("not attached: {} ({})", shown(&probe.name), shown(&probe.reason)))?;
    }
    match &report.baseline {
        Some(base) => {
            let asked = if report.changes_since_ns.is_some() { ": changes and counts are of after that" } else { "" };
            line(out, "baseline", &format!("RSS {} at {}{asked}", Bytes(base.rss_bytes), since(base.at_ns)))?
        }
        None => line(out, "baseline", "NONE: the trace has no reading of all pages, so changes are not known")?,
    }
    for correction in report.corrections.iter().filter(|correction| correction.why != "start") {
        let (added, removed) = (
            correction.added_anon_bytes.saturating_add(correction.added_file_bytes),
            correction.removed_anon_bytes.saturating_add(correction.removed_file_bytes),
        );
        let (readings, placed) = (correction.readings, Bytes(correction.placed_bytes));
        let (added, file, removed) = (Bytes(added), Bytes(correction.added_file_bytes), Bytes(removed));
        let text = format!(
            "{} ({}): {added} found ({file} of files), {removed} gone, {placed} placed",
            many(readings, "time"),
            correction.why
        );
        line(out, "healed", &text)?;
    }
    for note in &report.notes {
        line(out, "note", &shown(note))?;
    }
    if report.anomalies.is_empty() {
        line(out, "anomalies", "0")?;
    }
    for anomaly in &report.anomalies {
        line(
            out,
            "anomaly",
            &format!(
                "{}: {} (first at {}, {})",
                many(anomaly.count, "time"),
                anomaly.text,
                since(anomaly.first_ns),
                anomaly.example
            ),
        )?;
    }
    Ok(())
}

/// What the trailer knows of the session beyond this file; only what is not zero.
fn session(report: &Report, out: &mut String) -> fmt::Result {
    if let Some(dropped) = report.dropped_in_session.filter(|&dropped| dropped > report.lost) {
        line(out, "session", &format!("{} dropped, for all processes and times together", many(dropped, "record")))?;
    }
    if let Some(skipped) = report.skipped_in_session.filter(|&skipped| skipped > 0) {
        line(
            out,
            "session",
            &format!("{} skipped, such as those of processes that are not recorded", many(skipped, "record")),
        )?;
    }
    if let Some(frames) = report.frames_unjoined.filter(|&frames| frames > 0) {
        line(out, "session", &format!("{} whose free cannot be told", many(frames, "frame")))?;
    }
    for (program, misses) in &report.recursion_misses {
        line(out, "session", &format!("{} of {} skipped by the kernel", many(*misses, "run"), shown(program)))?;
    }
    Ok(())
}

fn books(report: &Report, out: &mut String) -> fmt::Result {
    let rss = Bytes(report.rss_bytes);
    match (&report.exit, report.at) {
        (Some(exit), _) if exit.signal > 0 => {
            writeln!(out, "\nRSS at exit {rss} (killed by signal {} at {})", exit.signal, at(report, exit.at_ns))?
        }
        (Some(exit), _) => writeln!(out, "\nRSS at exit {rss} (status {} at {})", exit.code, at(report, exit.at_ns))?,
        (None, "exit") => writeln!(out, "\nRSS at exit {rss} ({})", at(report, report.at_ns))?,
        (None, _) => writeln!(out, "\nRSS {rss} at {}", at(report, report.at_ns))?,
    }
    let change = report.rss_delta_bytes.map_or("not known".to_owned(), signed);
    let swap = report.swap_bytes.map_or("not told".to_owned(), |bytes| Bytes(bytes).to_string());
    writeln!(
        out,
        "change {change}; peak {} at {}; swap {swap}",
        Bytes(report.peak_rss_bytes),
        at(report, report.peak_ns)
    )?;

    let mut table = table(&["class", "resident", "change"]);
    for line in &report.classes {
        table.add_row([
            line.class.to_owned(),
            Bytes(line.bytes).to_string(),
            line.delta_bytes.map_or("?".to_owned(), signed),
        ]);
    }
    table.add_row(["unexplained".to_owned(), signed(report.unexplained_bytes), String::new()]);
    table.add_row(["lost".to_owned(), many(report.lost, "record"), String::new()]);
    put(out, &table)?;
    match &report.last_reading {
        Some(reading) => writeln!(
            out,
            "  last closed by a reading at {} ({}); since then events alone",
            at(report, reading.at_ns),
            reading.why
        )?,
        None => writeln!(out, "  never closed by a reading: events alone")?,
    }
    for member in &report.members {
        if member.level_bytes.is_none() && member.pages_bytes > 0 {
            writeln!(out, "  the kernel's {} counter was never told: its pages stand in for it", member.member)?;
        } else if member.unexplained_bytes != 0 {
            writeln!(out, "  unexplained in the {} counter: {}", member.member, signed(member.unexplained_bytes))?;
        }
        if member.unplaced_bytes > 0 {
            writeln!(
                out,
                "  in class {}: {} by the counter alone, place not known (a fault maps its neighbours in the file too; a \
                 reading places them)",
                member.member,
                Bytes(member.unplaced_bytes)
            )?;
        }
    }
    if let Some(FilePages { clean_bytes, dirty_bytes, dirty_files }) = &report.file_pages {
        let (clean, dirty) = (Bytes(*clean_bytes), Bytes(*dirty_bytes));
        writeln!(out, "  in class file: {clean} clean, {dirty} dirty (to be written back), when the recording ended")?;
        for file in dirty_files {
            writeln!(out, "    dirty: {} of {}", Bytes(file.dirty_bytes), shown(&file.path))?;
        }
    }
    if report.uncounted_bytes > 0 {
        writeln!(out, "  not part of RSS: {} of hugetlbfs and special pages", Bytes(report.uncounted_bytes))?;
    }
    if report.lazy_bytes > 0 {
        writeln!(out, "  given back for whenever the kernel needs it, and still there: {}", Bytes(report.lazy_bytes))?;
    }
    if report.unmapped_bytes > 0 {
        writeln!(out, "  in class other: {} outside of every known mapping", Bytes(report.unmapped_bytes))?;
    }
    Ok(())
}

fn movers(report: &Report, out: &mut String) -> fmt::Result {
    if !report.actors.is_empty() {
        writeln!(out, "\nOther tasks that changed this memory")?;
        let mut table = table(&["actor", "grew", "shrank", "collapses"]);
        for actor in &report.actors {
            let (grew, shrank) = (Bytes(actor.bytes).to_string(), Bytes(actor.shrank_bytes).to_string());
            table.add_row([shown(&actor.actor), grew, shrank, actor.collapses.to_string()]);
        }
        put(out, &table)?;
    }
    if !report.ranges.is_empty() {
        writeln!(out, "\nRanges, the greatest change first")?;
        let mut table = table(&["change", "resident", "of", "range"]);
        for range in &report.ranges {
            let gone = if range.gone { " (unmapped)" } else { "" };
            let (change, resident, whole) =
                (signed(range.delta_bytes), Bytes(range.resident_bytes), Bytes(range.bytes));
            table.add_row([
                change,
                resident.to_string(),
                whole.to_string(),
                format!("{} {}{gone}", range.addr, shown(&range.label)),
            ]);
        }
        left(&mut table, 3);
        put(out, &table)?;
        rest(out, report.ranges_not_listed)?;
    }
    if !report.threads.is_empty() {
        writeln!(out, "\nThreads, the greatest change first")?;
        let mut table = table(&["tid", "grew", "shrank", "still resident"]);
        for thread in &report.threads {
            let [grew, shrank, still] =
                [thread.grew_bytes, thread.shrank_bytes, thread.resident_bytes].map(|bytes| Bytes(bytes).to_string());
            table.add_row([thread.tid.to_string(), grew, shrank, still]);
        }
        put(out, &table)?;
        rest(out, report.threads_not_listed)?;
    }
    Ok(())
}

fn counts(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "\nCounts")?;
    let faults: Vec<String> = (report.faults.iter())
        .map(|line| format!("{} {}{}", line.count, line.access, if line.kernel { " in the kernel" } else { "" }))
        .collect();
    line(out, "faults", if faults.is_empty() { "0".to_owned() } else { faults.join(", ") }.as_str())?;
    let (came, nowhere, went) =
        (Bytes(report.frames_bytes), Bytes(report.frames_without_address_bytes), Bytes(report.frees_bytes));
    line(out, "frames", &format!("{came} came ({nowhere} without an address), {went} went"))?;
    for call in &report.calls {
        line(out, &call.name, &format!("{}, {}", many(call.count, "call"), Bytes(call.bytes)))?;
    }
    for advice in &report.advice {
        line(out, "advice", &format!("{}: {}, {}", advice.name, many(advice.count, "call"), Bytes(advice.bytes)))?;
    }
    for failed in &report.failed {
        line(out, "failed", &format!("{}: {}, {}", failed.call, many(failed.count, "call"), failed.error))?;
    }
    for scan in &report.scans {
        line(out, scan.phase, &format!("{}, sum {}", many(scan.count, "time"), scan.value))?;
    }
    for (name, count) in [("forks", report.forks), ("execs", report.execs)] {
        if count > 0 {
            line(out, name, &count.to_string())?;
        }
    }
    Ok(())
}

/// `1 gap`, `2 gaps`.
pub(crate) fn many(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

pub(super) fn line(out: &mut String, name: &str, text: &str) -> fmt::Result {
    writeln!(out, "  {name:<15} {text}")
}

pub(super) fn rest(out: &mut String, more: u64) -> fmt::Result {
    if more > 0 { writeln!(out, "  and {more} more (--top)") } else { Ok(()) }
}

/// A table without lines whose first column stands left, the others right.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn left(table: &mut Table, last: usize) {
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if index == last { CellAlignment::Left } else { CellAlignment::Right });
    }
}

/// The table, indented like the lines around it (its cells bring one space).
pub(crate) fn put(out: &mut String, table: &Table) -> fmt::Result {
    for line in table.lines() {
        writeln!(out, " {}", line.trim_end())?;
    }
    Ok(())
}

pub(crate) fn at(report: &Report, ns: u64) -> String {
    let sign = if ns < report.from_ns { "-" } else { "+" };
    format!("{sign}{}", span(ns.min(report.from_ns), ns.max(report.from_ns)))
}

pub(crate) fn span(from: u64, to: u64) -> String {
    let nanos = to.saturating_sub(from);
    format!("{}.{:06} s", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1_000)
}

pub(crate) fn signed(bytes: i64) -> String {
    let sign = match bytes {
        ..0 => "-",
        0 => "",
        _ => "+",
    };
    format!("{sign}{}", Bytes(bytes.unsigned_abs()))
}

/// Text of the traced machine, safe for a terminal: control characters become escapes.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { safe.extend(letter.escape_default()) } else { safe.push(letter) }
    }
    safe
}
