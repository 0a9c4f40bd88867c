//! Which resident pages of files are dirty: not written back yet.
//!
//! *Format* (Documentation/admin-guide/mm/pagemap.rst): /proc/kpageflags has one `u64` a frame. A page whose entry in the page
//! table is dirty is so itself, where a file system writes back: the kernel sees the first write to a clean page
//! (mm/memory.c, `fault_dirty_shared_page`). Pages of tmpfs and the like, which only swap could hold, are left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::event::{Body, DirtyFile, FilePages};
use crate::live::maps::{Mapping, Name};
use crate::units::PAGE_BYTES;

const FLAGS: &str = "/proc/kpageflags";
const DIRTY: u64 = 1 << 4;
const SWAP_BACKED: u64 = 1 << 14;
/// Frames read at once.
const MOST_FRAMES: u64 = 8 << 10;
/// Files with dirty pages that are told by name.
const MOST_FILES: usize = 1000;

/// Counts them, of one reading.
pub struct FilePagesCount {
    flags: File,
    /// Bytes clean and dirty, by path.
    files: BTreeMap<String, (u64, u64)>,
}

impl FilePagesCount {
    /// *Errors.* The right to read the flags is missing.
    pub fn begin() -> io::Result<FilePagesCount> {
        Ok(FilePagesCount { flags: File::open(FLAGS)?, files: BTreeMap::new() })
    }

    /// Adds rows of pages; `mappings` are the process's, by address.
    ///
    /// *Errors.* The flags cannot be read.
    pub fn add(&mut self, mappings: &[Mapping], rows: &[Body]) -> io::Result<()> {
        for row in rows {
            let Body::BaselinePages { addr, pages, pfn: Some(pfn), file: true, .. } = row else { continue };
            let mut done = 0;
            while done < pages.0 {
                let count = (pages.0 - done).min(MOST_FRAMES);
                let mut bytes = vec![0; usize::try_from(count * 8).unwrap_or_default()];
                self.flags.read_exact_at(&mut bytes, pfn.0.saturating_add(done).saturating_mul(8))?;
                let (words, _) = bytes.as_chunks::<8>();
                for (addr, flags) in (addr.saturating_add(done * PAGE_BYTES)..).step_by(PAGE_BYTES as usize).zip(words)
                {
                    self.count(mappings, addr, u64::from_ne_bytes(*flags));
                }
                done += count;
            }
        }
        Ok(())
    }

    fn count(&mut self, mappings: &[Mapping], addr: u64, flags: u64) {
        let at = mappings.partition_point(|mapping| mapping.range.end <= addr);
        let Some(Name::File { path, .. }) = mappings.get(at).map(|mapping| &mapping.name) else { return };
        if flags & SWAP_BACKED != 0 {
            return;
        }
        let (clean, dirty) = match self.files.get_mut(path) {
            Some(known) => known,
            None => self.files.entry(path.clone()).or_default(),
        };
        *if flags & DIRTY == 0 { clean } else { dirty } += PAGE_BYTES;
    }

    /// What they are.
    #[must_use]
    pub fn end(self) -> FilePages {
        let clean_bytes = self.files.values().map(|(clean, _)| clean).sum();
        let dirty_bytes = self.files.values().map(|(_, dirty)| dirty).sum();
        let dirty = self.files.into_iter().filter(|(_, (_, dirty))| *dirty > 0);
        let mut dirty_files: Vec<DirtyFile> =
            dirty.map(|(path, (clean_bytes, dirty_bytes))| DirtyFile { path, clean_bytes, dirty_bytes }).collect();
        dirty_files.sort_by_key(|file| std::cmp::Reverse(file.dirty_bytes));
        dirty_files.truncate(MOST_FILES);
        FilePages { clean_bytes, dirty_bytes, dirty_files }
    }
}
