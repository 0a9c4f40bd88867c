//! The page heap: what the allocator handed out, took back and gave back to the kernel; and the report of a Go runtime's
//! own trace, which has nothing else.

use std::fmt::{self, Write};

use serde::Serialize;

use super::text::{at, line, many, put, rest, shown, span, table};
use super::{CountLine, Report};
use crate::event::{Header, HeapAct, SpanKind};
use crate::format::go::GoFile;
use crate::replay::{HeapPage, Ledger, State};
use crate::units::{Bytes, HEAP_PAGE_BYTES};

/// The page heap, in bytes of address space.
#[derive(Clone, Debug, Serialize)]
pub struct HeapLine {
    pub page_bytes: u64,
    /// `alloc`, `free` and `scav`, always all three; `mark` if the heap grew.
    pub acts: Vec<CountLine>,
    /// Handed out and not taken back, at the end; of that for objects, for stacks, and for anything else or what no
    /// event told; and the most at once.
    pub in_use_bytes: u64,
    pub objects_bytes: u64,
    pub stacks_bytes: u64,
    pub other_bytes: u64,
    pub peak_bytes: u64,
    pub peak_ns: u64,
    /// Memory given back to the kernel and not handed out since, or never handed out.
    pub given_back_bytes: u64,
    /// Of that, what the heap got while it was recorded and has not handed out yet.
    pub never_used_bytes: u64,
    /// Whether all of it is known; else what it did since the recording of it began.
    pub is_whole: bool,
    /// Frees of what was handed out before that.
    pub older_frees: u64,
    pub older_free_bytes: u64,
    /// Resident memory by what it is to the page heap: `objects`, `stacks`, `other`, `free` (kept), `given_back` (and brought
    /// back by something). Always all five; a part of the classes `heap` and `anonymous`.
    pub resident: Vec<ResidentLine>,
    pub ps: Vec<PLine>,
    /// Those beyond `--top`.
    pub ps_not_listed: u64,
}

/// Resident memory of the page heap.
#[derive(Clone, Debug, Serialize)]
pub struct ResidentLine {
    pub state: &'static str,
    pub bytes: u64,
}

/// What one P of Go's scheduler did.
#[derive(Clone, Debug, Serialize)]
pub struct PLine {
    /// -1: the threads without one.
    pub p: i64,
    pub events: u64,
}

/// The page heap; `None` where the trace has no event of it.
pub(super) fn heap_line(header: &Header, state: &State, ledger: &Ledger, top: usize) -> Option<HeapLine> {
    let heap = state.heap();
    let act = |act: HeapAct, count: u64, bytes: Bytes| CountLine { name: act.word().to_owned(), count, bytes: bytes.0 };
    let mut ps: Vec<PLine> =
        heap.by_p.iter().map(|(p, &events)| PLine { p: p.map_or(-1, i64::from), events }).collect();
    ps.sort_by_key(|line| (std::cmp::Reverse(line.events), line.p));
    let ps_not_listed = ps.len().saturating_sub(top) as u64;
    ps.truncate(top);
    let mut acts = vec![
        act(HeapAct::Alloc, heap.allocs.count, heap.allocs.bytes),
        act(HeapAct::Free, heap.frees.count, heap.frees.bytes),
        act(HeapAct::Scav, heap.scavs.count, heap.scavs.bytes),
    ];
    if heap.marks.count > 0 {
        acts.push(act(HeapAct::Mark, heap.marks.count, heap.marks.bytes));
    }
    (!heap.is_empty()).then(|| HeapLine {
        page_bytes: if header.heap_page_bytes == 0 { HEAP_PAGE_BYTES } else { header.heap_page_bytes },
        acts,
        in_use_bytes: heap.in_use().0,
        objects_bytes: heap.in_use_for(SpanKind::Heap).0,
        stacks_bytes: heap.in_use_for(SpanKind::Stack).0,
        other_bytes: heap.in_use_for(SpanKind::Other).0,
        peak_bytes: heap.peak.0,
        peak_ns: heap.peak_at.0,
        given_back_bytes: heap.given_back().0,
        never_used_bytes: heap.never_used().0,
        is_whole: !heap.has_past(),
        older_frees: heap.older.count,
        older_free_bytes: heap.older.bytes.0,
        resident: HeapPage::ALL
            .iter()
            .map(|&what| ResidentLine { state: what.word(), bytes: ledger.in_heap(what).bytes().0 })
            .collect(),
        ps,
        ps_not_listed,
    })
}

