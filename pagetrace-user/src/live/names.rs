//! Names that records have no room for: whole paths of mapped files, and the comms of acting tasks.
//!
//! *Bound.* What is kept to spare /proc is forgotten when it becomes much.

use std::collections::HashMap;

use crate::live::decode::FileKey;
use crate::live::maps::{self, Name};
use crate::live::target::NamedFile;
use crate::units::{Comm, Nanos, Pid, Range};

/// Names or paths kept at most.
const CACHE_LIMIT: usize = 4096;
/// How long a file that no mapping shows any more is not looked for again.
const RETRY: Nanos = Nanos(200_000_000);

/// What was learnt.
#[derive(Default)]
pub struct Names {
    /// By device and inode.
    paths: HashMap<(u64, u64), NamedPath>,
    comms: HashMap<Pid, Comm>,
}

#[derive(Clone)]
struct NamedPath {
    path: String,
    whole: bool,
    /// When the process's maps were looked at for it.
    tried: Nanos,
}

impl Names {
    /// The name of a task; empty when it is gone and was never heard of.
    pub fn comm(&mut self, tgid: Pid) -> Comm {
        if self.comms.len() >= CACHE_LIMIT {
            self.comms.clear();
        }
        *self.comms.entry(tgid).or_insert_with(|| {
            let text = std::fs::read_to_string(format!("/proc/{tgid}/comm")).unwrap_or_default();
            Comm::of(text.trim_end())
        })
    }

    /// The name that a process has from here on.
    pub fn learn(&mut self, tgid: Pid, comm: Comm) {
        if self.comms.len() >= CACHE_LIMIT {
            self.comms.clear();
        }
        self.comms.insert(tgid, comm);
    }

    /// The whole path of a file that was just mapped: as the kernel told it; else as the process's own maps show it, or as it was when another
    /// mapping of the same file was read; the last component where neither is there any more.
    pub fn file(&mut self, ts: Nanos, pid: Pid, range: Range, file: FileKey) -> NamedFile {
        if file.is_whole {
            return NamedFile { dev: file.dev, ino: file.ino, path: file.name, whole: true };
        }
        let key = (file.dev, file.ino);
        let known = self.paths.get(&key).filter(|known| is_named(&known.path, &file.name));
        if let Some(known) = known.filter(|known| known.whole || ts.since(known.tried) < RETRY) {
            return NamedFile { dev: file.dev, ino: file.ino, path: known.path.clone(), whole: known.whole };
        }
        let mappings = maps::read(pid).unwrap_or_default();
        let found = mappings.iter().find(|mapping| mapping.range.contains(range.start));
        let named = match found.map(|mapping| &mapping.name) {
            Some(Name::File { path, .. }) if is_named(path, &file.name) => {
                NamedPath { path: path.clone(), whole: true, tried: ts }
            }
            _ => NamedPath { path: file.name, whole: false, tried: ts },
        };
        if self.paths.len() >= CACHE_LIMIT {
            self.paths.clear();
        }
        self.paths.insert(key, named.clone());
        NamedFile { dev: file.dev, ino: file.ino, path: named.path, whole: named.whole }
    }
}

/// Whether a path, as maps show it, ends in this name.
fn is_named(path: &str, name: &str) -> bool {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path) == name
}

/// The size of a System V segment as it is mapped, if it still is.
#[must_use]
pub fn segment_bytes(pid: Pid, addr: u64) -> u64 {
    let mappings = maps::read(pid).unwrap_or_default();
    let is_segment = |mapping: &&maps::Mapping| {
        mapping.range.start == addr
            && matches!(&mapping.name, maps::Name::File { path, .. } if path.starts_with("/SYSV"))
    };
    mappings.iter().find(is_segment).map_or(0, |mapping| mapping.range.bytes().0)
}
