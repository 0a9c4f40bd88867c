//! The arenas of glibc: in use, put aside, free, and what of it would come
//! back to the system if the allocator were asked.

use std::fmt::{self, Write};

use serde::Serialize;

use super::Report;
use super::text::{at, many, put, rest, shown, table};
use crate::event::Chunks;
use crate::replay::{ArenaUse, ArenaUses};
use crate::units::Bytes;

/// The arenas of an allocator, as they were read last. Sizes are of address space, with the chunks' headers; `resident_` are
/// those of the ledger, and sum to `resident_bytes`.
#[derive(Clone, Debug, Serialize)]
pub struct ArenasLine {
    /// With its version.
    pub allocator: String,
    pub path: String,
    pub why: &'static str,
    pub at_ns: u64,
    /// None of them changed while it was read.
    pub settled: bool,
    pub count: u64,
    #[serde(flatten)]
    pub sum: ArenaSums,
    /// The largest first.
    pub arenas: Vec<ArenaLine>,
    /// Those beyond `--top`.
    pub arenas_not_listed: u64,
}

/// One arena.
#[derive(Clone, Debug, Serialize)]
pub struct ArenaLine {
    pub addr: String,
    pub is_main: bool,
    pub settled: bool,
    #[serde(flatten)]
    pub sum: ArenaSums,
}

/// What one arena has, or all. `size_bytes` is the sum of the chunks, `top` and `own`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ArenaSums {
    pub size_bytes: u64,
    pub in_use: ChunksLine,
    /// Put aside for threads (tcache). `malloc_info` counts these as in use.
    pub cached: ChunksLine,
    /// Put aside in fastbins.
    pub fast: ChunksLine,
    /// In bins, without `top`.
    pub free: ChunksLine,
    pub top_bytes: u64,
    pub own_bytes: u64,
    pub resident_bytes: u64,
    pub resident_in_use_bytes: u64,
    /// `cached` and `fast`.
    pub resident_kept_bytes: u64,
    /// `free` and `top`.
    pub resident_free_bytes: u64,
    pub resident_own_bytes: u64,
    /// Resident, and what `malloc_trim(0)` would give back.
    pub trim_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ChunksLine {
    pub count: u64,
    pub bytes: u64,
}

impl ChunksLine {
    fn of(chunks: Chunks) -> ChunksLine {
        ChunksLine { count: chunks.count, bytes: chunks.bytes.0 }
    }

