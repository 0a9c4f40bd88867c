//! Tables: what the report lists, as cells.

use super::shown;
use crate::leaks::{Leaks, Site, weight};
use crate::report::{Report, at, many, signed};
use crate::stacks::{Frame, Unit};
use crate::units::{Bytes, Nanos};

/// Frames of one stack that are shown.
const MOST_FRAMES: usize = 40;

/// A table with its heading; no heading: it stands below another one.
#[derive(Default)]
pub(super) struct Table {
    pub id: &'static str,
    pub title: String,
    pub note: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// Rows that are left out.
    pub more: u64,
}

pub(super) struct Column {
    pub name: &'static str,
    /// Its class.
    pub kind: &'static str,
}

impl Column {
    pub fn words(name: &'static str) -> Column {
        Column { name, kind: "words" }
    }

    /// Words that may break.
    pub fn wrapped(name: &'static str) -> Column {
        Column { name, kind: "wrap" }
    }

    pub fn number(name: &'static str) -> Column {
        Column { name, kind: "number" }
    }

    /// Paths and addresses, which may break anywhere.
    pub fn path(name: &'static str) -> Column {
        Column { name, kind: "path" }
    }
}

#[derive(Default)]
pub(super) struct Cell {
    pub text: String,
    /// Its class.
    pub kind: &'static str,
    /// How long the bar behind it is, in percent.
    pub percent: Option<u64>,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), ..Cell::default() }
    }

    pub fn strong(text: String) -> Cell {
        Cell { text, kind: "strong", ..Cell::default() }
    }

    pub fn grave(text: String) -> Cell {
        Cell { text, kind: "grave", ..Cell::default() }
    }

    /// With a bar as long as `part` of `whole`.
    pub fn bar(text: String, part: u64, whole: u64) -> Cell {
        let percent = (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0);
        Cell { text, percent: u64::try_from(percent.min(100)).ok(), ..Cell::default() }
    }

    pub fn bytes(bytes: u64) -> Cell {
        Cell::text(Bytes(bytes).to_string())
    }

    fn count(count: u64) -> Cell {
        Cell::text(count.to_string())
    }
}

/// What was given back, and is resident again.
pub(super) struct Return {
    pub bytes: String,
    pub by: String,
    pub place: String,
    pub frames: Vec<String>,
    pub fix: String,
}

pub(super) fn returns(report: &Report) -> Vec<Return> {
    let lines = report.returned.iter().map(|line| Return {
        bytes: Bytes(line.bytes).to_string(),
        by: if line.by.is_empty() { "the process's own use".to_owned() } else { shown(&line.by) },
        place: format!("{} to {}, {}", line.addr, line.end, many(line.runs, "run")),
        frames: frames(&line.given_back_by),
        fix: line.fix.unwrap_or_default().to_owned(),
    });
    lines.collect()
}

/// The innermost first.
fn frames(frames: &[Frame]) -> Vec<String> {
    frames.iter().rev().take(MOST_FRAMES).map(|frame| shown(&frame.to_string())).collect()
}

/// The page heap: what it did, and who.
pub(super) fn heap(report: &Report) -> Vec<Table> {
    let Some(heap) = &report.heap else { return Vec::new() };
    let [in_use, objects, stacks, other, peak, back] = [
        heap.in_use_bytes,
        heap.objects_bytes,
        heap.stacks_bytes,
        heap.other_bytes,
        heap.peak_bytes,
        heap.given_back_bytes,
    ]
    .map(Bytes);
    let uses = match (heap.objects_bytes, heap.stacks_bytes) {
        (0, 0) => String::new(),
        _ => format!(": objects {objects}, stacks {stacks}, other {other}"),
    };
    let note = format!(
        "{in_use} in use at the end{uses}. Peak {peak} at {}. Given back to the kernel and not used since: {back}.",
        at(report, heap.peak_ns)
    );
    let most = heap.acts.iter().map(|act| act.bytes).max().unwrap_or(0);
    let acts = heap.acts.iter().map(|act| {
        let pages = act.bytes.checked_div(heap.page_bytes).unwrap_or(0);
        let bytes = Cell::bar(Bytes(act.bytes).to_string(), act.bytes, most);
        vec![Cell::text(act.name.as_str()), Cell::count(act.count), Cell::count(pages), bytes]
    });
    let ps = heap.ps.iter().map(|line| {
        let name = if line.p < 0 { "none".to_owned() } else { line.p.to_string() };
        vec![Cell::text(name), Cell::count(line.events)]
    });
    vec![
        Table {
            id: "heap",
            title: "Page heap of the allocator".to_owned(),
            note,
            columns: vec![
                Column::words("act"),
                Column::number("events"),
                Column::number("pages"),
                Column::number("bytes"),
            ],
            rows: acts.collect(),
            more: 0,
        },
        Table {
            columns: vec![Column::words("P"), Column::number("events")],
            rows: ps.collect(),
            more: heap.ps_not_listed,
            ..Table::default()
        },
    ]
}

