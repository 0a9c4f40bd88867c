//! The mappings of a process, from /proc/PID/maps.

use std::fs;
use std::io;

use crate::units::{Bytes, Pid, Range};

/// The end of user addresses with four levels of page tables; what lies above in five is rare and asked for.
pub const USER_END: u64 = 0x7fff_ffff_f000;
/// Of a mapping's `prot`: it holds code (include/uapi/asm-generic/mman-common.h).
pub const PROT_EXEC: u32 = 4;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub range: Range,
    /// `PROT_*`.
    pub prot: u32,
    pub shared: bool,
    pub offset: Bytes,
    pub name: Name,
}

/// What a mapping is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// The kernel's own word, with its brackets; empty for anonymous memory.
    Word(String),
    /// A file: device (major in the upper half), inode, path.
    File { dev: u64, ino: u64, path: String },
}

impl Mapping {
    /// Pages here are in the page tables but are never counted as resident.
    #[must_use]
    pub fn is_uncounted(&self) -> bool {
        match &self.name {
            Name::Word(word) => word.starts_with("[vvar") || word == "[vsyscall]",
            Name::File { path, .. } => path.starts_with("/anon_hugepage") || path.starts_with("/dev/hugepages/"),
        }
    }
}

/// Reads the mappings, in order. *Errors.* The process is gone, or may not be looked at.
pub fn read(pid: Pid) -> io::Result<Vec<Mapping>> {
    let bytes = fs::read(format!("/proc/{pid}/maps"))?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect())
}

/// `start-end perms offset major:minor inode      name`, the name to the end of the line.
///
/// NOTE: procfs's own reader slices names that begin with `/SYSV` and `[stack:` unchecked, and gives up on the whole
/// file for one odd line; any user may make such a file.
fn parse(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let perms = words.next()?.as_bytes();
    let offset = hex(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let ino: u64 = words.next()?.parse().ok()?;
    let name = words.next().unwrap_or_default().trim_start();
    let bits = [(0, b'r', 1), (1, b'w', 2), (2, b'x', 4)];
    let prot = bits.iter().filter(|(at, letter, _)| perms.get(*at) == Some(letter)).map(|(.., bit)| bit).sum();
    Some(Mapping {
        range: Range { start: hex(start)?, end: hex(end)? },
        prot,
        shared: perms.get(3) == Some(&b's'),
        offset: Bytes(offset),
        name: if name.starts_with('/') {
            Name::File { dev: hex(major)? << 32 | hex(minor)?, ino, path: name.to_owned() }
        } else {
            Name::Word(name.to_owned())
        },
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<(u64, u64, u32, bool, u64, &str)>) {
        let found = parse(line);
        let found = found.as_ref().map(|mapping| {
            let name = match &mapping.name {
                Name::Word(word) => word.as_str(),
                Name::File { path, .. } => path.as_str(),
            };
            let range = mapping.range;
            (range.start, range.end, mapping.prot, mapping.shared, mapping.offset.0, name)
        });
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn lines_of_maps() {
        let file = "55d0a000-55d0b000 r-xp 00001000 08:01 1234                       /usr/bin/a b";
        check(file, Some((0x55d0_a000, 0x55d0_b000, 5, false, 0x1000, "/usr/bin/a b")));
        check(
            "7ff0-7ff1 rw-s 00000000 00:01 5    /SYSV0 (deleted)",
            Some((0x7ff0, 0x7ff1, 3, true, 0, "/SYSV0 (deleted)")),
        );
        check("7ff0-7ff1 ---p 00000000 00:00 0 ", Some((0x7ff0, 0x7ff1, 0, false, 0, "")));
        check("7ff0-7ff1 rw-p 00000000 00:00 0    [stack:x]", Some((0x7ff0, 0x7ff1, 3, false, 0, "[stack:x]")));
        check("nonsense", None);
    }
}
