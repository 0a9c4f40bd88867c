//! What can be probed in the page heap of gperftools' tcmalloc, and where.
//!
//! | verb | function | what it is given |
//! |---|---|---|
//! | alloc | `PageHeap::Carve` | the heap, the span that the run is cut from, pages |
//! | free | `PageHeap::DeleteLocked` (2.11 and later), `PageHeap::Delete` | the heap, the span |
//! | mark | the same, called by `PageHeap::GrowHeap`: it frees what it has just got | |
//! | scav | `PageHeap::DecommitSpan`, where the kernel has answered | the heap, the span |
//!
//! Other functions of the heap go by these, `PageHeap::New` too. A `Span` begins with the number of its first page and how
//! many pages it has.
//!
//! *Invariants.* What the heap's structures look like is never guessed: the code itself tells what it takes of a span and
//! how large a page is ([`release`]). A function that another one of the file should call, and does not, has been copied
//! into it: then there is no plan, because events would be missing.
//! *Source.* `src/page_heap.{h,cc}` and `src/span.h` of gperftools 2.5 to 2.18.

mod page_map;
mod release;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use pagetrace_common::control::span_cookie;

use super::arguments::{self, MOST, Site};
use super::elf::{Elf, Symbol};
use super::flow;
use super::image::Image;
use super::prologue::Cost;
use super::slots::Slots;
use super::{Address, FileOffset, SymbolError, allocators};

pub use page_map::PageMap;

/// An allocator's file, and what is known of its page heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// With the version, where the file tells: `gperftools tcmalloc 2.10`.
    pub allocator: String,
    pub plan: Result<Plan, Why>,
}

/// Why a page heap is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file has none of its functions by name.
    NotExported,
    /// Functions that the others have copies of, or that are not there.
    Unfamiliar(&'static str),
    /// Its pages are too small or too large, in bytes.
    Pages(u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NotExported => f.write_str("no page-heap functions are exported"),
            Why::Unfamiliar(what) => write!(f, "{what} is not as in any version that is known"),
            Why::Pages(bytes) => write!(f, "pages of {bytes} bytes"),
        }
    }
}

/// What a point tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Alloc,
    /// And growth.
    Free,
    Scav,
}

/// A place for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub verb: Verb,
    pub symbol: &'static str,
    pub address: Address,
    pub file_offset: FileOffset,
    pub cost: Cost,
    /// The registers that hold the span; the pages handed out, or the kernel's answer; and the heap, where one does.
    pub span: u8,
    pub told: u8,
    pub heap: u8,
}

/// The points of a page heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub points: Vec<Point>,
    /// The bytes of its pages, as a power of 2.
    pub page_shift: u8,
    /// The function that makes the heap grow.
    pub grows: Symbol,
    /// Where it notes what is whose; `None`: it cannot be read.
    pub map: Option<PageMap>,
}

const ALLOC: &str = "tcmalloc::PageHeap::Carve";
const FREE_LOCKED: &str = "tcmalloc::PageHeap::DeleteLocked";
const FREE: &str = "tcmalloc::PageHeap::Delete";
const SCAV: &str = "tcmalloc::PageHeap::DecommitSpan";
const GROW: &str = "tcmalloc::PageHeap::GrowHeap";
const GROW_LATER: &str = "tcmalloc::PageHeap::GrowHeap (2.11)";
const RELEASE: &str = "TCMalloc_SystemRelease";