    fn add(&mut self, more: ChunksLine) {
        self.count = self.count.saturating_add(more.count);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

impl ArenaSums {
    fn of(part: &ArenaUse) -> ArenaSums {
        let arena = &part.arena;
        let [in_use, cached, fast, free] = [arena.in_use, arena.cached, arena.fast, arena.free].map(ChunksLine::of);
        let chunks = [in_use, cached, fast, free].iter().fold(arena.top.0, |sum, line| sum.saturating_add(line.bytes));
        ArenaSums {
            size_bytes: arena.size.0,
            in_use,
            cached,
            fast,
            free,
            top_bytes: arena.top.0,
            own_bytes: arena.size.0.saturating_sub(chunks),
            resident_bytes: part.resident().0,
            resident_in_use_bytes: part.in_use.0,
            resident_kept_bytes: part.kept.0,
            resident_free_bytes: part.free.0,
            resident_own_bytes: part.own.0,
            trim_bytes: part.trims.0,
        }
    }

    fn add(&mut self, more: &ArenaSums) {
        for (sum, more) in [
            (&mut self.in_use, more.in_use),
            (&mut self.cached, more.cached),
            (&mut self.fast, more.fast),
            (&mut self.free, more.free),
        ] {
            sum.add(more);
        }
        for (sum, more) in [
            (&mut self.size_bytes, more.size_bytes),
            (&mut self.top_bytes, more.top_bytes),
            (&mut self.own_bytes, more.own_bytes),
            (&mut self.resident_bytes, more.resident_bytes),
            (&mut self.resident_in_use_bytes, more.resident_in_use_bytes),
            (&mut self.resident_kept_bytes, more.resident_kept_bytes),
            (&mut self.resident_free_bytes, more.resident_free_bytes),
            (&mut self.resident_own_bytes, more.resident_own_bytes),
            (&mut self.trim_bytes, more.trim_bytes),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

pub(super) fn sum_of(uses: &ArenaUses) -> ArenaSums {
    let mut sum = ArenaSums::default();
    uses.arenas.iter().for_each(|part| sum.add(&ArenaSums::of(part)));
    sum
}

pub(super) fn arenas_line(uses: &ArenaUses, top: usize) -> ArenasLine {
    let mut arenas: Vec<ArenaLine> = (uses.arenas.iter())
        .map(|part| ArenaLine {
            addr: format!("{:#x}", part.arena.addr),
            is_main: part.arena.is_main,
            settled: part.arena.settled,
            sum: ArenaSums::of(part),
        })
        .collect();
    // In the order of the ring where they are of one size.
    arenas.sort_by_key(|line| std::cmp::Reverse(line.sum.size_bytes));
    let (count, settled) = (arenas.len(), arenas.iter().all(|line| line.settled));
    arenas.truncate(top);
    ArenasLine {
        allocator: uses.reading.name.clone(),
        path: uses.reading.path.clone(),
        why: uses.reading.why.word(),
        at_ns: uses.reading.at.0,
        settled,
        count: count as u64,
        sum: sum_of(uses),
        arenas,
        arenas_not_listed: count.saturating_sub(top) as u64,
    }
}

/// The arenas; nothing where none were read.
pub(super) fn section(report: &Report, out: &mut String) -> fmt::Result {
    let Some(line) = &report.arenas else { return Ok(()) };
    let (sum, place) = (&line.sum, shown(&line.path));
    writeln!(
        out,
        "\nArenas of {} ({place}): {} in {}, read at {} ({})",
        shown(&line.allocator),
        Bytes(sum.size_bytes),
        many(line.count, "arena"),
        at(report, line.at_ns),
        line.why
    )?;
    if !line.settled {
        writeln!(out, "  they changed while they were read: parts of them are of different moments")?;
    }
    let mut rows = table(&["chunks", "count", "bytes"]);
    for (name, chunks) in [
        ("in use", sum.in_use),
        ("put aside by threads", sum.cached),
        ("put aside in fastbins", sum.fast),
        ("free", sum.free),
    ] {
        rows.add_row([name.to_owned(), chunks.count.to_string(), Bytes(chunks.bytes).to_string()]);
    }
    rows.add_row(["free at the end".to_owned(), String::new(), Bytes(sum.top_bytes).to_string()]);
    rows.add_row(["the allocator's own".to_owned(), String::new(), Bytes(sum.own_bytes).to_string()]);
    put(out, &rows)?;
    writeln!(
        out,
        "  resident {}: in use {}, put aside {}, free {}, the allocator's own {}",
        Bytes(sum.resident_bytes),
        Bytes(sum.resident_in_use_bytes),
        Bytes(sum.resident_kept_bytes),
        Bytes(sum.resident_free_bytes),
        Bytes(sum.resident_own_bytes)
    )?;
    writeln!(out, "  whole pages that malloc_trim(0) would give back: {}", Bytes(sum.trim_bytes))?;
    if sum.trim_bytes > 0 {
        writeln!(
            out,
            "  fix: call malloc_trim(0) when much was freed; fewer arenas (MALLOC_ARENA_MAX) keep less, but threads wait more"
        )?;
    }
    let mut arenas = table(&["arena", "size", "in use", "put aside", "free", "resident", "malloc_trim"]);
    for arena in &line.arenas {
        let sum = &arena.sum;
        let name = if arena.is_main { format!("{} (main)", arena.addr) } else { arena.addr.clone() };
        let mut cells = vec![name];
        cells.extend(
            [
                sum.size_bytes,
                sum.in_use.bytes,
                sum.cached.bytes.saturating_add(sum.fast.bytes),
                sum.free.bytes.saturating_add(sum.top_bytes),
                sum.resident_bytes,
                sum.trim_bytes,
            ]
            .map(|bytes| Bytes(bytes).to_string()),
        );
        arenas.add_row(cells);
    }
    put(out, &arenas)?;
    rest(out, line.arenas_not_listed)
}
