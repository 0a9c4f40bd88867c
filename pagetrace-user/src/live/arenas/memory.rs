//! Memory of a process as it is read by whoever walks through it.
//!
//! *Invariant.* The process does not notice: pages that are not resident are not read, because that would bring them in.
//! What is not resident and not in swap was never written, and is zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Unwalkable;
use crate::live::pagemap::{Entry, Pagemap};
use crate::units::{PAGE_BYTES, Pid, Range};

/// A process's memory, and the part of it that was read last.
pub struct Memory {
    memory: File,
    pagemap: Pagemap,
    pages: u64,
    start: u64,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Memory {
    /// Reads `pages` at once.
    pub fn open(pid: Pid, pages: u64) -> io::Result<Memory> {
        let (memory, pagemap) = (File::open(format!("/proc/{pid}/mem"))?, Pagemap::open(pid)?);
        Ok(Memory { memory, pagemap, pages, start: 0, bytes: Vec::new(), entries: Vec::new() })
    }

    /// What was read before may have changed since.
    pub fn forget(&mut self) {
        self.bytes.clear();
    }

    /// The words from `at` on.
    ///
    /// # Errors
    /// When the page of the first one was never written, is in swap, or cannot be read.
    pub fn words<const N: usize>(&mut self, at: u64) -> Result<[u64; N], Unwalkable> {
        let length = 8 * N as u64;
        let have = self.start.saturating_add(self.bytes.len() as u64);
        if at < self.start || at.saturating_add(length) > have {
            self.load(at)?;
        }
        let offset = at.wrapping_sub(self.start);
        match self.entries.get((offset / PAGE_BYTES) as usize) {
            Some(entry) if entry.is_present() => {}
            Some(entry) if entry.is_swapped() => return Err(Unwalkable::Swapped),
            _ => return Err(Unwalkable::Odd("a header where nothing was written")),
        }
        let bytes = self.bytes.get(offset as usize..).unwrap_or_default();
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(words)
    }

    fn load(&mut self, at: u64) -> Result<(), Unwalkable> {
        let start = at & !(PAGE_BYTES - 1);
        // What begins on the last page may end behind it.
        let range = Range::of(start, (self.pages + 1).saturating_mul(PAGE_BYTES));
        self.bytes.clear();
        self.entries.clear();
        self.pagemap.read(range, &mut self.entries)?;
        self.start = start;
        self.bytes.resize(range.bytes().0 as usize, 0);
        let mut run: Option<(usize, usize)> = None;
        for index in 0..=self.entries.len() {
            let is_present = self.entries.get(index).is_some_and(|entry| entry.is_present());
            match (&mut run, is_present) {
                (Some((_, end)), true) => *end = index + 1,
                (None, true) => run = Some((index, index + 1)),
                (Some((first, end)), false) => {
                    let (first, end) = (*first * PAGE_BYTES as usize, *end * PAGE_BYTES as usize);
                    let part = self.bytes.get_mut(first..end).unwrap_or_default();
                    self.memory.read_exact_at(part, start.saturating_add(first as u64))?;
                    run = None;
                }
                (None, false) => {}
            }
        }
        Ok(())
    }

    /// A part of a program's data, as words.
    pub fn data(&self, range: Range) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; range.bytes().0 as usize];
        self.memory.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}