/// The objects of allocators.
pub(super) fn objects(report: &Report) -> Option<Table> {
    let objects = report.objects.as_ref()?;
    let mut note = if objects.calls.is_empty() && objects.allocs == 0 {
        "None: no function of an allocator was found in time in its program or its libraries.".to_owned()
    } else if objects.period_bytes == 0 {
        let (live, count) = (Bytes(objects.live_bytes), objects.live_objects);
        format!("{live} in {count} live at the end; every call was recorded.")
    } else {
        let [live, error, period] = [objects.live_bytes, objects.live_error_bytes, objects.period_bytes].map(Bytes);
        let (count, samples) = (objects.live_objects, objects.live_samples);
        format!("{live} ± {error} in about {count} live at the end; {samples} sampled, one every {period}.")
    };
    if let Some(since) = objects.since_ns {
        let since = at(report, since);
        note += &format!(" Recorded from {since} on: of what was given before, calls are counted at most.");
    }
    note += &format!(
        " {} given, {} taken back, {} of them unknown; {} that live may have been taken back in a gap.",
        objects.allocs, objects.frees, objects.unknown_frees, objects.uncertain_samples
    );
    let most = objects.calls.iter().map(|line| line.live_bytes).max().unwrap_or(0);
    let rows = objects.calls.iter().map(|line| {
        vec![
            Cell::text(shown(&line.allocator)),
            Cell::text(line.call),
            Cell::count(line.calls),
            Cell::bytes(line.bytes),
            Cell::count(line.nested),
            Cell::count(line.failed),
            Cell::count(line.live_objects),
            Cell::bar(Bytes(line.live_bytes).to_string(), line.live_bytes, most),
        ]
    });
    Some(Table {
        id: "objects",
        title: "Objects of allocators".to_owned(),
        note,
        columns: vec![
            Column::words("allocator"),
            Column::words("call"),
            Column::number("calls"),
            Column::number("bytes"),
            Column::number("nested"),
            Column::number("failed"),
            Column::number("live"),
            Column::number("live bytes"),
        ],
        rows: rows.collect(),
        more: 0,
    })
}