/// Functions, and their names in the file.
const SYMBOLS: &[(&str, &str)] = &[
    (ALLOC, "_ZN8tcmalloc8PageHeap5CarveEPNS_4SpanEm"),
    (FREE_LOCKED, "_ZN8tcmalloc8PageHeap12DeleteLockedEPNS_4SpanE"),
    (FREE, "_ZN8tcmalloc8PageHeap6DeleteEPNS_4SpanE"),
    (SCAV, "_ZN8tcmalloc8PageHeap12DecommitSpanEPNS_4SpanE"),
    (GROW, "_ZN8tcmalloc8PageHeap8GrowHeapEm"),
    (GROW_LATER, "_ZN8tcmalloc8PageHeap8GrowHeapEmPNS0_14LockingContextE"),
    (RELEASE, "_Z22TCMalloc_SystemReleasePvm"),
    ("tcmalloc::PageHeap::AllocLarge", "_ZN8tcmalloc8PageHeap10AllocLargeEm"),
    ("tcmalloc::PageHeap::SearchFreeAndLargeLists", "_ZN8tcmalloc8PageHeap23SearchFreeAndLargeListsEm"),
    ("tcmalloc::PageHeap::ReleaseSpan", "_ZN8tcmalloc8PageHeap11ReleaseSpanEPNS_4SpanE"),
    ("tcmalloc::PageHeap::MergeIntoFreeList", "_ZN8tcmalloc8PageHeap17MergeIntoFreeListEPNS_4SpanE"),
    ("tcmalloc::PageHeap::CheckAndHandlePreMerge", "_ZN8tcmalloc8PageHeap22CheckAndHandlePreMergeEPNS_4SpanES2_"),
];

/// Who has to call whom, where the file has the former.
const CALLS: &[(&str, &str)] = &[
    ("tcmalloc::PageHeap::AllocLarge", ALLOC),
    ("tcmalloc::PageHeap::SearchFreeAndLargeLists", ALLOC),
    ("tcmalloc::PageHeap::ReleaseSpan", SCAV),
    ("tcmalloc::PageHeap::MergeIntoFreeList", SCAV),
    ("tcmalloc::PageHeap::CheckAndHandlePreMerge", SCAV),
];

/// Bytes of a page of the heap layer, as a power of 2.
pub const LEAST_SHIFT: u8 = 13;
/// Bytes of a function that are looked at for the best place; and of the one that gives back, all.
const HEAD: u64 = 64;
const MOST_CODE: u64 = 512;

/// What is known of the page heap of the allocator in this file; `None` when it is no allocator's.
///
/// # Errors
/// When it is no x86-64 ELF file, cannot be read, or contradicts itself.
pub fn look(path: &Path) -> Result<Option<Found>, SymbolError> {
    look_at(&Elf::parse(Image::open(path)?)?)
}

/// The same of a file that was opened before.
///
/// # Errors
/// As of [`look`].
pub fn look_at(elf: &Elf) -> Result<Option<Found>, SymbolError> {
    let Some(allocator) = allocators::name_of(elf)? else { return Ok(None) };
    let plan = if allocator.starts_with(allocators::GPERFTOOLS) { plan(elf)? } else { Err(Why::NotExported) };
    Ok(Some(Found { allocator, plan }))
}

