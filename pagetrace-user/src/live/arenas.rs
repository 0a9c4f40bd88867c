//! The arenas of glibc in a process that runs: which chunks are in use, put aside and free, read from its memory.
//!
//! *Invariant.* The process is not stopped, not written to, and none of its pages is brought in. What does not verify is
//! refused, and said.
//! *Consistency.* It runs on meanwhile. An arena is read until a walk through it ends where it should, its lists close and
//! its structure is the same before and after; where that never happens, the last walk that ended where it should is taken
//! as it is, and says so.
//! *Bound.* [`MOST_TRIES`] walks of an arena; the data that is searched for it is at most [`MOST_DATA`].
//! *Source.* malloc/{malloc,arena}.c, glibc 2.26 to 2.43.

mod caches;
mod chain;
mod memory;
mod pages;
mod state;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::{Arena, ArenaPages};
use crate::live::maps::{self, Mapping, Name};
use crate::live::objects::mapped_programs;
use crate::symbols::allocators;
use crate::symbols::elf::Elf;
use crate::symbols::image::Image;
use crate::units::{Bytes, Pid, Range};

use chain::Sums;
use memory::Memory;
use state::{ArenaState, Part};

/// Walks of an arena, and the pause between two, which doubles.
const MOST_TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(1);
const MOST_DATA: Bytes = Bytes(16 << 20);
/// Pages that are read at once on the way through, and where a list leads anywhere.
const AHEAD: u64 = 64;
const ANYWHERE: u64 = 1;

/// Why arenas are not walked.
#[derive(Debug, thiserror::Error)]
pub enum Unwalkable {
    #[error("a part of it is in swap, and reading would bring that back")]
    Swapped,
    #[error("{0}")]
    Odd(&'static str),
    #[error("{0}")]
    Read(#[from] io::Error),
}

/// An allocator and its arenas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// With its version where the file tells: `glibc 2.36`.
    pub name: String,
    pub path: String,
    pub arenas: Vec<(Arena, Vec<ArenaPages>)>,
}

/// Walks through the arenas of the C library of a process. `None`: it has no glibc, or never used its allocator.
///
/// # Errors
/// What does not verify, with the library's name.
pub fn walk(pid: Pid) -> Result<Option<Walked>, String> {
    // One that is gone has nothing any more.
    let Ok(mappings) = maps::read(pid) else { return Ok(None) };
    let Some((file, path)) = c_library(pid, &mappings) else { return Ok(None) };
    let name = Image::open(&file).and_then(Elf::parse).ok().and_then(|elf| allocators::name_of(&elf).ok()?);
    let name = name.unwrap_or_else(|| "glibc".to_owned());
    if !name.starts_with("glibc") {
        return Ok(None);
    }
    match walk_data(pid, &mappings, &path) {
        Ok(arenas) if arenas.is_empty() => Ok(None),
        Ok(arenas) => Ok(Some(Walked { name, path, arenas })),
        Err(why) => Err(format!("the heap of {name} ({path}) was not walked: {why}")),
    }
}

/// The file that has the allocator: the C library, or the program itself where it is static.
fn c_library(pid: Pid, mappings: &[Mapping]) -> Option<(PathBuf, String)> {
    let programs = mapped_programs(pid);
    let is_libc = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with("libc.so.6") || name.starts_with("libc-2.")
    };
    if let Some(found) = programs.iter().find(|(_, path)| is_libc(path)) {
        return Some(found.clone());
    }
    // The program is what is mapped first of the files that are neither the loader nor its libraries: a static one is alone.
    let is_file = |mapping: &&Mapping| matches!(&mapping.name, Name::File { .. });
    let Name::File { path, .. } = &mappings.iter().find(is_file)?.name else { return None };
    programs.into_iter().find(|(link, found)| found == path && allocators::loader_of(link).is_none())
}

