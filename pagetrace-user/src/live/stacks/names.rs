//! Names of places: functions, source files and lines, with what was inlined.
//!
//! *Source.* DWARF, also in a file of its own that a debug link names, else the symbol tables; of a Go program without
//! either, its own tables of functions, lines and what was inlined. Demangled. All of it as `blazesym` reads it, but Go's tables.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::{CodeFile, guarded};
use crate::event::Function;
use crate::live::uprobe::Identity;
use crate::symbols::go::functions_at;

/// Names that were found, so that every file is asked once for a place, whatever the number of processes.
pub struct Namer {
    symbolizer: Symbolizer,
    known: HashMap<(Identity, u64), Vec<Function>>,
}

impl Default for Namer {
    fn default() -> Namer {
        let symbolizer = Symbolizer::builder().enable_code_info(true).enable_inlined_fns(true).enable_demangling(true);
        Namer { symbolizer: symbolizer.build(), known: HashMap::new() }
    }
}

impl Namer {
    /// The functions at each of these offsets of a file, the innermost first; nothing for those without a name.
    pub fn names(&mut self, path: &str, code: &CodeFile, offsets: &[u64]) -> BTreeMap<u64, Vec<Function>> {
        let Ok(identity) = code.file.metadata().map(|metadata| Identity::of(&metadata)) else { return BTreeMap::new() };
        let missing: Vec<u64> =
            offsets.iter().copied().filter(|offset| !self.known.contains_key(&(identity, *offset))).collect();
        if !missing.is_empty() {
            for (offset, functions) in self.look_up(&path_of(path, code, &identity), &missing) {
                self.known.insert((identity, offset), functions);
            }
        }
        let known = |offset: &u64| Some((*offset, self.known.get(&(identity, *offset))?.clone()));
        offsets.iter().filter_map(known).collect()
    }

    fn look_up(&self, path: &Path, offsets: &[u64]) -> Vec<(u64, Vec<Function>)> {
        let source = Source::Elf(Elf::new(path));
        let found = guarded(|| self.symbolizer.symbolize(&source, Input::FileOffset(offsets)));
        let found = found.and_then(Result::ok).unwrap_or_default();
        let mut named: Vec<(u64, Vec<Function>)> = Vec::new();
        let mut nameless: Vec<u64> = Vec::new();
        for (index, offset) in offsets.iter().enumerate() {
            match found.get(index) {
                Some(Symbolized::Sym(symbol)) => named.push((*offset, functions_of(symbol))),
                _ => nameless.push(*offset),
            }
        }
        if !nameless.is_empty() {
            // A file that is no Go program has none of these.
            named.extend(functions_at(path, &nameless).unwrap_or_default());
        }
        named
    }
}

/// The file's own path, by which its debug file is found, as long as that still means it.
fn path_of(path: &str, code: &CodeFile, identity: &Identity) -> PathBuf {
    match fs::metadata(path) {
        Ok(metadata) if Identity::of(&metadata) == *identity => PathBuf::from(path),
        _ => PathBuf::from(format!("/proc/self/fd/{}", code.file.as_raw_fd())),
    }
}

fn functions_of(symbol: &Sym<'_>) -> Vec<Function> {
    let inlined = symbol.inlined.iter().rev().map(|inlined| function(&inlined.name, inlined.code_info.as_ref()));
    inlined.chain([function(&symbol.name, symbol.code_info.as_deref())]).collect()
}

fn function(name: &str, info: Option<&CodeInfo<'_>>) -> Function {
    Function {
        name: name.to_owned(),
        file: info.map(|info| info.to_path().to_string_lossy().into_owned()).unwrap_or_default(),
        line: info.and_then(|info| info.line).unwrap_or(0),
    }
}