fn plan(elf: &Elf) -> Result<Result<Plan, Why>, SymbolError> {
    let names: Vec<&str> = SYMBOLS.iter().map(|(_, name)| *name).collect();
    let symbols: BTreeMap<&str, Symbol> = SYMBOLS
        .iter()
        .zip(elf.functions(&names)?)
        .filter_map(|((function, _), symbol)| Some((*function, symbol?)))
        .collect();
    let of = |function: &str| symbols.get(function).copied();
    let first = |functions: &[&'static str]| functions.iter().find_map(|name| Some((*name, of(name)?)));
    if symbols.keys().all(|function| *function == RELEASE) {
        return Ok(Err(Why::NotExported));
    }
    let (Some(alloc), Some((free_name, free))) = (of(ALLOC), first(&[FREE_LOCKED, FREE])) else {
        return Ok(Err(Why::NotExported));
    };
    let (Some((_, grows)), Some(scav)) = (first(&[GROW, GROW_LATER]), of(SCAV)) else {
        return Ok(Err(Why::NotExported));
    };
    let slots = Slots::of(elf, &names)?;
    for (caller, callee) in CALLS.iter().copied().chain([(GROW, free_name), (GROW_LATER, free_name)]) {
        if let (Some(from), Some(to)) = (of(caller), of(callee))
            && !calls(elf, &slots, from, to)?
        {
            return Ok(Err(Why::Unfamiliar(caller)));
        }
    }
    let code = elf.code(scav.entry, scav.end.0.saturating_sub(scav.entry.0).min(MOST_CODE))?;
    let Some(released) = release::site(&code, scav.entry) else { return Ok(Err(Why::Unfamiliar(SCAV))) };
    let gives_back = of(RELEASE).is_some_and(|release| leads_to(elf, &slots, released.callee, release.entry));
    if !gives_back {
        return Ok(Err(Why::Unfamiliar(SCAV)));
    }
    if !(LEAST_SHIFT..=LEAST_SHIFT.saturating_add(span_cookie::MOST_SHIFT)).contains(&released.page_shift) {
        return Ok(Err(Why::Pages(1_u64.checked_shl(released.page_shift.into()).unwrap_or(0))));
    }
    if grows.end.0.saturating_sub(grows.entry.0) > span_cookie::MOST_GROWS || grows.end <= grows.entry {
        return Ok(Err(Why::Unfamiliar(GROW)));
    }
    let map = page_map::of(&elf.code(alloc.entry, alloc.end.0.saturating_sub(alloc.entry.0).min(MOST_CODE))?);
    let Some(alloc) = entry(elf, Verb::Alloc, ALLOC, alloc, 3)? else { return Ok(Err(Why::Unfamiliar(ALLOC))) };
    let Some(free) = entry(elf, Verb::Free, free_name, free, 2)? else { return Ok(Err(Why::Unfamiliar(free_name))) };
    let Some(scav) = scav.entry.plus(released.offset).and_then(|address| {
        Some(Point {
            verb: Verb::Scav,
            symbol: SCAV,
            address,
            file_offset: elf.file_offset(address)?,
            cost: released.cost,
            span: released.span,
            told: released.answer,
            heap: span_cookie::NONE,
        })
    }) else {
        return Ok(Err(Why::Unfamiliar(SCAV)));
    };
    Ok(Ok(Plan { points: vec![alloc, free, scav], page_shift: released.page_shift, grows, map }))
}

/// The best point at which a function's first `count` arguments are in registers.
fn entry(
    elf: &Elf,
    verb: Verb,
    symbol: &'static str,
    function: Symbol,
    count: usize,
) -> Result<Option<Point>, SymbolError> {
    let bytes = function.end.0.saturating_sub(function.entry.0).min(HEAD);
    let Some(Site { offset, cost, registers }) = arguments::best_site(&elf.code(function.entry, bytes)?, count) else {
        return Ok(None);
    };
    let [heap, span, pages, _]: [u8; MOST] = registers;
    let told = if count > 2 { pages } else { span_cookie::NONE };
    let address = function.entry.plus(offset);
    Ok(address.and_then(|address| {
        let file_offset = elf.file_offset(address)?;
        Some(Point { verb, symbol, address, file_offset, cost, span, told, heap })
    }))
}

/// Whether the code of a function calls another one of the file, or goes on in it.
fn calls(elf: &Elf, slots: &Slots, from: Symbol, to: Symbol) -> Result<bool, SymbolError> {
    let flow = flow::follow(elf, slots, from.entry, from.end)?;
    Ok(flow.own_targets.iter().any(|target| leads_to(elf, slots, *target, to.entry)))
}

/// Whether a call of `target` comes to `function`: straight, or by way of the file's linkage table.
fn leads_to(elf: &Elf, slots: &Slots, target: Address, function: Address) -> bool {
    // A stub that cannot be read leads nowhere.
    let slot = || flow::slot_of_stub(elf, target).ok().flatten();
    target == function || slot().is_some_and(|slot| slots.own.get(&slot) == Some(&function))
}
