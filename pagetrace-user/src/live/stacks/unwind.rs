//! The stacks of one process: what code is mapped where, and the tree of calls so far.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use framehop::x86_64::{UnwindRegsX86_64, UnwinderX86_64};
use framehop::{FrameAddress, Module, Unwinder};

use super::perf_map::PerfMap;
use super::{CodeFile, MOST_NODES, Unwinding, guarded};
use crate::event::{FileId, Function, Place, StackId};
use crate::live::maps::{self, Name, PROT_EXEC};
use crate::live::target::NamedFile;
use crate::units::{Nanos, Pid, Range, Tid};

/// Places of a stack that are told at most; of longer ones those farther out are missing.
const MOST_PLACES: usize = 512;
/// How long the mappings of a process are not read again for an address that is in none of them.
const LOOK_PAUSE: Nanos = Nanos(100_000_000);
/// How often the map of code made at run time is looked for without such a pause. Most processes have none.
const EAGER_TIMES: u32 = 256;
/// The first function of a program has nothing on the stack but this, to align it.
const FIRST_FRAME_BYTES: u64 = 32;

/// A thread's registers and what of its stack was copied, from the stack pointer on.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// Where the copy lies in the thread's memory.
    pub from: u64,
    pub words: &'a [u64],
    /// They are all that there is of the stack.
    pub is_whole: bool,
    /// A call just returned to the instruction pointer.
    pub has_returned: bool,
    /// A word of the memory that is not what the program wrote: its address, and what the program did.
    pub mended: Option<(u64, u64)>,
}

