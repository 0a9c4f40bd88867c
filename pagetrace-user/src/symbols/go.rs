//! What can be probed in a Go program's page heap and collector, and where.
//!
//! | verb | function | what its registers hold at the site (x86-64, Go 1.17 and later) |
//! |---|---|---|
//! | [`Verb::Alloc`] | `(*mheap).setSpans` | rbx: address, rcx: pages, rdi: `*mspan` |
//! | | `(*mheap).allocNeedsZero` where that has the better site (Go 1.19) | rbx: address, rcx: pages |
//! | [`Verb::Init`] | `(*mheap).initSpan` (inlined in Go 1.19) | rbx: `*mspan`, cl: type, dil: class, rsi: address, r8: pages |
//! | [`Verb::Purpose`] | `(*mheap).allocSpan`, where there is no `initSpan` | rbx: pages, cl: type, dil: class |
//! | [`Verb::Free`] | `(*mheap).freeSpanLocked` | rbx: `*mspan`, cl: type |
//! | [`Verb::Scav`] | `sysUnusedOS` | rax: address, rbx: bytes |
//! | [`Verb::Grow`] | `(*pageAlloc).grow` | rbx: address, rcx: bytes |
//! | [`Verb::GcStart`] ... | `gcResetMarkState`, `gcMark`, `gcMarkTermination`, `gcSweep` | |
//!
//! For methods of `mheap` rax is `&runtime.mheap_`; r14 is the running `g` throughout. A page is 8 KiB.
//!
//! *Invariants.* A point is the first byte of an instruction of an executable segment. What a version's structures
//! look like is never guessed: see [`offsets`].
//! *Source.* `src/runtime/{mheap,mgc,mem_linux}.go` of each release.

mod all_ps;
pub mod build_info;
pub mod offsets;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::elf::Elf;
use super::gopclntab::{Function, Table};
use super::image::Image;
use super::prologue::{self, Cost};
use super::{Address, FileOffset, SymbolError};
use crate::event;
use build_info::BuildInfo;
use offsets::{GoOffsets, Unverified};

/// What a probe tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// The page heap hands out a run of pages.
    Alloc,
    /// The same, a little earlier, with what the pages are for.
    Init,
    /// What the pages are for that the thread's next [`Verb::Alloc`] hands out.
    Purpose,
    /// It takes them back.
    Free,
    /// It gives the memory of free pages back to the kernel.
    Scav,
    /// It got more address space.
    Grow,
    /// A collection starts.
    GcStart,
    /// Marking is over, and the world stopped.
    GcMarkEnd,
    /// The collection ends.
    GcMarkTermination,
    /// Sweeping starts.
    GcSweep,
}

/// A place for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub verb: Verb,
    /// The function, by its full name.
    pub symbol: String,
    pub address: Address,
    pub file_offset: FileOffset,
    pub cost: Cost,
}

/// A verb without a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub verb: Verb,
    /// The functions that were looked for.
    pub symbols: &'static [&'static str],
    pub why: Why,
}

/// Why a verb has no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The program has no table of functions.
    NoTable,
    /// The table does not have the function: it was inlined, or the program never calls it.
    NoFunction,
    /// The table says that the function is where no code is.
    NoCode,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NoTable => "the program has no table of Go functions",
            Why::NoFunction => "the program has no function of this name",
            Why::NoCode => "there is no code where the function should be",
        })
    }
}

/// What can be probed in a Go program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoPlan {
    /// As the program gives it: `go1.22.10`, with the experiments it was built with; empty when it does not tell.
    pub version: String,
    /// Whether it was built with the race detector.
    pub race: bool,
    /// Where the fields lie that probes read, or why that is not known. Points are there either way.
    pub offsets: Result<GoOffsets, Unverified>,
    pub points: Vec<Point>,
    pub missing: Vec<Missing>,
    /// Where the program begins.
    pub entry: Address,
    /// Variables of the program, one of which is the list of its Ps; none when that cannot be told.
    pub all_ps: Vec<Address>,
}

/// The functions of each verb; of several, the first with the best cost.
const WANTED: &[(Verb, &[&str])] = &[
    (Verb::Alloc, &["runtime.(*mheap).setSpans", "runtime.(*mheap).allocNeedsZero"]),
    (Verb::Init, &["runtime.(*mheap).initSpan"]),
    (Verb::Purpose, &["runtime.(*mheap).allocSpan"]),
    (Verb::Free, &["runtime.(*mheap).freeSpanLocked"]),
    (Verb::Scav, &["runtime.sysUnusedOS"]),
    (Verb::Grow, &["runtime.(*pageAlloc).grow"]),
    (Verb::GcStart, &["runtime.gcResetMarkState"]),
    (Verb::GcMarkEnd, &["runtime.gcMark"]),
    (Verb::GcMarkTermination, &["runtime.gcMarkTermination"]),
    (Verb::GcSweep, &["runtime.gcSweep"]),
];