/// The section of a report; nothing where the trace has no event of a page heap.
pub(super) fn section(report: &Report, out: &mut String) -> fmt::Result {
    let Some(heap) = &report.heap else { return Ok(()) };
    writeln!(out, "\nPage heap of the allocator: {} in use at the end", Bytes(heap.in_use_bytes))?;
    if heap.objects_bytes > 0 || heap.stacks_bytes > 0 {
        let [objects, stacks, other] = [heap.objects_bytes, heap.stacks_bytes, heap.other_bytes].map(Bytes);
        writeln!(out, "of that objects {objects}, stacks {stacks}, other {other}")?;
    }
    if !heap.is_whole {
        writeln!(
            out,
            "runs are known since the attach only: what was handed out or given back before is not in these figures; {} of such \
             runs, {}",
            many(heap.older_frees, "free"),
            Bytes(heap.older_free_bytes)
        )?;
    }
    let resident = |state: &str| {
        let line = heap.resident.iter().find(|line| line.state == state);
        Bytes(line.map_or(0, |line| line.bytes))
    };
    if heap.resident.iter().any(|line| line.bytes > 0) {
        writeln!(
            out,
            "resident of it: objects {}, stacks {}, other {}, free and kept {}, given back and there again {}",
            resident("objects"),
            resident("stacks"),
            resident("other"),
            resident("free"),
            resident("given_back")
        )?;
    }
    let never_used = match heap.never_used_bytes {
        0 => String::new(),
        bytes => format!(", of that never used {}", Bytes(bytes)),
    };
    writeln!(
        out,
        "peak {} at {}; given back to the kernel and not used since {}{never_used}",
        Bytes(heap.peak_bytes),
        at(report, heap.peak_ns),
        Bytes(heap.given_back_bytes)
    )?;
    let mut acts = table(&["act", "events", "pages", "bytes"]);
    for act in &heap.acts {
        let pages = act.bytes.checked_div(heap.page_bytes).unwrap_or(0);
        acts.add_row([act.name.clone(), act.count.to_string(), pages.to_string(), Bytes(act.bytes).to_string()]);
    }
    put(out, &acts)?;
    // An allocator that has no P tells the sum again.
    if heap.ps.iter().all(|line| line.p < 0) {
        return Ok(());
    }
    let mut ps = table(&["P", "events"]);
    for line in &heap.ps {
        let name = if line.p < 0 { "none".to_owned() } else { line.p.to_string() };
        ps.add_row([name, line.events.to_string()]);
    }
    put(out, &ps)?;
    rest(out, heap.ps_not_listed)
}

/// The whole report of a Go runtime's own trace: it knows of nothing but the page heap.
pub(super) fn go_text(report: &Report, go: &GoFile, out: &mut String) -> fmt::Result {
    writeln!(out, "page trace of the Go runtime")?;
    writeln!(out, "{} in {}; {}", many(report.events, "event"), span(report.from_ns, report.to_ns), many(go.ps, "P"))?;
    writeln!(out, "\nTrust")?;
    let file = match &report.damage {
        Some(damage) => {
            format!("DAMAGED at byte {}: {}; shown is what stands before it", damage.offset, shown(&damage.why))
        }
        None if go.ended => "complete: the program wrote its last buffers".to_owned(),
        None => {
            "UNFINISHED: the last buffers were never written, or the file is cut; shown is what is there".to_owned()
        }
    };
    line(out, "file", &file)?;
    let (events, syncs, buffers) = (report.events, go.syncs, go.buffers);
    let large = go.large;
    line(out, "words", &format!("{events} events ({large} large), {syncs} Sync, {buffers} P (buffers)"))?;
    if report.anomalies.is_empty() {
        line(out, "anomalies", "0")?;
    }
    for anomaly in &report.anomalies {
        line(out, "anomaly", &format!("{}: {}", many(anomaly.count, "time"), anomaly.text))?;
    }
    for note in &report.notes {
        line(out, "note", &shown(note))?;
    }
    line(out, "RSS", "not known: the trace tells of no mapping and no resident page")?;
    section(report, out)
}