/// A stack as it comes from the kernel.
#[derive(Clone, Copy, Debug)]
pub enum Walked<'a> {
    Copied(Copied<'a>),
    /// Addresses, the innermost first.
    Addresses(&'a [u64]),
    /// Nothing of the process's own code.
    KernelOnly,
}

/// Code that is mapped.
#[derive(Clone)]
struct Mapped {
    range: Range,
    offset: u64,
    named: NamedFile,
    /// Its number in the process's file, once it was needed.
    file: Option<FileId>,
    code: Arc<CodeFile>,
}

/// What is known of a process's code and calls.
#[derive(Default)]
pub struct ProcessStacks {
    unwinder: UnwinderX86_64<Arc<[u8]>>,
    mapped: Vec<Mapped>,
    /// More code was mapped since.
    is_stale: bool,
    /// An address turned up that is in none of it: in code made at run time, or that came unseen.
    is_doubtful: bool,
    looked: Option<Nanos>,
    /// The files that places of the tree are in, mapped still or not.
    files: BTreeMap<FileId, (String, Arc<CodeFile>)>,
    nodes: HashMap<(Option<StackId>, Place), StackId>,
    /// What threads did in the kernel whose stack is about to come.
    in_kernel: HashMap<Tid, Vec<u64>>,
    /// What it says of code that it made, and when that was looked for.
    perf_map: Option<PerfMap>,
    sought: (u32, Nanos),
    /// Places in the kernel that were told.
    kernel_told: HashSet<Place>,
    /// Stacks told, and those of them whose end is not known.
    pub told: u64,
    pub cut: u64,
    /// Places of the stack in hand, the innermost first.
    places: Vec<Place>,
}

impl ProcessStacks {
    /// What a child has of this.
    #[must_use]
    pub fn of_child(&self) -> ProcessStacks {
        let mapped = self.mapped.iter().map(|mapped| Mapped { file: None, ..mapped.clone() }).collect();
        ProcessStacks {
            unwinder: self.unwinder.clone(),
            mapped,
            // Asked later, it may run another program by then.
            is_stale: self.is_stale,
            looked: self.looked,
            ..ProcessStacks::default()
        }
    }

    /// The process runs another program: nothing of its mappings holds, the tree stays.
    pub fn replaced(&mut self) {
        self.unwinder = UnwinderX86_64::new();
        self.mapped.clear();
        (self.is_stale, self.looked) = (true, None);
        (self.perf_map, self.sought) = (None, (0, Nanos(0)));
    }

    /// The names of code that it made, at these addresses.
    pub fn made_names(&mut self, pid: Pid, addresses: &[u64]) -> Vec<(u64, String)> {
        if addresses.is_empty() {
            return Vec::new();
        }
        self.perf_map = self.perf_map.take().or_else(|| PerfMap::open(pid));
        self.perf_map.as_ref().map(|map| map.names_at(addresses)).unwrap_or_default()
    }

    /// An exec left this mapped, code or not. The process need not be asked where all of its code is found; its parent's root is
    /// its own, as a rule, and stays longer.
    pub fn loaded(
        &mut self,
        shared: &mut Unwinding,
        pids: (Pid, Pid),
        ts: Nanos,
        mappings: &[(Range, u64, NamedFile)],
    ) {
        (self.is_stale, self.looked) = (false, Some(ts));
        for (range, offset, named) in mappings {
            self.mapped_more(shared, pids, (*range, *offset), named);
        }
    }

    /// It mapped code, as a call tells that may be long over: the process is asked only where the file is not found.
    pub fn mapped_more(
        &mut self,
        shared: &mut Unwinding,
        (pid, parent): (Pid, Pid),
        (range, offset): (Range, u64),
        named: &NamedFile,
    ) {
        if self.looked.is_none() || !named.whole {
            self.is_stale = true;
            return;
        }
        let path = &named.path;
        let paths = [format!("/proc/{pid}/root{path}"), path.clone(), format!("/proc/{parent}/root{path}")];
        let is_it = |path: &&String| std::fs::metadata(path).is_ok_and(|metadata| named.is(&metadata));
        match paths.iter().find(is_it).and_then(|path| shared.file(Path::new(path))) {
            Some(code) => self.add(range, offset, named.clone(), code, None),
            None => self.is_stale = true,
        }
    }

    fn add(&mut self, range: Range, offset: u64, named: NamedFile, code: Arc<CodeFile>, file: Option<FileId>) {
        let bias = code.bias(range.start, offset);
        let module = guarded(|| Module::new(named.path.clone(), range.start..range.end, bias, code.sections()));
        // What was there before is not any more.
        for old in self.mapped.iter().filter(|old| old.range.meet(range).is_some()) {
            self.unwinder.remove_module(old.range.start);
        }
        self.mapped.retain(|old| old.range.meet(range).is_none());
        self.know(range, module);
        let at = self.mapped.partition_point(|mapped| mapped.range.start < range.start);
        self.mapped.insert(at, Mapped { range, offset, named, file, code });
    }

    /// The files that places of the tree are in.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &str, &CodeFile)> {
        self.files.iter().map(|(id, (path, code))| (*id, path.as_str(), code.as_ref()))
    }

    /// Every place of the tree.
    pub fn all_places(&self) -> impl Iterator<Item = Place> {
        self.nodes.keys().map(|(_, place)| *place)
    }

    /// A thread did this in the kernel: it belongs to its stack that comes next.
    pub fn enter_kernel(&mut self, tid: Tid, addresses: &[u64]) {
        self.in_kernel.insert(tid, addresses.to_vec());
    }

    /// What belongs to the stack that came. What is there of one that was lost belongs to none.
    pub fn leave_kernel(&mut self, tid: Tid, has_kernel: bool) -> Vec<u64> {
        self.in_kernel.remove(&tid).filter(|_| has_kernel).unwrap_or_default()
    }

    /// Places in the kernel, and the names of those that were not told before.
    pub fn kernel_places(&mut self, shared: &Unwinding, addresses: &[u64]) -> (Vec<Place>, Vec<(Place, Function)>) {
        let places = shared.kernel.as_ref().map(|kernel| kernel.places(addresses)).unwrap_or_default();
        let mut is_new = |(place, _): &(Place, Option<Function>)| self.kernel_told.insert(*place);
        let names =
            places.iter().filter(|place| is_new(place)).filter_map(|(place, name)| Some((*place, name.clone()?)));
        let names = names.collect();
        (places.into_iter().map(|(place, _)| place).collect(), names)
    }

    /// The number of a stack, which ends in these places of the kernel, the innermost first. `file` gives a mapped file's number,
    /// `node` gets every node that is new, before it is used.
    pub fn stack(
        &mut self,
        shared: &mut Unwinding,
        (pid, ts): (Pid, Nanos),
        (walked, kernel): (Walked<'_>, &[Place]),
        file: &mut dyn FnMut(&NamedFile) -> FileId,
        node: &mut dyn FnMut(Option<StackId>, Place),
    ) -> StackId {
        let is_asked = !matches!(walked, Walked::KernelOnly);
        if is_asked && (self.is_stale || self.looked.is_none() || (self.is_doubtful && self.may_look(ts))) {
            self.look(shared, pid, ts);
        }
        let mut addresses = Vec::with_capacity(64);
        let is_whole = match walked {
            Walked::Copied(copied) => self.unwind(shared, copied, &mut addresses),
            Walked::Addresses(told) => {
                // All but the first are where a call returns to: the byte before is the call's.
                let places = told.iter().enumerate().map(|(at, address)| address.wrapping_sub(u64::from(at > 0)));
                addresses.extend(places);
                addresses.len() < MOST_PLACES
            }
            Walked::KernelOnly => !kernel.is_empty(),
        };
        self.told += 1;
        self.cut += u64::from(!is_whole);
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        places.extend_from_slice(kernel);
        places.extend(addresses.iter().map(|address| self.place(*address, file)));
        if !is_whole || places.is_empty() {
            places.push(Place::Cut);
        }
        let (mut at, mut is_made) = (None, false);
        for place in places.iter().rev() {
            let id = match self.nodes.get(&(at, *place)) {
                Some(known) => *known,
                // What is farther in of this stack is not told any more.
                None if self.nodes.len() >= MOST_NODES => break,
                None => {
                    node(at, *place);
                    is_made |= matches!(place, Place::Address(_));
                    let next = StackId(self.nodes.len() as u32);
                    self.nodes.insert((at, *place), next);
                    next
                }
            };
            at = Some(id);
        }
        self.places = places;
        if is_made {
            self.seek_perf_map(pid, ts);
        }
        at.unwrap_or_default()
    }

    /// Looks for the map of what the process made, now that it turned up: it may be gone soon.
    fn seek_perf_map(&mut self, pid: Pid, ts: Nanos) {
        let (times, last) = self.sought;
        if self.perf_map.is_none() && (times < EAGER_TIMES || ts.since(last) >= LOOK_PAUSE) {
            self.sought = (times.saturating_add(1), ts);
            self.perf_map = PerfMap::open(pid);
        }
    }

    fn may_look(&self, ts: Nanos) -> bool {
        self.looked.is_none_or(|looked| ts.since(looked) >= LOOK_PAUSE)
    }

    /// Reads what code is mapped where.
    fn look(&mut self, shared: &mut Unwinding, pid: Pid, ts: Nanos) {
        self.looked = Some(ts);
        (self.is_stale, self.is_doubtful) = (false, false);
        let Ok(mappings) = maps::read(pid) else { return };
        if mappings.is_empty() {
            // It is gone: what was known of it is the best there is.
            return;
        }
        let before = std::mem::take(&mut self.mapped);
        self.unwinder = UnwinderX86_64::new();
        for mapping in mappings.into_iter().filter(|mapping| mapping.prot & PROT_EXEC != 0) {
            let Name::File { dev, ino, path } = mapping.name else { continue };
            let link =
                PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.range.start, mapping.range.end));
            let Some(code) = shared.file(&link) else { continue };
            let known = before.iter().find(|known| (known.named.dev, known.named.ino) == (dev, ino));
            let named = NamedFile { dev, ino, path, whole: true };
            self.add(mapping.range, mapping.offset.0, named, code, known.and_then(|known| known.file));
        }
    }

    /// Code in this range is unwound by this; `None`: by frame pointers.
    pub(super) fn know(&mut self, range: Range, module: Option<Module<Arc<[u8]>>>) {
        // Mappings do not overlap: a module that is there is of an older one.
        self.unwinder.remove_module(range.start);
        if let Some(module) = module {
            self.unwinder.add_module(module);
        }
    }

    /// Follows the calls outward; whether the end was reached.
    pub(super) fn unwind(&self, shared: &mut Unwinding, copied: Copied<'_>, addresses: &mut Vec<u64>) -> bool {
        guarded(|| self.follow(shared, copied, addresses)).unwrap_or(false)
    }

    fn follow(&self, shared: &mut Unwinding, copied: Copied<'_>, addresses: &mut Vec<u64>) -> bool {
        let Copied { ip, sp, bp, from, words, is_whole, has_returned, mended } = copied;
        let end = from.saturating_add(words.len() as u64 * 8);
        let mut read = |address: u64| match mended {
            Some((place, word)) if place == address => Ok(word),
            // Below is a page of the stack that was not there yet.
            _ if (sp..from).contains(&address) => Ok(0),
            _ => {
                let bytes = address.checked_sub(from).filter(|bytes| bytes.is_multiple_of(8)).ok_or(())?;
                words.get(usize::try_from(bytes / 8).map_err(|_| ())?).copied().ok_or(())
            }
        };
        let mut regs = UnwindRegsX86_64::new(ip, sp, bp);
        let mut at = match FrameAddress::from_return_address(ip) {
            Some(returned) if has_returned => returned,
            _ => FrameAddress::InstructionPointer(ip),
        };
        while addresses.len() < MOST_PLACES {
            addresses.push(match at {
                FrameAddress::InstructionPointer(address) => address,
                FrameAddress::ReturnAddress(address) => u64::from(address).wrapping_sub(1),
            });
            // Where a program's first function would return to is where its arguments begin.
            let is_first = is_whole && end.saturating_sub(regs.sp()) <= FIRST_FRAME_BYTES;
            at = match self.unwinder.unwind_frame(at, &mut regs, &mut shared.cache, &mut read) {
                Ok(Some(next)) => match FrameAddress::from_return_address(next) {
                    Some(next) => next,
                    None => return is_first,
                },
                Ok(None) => return true,
                Err(_) => return is_first,
            };
        }
        false
    }

    fn place(&mut self, address: u64, file: &mut dyn FnMut(&NamedFile) -> FileId) -> Place {
        let at = self.mapped.partition_point(|mapped| mapped.range.end <= address);
        match self.mapped.get_mut(at) {
            Some(mapped) if mapped.range.contains(address) => {
                let id = match mapped.file {
                    Some(id) => id,
                    None => {
                        let id = file(&mapped.named);
                        self.files.insert(id, (mapped.named.path.clone(), Arc::clone(&mapped.code)));
                        *mapped.file.insert(id)
                    }
                };
                let offset = (address - mapped.range.start).saturating_add(mapped.offset);
                Place::File { file: id, offset }
            }
            _ => {
                self.is_doubtful = true;
                Place::Address(address)
            }
        }
    }
}
