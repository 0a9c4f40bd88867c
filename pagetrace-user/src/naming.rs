//! A trace with the names that its recording could not find, from debug files that are kept elsewhere.
//!
//! *Which files.* Those with the build id of a file of the trace: `.build-id/ab/cdef.debug` in the directory or in the one above
//! it, as distributions and debuginfod have them, else any file below the directory.
//! *Which names.* Those of places that have none, and of those that have no line, where the files have one.
//! *Invariant.* The same trace and files give the same names; nothing else of this machine is looked at.
//! *Bound.* [`MOST_ENTRIES`] of the directory are looked at, [`MOST_DEPTH`] levels deep.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use crate::event::{Body, Event, FileId, Function, Header, Place};
use crate::format::{Outcome, Trace};
use crate::symbols::elf::Elf;
use crate::symbols::image::Image;
use crate::symbols::lookup::Lookup;
use crate::units::Tid;

const MOST_ENTRIES: usize = 100_000;
const MOST_DEPTH: usize = 16;
/// Places of a trace that are looked up.
const MOST_PLACES: usize = 1 << 22;

/// What is known of a place: nothing, a name, a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    #[default]
    Nothing,
    Name,
    Line,
}

impl Known {
    fn of(functions: &[Function]) -> Known {
        match functions {
            [] => Known::Nothing,
            functions if functions.iter().any(|function| function.line != 0) => Known::Line,
            _ => Known::Name,
        }
    }
}

/// A build of a file: its id, and what to add to an offset of its code to get the address that it is linked for.
#[derive(Clone, Debug)]
struct Build {
    id: Vec<u8>,
    linked: Option<u64>,
}

/// A trace whose last events are the names that were found.
pub struct Named<T> {
    trace: T,
    directory: Option<PathBuf>,
    builds: BTreeMap<FileId, Build>,
    places: HashMap<(FileId, u64), Known>,
    last: Option<Event>,
    names: Option<VecDeque<Event>>,
    /// The one that is lent.
    lent: Option<Event>,
}

impl<T: Trace> Named<T> {
    /// The trace with the names of the debug files in a directory; as it is without one.
    #[must_use]
    pub fn new(trace: T, directory: Option<&Path>) -> Named<T> {
        let directory = directory.map(Path::to_path_buf);
        Named { trace, directory, builds: BTreeMap::new(), places: HashMap::new(), last: None, names: None, lent: None }
    }

    fn note(&mut self, event: &Event) {
        match &event.body {
            Body::StackNode { place: Place::File { file, offset }, .. } if self.places.len() < MOST_PLACES => {
                self.places.entry((*file, *offset)).or_default();
            }
            Body::Symbol { place: Place::File { file, offset }, functions } if self.places.len() < MOST_PLACES => {
                let known = self.places.entry((*file, *offset)).or_default();
                *known = (*known).max(Known::of(functions));
            }
            Body::BuildId { file, id, linked } => {
                self.builds.insert(*file, Build { id: id.clone(), linked: *linked });
            }
            _ => {}
        }
        self.last = Some(Event { body: Body::MmGone, ..event.clone() });
    }

    /// The names of places that have less in the trace.
    fn look_up(&self, directory: &Path) -> VecDeque<Event> {
        let mut wanted: BTreeMap<FileId, Vec<u64>> = BTreeMap::new();
        for ((file, offset), _) in self.places.iter().filter(|(_, known)| **known < Known::Line) {
            wanted.entry(*file).or_default().push(*offset);
        }
        let mut files = DebugFiles { directory, found: None };
        let lookup = Lookup::within(directory);
        let mut names = VecDeque::new();
        for (file, mut offsets) in wanted {
            let Some(build) = self.builds.get(&file) else { continue };
            let Some(path) = files.find(&build.id) else { continue };
            offsets.sort_unstable();
            for (offset, functions) in found(&lookup, &path, build.linked, &offsets) {
                let before = self.places.get(&(file, offset)).copied().unwrap_or_default();
                if Known::of(&functions) > before
                    && let Some(last) = &self.last
                {
                    let body = Body::Symbol { place: Place::File { file, offset }, functions };
                    names.push_back(Event { ts: last.ts, cpu: 0, tid: Tid(0), actor: None, body });
                }
            }
        }
        names
    }
}

