//! State into report: choosing, sorting and cutting; no judgement beyond that.

use std::collections::BTreeMap;

use super::arenas::arenas_line;
use super::heap::heap_line;
use super::objects::objects_line;
use super::returned::returned_lines;
use super::uses::{mapper_lines, use_lines};
use super::{
    ActorLine, AnomalyLine, BaselineLine, ClassLine, CorrectionLine, CountLine, DamageAt, ExitLine, FailedLine,
    FaultLine, GapLine, MemberLine, RangeLine, ReadingLine, Report, ScanLine, ThreadLine,
};
use crate::event::{FilePages, Header, Member, ScanKind};
use crate::format::Outcome;
use crate::replay::{Class, Gap, Ledger, RESIDENT, RangeMove, State, TaskMove, calls, difference};
use crate::units::{Bytes, Nanos, Pages};

pub(super) fn report(header: &Header, state: &State, outcome: &Outcome, top: usize) -> Report {
    let snapshot = state.snapshot();
    let ledger = &snapshot.ledger;
    let base = state.base().map(|base| &base.ledger);
    let (tally, trailer) = (state.tally(), outcome.trailer.as_ref());
    let from = tally.first.unwrap_or(Nanos(header.clock_monotonic));
    let own: Vec<&TaskMove> =
        snapshot.tasks.iter().filter(|moved| moved.task.actor.is_none() && moved.task.tid.0 != 0).collect();
    let moved: Vec<&RangeMove> =
        snapshot.ranges.iter().filter(|moved| moved.resident.0 > 0 || moved.lost.0 > 0).collect();
    let (comm, exe) = state.image().unwrap_or((&header.comm, &header.exe));
    Report {
        tgid: header.tgid,
        comm: comm.to_owned(),
        exe: exe.to_owned(),
        cmdline: header.cmdline.clone(),
        recorder: header.recorder.clone(),
        kernel: header.kernel.clone(),
        boot_id: header.boot_id.clone(),
        from_ns: from.0,
        // A process that has ended was recorded until then, however long the session went on.
        to_ns: trailer
            .filter(|_| !state.ended() && !state.is_cut())
            .map_or(state.now().0, |trailer| trailer.end)
            .max(from.0),
        from_wall_ns: header.clock_wall.saturating_add(from.0).saturating_sub(header.clock_monotonic),
        events: outcome.events,
        file_state: match (outcome.is_whole(), &outcome.damage) {
            (true, _) => "complete",
            (false, Some(_)) => "damaged",
            (false, None) => "unfinished",
        },
        ended: trailer.map(|trailer| trailer.reason.clone()),
        damage: outcome.damage.as_ref().map(|damage| DamageAt { offset: damage.offset, why: damage.why.clone() }),
        lost: tally.lost,
        gaps: tally.gaps.iter().map(gap_line).collect(),
        gaps_not_listed: tally.gap_count.saturating_sub(tally.gaps.len() as u64),
        dropped_in_session: trailer.map(|trailer| trailer.dropped()),
        skipped_in_session: trailer.map(|trailer| trailer.skipped),
        frames_unjoined: trailer.map(|trailer| trailer.frames_unjoined),
        recursion_misses: trailer.map(|trailer| trailer.recursion_misses.clone()).unwrap_or_default(),
        probes: header.probes.clone(),
        notes: header.notes.iter().chain(trailer.iter().flat_map(|trailer| &trailer.notes)).cloned().collect(),
        changes_since_ns: state.changes_since().map(|since| since.0),
        baseline: base.map(|base| BaselineLine { at_ns: base.at.0, rss_bytes: base.rss().bytes().0 }),
        last_reading: state.closed().map(|closed| ReadingLine { why: closed.why.word(), at_ns: closed.at.0 }),
        corrections: corrections(state),
        anomalies: anomalies(state, outcome),
        at: match (state.ended(), state.is_cut()) {
            (true, _) => "exit",
            (false, true) => "time",
            (false, false) => "end",
        },
        at_ns: ledger.at.0,
        exit: state.exit().map(|exit| ExitLine { at_ns: exit.at.0, code: exit.code, signal: exit.signal }),
        rss_bytes: ledger.rss().bytes().0,
        rss_delta_bytes: base.map(|base| difference(base.rss().bytes(), ledger.rss().bytes())),
        peak_rss_bytes: state.peak().rss.max(ledger.rss()).bytes().0,
        peak_ns: if state.peak().rss < ledger.rss() { ledger.at.0 } else { state.peak().at.0 },
        swap_bytes: ledger.levels.of(Member::Swap).map(|pages| pages.bytes().0),
        classes: Class::ALL.map(|class| class_line(class, ledger, base)).to_vec(),
        unexplained_bytes: ledger.unexplained(),
        members: RESIDENT.map(|member| member_line(member, ledger)).to_vec(),
        file_pages: trailer
            .filter(|_| !state.ended() && !state.is_cut())
            .and_then(|trailer| trailer.file_pages.as_ref())
            .map(|pages| FilePages {
                dirty_files: pages.dirty_files.iter().take(top).cloned().collect(),
                ..pages.clone()
            }),
        uncounted_bytes: ledger.uncounted.bytes().0,
        lazy_bytes: ledger.lazy.bytes().0,
        unmapped_bytes: ledger.unmapped.bytes().0,
        actors: actors(&snapshot.tasks),
        threads: own.iter().take(top).map(|moved| thread_line(moved)).collect(),
        threads_not_listed: own.len().saturating_sub(top) as u64,
        ranges: moved.iter().take(top).map(|moved| range_line(moved)).collect(),
        ranges_not_listed: moved.len().saturating_sub(top) as u64,
        faults: (tally.faults())
            .map(|(access, kernel, count)| FaultLine { access: access.word(), kernel, count })
            .collect(),
        frames_bytes: tally.frames.bytes().0,
        frames_without_address_bytes: tally.frames_without_address.bytes().0,
        frees_bytes: tally.frees.bytes().0,
        calls: (tally.calls.iter())
            .map(|(call, volume)| CountLine {
                name: call.word().to_owned(),
                count: volume.count,
                bytes: volume.bytes.0,
            })
            .collect(),
        advice: (tally.advice.iter())
            .map(|(&advice, volume)| CountLine {
                name: advice_text(advice),
                count: volume.count,
                bytes: volume.bytes.0,
            })
            .collect(),
        failed: (tally.failed.iter())
            .map(|(&(call, errno), &count)| FailedLine { call: call.word(), errno, error: errno_text(errno), count })
            .collect(),
        scans: (tally.scans.iter())
            .filter_map(|(&kind, sum)| Some((ScanKind::try_from(kind).ok()?, sum)))
            .map(|(kind, sum)| ScanLine { phase: kind.word(), count: sum.count, value: sum.bytes.0 })
            .collect(),
        forks: tally.forks,
        execs: tally.execs,
        returned: returned_lines(&snapshot.returned, state, top),
        uses: use_lines(ledger, snapshot.arenas.as_ref()),
        mappers: mapper_lines(&snapshot.mappers, top),
        mappers_not_listed: snapshot.mappers.len().saturating_sub(top) as u64,
        arenas: snapshot.arenas.as_ref().map(|uses| arenas_line(uses, top)),
        heap: heap_line(header, state, ledger, top),
        objects: objects_line(header, state),
        go: outcome.go.clone(),
    }
}

