//! Names of places, each asked for once whatever the number of processes.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::CodeFile;
use crate::event::Function;
use crate::live::uprobe::Identity;
use crate::symbols::lookup::Lookup;

/// Names that were found.
#[derive(Default)]
pub struct Namer {
    lookup: Lookup,
    known: HashMap<(Identity, u64), Vec<Function>>,
}

impl Namer {
    /// The functions at each of these offsets of a file, the innermost first; nothing for those without a name.
    pub fn names(&mut self, path: &str, code: &CodeFile, offsets: &[u64]) -> BTreeMap<u64, Vec<Function>> {
        let Ok(identity) = code.file.metadata().map(|metadata| Identity::of(&metadata)) else { return BTreeMap::new() };
        let missing: Vec<u64> =
            offsets.iter().copied().filter(|offset| !self.known.contains_key(&(identity, *offset))).collect();
        if !missing.is_empty() {
            for (offset, functions) in self.lookup.at_offsets(&path_of(path, code, &identity), &missing) {
                self.known.insert((identity, offset), functions);
            }
        }
        let known = |offset: &u64| Some((*offset, self.known.get(&(identity, *offset))?.clone()));
        offsets.iter().filter_map(known).collect()
    }
}

/// The file's own path, by which its debug file is found, as long as that still means it.
fn path_of(path: &str, code: &CodeFile, identity: &Identity) -> PathBuf {
    match fs::metadata(path) {
        Ok(metadata) if Identity::of(&metadata) == *identity => PathBuf::from(path),
        _ => PathBuf::from(format!("/proc/self/fd/{}", code.file.as_raw_fd())),
    }
}
