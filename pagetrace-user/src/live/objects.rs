//! Objects: which allocators the recorded processes have mapped, and attaching to their functions.
//!
//! *Which.* Every executable mapping of a process is looked at, through the kernel's own links to the mapped files, so
//! that it does not matter in which mount namespace their paths hold, or whether they were replaced since. What defines
//! an allocator's functions is attached to; which of several is really used, the counts of its calls tell.
//! *When.* Before the program's first instruction for what it is linked with, where the recorder starts it; else as
//! soon as the mapping is seen.
//! *Whose.* A point costs every process in which it stands: it stands in the recorded ones alone, unless others
//! may come (children, all, by name). In a Go program no return of a function is ever taken over: there the instructions are probed by
//! which the functions return.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use pagetrace_common::control::object_cookie::{
    self, Arguments, CHOOSES, FORWARDS, IN_PLACE, LEAVES, NONE, NOT_OWN, TAKES_RETURN, THROWS,
};

use crate::event::{LibraryId, Probe};
use crate::live::load::{Kernel, ObjectPoint};
use crate::live::uprobe::{Identity, Point, Scope, Target, Way};
use crate::symbols::FileOffset;
use crate::symbols::allocators::{self, AllocatorPlan, Function};
use crate::symbols::image::Image;
use crate::symbols::prologue::Cost;
use crate::units::Pid;

/// An allocator's file that is attached to.
#[derive(Clone, Debug)]
pub struct Library {
    pub id: LibraryId,
    pub name: String,
    pub path: String,
    /// Each point, attached or not.
    pub probes: Vec<Probe>,
    /// What there is to say, for the header and for whoever started the recording.
    pub note: String,
}

/// The allocators seen so far.
pub struct Objects {
    /// Bytes between two samples, 0 for every object; `None`: objects are not recorded.
    period: Option<u64>,
    /// Points stand in every process that maps the file.
    everyone: bool,
    plans: HashMap<Identity, Option<(u8, Arc<AllocatorPlan>)>>,
    next: u8,
    attached: HashMap<(Identity, Option<Pid>), Arc<Library>>,
    /// What was attached to before the program of this process began.
    before: HashMap<Pid, Vec<Arc<Library>>>,
}

/// An allocator of a process.
#[derive(Clone, Debug)]
pub struct Found {
    pub library: Arc<Library>,
    /// It was attached to before the process's program began.
    pub whole: bool,
}

impl Objects {
    #[must_use]
    pub fn new(period: Option<u64>, everyone: bool) -> Objects {
        Objects { period, everyone, plans: HashMap::new(), next: 0, attached: HashMap::new(), before: HashMap::new() }
    }

    #[must_use]
    pub fn period(&self) -> Option<u64> {
        self.period
    }