fn gap_line(gap: &Gap) -> GapLine {
    GapLine { cpu: gap.cpu, layer: gap.layer.word(), from_ns: gap.from.0, to_ns: gap.to.0, count: gap.count }
}

fn corrections(state: &State) -> Vec<CorrectionLine> {
    let bytes = |pages: u64| Pages(pages).bytes().0;
    (state.corrections().iter())
        .map(|(why, correction)| CorrectionLine {
            why: why.word(),
            readings: correction.readings,
            added_anon_bytes: bytes(correction.added.anon),
            added_file_bytes: bytes(correction.added.file),
            removed_anon_bytes: bytes(correction.removed.anon),
            removed_file_bytes: bytes(correction.removed.file),
            placed_bytes: correction.placed.bytes().0,
        })
        .collect()
}

fn anomalies(state: &State, outcome: &Outcome) -> Vec<AnomalyLine> {
    let of_events = (state.anomalies().iter()).map(|anomaly| AnomalyLine {
        kind: anomaly.what.word(),
        count: anomaly.count,
        first_ns: anomaly.first.0,
        last_ns: anomaly.last.0,
        example: format!("{:#x}", anomaly.example),
        text: anomaly.what.text().to_owned(),
    });
    let of_file = outcome.go.iter().flat_map(|go| &go.quirks).map(|quirk| AnomalyLine {
        kind: quirk.kind,
        count: quirk.count,
        first_ns: state.tally().first.unwrap_or_default().0,
        last_ns: state.tally().last.0,
        example: String::new(),
        text: quirk.text.clone(),
    });
    of_events.chain(of_file).collect()
}

