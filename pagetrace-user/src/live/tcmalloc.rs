//! Page heaps of tcmalloc: which of the libraries and programs that the recorded processes have mapped have one, and
//! attaching to its points.
//!
//! *Which.* Every executable mapping is looked at, as for objects ([`crate::live::objects`]), each file once.
//! *Whose.* The points stand in the recorded process alone, unless others may come.
//! *What was before.* A heap whose points did not stand when its program began has a past that no event tells.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use pagetrace_common::control::span_cookie;
use pagetrace_common::record;

use crate::event::Probe;
use crate::live::clock;
use crate::live::load::Kernel;
use crate::live::objects::{linked_files, mapped_programs};
use crate::live::uprobe::{Identity, Point, Scope, Target};
use crate::symbols::prologue::Cost;
use crate::symbols::tcmalloc::{self, Plan, Verb, Why};
use crate::units::{Nanos, Pid};

/// A file of tcmalloc's.
#[derive(Clone, Debug)]
pub struct Library {
    /// Each point, attached or not.
    pub probes: Vec<Probe>,
    /// What there is to say, for the header and for whoever started the recording.
    pub note: String,
    pub is_attached: bool,
    pub plan: Arc<Plan>,
    /// Since when.
    since: Nanos,
}

impl Library {
    /// The same with each point, where the header can tell them no more.
    #[must_use]
    pub fn note_with_points(&self) -> String {
        let points: Vec<&str> = self.probes.iter().map(|probe| probe.name.as_str()).collect();
        if points.is_empty() { self.note.clone() } else { format!("{}: {}", self.note, points.join(", ")) }
    }
}

/// What was found in a process.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// The libraries of tcmalloc's.
    pub libraries: Vec<Found>,
    /// Of other allocators, why their page heap is not recorded.
    pub refused: BTreeSet<String>,
    /// The allocators that are not glibc's, with their files.
    pub others: BTreeSet<String>,
}

/// A library in a process.
#[derive(Clone, Debug)]
pub struct Found {
    pub library: Arc<Library>,
    /// It was attached to before the process's program began.
    pub whole: bool,
}

/// What a file is.
#[derive(Clone, Debug)]
enum Kind {
    /// No allocator's.
    None,
    /// An allocator's that is known by this name.
    Refused(String, Why),
    Plan(String, Arc<Plan>),
}

/// The files seen so far.
pub struct PageHeaps {
    wanted: bool,
    /// Points stand in every process that maps the file.
    everyone: bool,
    kinds: HashMap<Identity, Kind>,
    attached: HashMap<(Identity, Option<Pid>), Arc<Library>>,
    /// What was attached to before the program of this process began.
    before: HashMap<Pid, Vec<Arc<Library>>>,
}

/// A process, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub pid: Pid,
    /// When its program began, if that was seen.
    pub began: Option<Nanos>,
    /// It runs a Go program, whose own page heap is recorded.
    pub is_go: bool,
}

impl PageHeaps {
    #[must_use]
    pub fn new(wanted: bool, everyone: bool) -> PageHeaps {
        PageHeaps { wanted, everyone, kinds: HashMap::new(), attached: HashMap::new(), before: HashMap::new() }
    }

