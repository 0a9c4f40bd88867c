//! Which functions of a program or library give memory to others, and where they can be probed.
//!
//! *Whose.* A file counts as an allocator when it defines functions of the names that allocators have ([`names`]). What
//! it is called besides (a prefix, an alias) does not matter: one address is one function, under its first name.
//! *C++.* `operator new` of the C++ runtime calls `malloc`, which may be another library's: it [hands
//! on](Function::forwards), and has no result of its own that had to be seen. Allocators bring operators that do not.
//! *Source.* The System V ABI for x86-64, and the prototypes in malloc(3), jemalloc(3) and mimalloc.h.

pub mod names;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use memchr::memmem;

use super::arguments::{self, Site};
use super::elf::Elf;
use super::flow::{self, Flow};
use super::image::Image;
use super::slots::Slots;
use super::{Address, FileOffset, SymbolError};
use crate::event::ObjectCall;
use names::Shape;

/// Bytes of a function that are looked at for the best place.
const HEAD: u64 = 64;
/// Returns of a function at most: more cost more than they tell.
const MOST_RETURNS: usize = 32;

/// A file's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatorPlan {
    /// What allocator it is, with its version where the file tells: `jemalloc 5.3.0`.
    pub name: String,
    /// In the order of the tables of names.
    pub functions: Vec<Function>,
    /// Names of functions without code that can be probed.
    pub missing: Vec<String>,
}

/// A function of an allocator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub symbol: String,
    pub call: ObjectCall,
    pub shape: Shape,
    pub site: Site,
    /// Of the site.
    pub file_offset: FileOffset,
    /// Bytes of the function from the site on; 0 where the file does not tell its size.
    pub after: u64,
    /// It does nothing but call another function that has a name of an allocator's.
    pub forwards: bool,
    /// The library calls it for its own ends, which concern no object: glibc takes back by `free` what a thread that
    /// ends had put aside. Such calls go straight to it; what the library frees for others goes by way of its linkage
    /// table, as from any file.
    pub calls_itself: bool,
    /// An exception may leave it.
    pub throws: bool,
    /// Of the instructions by which it returns; empty where they are too many. Not all are known of a function that goes on
    /// where only the running program knows: one that throws does so to ask for help when there is no memory.
    pub returns: Vec<FileOffset>,
    pub knows_all_returns: bool,
}

/// What the tcmalloc is called that is not Google's own.
pub const GPERFTOOLS: &str = "gperftools tcmalloc";

/// Symbols by which an allocator is known, and what it is called.
const MARKS: &[(&str, &str)] = &[
    ("mallctl", "jemalloc"),
    ("je_mallctl", "jemalloc"),
    ("_rjem_mallctl", "jemalloc"),
    ("mi_version", "mimalloc"),
    ("tc_version", GPERFTOOLS),
    ("TCMallocInternalMalloc", "tcmalloc"),
    ("gnu_get_libc_version", "glibc"),
    ("__libc_message", "glibc"),
    ("__libc_malloc_impl", "musl"),
    ("__dls3", "musl"),
];

/// What can be probed in this file; `None` when it is no allocator.
///
/// # Errors
/// When it is no x86-64 ELF file, cannot be read, or contradicts itself.
pub fn plan(path: &Path) -> Result<Option<AllocatorPlan>, SymbolError> {
    plan_of(&Elf::parse(Image::open(path)?)?)
}