fn class_line(class: Class, now: &Ledger, base: Option<&Ledger>) -> ClassLine {
    let bytes = now.class(class).bytes();
    let delta_bytes = base.map(|base| difference(base.class(class).bytes(), bytes));
    ClassLine { class: class.word(), bytes: bytes.0, delta_bytes }
}

fn member_line(member: Member, ledger: &Ledger) -> MemberLine {
    let (pages, unplaced) = (ledger.pages_of(member).bytes(), ledger.unplaced(member).bytes());
    MemberLine {
        member: member.word(),
        level_bytes: ledger.levels.of(member).map(|level| level.bytes().0),
        pages_bytes: pages.0,
        unplaced_bytes: unplaced.0,
        unexplained_bytes: difference(Bytes(pages.0.saturating_add(unplaced.0)), ledger.level(member).bytes()),
    }
}

fn actors(tasks: &[TaskMove]) -> Vec<ActorLine> {
    let mut by_comm: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    for moved in tasks {
        let Some(actor) = moved.task.actor else { continue };
        let (grew, shrank, collapses) = by_comm.entry(actor.comm.to_text()).or_default();
        *grew = grew.saturating_add(moved.grew.bytes().0);
        *shrank = shrank.saturating_add(moved.shrank.bytes().0);
        *collapses = collapses.saturating_add(moved.collapses);
    }
    let mut lines: Vec<ActorLine> = (by_comm.into_iter())
        .map(|(actor, (bytes, shrank_bytes, collapses))| ActorLine { actor, bytes, shrank_bytes, collapses })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse((line.bytes, line.shrank_bytes)));
    lines
}

fn thread_line(moved: &TaskMove) -> ThreadLine {
    ThreadLine {
        tid: moved.task.tid.0,
        grew_bytes: moved.grew.bytes().0,
        shrank_bytes: moved.shrank.bytes().0,
        resident_bytes: moved.resident.bytes().0,
    }
}

fn range_line(moved: &RangeMove) -> RangeLine {
    let (gained, lost): (Bytes, Bytes) = (moved.gained.bytes(), moved.lost.bytes());
    RangeLine {
        addr: format!("{:#x}", moved.range.start),
        bytes: moved.range.bytes().0,
        label: moved.label.clone(),
        resident_bytes: moved.resident.bytes().0,
        delta_bytes: difference(lost, gained),
        gained_bytes: gained.0,
        lost_bytes: lost.0,
        gone: moved.gone,
    }
}

fn advice_text(advice: i32) -> String {
    calls::advice_name(advice).map_or_else(|| advice.to_string(), str::to_owned)
}

fn errno_text(errno: u32) -> String {
    calls::errno_name(errno).map_or_else(|| format!("error {errno}"), str::to_owned)
}
