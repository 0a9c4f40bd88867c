//! The books: what is resident, by class, and what no class explains.

use super::shown;
use super::tables::{Cell, Column, Table};
use crate::report::{Report, at, many, signed};
use crate::units::Bytes;

/// The table of classes; none where the trace does not tell of resident pages.
pub(super) fn table(report: &Report) -> Option<Table> {
    if report.go.is_some() {
        return None;
    }
    let most = report.classes.iter().map(|line| line.bytes).max().unwrap_or(0);
    let mut rows: Vec<Vec<Cell>> = (report.classes.iter())
        .map(|line| {
            let change = line.delta_bytes.map_or("?".to_owned(), signed);
            vec![Cell::text(line.class), Cell::bar(Bytes(line.bytes).to_string(), line.bytes, most), Cell::text(change)]
        })
        .collect();
    let odd = |is_odd: bool, text: String| if is_odd { Cell::grave(text) } else { Cell::text(text) };
    let unexplained = odd(report.unexplained_bytes != 0, signed(report.unexplained_bytes));
    rows.push(vec![Cell::text("unexplained"), unexplained, Cell::text("")]);
    rows.push(vec![Cell::text("lost"), odd(report.lost > 0, many(report.lost, "record")), Cell::text("")]);
    let rss = Cell::strong(Bytes(report.rss_bytes).to_string());
    let change = Cell::strong(report.rss_delta_bytes.map_or("?".to_owned(), signed));
    rows.push(vec![Cell::strong("RSS".to_owned()), rss, change]);
    let columns = vec![Column::words("class"), Column::number("resident"), Column::number("change")];
    Some(Table { columns, rows, ..Table::default() })
}

/// What stands below it, a sentence each.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.go.is_some() {
        notes.push("RSS is not known: the trace tells of no mapping and no resident page.".to_owned());
        return notes;
    }
    notes.push(match &report.last_reading {
        Some(reading) => {
            let (at, why) = (at(report, reading.at_ns), reading.why);
            format!("Last closed by a reading at {at} ({why}); since then events alone.")
        }
        None => "Never closed by a reading: events alone.".to_owned(),
    });
    for line in &report.members {
        let (member, unexplained) = (line.member, signed(line.unexplained_bytes));
        if line.level_bytes.is_none() && line.pages_bytes > 0 {
            notes.push(format!("The kernel's {member} counter was never told: its pages stand in for it."));
        } else if line.unexplained_bytes != 0 {
            notes.push(format!("Unexplained in the {member} counter: {unexplained}."));
        }
        if line.unplaced_bytes > 0 {
            let bytes = Bytes(line.unplaced_bytes);
            notes.push(format!(
                "In class {member}: {bytes} by the counter alone, place not known (a fault maps its neighbours in the file \
                 too; a reading places them)."
            ));
        }
    }
    if let Some(pages) = &report.file_pages {
        let (clean, dirty) = (Bytes(pages.clean_bytes), Bytes(pages.dirty_bytes));
        notes.push(format!(
            "In class file: {clean} clean, {dirty} dirty (to be written back), when the recording ended."
        ));
    }
    if report.uncounted_bytes > 0 {
        notes.push(format!("Not part of RSS: {} of hugetlbfs and special pages.", Bytes(report.uncounted_bytes)));
    }
    if report.unmapped_bytes > 0 {
        notes.push(format!("In class other: {} outside of every known mapping.", Bytes(report.unmapped_bytes)));
    }
    notes
}

/// A number to see at once.
pub(super) struct Figure {
    pub name: &'static str,
    pub value: String,
    pub about: String,
    pub is_grave: bool,
}

/// The numbers at the top.
pub(super) fn figures(report: &Report) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut put = |name, value: String, about: String| figures.push(Figure { name, value, about, is_grave: false });
    if report.go.is_none() {
        let (name, about) = match (&report.exit, report.at) {
            (Some(exit), _) if exit.signal > 0 => {
                ("RSS at exit", format!("killed by signal {} at {}", exit.signal, at(report, exit.at_ns)))
            }
            (Some(exit), _) => ("RSS at exit", format!("status {} at {}", exit.code, at(report, exit.at_ns))),
            (None, "exit") => ("RSS at exit", format!("at {}", at(report, report.at_ns))),
            (None, _) => ("RSS", format!("at {}", at(report, report.at_ns))),
        };
        put(name, Bytes(report.rss_bytes).to_string(), about);
        let since = report.baseline.as_ref().map_or(String::new(), |base| format!("since {}", at(report, base.at_ns)));
        put("change", report.rss_delta_bytes.map_or("not known".to_owned(), signed), since);
        put("peak", Bytes(report.peak_rss_bytes).to_string(), format!("at {}", at(report, report.peak_ns)));
        if let Some(swap) = report.swap_bytes.filter(|&bytes| bytes > 0) {
            put("swap", Bytes(swap).to_string(), String::new());
        }
    }
    if let Some(heap) = &report.heap {
        let about = format!("peak {}", Bytes(heap.peak_bytes));
        put("page heap in use", Bytes(heap.in_use_bytes).to_string(), about);
    }
    if let Some(objects) = &report.objects {
        let error = match objects.live_error_bytes {
            0 => String::new(),
            error => format!(" ± {}", Bytes(error)),
        };
        let about = format!("in {} that live{}", many(objects.live_objects, "object"), error);
        put("objects", Bytes(objects.live_bytes).to_string(), about);
    }
    if report.go.is_none() {
        put("unexplained", signed(report.unexplained_bytes), "of the RSS".to_owned());
        put("lost", many(report.lost, "record"), String::new());
    }
    for figure in &mut figures {
        figure.is_grave = (figure.name == "unexplained" && report.unexplained_bytes != 0)
            || (figure.name == "lost" && report.lost > 0);
    }
    figures
}

/// What was recorded, where.
pub(super) fn title(report: &Report) -> String {
    if report.go.is_some() {
        return "page trace of the Go runtime".to_owned();
    }
    format!("{} ({})", shown(&report.comm), report.tgid)
}
