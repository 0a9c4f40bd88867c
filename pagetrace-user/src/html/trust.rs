//! How far a report can be trusted: everything that limits it, the gravest first.

use super::shown;
use crate::report::{Report, at, many};
use crate::units::Bytes;

/// Gaps that are listed one by one.
const GAPS_SHOWN: usize = 20;

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// Something is missing or contradicts itself.
    Bad,
    /// A limit that is known, or was mended.
    Known,
    Good,
}

impl Grade {
    /// Its class on the page.
    pub fn word(self) -> &'static str {
        match self {
            Grade::Bad => "bad",
            Grade::Known => "known",
            Grade::Good => "good",
        }
    }
}

pub(super) struct Line {
    pub grade: Grade,
    pub name: &'static str,
    pub text: String,
}

/// Everything that limits trust, and in one sentence what follows.
pub(super) struct Trust {
    pub grade: Grade,
    pub verdict: String,
    pub lines: Vec<Line>,
}

impl Trust {
    pub fn of(report: &Report) -> Trust {
        let mut lines = Vec::new();
        let mut say = |grade: Grade, name: &'static str, text: String| lines.push(Line { grade, name, text });
        file(report, &mut say);
        if report.go.is_none() {
            losses(report, &mut say);
            readings(report, &mut say);
        }
        for note in &report.notes {
            say(Grade::Known, "note", shown(note));
        }
        for anomaly in &report.anomalies {
            let example = if anomaly.example.is_empty() { String::new() } else { format!(", {}", anomaly.example) };
            let first = at(report, anomaly.first_ns);
            let text = format!("{}: {} (first at {first}{example})", many(anomaly.count, "time"), anomaly.text);
            say(Grade::Bad, "anomaly", text);
        }
        if report.anomalies.is_empty() {
            say(Grade::Good, "anomalies", "0".to_owned());
        }
        lines.sort_by_key(|line| line.grade);
        let bad = lines.iter().filter(|line| line.grade == Grade::Bad).count() as u64;
        let known = lines.iter().filter(|line| line.grade == Grade::Known).count() as u64;
        let (grade, verdict) = match (bad, known) {
            (0, 0) => (Grade::Good, "The file is complete, nothing was lost and nothing is odd.".to_owned()),
            (0, _) => (Grade::Good, format!("The file is complete, nothing was lost; {} known.", are(known, "limit"))),
            _ => (Grade::Bad, format!("Read with care: {} in doubt.", are(bad, "point"))),
        };
        Trust { grade, verdict, lines }
    }
}

/// `1 limit is`, `2 limits are`.
fn are(count: u64, noun: &str) -> String {
    format!("{} {}", many(count, noun), if count == 1 { "is" } else { "are" })
}

fn file(report: &Report, say: &mut impl FnMut(Grade, &'static str, String)) {
    let ended_well = report.ended.is_some() || report.go.as_ref().is_some_and(|go| go.ended);
    let reason = report.ended.as_deref().map_or(String::new(), |reason| format!("; ended: {}", shown(reason)));
    match &report.damage {
        Some(damage) => {
            let (offset, why) = (damage.offset, shown(&damage.why));
            say(Grade::Bad, "file", format!("damaged at byte {offset}: {why}; shown is what stands before it"));
        }
        None if ended_well => say(Grade::Good, "file", format!("complete{reason}")),
        None => {
            let text = "unfinished: the recorder was killed or still writes; shown is what is there";
            say(Grade::Bad, "file", text.to_owned());
        }
    }
}

fn losses(report: &Report, say: &mut impl FnMut(Grade, &'static str, String)) {
    let gaps = (report.gaps.len() as u64).saturating_add(report.gaps_not_listed);
    let grade = if report.lost > 0 { Grade::Bad } else { Grade::Good };
    say(grade, "lost", format!("{} in {}", many(report.lost, "record"), many(gaps, "gap")));
    for gap in report.gaps.iter().take(GAPS_SHOWN) {
        let (from, to) = (at(report, gap.from_ns), at(report, gap.to_ns));
        let text = format!("{} of the {} layer on CPU {}, {from} to {to}", gap.count, gap.layer, gap.cpu);
        say(Grade::Bad, "gap", text);
    }
    let more = gaps.saturating_sub(report.gaps.len().min(GAPS_SHOWN) as u64);
    if more > 0 {
        say(Grade::Bad, "gap", format!("and {} more", many(more, "gap")));
    }
    if let Some(dropped) = report.dropped_in_session.filter(|&dropped| dropped > report.lost) {
        let text = format!("{} dropped, for all processes and times together", many(dropped, "record"));
        say(Grade::Known, "session", text);
    }
    if let Some(skipped) = report.skipped_in_session.filter(|&skipped| skipped > 0) {
        let text = format!("{} skipped, such as those of processes that are not recorded", many(skipped, "record"));
        say(Grade::Good, "session", text);
    }
    if let Some(frames) = report.frames_unjoined.filter(|&frames| frames > 0) {
        say(Grade::Known, "session", format!("{} whose free cannot be told", many(frames, "frame")));
    }
    for (program, misses) in &report.recursion_misses {
        let text = format!("{} of {} skipped by the kernel", many(*misses, "run"), shown(program));
        say(Grade::Known, "session", text);
    }
    let attached = report.probes.iter().filter(|probe| probe.attached).count();
    say(Grade::Good, "probes", format!("{attached} of {} attached", report.probes.len()));
    for probe in report.probes.iter().filter(|probe| !probe.attached) {
        say(Grade::Bad, "not attached", format!("{}: {}", shown(&probe.name), shown(&probe.reason)));
    }
}

fn readings(report: &Report, say: &mut impl FnMut(Grade, &'static str, String)) {
    match &report.baseline {
        Some(base) => {
            let text = format!("RSS {} at {}", Bytes(base.rss_bytes), at(report, base.at_ns));
            say(Grade::Good, "baseline", text);
        }
        None => {
            let text = "none: the trace has no reading of all pages, so changes are not known";
            say(Grade::Bad, "baseline", text.to_owned());
        }
    }
    for correction in report.corrections.iter().filter(|correction| correction.why != "start") {
        let added = Bytes(correction.added_anon_bytes.saturating_add(correction.added_file_bytes));
        let removed = Bytes(correction.removed_anon_bytes.saturating_add(correction.removed_file_bytes));
        let (of_files, placed) = (Bytes(correction.added_file_bytes), Bytes(correction.placed_bytes));
        let (times, why) = (many(correction.readings, "time"), correction.why);
        let text = format!("{times} ({why}): {added} found ({of_files} of files), {removed} gone, {placed} placed");
        say(Grade::Good, "healed", text);
    }
}