/// The same of a file that was opened before.
///
/// # Errors
/// As of [`plan`].
pub fn plan_of(elf: &Elf) -> Result<Option<AllocatorPlan>, SymbolError> {
    let calls = calls();
    let wanted: Vec<&str> =
        calls.iter().map(|(name, _)| name.as_str()).chain(MARKS.iter().map(|(mark, _)| *mark)).collect();
    let symbols = elf.functions(&wanted)?;
    let mut entries: BTreeSet<Address> = BTreeSet::new();
    for symbol in symbols.iter().take(calls.len()).flatten() {
        entries.insert(symbol.entry);
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let slots = Slots::of(elf, wanted.get(..calls.len()).unwrap_or_default())?;
    let is_glibc = MARKS
        .iter()
        .zip(symbols.iter().skip(calls.len()))
        .any(|((_, name), symbol)| *name == "glibc" && symbol.is_some());
    let calls_itself = is_glibc && elf.is_library()?;
    let (mut functions, mut missing, mut known) = (Vec::new(), Vec::new(), BTreeSet::new());
    for ((name, call), symbol) in calls.iter().zip(&symbols) {
        let Some(symbol) = symbol.filter(|symbol| known.insert(symbol.entry)) else { continue };
        let shape = names::shape(*call);
        let code = elf.code(symbol.entry, HEAD)?;
        let place = arguments::best_site(&code, shape.arguments())
            .and_then(|site| Some((site, elf.file_offset(symbol.entry.plus(site.offset)?)?)));
        let Some((site, file_offset)) = place else {
            missing.push(name.clone());
            continue;
        };
        let flow = flow::follow(elf, &slots, symbol.entry, symbol.end)?;
        let is_operator = name.starts_with("_Z");
        // Of a library's own names for `free`, some are a jump and nothing else.
        let is_jump = !shape.gives() && flow.returns.iter().all(|at| !(symbol.entry..symbol.end).contains(at));
        let forwards = (is_operator || is_jump) && hands_on(elf, &flow, symbol.entry, &entries, &slots)?;
        let throws = names::throws(*call, name);
        let returns: Vec<FileOffset> = if (flow.is_complete || throws) && flow.returns.len() <= MOST_RETURNS {
            flow.returns.iter().filter_map(|at| elf.file_offset(*at)).collect()
        } else {
            Vec::new()
        };
        functions.push(Function {
            symbol: name.clone(),
            call: *call,
            shape,
            site,
            file_offset,
            after: symbol.end.0.saturating_sub(symbol.entry.0.saturating_add(site.offset)),
            forwards,
            calls_itself: calls_itself && *call == ObjectCall::Free,
            throws,
            returns,
            knows_all_returns: flow.is_complete,
        });
    }
    let mark = MARKS.iter().zip(symbols.iter().skip(calls.len())).find(|(_, symbol)| symbol.is_some());
    let name = match mark {
        Some(((_, name), _)) => with_version(elf, name)?,
        None if functions.iter().all(|function| function.symbol.starts_with("_Z")) => "C++ runtime".to_owned(),
        None => "unknown allocator".to_owned(),
    };
    Ok(Some(AllocatorPlan { name, functions, missing }))
}

/// All names and what they stand for; where two name one function, the first counts.
fn calls() -> Vec<(String, ObjectCall)> {
    let plain = names::C.iter().map(|(name, call)| ((*name).to_owned(), *call));
    let others = names::OTHERS.iter().map(|(name, call)| ((*name).to_owned(), *call));
    let prefixed = names::PREFIXES
        .iter()
        .flat_map(|prefix| names::C.iter().map(move |(name, call)| (format!("{prefix}{name}"), *call)));
    plain.chain(others).chain(prefixed).collect()
}

/// Whether a function's own code goes to another allocator's function: one of this file, or one that is imported.
fn hands_on(
    elf: &Elf,
    flow: &Flow,
    entry: Address,
    entries: &BTreeSet<Address>,
    slots: &Slots,
) -> Result<bool, SymbolError> {
    for target in &flow.own_targets {
        let is_another = *target != entry && entries.contains(target);
        let slot = if is_another { None } else { flow::slot_of_stub(elf, *target)? };
        if is_another || slot.is_some_and(|slot| slots.named.contains(&slot)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What allocator a file has, with its version where the file tells; `None` when it has none that is known.
///
/// # Errors
/// When a table cannot be read.
pub fn name_of(elf: &Elf) -> Result<Option<String>, SymbolError> {
    let marks: Vec<&str> = MARKS.iter().map(|(mark, _)| *mark).collect();
    let found = elf.functions(&marks)?;
    let mark = MARKS.iter().zip(found).find(|(_, symbol)| symbol.is_some());
    mark.map(|((_, name), _)| with_version(elf, name)).transpose()
}

fn with_version(elf: &Elf, name: &str) -> Result<String, SymbolError> {
    Ok([name, version(elf, name)?.as_str()].join(" ").trim_end().to_owned())
}

/// The version that an allocator's file tells in a text; empty when it does not.
fn version(elf: &Elf, name: &str) -> Result<String, SymbolError> {
    // What stands before the version, and the bytes that a version has.
    let (before, is_part): (&[u8], fn(u8) -> bool) = match name {
        "glibc" => (b"stable release version ", |byte| byte.is_ascii_digit() || byte == b'.'),
        GPERFTOOLS => (b"gperftools ", |byte| byte.is_ascii_digit() || byte == b'.'),
        // Its own version ends with the commit: 5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c.
        "jemalloc" => (b"-0-g", |byte| byte.is_ascii_digit() || byte == b'.'),
        _ => return Ok(String::new()),
    };
    let finder = memmem::Finder::new(before);
    let mut found = String::new();
    for segment in elf.segments().iter().filter(|segment| !segment.writable) {
        elf.image.pieces(segment.file, 64, |_, piece| {
            for at in finder.find_iter(piece) {
                let (ahead, behind) = (piece.get(..at), piece.get(at + before.len()..));
                let text: Vec<u8> = if name == "jemalloc" {
                    let mut text: Vec<u8> =
                        ahead.unwrap_or_default().iter().rev().copied().take_while(|byte| is_part(*byte)).collect();
                    text.reverse();
                    text
                } else {
                    behind.unwrap_or_default().iter().copied().take_while(|byte| is_part(*byte)).take(32).collect()
                };
                let text = String::from_utf8_lossy(&text).trim_matches('.').to_owned();
                if text.contains('.') {
                    found = text;
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        if !found.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// The program that loads this one's libraries (PT_INTERP); `None` for one that loads itself.
#[must_use]
pub fn loader_of(path: &Path) -> Option<String> {
    Elf::parse(Image::open(path).ok()?).ok()?.interpreter().ok()?
}
