//! What allocators use memory for, and the arenas of glibc, as tables.

use super::shown;
use super::tables::{Cell, Column, Table};
use crate::report::{ArenaSums, Report, at, many};
use crate::units::Bytes;

/// The uses of the anonymous memory, and whose code asked for it; nothing where no allocator is known.
pub(super) fn uses(report: &Report) -> Vec<Table> {
    let is_known = report.arenas.is_some() || report.heap.is_some();
    if report.go.is_some() || !is_known {
        return Vec::new();
    }
    let most = report.uses.iter().map(|line| line.bytes).max().unwrap_or(0);
    let bar = |bytes: u64, most: u64| Cell::bar(Bytes(bytes).to_string(), bytes, most);
    let uses = report.uses.iter().map(|line| vec![Cell::text(line.what.replace('_', " ")), bar(line.bytes, most)]);
    let resident = report.mappers.iter().map(|line| line.resident_bytes).max().unwrap_or(0);
    let mappers = report.mappers.iter().map(|line| {
        let path = if line.path.is_empty() { "[not known]".to_owned() } else { shown(&line.path) };
        vec![Cell::text(path), Cell::bytes(line.mapped_bytes), bar(line.resident_bytes, resident)]
    });
    vec![
        Table {
            id: "allocators",
            title: "Allocators".to_owned(),
            note: "What heap and anonymous memory are for, as far as an allocator is known; and whose code asked the kernel \
                   for anonymous memory."
                .to_owned(),
            columns: vec![Column::words("use"), Column::number("resident")],
            rows: uses.collect(),
            more: 0,
        },
        Table {
            columns: vec![Column::path("code of"), Column::number("mapped"), Column::number("resident")],
            rows: mappers.collect(),
            more: report.mappers_not_listed,
            ..Table::default()
        },
    ]
}

/// The arenas, the largest first.
pub(super) fn arenas(report: &Report) -> Option<Table> {
    let line = report.arenas.as_ref()?;
    let sum = &line.sum;
    let kept = |sum: &ArenaSums| sum.cached.bytes.saturating_add(sum.fast.bytes);
    let free = |sum: &ArenaSums| sum.free.bytes.saturating_add(sum.top_bytes);
    let changed = if line.settled { "" } else { " They changed while they were read." };
    let note = format!(
        "{} ({}): {} in {}, read at {} ({}). In use {}, put aside {}, free {}; resident {}. malloc_trim(0) would give back {}.{changed}",
        shown(&line.allocator),
        shown(&line.path),
        Bytes(sum.size_bytes),
        many(line.count, "arena"),
        at(report, line.at_ns),
        line.why,
        Bytes(sum.in_use.bytes),
        Bytes(kept(sum)),
        Bytes(free(sum)),
        Bytes(sum.resident_bytes),
        Bytes(sum.trim_bytes)
    );
    let rows = line.arenas.iter().map(|arena| {
        let name = if arena.is_main { format!("{} (main)", arena.addr) } else { arena.addr.clone() };
        let sum = &arena.sum;
        let cells = [sum.size_bytes, sum.in_use.bytes, kept(sum), free(sum), sum.resident_bytes, sum.trim_bytes];
        std::iter::once(Cell::text(name)).chain(cells.map(Cell::bytes)).collect()
    });
    Some(Table {
        id: "arenas",
        title: "Arenas".to_owned(),
        note,
        columns: vec![
            Column::path("arena"),
            Column::number("size"),
            Column::number("in use"),
            Column::number("put aside"),
            Column::number("free"),
            Column::number("resident"),
            Column::number("malloc_trim"),
        ],
        rows: rows.collect(),
        more: line.arenas_not_listed,
    })
}