    /// Whether anything of allocators' heaps is to be recorded.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.wanted
    }

    /// Attaches to the page heaps that a process has mapped by now; all that are attached to in it.
    pub fn of_process(&mut self, kernel: &mut Kernel, asked: Asked) -> Looked {
        let mut looked = Looked::default();
        if !self.wanted {
            return looked;
        }
        let before = self.before.remove(&asked.pid).unwrap_or_default().into_iter();
        looked.libraries.extend(before.map(|library| Found { library, whole: true }));
        let mut allocators = Vec::new();
        for (link, path) in mapped_programs(asked.pid) {
            match self.kind(&link) {
                Kind::None => {}
                Kind::Refused(name, why) => {
                    if !is_glibc(&name) {
                        looked.others.insert(format!("{name} ({path})"));
                    }
                    allocators.push((name, why));
                }
                Kind::Plan(name, _) if asked.is_go => {
                    let why = "the file tells of the Go runtime's own, and of no other";
                    looked.refused.insert(format!("the page heap of {name} ({path}) is not recorded: {why}"));
                }
                Kind::Plan(name, plan) => {
                    let library = self.of_file(kernel, asked.pid, (&link, &path), (&name, plan));
                    let Some(library) = library else { continue };
                    // The points stood there already, in every process or in this one, which ran another program then.
                    let whole = asked.began.is_some_and(|began| library.since < began);
                    if !looked.libraries.iter().any(|found| Arc::ptr_eq(&found.library, &library)) {
                        looked.libraries.push(Found { library, whole });
                    }
                }
            }
        }
        looked.refused.extend(refusals(&allocators, asked.is_go || !looked.libraries.is_empty()));
        looked
    }

    /// The same of a program that a process is about to become: its own file, and those that it is linked with.
    pub fn of_program(&mut self, kernel: &mut Kernel, pid: Pid, program: &Path, is_go: bool) {
        if !self.wanted || is_go {
            return;
        }
        for path in linked_files(program) {
            if let Kind::Plan(name, plan) = self.kind(&path) {
                let library = self.of_file(kernel, pid, (&path, &path.to_string_lossy()), (&name, plan));
                self.before.entry(pid).or_default().extend(library);
            }
        }
    }

    fn kind(&mut self, path: &Path) -> Kind {
        let Ok(meta) = fs::metadata(path) else { return Kind::None };
        let kind = self.kinds.entry(Identity::of(&meta)).or_insert_with(|| match tcmalloc::look(path) {
            Ok(Some(found)) => match found.plan {
                Ok(plan) => Kind::Plan(found.allocator, Arc::new(plan)),
                Err(why) => Kind::Refused(found.allocator, why),
            },
            // A file that tells nothing is no allocator's.
            _ => Kind::None,
        });
        kind.clone()
    }

    fn of_file(
        &mut self,
        kernel: &mut Kernel,
        pid: Pid,
        (link, path): (&Path, &str),
        (name, plan): (&str, Arc<Plan>),
    ) -> Option<Arc<Library>> {
        let key = Identity::of(&fs::metadata(link).ok()?);
        let scope = if self.everyone { Scope::Everyone } else { Scope::Process(pid) };
        let whose = (!self.everyone).then_some(pid);
        if let Some(library) = self.attached.get(&(key, whose)) {
            return Some(Arc::clone(library));
        }
        let target = Target { path: link.to_path_buf(), scope };
        let library = Arc::new(attach(kernel, &target, &format!("{name} ({path})"), (path, plan)));
        // What failed is tried again when the process is looked at again: its mappings may have been changing.
        if library.is_attached {
            self.attached.insert((key, whose), Arc::clone(&library));
        }
        Some(library)
    }
}

/// Why the page heaps of these allocators are not recorded, a line for each reason. glibc is in every process: where there
/// is another allocator (`others`, or one of these), it is not the one that matters.
#[must_use]
pub fn refusals(allocators: &[(String, Why)], others: bool) -> Vec<String> {
    let others = others || allocators.iter().any(|(name, _)| !is_glibc(name));
    let told = allocators.iter().filter(|(name, _)| !others || !is_glibc(name));
    told.map(|(name, why)| format!("the page heap of {name} is not recorded: {why}")).collect()
}

fn is_glibc(name: &str) -> bool {
    name.starts_with("glibc")
}

fn attach(kernel: &mut Kernel, target: &Target, what: &str, (path, plan): (&str, Arc<Plan>)) -> Library {
    let points: Vec<Point> = plan
        .points
        .iter()
        .map(|point| {
            let name = format!("{} ({}) of {path}", point.symbol, point.cost.word());
            Point { name, offset: point.file_offset.0, cookie: cookie_of(&plan, point) }
        })
        .collect();
    let since = clock::now();
    match kernel.attach_tcmalloc(target, &points) {
        Ok(probes) => {
            let attached = probes.iter().filter(|probe| probe.attached).count();
            let stepped = plan.points.iter().filter(|point| point.cost == Cost::SingleStepped).count();
            let cost = if stepped == 0 { "all emulated".to_owned() } else { format!("{stepped} single-stepped") };
            let note = format!("the page heap of {what} is recorded at {attached} points, {cost}");
            // Only now do all stand.
            Library { probes, note, is_attached: true, plan, since: clock::now() }
        }
        Err(failure) => {
            let note = format!("the page heap of {what} is not recorded: {}", failure.why);
            Library { probes: Vec::new(), note, is_attached: false, plan, since }
        }
    }
}

fn cookie_of(plan: &Plan, point: &tcmalloc::Point) -> u64 {
    let verb = match point.verb {
        Verb::Alloc => record::HEAP_ALLOC,
        Verb::Free => record::HEAP_FREE,
        Verb::Scav => record::HEAP_SCAV,
    };
    let grows = plan.grows.entry.0.wrapping_sub(point.address.0) as i64;
    let grows_bytes = plan.grows.end.0.saturating_sub(plan.grows.entry.0);
    // Functions of one library are not further apart than a call reaches; from elsewhere nothing would be told apart.
    let (grows_from, grows_bytes) = match (i32::try_from(grows), u16::try_from(grows_bytes)) {
        (Ok(from), Ok(bytes)) => (from, bytes),
        _ => (0, 0),
    };
    span_cookie::of(span_cookie::Point {
        verb,
        span: point.span,
        told: point.told,
        heap: point.heap,
        shift: plan.page_shift.saturating_sub(tcmalloc::LEAST_SHIFT),
        grows_from,
        grows_bytes,
    })
}