/// The functions at these offsets of the file that was recorded, by its debug file.
fn found(lookup: &Lookup, path: &Path, linked: Option<u64>, offsets: &[u64]) -> Vec<(u64, Vec<Function>)> {
    let Some(linked) = linked else { return lookup.at_offsets(path, offsets) };
    let addresses: Vec<u64> = offsets.iter().map(|offset| offset.wrapping_add(linked)).collect();
    let found = lookup.at_addresses(path, &addresses);
    found.into_iter().map(|(address, functions)| (address.wrapping_sub(linked), functions)).collect()
}

impl<T: Trace> Trace for Named<T> {
    fn header(&self) -> &Header {
        self.trace.header()
    }

    fn next_event(&mut self) -> io::Result<Option<&Event>> {
        let Some(directory) = &self.directory else { return self.trace.next_event() };
        if self.names.is_none() {
            let directory = directory.clone();
            if let Some(event) = self.trace.next_event()?.cloned() {
                self.note(&event);
                return Ok(Some(self.lent.insert(event)));
            }
            self.names = Some(self.look_up(&directory));
        }
        self.lent = self.names.as_mut().and_then(VecDeque::pop_front);
        Ok(self.lent.as_ref())
    }

    fn outcome(&self) -> Outcome {
        self.trace.outcome()
    }
}

/// Files of a directory by their build ids.
struct DebugFiles<'a> {
    directory: &'a Path,
    /// Every file below it, once one was not where it is looked for first.
    found: Option<HashMap<Vec<u8>, PathBuf>>,
}

impl DebugFiles<'_> {
    fn find(&mut self, id: &[u8]) -> Option<PathBuf> {
        let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (first, rest) = text.split_at_checked(2)?;
        let name = Path::new(first).join(format!("{rest}.debug"));
        let usual = [self.directory.join(".build-id").join(&name), self.directory.join(&name)];
        if let Some(path) = usual.into_iter().find(|path| look_at(path).is_some_and(|(found, _)| found == id)) {
            return Some(path);
        }
        self.found.get_or_insert_with(|| scan(self.directory)).get(id).cloned()
    }
}

/// The build id of a file, and how much it tells.
fn look_at(path: &Path) -> Option<(Vec<u8>, u8)> {
    let elf = Elf::parse(Image::open(path).ok()?).ok()?;
    let has = |name: &str| elf.section(name).is_some_and(|section| !section.file.is_empty());
    let tells = if has(".debug_info") || has(".zdebug_info") { 2 } else { u8::from(has(".symtab")) };
    Some((elf.build_id()?, tells))
}

/// The files below a directory that have a build id: of several of one build the one that tells most, the first of them by name.
fn scan(directory: &Path) -> HashMap<Vec<u8>, PathBuf> {
    let mut best: HashMap<Vec<u8>, (u8, PathBuf)> = HashMap::new();
    let mut open = VecDeque::from([(directory.to_path_buf(), 0)]);
    let mut entries = 0;
    while let Some((directory, depth)) = open.pop_front() {
        let Ok(inside) = std::fs::read_dir(&directory) else { continue };
        let mut inside: Vec<_> = inside.flatten().take(MOST_ENTRIES - entries).collect();
        inside.sort_by_key(std::fs::DirEntry::file_name);
        entries += inside.len();
        for entry in inside {
            // Links between directories could lead in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < MOST_DEPTH {
                    open.push_back((entry.path(), depth + 1));
                }
            } else if let Some((id, tells)) = look_at(&entry.path())
                && best.get(&id).is_none_or(|(before, _)| *before < tells)
            {
                best.insert(id, (tells, entry.path()));
            }
        }
    }
    best.into_iter().map(|(id, (_, path))| (id, path)).collect()
}