    /// One that is attached to, in whatever process.
    #[must_use]
    pub fn library(&self, id: LibraryId) -> Option<Arc<Library>> {
        self.attached.values().find(|library| library.id == id).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn libraries(&self) -> u8 {
        self.next.min(object_cookie::LIBRARIES)
    }

    /// Attaches to the allocators that a process has mapped by now; all that are attached to in it.
    pub fn of_process(&mut self, kernel: &mut Kernel, pid: Pid, is_go: bool) -> Vec<Found> {
        if self.period.is_none() {
            return Vec::new();
        }
        let before = self.before.remove(&pid).unwrap_or_default().into_iter();
        let mut found: Vec<Found> = before.map(|library| Found { library, whole: true }).collect();
        for (link, path) in mapped_programs(pid) {
            let library = self.of_file(kernel, pid, &link, &path, is_go);
            found.extend(library.map(|library| Found { library, whole: false }));
        }
        found
    }

    /// The same of a program that a process is about to become: its own file, and those that it is linked with.
    pub fn of_program(&mut self, kernel: &mut Kernel, pid: Pid, program: &Path, is_go: bool) {
        if self.period.is_none() {
            return;
        }
        for path in linked_files(program) {
            let library = self.of_file(kernel, pid, &path, &path.to_string_lossy(), is_go);
            self.before.entry(pid).or_default().extend(library);
        }
    }

    fn of_file(&mut self, kernel: &mut Kernel, pid: Pid, link: &Path, path: &str, is_go: bool) -> Option<Arc<Library>> {
        let meta = fs::metadata(link).ok()?;
        let key = Identity::of(&meta);
        let next = &mut self.next;
        let known = self.plans.entry(key).or_insert_with(|| {
            // A file that tells nothing is no allocator's.
            let plan = allocators::plan(link).ok().flatten()?;
            let number = *next;
            *next = next.saturating_add(1);
            Some((number, Arc::new(plan)))
        });
        let (number, plan) = known.clone()?;
        let scope = if self.everyone { Scope::Everyone } else { Scope::Process(pid) };
        let whose = (!self.everyone).then_some(pid);
        if let Some(library) = self.attached.get(&(key, whose)) {
            return Some(Arc::clone(library));
        }
        let target = Target { path: link.to_path_buf(), scope };
        let library = Arc::new(attach(kernel, &target, (number, path), &plan, is_go));
        // What failed is tried again when the process is looked at again: its mappings may have been changing.
        if !library.probes.is_empty() {
            self.attached.insert((key, whose), Arc::clone(&library));
        }
        Some(library)
    }
}

fn attach(
    kernel: &mut Kernel,
    target: &Target,
    (number, path): (u8, &str),
    plan: &AllocatorPlan,
    is_go: bool,
) -> Library {
    let mut library = Library {
        id: LibraryId(number),
        name: plan.name.clone(),
        path: path.to_owned(),
        probes: Vec::new(),
        note: String::new(),
    };
    if number >= object_cookie::LIBRARIES {
        library.note = format!("objects of {} ({path}) are not recorded: too many allocators", plan.name);
        return library;
    }
    let chooses = Way::best_with_returns().contains(&Way::Session);
    let (mut points, mut missing) = (Vec::new(), Vec::new());
    for function in &plan.functions {
        match points_of(function, number, is_go, chooses) {
            Some(more) => points.extend(more),
            None => missing.push(Probe {
                name: named(function),
                attached: false,
                reason: "not all of the instructions are known by which it returns".to_owned(),
            }),
        }
    }
    missing.extend(plan.missing.iter().map(|name| Probe {
        name: name.clone(),
        attached: false,
        reason: "there is no code where the function should be".to_owned(),
    }));
    match kernel.attach_objects(target, &points) {
        Ok(probes) => library.probes = probes,
        Err(failure) => {
            library.note = format!("objects of {} ({path}) are not recorded: {}", plan.name, failure.why);
            return library;
        }
    }
    let stepped = library.probes.iter().filter(|probe| probe.name.contains(Cost::SingleStepped.word())).count();
    let attached = library.probes.iter().filter(|probe| probe.attached).count();
    let cost = if stepped == 0 { "all emulated".to_owned() } else { format!("{stepped} single-stepped") };
    library.note = format!("objects of {} ({path}) are recorded at {attached} points, {cost}", plan.name);
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|probe| probe.name.as_str()).collect();
        library.note.push_str(&format!("; not: {}", names.join(", ")));
    }
    library.probes.extend(missing);
    let here = format!(" of {path}");
    library.probes.iter_mut().for_each(|probe| probe.name.push_str(&here));
    library
}

fn named(function: &Function) -> String {
    format!("{} ({})", function.symbol, function.site.cost.word())
}

/// How the result of a function is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// It gives nothing, or another function's result is its own.
    NotNeeded,
    /// The kernel takes over the return of the calls whose result is wanted.
    TakenOver,
    /// So many instructions are probed by which it returns.
    Instructions(usize),
    /// It cannot be.
    Unknown,
}

/// How the result of this function is seen in such a program: an exception that leaves a function, and Go's own look at
/// its stacks, do not find their way where a return was taken over.
#[must_use]
pub fn returns_of(function: &Function, is_go: bool) -> Returns {
    if !function.shape.gives() || function.forwards {
        Returns::NotNeeded
    } else if !is_go && !function.throws {
        Returns::TakenOver
    } else if function.returns.is_empty() {
        Returns::Unknown
    } else {
        Returns::Instructions(function.returns.len())
    }
}