/// Who moved: other tasks, ranges, threads.
pub(super) fn movers(report: &Report) -> Vec<Table> {
    let actors = report.actors.iter().map(|actor| {
        let (grew, shrank) = (Cell::bytes(actor.bytes), Cell::bytes(actor.shrank_bytes));
        vec![Cell::text(shown(&actor.actor)), grew, shrank, Cell::count(actor.collapses)]
    });
    let most = report.ranges.iter().map(|range| range.resident_bytes).max().unwrap_or(0);
    let ranges = report.ranges.iter().map(|range| {
        let gone = if range.gone { " (unmapped)" } else { "" };
        vec![
            Cell::text(signed(range.delta_bytes)),
            Cell::bar(Bytes(range.resident_bytes).to_string(), range.resident_bytes, most),
            Cell::bytes(range.bytes),
            Cell::text(range.addr.as_str()),
            Cell::text(shown(&range.label) + gone),
        ]
    });
    let threads = report.threads.iter().map(|thread| {
        vec![
            Cell::text(thread.tid.to_string()),
            Cell::bytes(thread.grew_bytes),
            Cell::bytes(thread.shrank_bytes),
            Cell::bytes(thread.resident_bytes),
        ]
    });
    let tables = [
        Table {
            id: "actors",
            title: "Other tasks that changed this memory".to_owned(),
            columns: vec![
                Column::words("actor"),
                Column::number("grew"),
                Column::number("shrank"),
                Column::number("collapses"),
            ],
            rows: actors.collect(),
            ..Table::default()
        },
        Table {
            id: "ranges",
            title: "Ranges, the greatest change first".to_owned(),
            columns: vec![
                Column::number("change"),
                Column::number("resident"),
                Column::number("of"),
                Column::words("address"),
                Column::path("range"),
            ],
            rows: ranges.collect(),
            more: report.ranges_not_listed,
            ..Table::default()
        },
        Table {
            id: "threads",
            title: "Threads, the greatest change first".to_owned(),
            columns: vec![
                Column::words("tid"),
                Column::number("grew"),
                Column::number("shrank"),
                Column::number("still resident"),
            ],
            rows: threads.collect(),
            more: report.threads_not_listed,
            ..Table::default()
        },
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

/// How often what happened.
pub(super) fn counts(report: &Report) -> Table {
    let mut rows = Vec::new();
    let mut put = |what: &str, name: String, count: String, bytes: Option<u64>| {
        let bytes = bytes.map_or_else(|| Cell::text(""), Cell::bytes);
        rows.push(vec![Cell::text(what), Cell::text(name), Cell::text(count), bytes]);
    };
    for line in &report.faults {
        let mode = if line.kernel { ", in the kernel" } else { "" };
        let name = match line.access {
            "r" => "read",
            "w" => "write",
            "x" => "execute",
            other => other,
        };
        put("faults", format!("{name}{mode}"), line.count.to_string(), None);
    }
    for (name, bytes) in [
        ("came", report.frames_bytes),
        ("of them without an address", report.frames_without_address_bytes),
        ("went", report.frees_bytes),
    ] {
        put("frames", name.to_owned(), String::new(), Some(bytes));
    }
    for call in &report.calls {
        put("call", call.name.clone(), call.count.to_string(), Some(call.bytes));
    }
    for advice in &report.advice {
        put("advice", advice.name.clone(), advice.count.to_string(), Some(advice.bytes));
    }
    for failed in &report.failed {
        put("failed", format!("{}: {}", failed.call, failed.error), failed.count.to_string(), None);
    }
    for scan in &report.scans {
        put("scan", format!("{} (sum {})", scan.phase, scan.value), scan.count.to_string(), None);
    }
    for (name, count) in [("forks", report.forks), ("execs", report.execs)] {
        if count > 0 {
            put("tasks", name.to_owned(), count.to_string(), None);
        }
    }
    Table {
        id: "counts",
        title: "Counts".to_owned(),
        columns: vec![Column::words("what"), Column::wrapped(""), Column::number("count"), Column::number("bytes")],
        rows,
        ..Table::default()
    }
}

/// What stays of one stack's objects.
pub(super) struct Leak {
    pub bytes: String,
    pub about: String,
    pub frames: Vec<String>,
}

/// What objects or runs of a page heap stay: a sentence, the stacks, and how many more there are.
pub(super) fn leaks(leaks: &Leaks, top: usize) -> (String, Vec<Leak>, usize) {
    let (noun, beside) = match leaks.unit {
        Unit::Object => ("object", ""),
        Unit::Run => (
            "run",
            " Small objects of one size share a run of the page heap: its stack is that of who needed a new one.",
        ),
    };
    let note = format!(
        "{} in about {} were given in the recording and not taken back. Not all of it leaks: what was given in one part of the \
         recording only is more likely kept on purpose, what was given in all parts is likely a leak.{beside}",
        weight(leaks.bytes, leaks.error_bytes),
        many(leaks.objects, noun)
    );
    let leak = |site: &Site| {
        let (first, last) = (Nanos(site.first_ns).as_secs_f64(), Nanos(site.last_ns).as_secs_f64());
        let doubt = match site.uncertain {
            0 => String::new(),
            doubt => format!("; {doubt} of them may have been taken back in a gap"),
        };
        let about = format!(
            "{} {} {}, in {} of {} parts of the recording, +{first:.3} s to +{last:.3} s{doubt}",
            many(site.objects, noun),
            if leaks.unit == Unit::Run { "for" } else { "by" },
            site.call,
            site.parts,
            leaks.parts
        );
        Leak { bytes: weight(site.bytes, site.error_bytes), about, frames: frames(&site.frames) }
    };
    (note, leaks.sites.iter().take(top).map(leak).collect(), leaks.sites.len().saturating_sub(top))
}
