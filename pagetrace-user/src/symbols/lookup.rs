//! Names of places in a file: functions, source files and lines, with what was inlined.
//!
//! *Source.* DWARF, also in a file of its own that a debug link names, else the symbol tables; of a Go program without
//! either, its own tables of functions, lines and what was inlined. Demangled. All of it as `blazesym` reads it, but Go's tables.

use std::collections::HashSet;
use std::path::Path;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Builder, CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::go::functions_at;
use super::guarded;
use crate::event::Function;

/// Looks names up.
pub struct Lookup(Symbolizer);

impl Default for Lookup {
    fn default() -> Lookup {
        Lookup(builder().build())
    }
}

fn builder() -> Builder {
    Symbolizer::builder().enable_code_info(true).enable_inlined_fns(true).enable_demangling(true)
}

impl Lookup {
    /// Debug links lead into this directory, and nowhere else.
    #[must_use]
    pub fn within(directory: &Path) -> Lookup {
        Lookup(builder().set_debug_dirs(Some([directory])).build())
    }

    /// The functions at offsets in a file, the innermost first, for those that have one.
    #[must_use]
    pub fn at_offsets(&self, path: &Path, offsets: &[u64]) -> Vec<(u64, Vec<Function>)> {
        let mut named = self.look_up(path, Input::FileOffset(offsets));
        let known: HashSet<u64> = named.iter().map(|(offset, _)| *offset).collect();
        let nameless: Vec<u64> = offsets.iter().filter(|offset| !known.contains(offset)).copied().collect();
        if !nameless.is_empty() {
            // A file that is no Go program has none of these.
            named.extend(functions_at(path, &nameless).unwrap_or_default());
        }
        named
    }

    /// The same at addresses that the file is linked for: it may be debug information alone.
    #[must_use]
    pub fn at_addresses(&self, path: &Path, addresses: &[u64]) -> Vec<(u64, Vec<Function>)> {
        self.look_up(path, Input::VirtOffset(addresses))
    }

    fn look_up(&self, path: &Path, places: Input<&[u64]>) -> Vec<(u64, Vec<Function>)> {
        let source = Source::Elf(Elf::new(path));
        let asked = *places.as_inner_ref();
        let found = guarded(|| self.0.symbolize(&source, places)).and_then(Result::ok).unwrap_or_default();
        let named = asked.iter().zip(found).filter_map(|(place, found)| match found {
            Symbolized::Sym(symbol) => Some((*place, functions_of(&symbol))),
            Symbolized::Unknown(_) => None,
        });
        named.collect()
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
