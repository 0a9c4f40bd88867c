//! The mappings of one address space, by address.
//!
//! *Invariants.* Mappings do not overlap and none is empty. They are kept as the calls made them: neighbours that the
//! kernel would merge stay apart (each has a birth of its own) until there are so many that they must be joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::FileId;
use crate::units::{Nanos, Range, Tid};

/// Mappings beyond which neighbours of one kind are joined: the kernel's own default limit.
const JOIN_ABOVE: usize = 1 << 16;

/// The farthest below a stack that a page makes it grow: the usual limit of a stack as a whole.
const GROWTH_BYTES: u64 = 8 << 20;

/// What a mapping is for, as far as its making and its name tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `[heap]`, the range that `brk` moves.
    Heap,
    /// The main stack, and thread stacks that say so.
    Stack,
    Anonymous,
    File,
    /// Shared anonymous, System V, memfd, tmpfs.
    Shmem,
    /// The kernel's own: `[vdso]` and the like.
    Special,
    /// Its pages are in the page table but in no counter of the RSS: hugetlbfs, `[vvar]`, `[vsyscall]`.
    Uncounted,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub range: Range,
    pub prot: u32,
    pub kind: Kind,
    pub file: Option<FileId>,
    /// Of `range.start` in the file.
    pub offset: u64,
    /// The kernel's name for it (`[heap]`), where there is one.
    pub name: Option<Arc<str>>,
    /// When the call that made it returned; 0 when it was there before.
    pub born: Nanos,
    /// The thread that made it; 0 when it was there before.
    pub tid: Tid,
    /// Whether a reading, not a call, is the source.
    pub read: bool,
    /// It grows downward when a page below it is touched.
    pub grows_down: bool,
}

impl Mapping {
    /// The same mapping over `range`, a part of it.
    #[must_use]
    pub fn part(&self, range: Range) -> Mapping {
        let skipped = range.start.saturating_sub(self.range.start);
        Mapping { range, offset: self.offset.saturating_add(skipped), ..self.clone() }
    }

    /// Whether the two are of one make, wherever they are.
    #[must_use]
    pub fn same_make(&self, other: &Mapping) -> bool {
        (self.kind, self.file, &self.name, self.prot) == (other.kind, other.file, &other.name, other.prot)
    }
}

/// All mappings.
#[derive(Clone, Debug, Default)]
pub struct Mappings {
    by_start: BTreeMap<u64, Mapping>,
    joined: usize,
    /// A range that is mapped as a whole, empty where none is known: most pages come where the one before came.
    mapped: Range,
}

impl Mappings {
    /// The mapping that holds `addr`.
    #[must_use]
    pub fn at(&self, addr: u64) -> Option<&Mapping> {
        self.by_start
            .range(..=addr)
            .next_back()
            .map(|(_, mapping)| mapping)
            .filter(|mapping| mapping.range.contains(addr))
    }

