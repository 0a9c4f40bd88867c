//! The text of a live process beside that of its file: which bytes somebody changed.
//!
//! *Source.* `/proc/PID/mem`, not what the kernel says of its links.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::stage::Stage;

const BREAKPOINT: u8 = 0xcc;

/// The text of a process, and what its file had when the process began.
pub struct Text {
    memory: File,
    original: Vec<u8>,
    mappings: Vec<Mapping>,
}

/// A mapping of text: where it begins in memory and in the file, and its length.
struct Mapping {
    start: u64,
    offset: u64,
    bytes: usize,
}

impl Text {
    /// What a process has of the file that it runs.
    pub fn of(pid: u32, file: &Path) -> Text {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let own = maps.lines().filter(|line| line.contains(" r-xp ") && line.contains(file.to_str().unwrap()));
        let mappings: Vec<Mapping> = own
            .map(|line| {
                let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
                let words: Vec<&str> = line.split_whitespace().collect();
                let (start, end) = words[0].split_once('-').unwrap();
                Mapping { start: hex(start), offset: hex(words[2]), bytes: (hex(end) - hex(start)) as usize }
            })
            .collect();
        assert!(!mappings.is_empty(), "a text mapping of {}", file.display());
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
        Text { memory, original: std::fs::read(file).unwrap(), mappings }
    }

    /// Where an address is in the file.
    pub fn offset_of(&self, address: u64) -> u64 {
        let inside = |mapping: &&Mapping| (mapping.start..mapping.start + mapping.bytes as u64).contains(&address);
        let mapping = self.mappings.iter().find(inside).unwrap();
        address - mapping.start + mapping.offset
    }

    /// Where a place of the file is in memory.
    pub fn address_of(&self, offset: u64) -> u64 {
        let inside = |mapping: &&Mapping| (mapping.offset..mapping.offset + mapping.bytes as u64).contains(&offset);
        let mapping = self.mappings.iter().find(inside).unwrap();
        offset - mapping.offset + mapping.start
    }

    /// The addresses at which the text is not that of the file. Something else than a breakpoint fails.
    pub fn foreign(&self) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        for mapping in &self.mappings {
            let mut bytes = vec![0; mapping.bytes];
            self.memory.read_exact_at(&mut bytes, mapping.start).unwrap();
            let file = &self.original[mapping.offset as usize..];
            // The file may end inside the last page.
            let bytes = &bytes[..bytes.len().min(file.len())];
            if bytes == &file[..bytes.len()] {
                continue;
            }
            for (at, (is, was)) in bytes.iter().zip(file).enumerate() {
                if is != was {
                    assert_eq!(*is, BREAKPOINT);
                    found.insert(mapping.start + at as u64);
                }
            }
        }
        found
    }

    /// Whether a breakpoint stands there.
    pub fn is_broken(&self, address: u64) -> bool {
        let mut byte = [0];
        self.memory.read_exact_at(&mut byte, address).unwrap();
        byte == [BREAKPOINT]
    }

    /// Puts a breakpoint there that belongs to nobody, as a killed recorder leaves it.
    pub fn forge(&self, address: u64) {
        self.memory.write_all_at(&[BREAKPOINT], address).unwrap();
    }
}

/// A copy of a program, so that nobody else's processes run it.
pub fn own_copy(stage: &Stage, program: &Path, name: &str) -> PathBuf {
    let copy = stage.join(name);
    std::fs::copy(program, &copy).unwrap();
    copy
}