/// A function that only programs with the race detector have.
const RACE: &str = "runtime.racefuncenter";

/// What can be probed in the program of this file; `None` when it is not a Go program.
///
/// # Errors
/// When it is no x86-64 ELF file, cannot be read, or contradicts itself.
pub fn plan(path: &Path) -> Result<Option<GoPlan>, SymbolError> {
    plan_of(&Elf::parse(Image::open(path)?)?)
}

/// The same of a file that was opened before.
///
/// # Errors
/// As of [`plan`].
pub fn plan_of(elf: &Elf) -> Result<Option<GoPlan>, SymbolError> {
    let build = BuildInfo::find(elf)?;
    // Whoever removed what the go command left may still have left what the runtime needs.
    if build.is_none() && !Table::has_section(elf) {
        return Ok(None);
    }
    let build = build.unwrap_or_default();
    let names: Vec<&str> =
        WANTED.iter().flat_map(|(_, symbols)| *symbols).copied().chain([RACE, all_ps::SYMBOL]).collect();
    let table = Table::find(elf)?;
    let functions = table.map(|table| table.lookup(elf, &names)).transpose()?;
    let function = |symbol: &str| {
        let place = names.iter().position(|name| *name == symbol)?;
        functions.as_ref()?.get(place).copied().flatten()
    };

    let (mut points, mut missing) = (Vec::new(), Vec::new());
    for (verb, symbols) in WANTED {
        let mut best: Option<Point> = None;
        let mut why = if functions.is_some() { Why::NoFunction } else { Why::NoTable };
        for symbol in *symbols {
            let Some(function) = function(symbol) else { continue };
            match point(elf, *verb, symbol, function)? {
                Some(found) if best.as_ref().is_none_or(|best| found.cost < best.cost) => best = Some(found),
                Some(_) => {}
                None => why = Why::NoCode,
            }
        }
        match best {
            Some(point) => points.push(point),
            None => missing.push(Missing { verb: *verb, symbols, why }),
        }
    }
    if points.iter().any(|point| point.verb == Verb::Init) {
        points.retain(|point| point.verb != Verb::Purpose);
        missing.retain(|missing| missing.verb != Verb::Purpose);
    }
    let race = build.race || function(RACE).is_some();
    let all_ps = function(all_ps::SYMBOL).map(|function| all_ps::places(elf, function)).transpose()?;
    Ok(Some(GoPlan {
        offsets: offsets::of(&build.version),
        version: build.version,
        race,
        points,
        missing,
        entry: elf.entry,
        all_ps: all_ps.unwrap_or_default(),
    }))
}

/// The functions at these offsets of a Go program's file, the innermost first, as its own table has them; none of another
/// program's. What was inlined is known in versions whose structures were compared.
///
/// # Errors
/// As of [`plan`].
pub fn functions_at(path: &Path, offsets: &[u64]) -> Result<Vec<(u64, Vec<event::Function>)>, SymbolError> {
    functions_of(&Elf::parse(Image::open(path)?)?, offsets)
}

/// The same of a file that was opened before.
///
/// # Errors
/// As of [`plan`].
pub fn functions_of(elf: &Elf, offsets: &[u64]) -> Result<Vec<(u64, Vec<event::Function>)>, SymbolError> {
    let Some(table) = Table::find(elf)? else { return Ok(Vec::new()) };
    let places: HashMap<Address, u64> =
        offsets.iter().filter_map(|offset| Some((elf.address(FileOffset(*offset))?, *offset))).collect();
    let addresses: Vec<Address> = places.keys().copied().collect();
    let version = BuildInfo::find(elf)?.unwrap_or_default().version;
    let inlined_at = offsets::of(&version).ok().map(|offsets| offsets.module_gofunc);
    let found = table.functions_at(elf, &addresses, inlined_at)?;
    Ok(found.into_iter().filter_map(|(address, functions)| Some((*places.get(&address)?, functions))).collect())
}

/// The best point in a function; `None` when there is no code.
fn point(elf: &Elf, verb: Verb, symbol: &str, function: Function) -> Result<Option<Point>, SymbolError> {
    let bytes = function.end.0.saturating_sub(function.entry.0).min(prologue::LENGTH);
    let code = elf.code(function.entry, bytes)?;
    let Some(site) = prologue::best_site(&code) else { return Ok(None) };
    let Some(address) = function.entry.plus(site.offset) else { return Ok(None) };
    Ok(elf.file_offset(address).map(|file_offset| Point {
        verb,
        symbol: symbol.to_owned(),
        address,
        file_offset,
        cost: site.cost,
    }))
}