    /// All, by rising address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mapping> + '_ {
        self.by_start.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// Those that meet `range`, by rising address, whole.
    pub fn meeting(&self, range: Range) -> impl Iterator<Item = &Mapping> + '_ {
        let first = self.at(range.start).map_or(range.start, |mapping| mapping.range.start);
        let end = if range.is_empty() { first } else { range.end.max(first) };
        self.by_start
            .range(first..end)
            .map(|(_, mapping)| mapping)
            .filter(move |mapping| mapping.range.meet(range).is_some())
    }

    /// What of `range` is mapped: the parts, by rising address.
    #[must_use]
    pub fn covered(&self, range: Range) -> Vec<Range> {
        self.meeting(range).filter_map(|mapping| mapping.range.meet(range)).collect()
    }

    /// Puts `mapping` where it says; what was there is replaced.
    pub fn insert(&mut self, mapping: Mapping) {
        if mapping.range.is_empty() {
            return;
        }
        self.remove(mapping.range, |_| false);
        self.by_start.insert(mapping.range.start, mapping);
        if self.by_start.len() > JOIN_ABOVE.max(self.joined.saturating_mul(2)) {
            self.join();
        }
    }

    /// Unmaps `range`, but for the mappings that `keep` wants. What went, cut to `range`.
    pub fn remove(&mut self, range: Range, keep: impl Fn(&Mapping) -> bool) -> Vec<Mapping> {
        if range.is_empty() {
            return Vec::new();
        }
        self.mapped = Range::default();
        let starts: Vec<u64> =
            self.meeting(range).filter(|mapping| !keep(mapping)).map(|mapping| mapping.range.start).collect();
        let mut gone = Vec::with_capacity(starts.len());
        for start in starts {
            let Some(mapping) = self.by_start.remove(&start) else { continue };
            let whole = mapping.range;
            for rest in [Range { start: whole.start, end: range.start }, Range { start: range.end, end: whole.end }] {
                if !rest.is_empty() {
                    self.by_start.insert(rest.start, mapping.part(rest));
                }
            }
            if let Some(cut) = whole.meet(range) {
                gone.push(mapping.part(cut));
            }
        }
        gone
    }

    /// The protection of `range` becomes `prot`.
    pub fn protect(&mut self, range: Range, prot: u32) {
        for mut mapping in self.remove(range, |mapping| mapping.prot == prot) {
            mapping.prot = prot;
            self.by_start.insert(mapping.range.start, mapping);
        }
    }

    /// The end of the heap moved up over `range`.
    pub fn grow_heap(&mut self, range: Range, born: Nanos, tid: Tid) {
        if range.is_empty() {
            return;
        }
        let below =
            range.start.checked_sub(1).and_then(|addr| self.at(addr)).filter(|mapping| mapping.kind == Kind::Heap);
        let heap = match below {
            Some(heap) => {
                Mapping { range: Range { start: heap.range.start, end: range.end.max(heap.range.end) }, ..heap.clone() }
            }
            None => Mapping {
                range,
                prot: 3,
                kind: Kind::Heap,
                file: None,
                offset: 0,
                name: Some(Arc::from("[heap]")),
                born,
                tid,
                read: false,
                grows_down: false,
            },
        };
        self.insert(heap);
    }

    /// A page at `addr` came to be, below a stack: the stack has grown down to it. False when no stack is next.
    pub fn grow_down(&mut self, addr: u64) -> bool {
        if self.mapped.contains(addr) {
            return true;
        }
        if let Some(mapping) = self.at(addr) {
            self.mapped = mapping.range;
            return true;
        }
        let Some((&start, stack)) = self.by_start.range(addr..).next() else { return false };
        if !stack.grows_down || start.saturating_sub(addr) > GROWTH_BYTES {
            return false;
        }
        let range = Range { start: addr, end: stack.range.end };
        let grown = Mapping { range, ..stack.clone() };
        self.by_start.remove(&start);
        self.by_start.insert(addr, grown);
        true
    }

    /// Joins neighbours of one make. The youngest birth stands for both.
    fn join(&mut self) {
        let mut joined: BTreeMap<u64, Mapping> = BTreeMap::new();
        for (start, mapping) in std::mem::take(&mut self.by_start) {
            if let Some(mut last) = joined.last_entry() {
                let last = last.get_mut();
                let follows = mapping.file.is_none()
                    || last.offset.checked_add(last.range.bytes().0).is_some_and(|offset| offset == mapping.offset);
                if last.range.end == start && last.same_make(&mapping) && follows {
                    last.range.end = mapping.range.end;
                    if mapping.born > last.born {
                        (last.born, last.tid) = (mapping.born, mapping.tid);
                    }
                    continue;
                }
            }
            joined.insert(start, mapping);
        }
        self.joined = joined.len();
        self.by_start = joined;
    }
}

/// The kind of a mapping of the file at `path`, as the kernel's maps show it.
#[must_use]
pub fn kind_of_file(path: &str, shared: bool) -> Kind {
    match path {
        path if path.starts_with("/dev/zero") => {
            if shared {
                Kind::Shmem
            } else {
                Kind::Anonymous
            }
        }
        path if path.starts_with("/anon_hugepage") || path.starts_with("/dev/hugepages/") => Kind::Uncounted,
        path if path.starts_with("/memfd:") || path.starts_with("/SYSV") || path.starts_with("/dev/shm/") => {
            Kind::Shmem
        }
        _ => Kind::File,
    }
}

