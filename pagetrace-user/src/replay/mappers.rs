//! Whose code asked the kernel for anonymous memory: of an allocator that nobody walks, that is all its memory.
//!
//! *Whose.* The file that has the call of `mmap` or `mremap`: the C library where that asked itself, else who called its function.
//! *Invariant.* The resident bytes of all sum to the class `anonymous`.

use std::collections::{BTreeMap, HashMap};

use super::State;
use super::ledger::Class;
use super::mappings::Kind;
use crate::event::{FileId, Place, StackId};
use crate::units::{Bytes, PAGE_BYTES};

/// Anonymous memory that code of one file asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapperUse {
    /// `None`: no stack tells.
    pub path: Option<String>,
    /// Of mappings that are no file's.
    pub mapped: Bytes,
    pub resident: Bytes,
}

impl State {
    /// By file, what is resident of most first. Cost: a walk over all resident pages.
    #[must_use]
    pub fn mappers(&self) -> Vec<MapperUse> {
        let mut files: HashMap<StackId, Option<FileId>> = HashMap::new();
        let mut file_of = |id: Option<StackId>| id.and_then(|id| *files.entry(id).or_insert_with(|| self.caller(id)));
        let mut uses: BTreeMap<Option<FileId>, (u64, u64)> = BTreeMap::new();
        for mapping in self.mappings.iter().filter(|mapping| mapping.kind == Kind::Anonymous) {
            let mut known = 0_u64;
            for (range, id) in self.stacks.mapped_within(mapping.range) {
                known = known.saturating_add(range.bytes().0);
                let (mapped, _) = uses.entry(file_of(Some(id))).or_default();
                *mapped = mapped.saturating_add(range.bytes().0);
            }
            let unknown = mapping.range.bytes().0.saturating_sub(known);
            if unknown > 0 {
                let (mapped, _) = uses.entry(None).or_default();
                *mapped = mapped.saturating_add(unknown);
            }
        }
        self.each_page(|addr, page, mapping| {
            let counted = self.classify(mapping, page);
            if matches!(counted, Some((Class::Anonymous, _))) {
                let (_, resident) = uses.entry(file_of(self.stacks.mapper(addr))).or_default();
                *resident = resident.saturating_add(PAGE_BYTES);
            }
        });
        let path = |file: FileId| self.file(file).map(|file| file.path.clone());
        let uses = uses.into_iter().map(|(file, (mapped, resident))| MapperUse {
            path: file.and_then(path),
            mapped: Bytes(mapped),
            resident: Bytes(resident),
        });
        let mut uses: Vec<MapperUse> = uses.collect();
        uses.sort_by(|a, b| (b.resident, b.mapped, &a.path).cmp(&(a.resident, a.mapped, &b.path)));
        uses
    }

    /// The file whose code made a system call.
    fn caller(&self, id: StackId) -> Option<FileId> {
        let mut files = self.stacks.places(id).map(|place| match place {
            Place::File { file, .. } => Some(file),
            _ => None,
        });
        let inner = files.next()??;
        let is_libc = self.file(inner).is_some_and(|file| {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("libc.so") || name.starts_with("libc-") || name.starts_with("ld-musl")
        });
        if is_libc { files.next().flatten() } else { Some(inner) }
    }
}