fn walk_data(pid: Pid, mappings: &[Mapping], path: &str) -> Result<Vec<(Arena, Vec<ArenaPages>)>, Unwalkable> {
    let mut memory = Memory::open(pid, AHEAD)?;
    let mut anywhere = Memory::open(pid, ANYWHERE)?;
    let data = mappings.iter().filter(|mapping| {
        let is_its = matches!(&mapping.name, Name::File { path: of, .. } if of == path);
        is_its && mapping.prot & 2 != 0 && !mapping.shared && mapping.range.bytes() <= MOST_DATA
    });
    for mapping in data {
        let words = memory.data(mapping.range)?;
        if let Some(states) = state::find(&mut anywhere, mapping.range.start, &words)? {
            return arenas(&mut memory, &mut anywhere, &states);
        }
    }
    Ok(Vec::new())
}

/// What was read of an arena, and where it lies.
struct Read {
    arena: Arena,
    parts: Vec<Part>,
    rows: Vec<ArenaPages>,
    caches: Vec<(u64, u64)>,
}

fn arenas(
    memory: &mut Memory,
    anywhere: &mut Memory,
    states: &[ArenaState],
) -> Result<Vec<(Arena, Vec<ArenaPages>)>, Unwalkable> {
    let mut all = Vec::new();
    for (index, state) in states.iter().enumerate() {
        all.push(until_settled(memory, anywhere, state, index == 0)?);
    }
    let caches: Vec<(u64, u64)> = all.iter().flat_map(|read| read.caches.iter().copied()).collect();
    for cache in caches {
        for (at, size) in caches::cached(anywhere, cache) {
            let chunk = Range::of(at, size);
            // A thread may put aside what is another's arena's.
            let whose = all.iter_mut().find(|read| read.parts.iter().any(|part| part.range.contains(at)));
            let Some(read) = whose.filter(|read| read.arena.in_use.bytes.0 >= size) else { continue };
            read.arena.in_use.bytes.0 -= size;
            read.arena.in_use.count = read.arena.in_use.count.saturating_sub(1);
            chain::count(&mut read.arena.cached, size);
            pages::keep(&mut read.rows, chunk);
        }
    }
    Ok(all.into_iter().map(|read| (read.arena, read.rows)).collect())
}

fn until_settled(
    memory: &mut Memory,
    anywhere: &mut Memory,
    state: &ArenaState,
    is_main: bool,
) -> Result<Read, Unwalkable> {
    let (mut last, mut pause) = (Err(Unwalkable::Odd("it changed whenever it was read")), PAUSE);
    for _ in 0..MOST_TRIES {
        match arena(memory, anywhere, state, is_main) {
            Ok(read) if read.arena.settled => return Ok(read),
            // What is in swap stays there.
            Err(Unwalkable::Swapped) => return Err(Unwalkable::Swapped),
            Err(_) if last.is_ok() => {}
            other => last = other,
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    last
}

fn arena(memory: &mut Memory, anywhere: &mut Memory, state: &ArenaState, is_main: bool) -> Result<Read, Unwalkable> {
    memory.forget();
    anywhere.forget();
    let state = state.again(anywhere)?;
    let mut parts = state.parts(anywhere, is_main)?;
    let fast = caches::fast(anywhere, state.fastbins())?;
    let mut sums = Sums::default();
    for (own, ahead, back) in state.bins() {
        sums.links.add(own, ahead, back);
    }
    parts.sort_by_key(|part| part.range.start);
    if parts.windows(2).any(|two| matches!(two, [one, next] if one.range.end > next.range.start)) {
        return Err(Unwalkable::Odd("parts that overlap"));
    }
    for part in &parts {
        chain::walk(memory, *part, is_main, &fast, &mut sums)?;
    }
    anywhere.forget();
    let is_same = state.again(anywhere)? == state;
    let settled = is_same && sums.links.are_whole() && sums.fast.count == fast.len() as u64;
    let arena = Arena {
        addr: state.addr,
        is_main,
        settled,
        size: Bytes(state.size()),
        in_use: sums.in_use,
        cached: crate::event::Chunks::default(),
        fast: sums.fast,
        free: sums.free,
        top: Bytes(sums.top),
    };
    Ok(Read { arena, parts, rows: sums.rows.rows, caches: sums.caches })
}