/// The points of one function; `None` where its result could not be seen.
fn points_of(function: &Function, library: u8, is_go: bool, chooses: bool) -> Option<Vec<ObjectPoint>> {
    let shape = function.shape;
    let register = |argument: Option<usize>| {
        argument.and_then(|index| function.site.registers.get(index).copied()).unwrap_or(NONE)
    };
    let arguments = Arguments {
        size: register(shape.size),
        count: register(shape.count),
        old: register(shape.old),
        out: register(shape.out),
    };
    let returns = returns_of(function, is_go);
    if returns == Returns::Unknown {
        return None;
    }
    let takes_return = returns == Returns::TakenOver;
    let mut flags = if chooses { CHOOSES } else { 0 };
    for (flag, is) in [
        (TAKES_RETURN, takes_return),
        (FORWARDS, function.forwards),
        (IN_PLACE, shape.in_place),
        (NOT_OWN, function.calls_itself),
        (THROWS, function.throws),
    ] {
        flags |= if is { flag } else { 0 };
    }
    let cookie = |flags: u64| {
        object_cookie::of(function.call.code(), library, arguments, flags, function.site.offset, function.after)
    };
    let entry = Point { name: named(function), offset: function.file_offset.0, cookie: cookie(flags) };
    let mut points = vec![ObjectPoint { point: entry, takes_return }];
    if let Returns::Instructions(_) = returns {
        points.extend(function.returns.iter().map(|offset| {
            let name = format!("return of {} ({})", function.symbol, Cost::SingleStepped.word());
            let point = Point { name, offset: offset.0, cookie: cookie(flags | LEAVES) };
            ObjectPoint { point, takes_return: false }
        }));
    }
    Some(points)
}

/// The files of a process's executable mappings: the kernel's links to them, and their paths as it shows them.
#[must_use]
pub fn mapped_programs(pid: Pid) -> Vec<(PathBuf, String)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut seen = BTreeSet::new();
    maps.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (range, rights) = (words.next()?, words.next()?);
            let (_, device, inode) = (words.next()?, words.next()?, words.next()?);
            let path = line.get(line.find('/')?..)?;
            let is_new = rights.contains('x') && inode != "0" && seen.insert((device, inode));
            // A low address has zeros before it here, but none in the name of the link.
            let (start, end) = range.split_once('-')?;
            let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16));
            let link = format!("/proc/{pid}/map_files/{:x}-{:x}", start.ok()?, end.ok()?);
            is_new.then(|| (PathBuf::from(link), path.to_owned()))
        })
        .collect()
}

/// Scripts that one script may be run by.
const MOST_SCRIPTS: usize = 4;
/// What the kernel reads of a first line (`BINPRM_BUF_SIZE`).
const FIRST_LINE_BYTES: u64 = 256;

/// The program that runs this file: the one that its first line names where it is a script.
fn interpreted_by(file: &Path) -> PathBuf {
    let mut program = file.to_path_buf();
    for _ in 0..MOST_SCRIPTS {
        // What cannot be read is no script, nor is a pipe, which would be waited for.
        let Ok(image) = Image::open(&program) else { break };
        let start = image.read(FileOffset(0), image.part(FileOffset(0), FIRST_LINE_BYTES).len()).unwrap_or_default();
        let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let Some(words) = line.strip_prefix(b"#!").map(String::from_utf8_lossy) else { break };
        let Some(word) = words.split_ascii_whitespace().next() else { break };
        program = PathBuf::from(word);
    }
    program
}

/// A program's file and those that its loader will map with it, as the loader itself tells.
pub fn linked_files(file: &Path) -> Vec<PathBuf> {
    let program = &interpreted_by(file);
    let mut files = vec![program.clone()];
    let Some(loader) = allocators::loader_of(program).filter(|loader| loader.contains("/ld-")) else { return files };
    // The environment, and with it LD_PRELOAD and LD_LIBRARY_PATH, is the one that the program will have.
    let told = Command::new(loader).arg("--list").arg(program).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned()).unwrap_or_default();
    for line in text.lines() {
        let path = line.split(" => ").last().unwrap_or_default().trim();
        let path = path.split(" (0x").next().unwrap_or_default();
        if let Ok(path) = fs::canonicalize(path)
            && path.is_absolute()
            && !files.contains(&path)
        {
            files.push(path);
        }
    }
    files
}