/// The kind of a mapping without a file, by the kernel's name for it.
#[must_use]
pub fn kind_of_name(name: &str, shared: bool) -> Kind {
    match name {
        "[heap]" => Kind::Heap,
        "[vsyscall]" => Kind::Uncounted,
        name if name.starts_with("[vvar") => Kind::Uncounted,
        name if name.starts_with("[stack") || (name.starts_with("[anon:") && name.contains("stack")) => Kind::Stack,
        name if name.starts_with("[anon_shmem:") => Kind::Shmem,
        _ if shared => Kind::Shmem,
        name if name.is_empty() || name.starts_with("[anon:") => Kind::Anonymous,
        _ => Kind::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(start: u64, end: u64, born: u64, tid: u32) -> Mapping {
        Mapping {
            range: Range { start, end },
            prot: 3,
            kind: Kind::Anonymous,
            file: None,
            offset: 0,
            name: None,
            born: Nanos(born),
            tid: Tid(tid),
            read: false,
            grows_down: false,
        }
    }

    fn layout(mappings: &Mappings) -> Vec<(u64, u64, u32)> {
        mappings.iter().map(|mapping| (mapping.range.start, mapping.range.end, mapping.prot)).collect()
    }

    #[test]
    fn cuts_keep_what_is_outside() {
        let mut mappings = Mappings::default();
        mappings.insert(Mapping { file: Some(FileId(1)), ..anonymous(0x1000, 0x9000, 1, 1) });
        let gone = mappings.remove(Range { start: 0x3000, end: 0x5000 }, |_| false);
        assert_eq!(
            gone.iter().map(|part| (part.range.start, part.range.end, part.offset)).collect::<Vec<_>>(),
            [(0x3000, 0x5000, 0x2000)]
        );
        assert_eq!(layout(&mappings), [(0x1000, 0x3000, 3), (0x5000, 0x9000, 3)]);
        assert_eq!(mappings.at(0x5000).map(|mapping| mapping.offset), Some(0x4000));
        mappings.protect(Range { start: 0x2000, end: 0x6000 }, 1);
        assert_eq!(
            layout(&mappings),
            [(0x1000, 0x2000, 3), (0x2000, 0x3000, 1), (0x5000, 0x6000, 1), (0x6000, 0x9000, 3)]
        );
        assert_eq!(
            mappings.covered(Range { start: 0x2800, end: 0x5800 }),
            [Range { start: 0x2800, end: 0x3000 }, Range { start: 0x5000, end: 0x5800 }]
        );
        assert!(mappings.at(0x4000).is_none() && mappings.at(0).is_none() && mappings.at(0x9000).is_none());
    }

    #[test]
    fn an_insert_replaces_and_a_stack_grows_down() {
        let mut mappings = Mappings::default();
        mappings.insert(anonymous(0x1000, 0x5000, 1, 1));
        mappings.insert(anonymous(0x4000, 0x6000, 2, 2));
        assert_eq!(layout(&mappings), [(0x1000, 0x4000, 3), (0x4000, 0x6000, 3)]);
        mappings.insert(Mapping { grows_down: true, kind: Kind::Stack, ..anonymous(0x20000, 0x21000, 0, 0) });
        assert!(mappings.grow_down(0x18000));
        assert_eq!(layout(&mappings).last(), Some(&(0x18000, 0x21000, 3)));
        assert!(!mappings.grow_down(0x30000));
        mappings.insert(anonymous(7, 7, 0, 0));
        assert_eq!(mappings.len(), 3);
    }

    #[test]
    fn a_great_many_neighbours_are_joined() {
        let mut mappings = Mappings::default();
        for at in 0..(JOIN_ABOVE as u64 + 2) {
            mappings.insert(anonymous(at * 0x1000, (at + 1) * 0x1000, at, 1));
        }
        assert!(mappings.len() < 4, "{}", mappings.len());
        assert_eq!(
            mappings.covered(Range { start: 0, end: u64::MAX }).iter().map(|range| range.bytes().0).sum::<u64>(),
            (JOIN_ABOVE as u64 + 2) * 0x1000
        );
    }

    #[test]
    fn kinds() {
        for (name, shared, kind) in [
            ("[heap]", false, Kind::Heap),
            ("[stack]", false, Kind::Stack),
            ("[stack:12]", false, Kind::Stack),
            ("[anon: glibc: pthread stack: 9]", false, Kind::Stack),
            ("[anon:arena]", false, Kind::Anonymous),
            ("[anon_shmem:pool]", true, Kind::Shmem),
            ("[vdso]", false, Kind::Special),
            ("[vvar]", false, Kind::Uncounted),
            ("[vvar_vclock]", false, Kind::Uncounted),
            ("", false, Kind::Anonymous),
            ("", true, Kind::Shmem),
        ] {
            assert_eq!(kind_of_name(name, shared), kind, "{name}");
        }
        for (path, shared, kind) in [
            ("/usr/lib/libc.so.6", false, Kind::File),
            ("/dev/zero (deleted)", true, Kind::Shmem),
            ("/dev/zero", false, Kind::Anonymous),
            ("/memfd:x (deleted)", true, Kind::Shmem),
            ("/SYSV00000000 (deleted)", true, Kind::Shmem),
            ("/anon_hugepage (deleted)", false, Kind::Uncounted),
        ] {
            assert_eq!(kind_of_file(path, shared), kind, "{path}");
        }
    }
}
