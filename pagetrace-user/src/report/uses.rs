//! What the anonymous memory is for: in use by the program or kept by an allocator, as far as one is known; and whose code
//! asked the kernel for it.

use std::fmt::{self, Write};

use serde::Serialize;

use super::Report;
use super::arenas::sum_of;
use super::text::{left, put, rest, shown, table};
use crate::replay::{ArenaUses, Class, HeapPage, Ledger, MapperUse};
use crate::units::Bytes;

/// Resident memory of the classes `heap` and `anonymous`.
#[derive(Clone, Debug, Serialize)]
pub struct UseLine {
    #[serde(rename = "use")]
    pub what: &'static str,
    pub bytes: u64,
}

/// Anonymous memory that code of one file asked the kernel for.
#[derive(Clone, Debug, Serialize)]
pub struct MapperLine {
    /// Of the file that has the call; empty: no stack tells.
    pub path: String,
    /// Of mappings that are no file's.
    pub mapped_bytes: u64,
    pub resident_bytes: u64,
}

pub(super) fn mapper_lines(uses: &[MapperUse], top: usize) -> Vec<MapperLine> {
    let lines = uses.iter().take(top).map(|part| MapperLine {
        path: part.path.clone().unwrap_or_default(),
        mapped_bytes: part.mapped.0,
        resident_bytes: part.resident.0,
    });
    lines.collect()
}

/// The classes `heap` and `anonymous` by what allocators use them for.
pub(super) fn use_lines(ledger: &Ledger, arenas: Option<&ArenaUses>) -> Vec<UseLine> {
    let arenas = arenas.map(sum_of).unwrap_or_default();
    let heap = |what: &[HeapPage]| what.iter().map(|what| ledger.in_heap(*what).bytes().0).fold(0, u64::saturating_add);
    let in_use =
        heap(&[HeapPage::Objects, HeapPage::Stacks, HeapPage::Other]).saturating_add(arenas.resident_in_use_bytes);
    let in_arenas = arenas.resident_kept_bytes.saturating_add(arenas.resident_free_bytes);
    let known = [
        ("in_use", in_use),
        ("kept", heap(&[HeapPage::Free]).saturating_add(in_arenas)),
        ("given_back", heap(&[HeapPage::GivenBack])),
        ("lazy", ledger.lazy.bytes().0),
        ("own", arenas.resident_own_bytes),
    ];
    let whole = ledger.placed(Class::Heap).bytes().0.saturating_add(ledger.placed(Class::Anonymous).bytes().0);
    let unknown = known.iter().fold(whole, |rest, (_, bytes)| rest.saturating_sub(*bytes));
    known.into_iter().chain([("unknown", unknown)]).map(|(what, bytes)| UseLine { what, bytes }).collect()
}

/// The classes by their use, where an allocator's is known, and by who asked for them.
pub(super) fn section(report: &Report, out: &mut String) -> fmt::Result {
    if report.arenas.is_none() && report.heap.is_none() {
        return mappers(report, out);
    }
    let of = |what: &str| Bytes(report.uses.iter().find(|line| line.what == what).map_or(0, |line| line.bytes));
    let whole = Bytes(report.uses.iter().fold(0, |sum, line| sum.saturating_add(line.bytes)));
    writeln!(out, "\nAllocators: what the {whole} of heap and anonymous are for")?;
    let mut rows = table(&["resident", "use"]);
    left(&mut rows, 1);
    for (what, text) in [
        ("in_use", "in use by the program"),
        ("kept", "free, and kept by the allocator"),
        ("given_back", "given back to the kernel, and there again"),
        ("lazy", "given back for whenever the kernel needs it"),
        ("own", "the allocator's own structures"),
        ("unknown", "outside of any allocator that is known"),
    ] {
        rows.add_row([of(what).to_string(), text.to_owned()]);
    }
    put(out, &rows)?;
    mappers(report, out)
}

/// Who asked the kernel for what is in no allocator that is known.
fn mappers(report: &Report, out: &mut String) -> fmt::Result {
    if report.mappers.iter().all(|line| line.path.is_empty()) {
        return Ok(());
    }
    writeln!(out, "\nAnonymous memory, by whose code asked the kernel for it")?;
    let mut rows = table(&["resident", "mapped", "code of"]);
    left(&mut rows, 2);
    for line in &report.mappers {
        let path = if line.path.is_empty() { "[not known]".to_owned() } else { shown(&line.path) };
        rows.add_row([Bytes(line.resident_bytes).to_string(), Bytes(line.mapped_bytes).to_string(), path]);
    }
    put(out, &rows)?;
    rest(out, report.mappers_not_listed)
}
