//! Page heaps: which of the programs recorded have one that is known, and attaching to its points.
//!
//! *Whose.* Where one process is recorded for its own sake, the points stand in it alone; where others may come (children,
//! all, by name), they stand in every process that runs the file, and the programs filter.
//! *Bound.* A program's file is looked at once, and attached to once for all processes or once for each.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use pagetrace_common::control::{cookie, heap_layout};
use pagetrace_common::record;

use crate::event::{Probe, ScanKind};
use crate::failure::Failure;
use crate::live::decode::heap::PHASES;
use crate::live::load::{HeapLayout, Kernel};
use crate::live::spans::AllPs;
use crate::live::uprobe::{Identity, Point, Scope, Target, Way};
use crate::symbols::go::offsets::GoOffsets;
use crate::symbols::go::{self, GoPlan, Verb};
use crate::symbols::prologue::Cost;
use crate::units::Pid;

/// The page heap of a program, as far as it is recorded.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// Where its structures have their fields; `None`: nothing of it is attached.
    pub offsets: Option<GoOffsets>,
    /// Where its scheduler keeps the list of its Ps.
    pub all_ps: AllPs,
    /// Each point, attached or not.
    pub probes: Vec<Probe>,
    /// What there is to say, for the header and for whoever started the recording.
    pub note: String,
}

/// What is attached to a process's program, and since when.
#[derive(Clone, Debug)]
pub struct Found {
    pub attached: Arc<Attached>,
    /// It was attached to before this process was looked at, in every process that runs the file.
    pub was_there: bool,
}

/// The programs seen so far.
pub struct Heaps {
    wanted: bool,
    /// Points stand in every process that runs the file.
    everyone: bool,
    plans: HashMap<Identity, Option<Arc<GoPlan>>>,
    attached: HashMap<(Identity, Option<Pid>), Arc<Attached>>,
}

impl Heaps {
    #[must_use]
    pub fn new(everyone: bool) -> Heaps {
        Heaps { wanted: true, everyone, plans: HashMap::new(), attached: HashMap::new() }
    }

    /// Attaches to none.
    #[must_use]
    pub fn none() -> Heaps {
        Heaps { wanted: false, ..Heaps::new(false) }
    }

    /// Attaches to the page heap of a running process's program, if it has one that is known.
    pub fn of_process(&mut self, kernel: &mut Kernel, pid: Pid) -> Option<Found> {
        let scope = if self.everyone { Scope::Everyone } else { Scope::Process(pid) };
        self.of_file(kernel, Path::new(&format!("/proc/{pid}/exe")), scope)
    }

    /// The same of a program that is about to be run, in whoever runs it.
    pub fn of_program(&mut self, kernel: &mut Kernel, path: &Path) -> Option<Found> {
        self.everyone = true;
        self.of_file(kernel, path, Scope::Everyone)
    }

    fn of_file(&mut self, kernel: &mut Kernel, path: &Path, scope: Scope) -> Option<Found> {
        if !self.wanted {
            return None;
        }
        let meta = fs::metadata(path).ok()?;
        let key = Identity::of(&meta);
        // A file that tells nothing has no page heap that is known.
        let plan = self.plans.entry(key).or_insert_with(|| go::plan(path).ok().flatten().map(Arc::new)).clone()?;
        let whose = match scope {
            Scope::Process(pid) => Some(pid),
            Scope::Everyone => None,
        };
        if let Some(attached) = self.attached.get(&(key, whose)) {
            return Some(Found { attached: Arc::clone(attached), was_there: whose.is_none() });
        }
        let target = Target { path: path.to_path_buf(), scope };
        let attached = Arc::new(attach(kernel, &target, &plan).unwrap_or_else(|failure| {
            let note = format!("the page heap of {} is not recorded: {}", plan.version, failure.why);
            Attached { note, ..Attached::default() }
        }));
        self.attached.insert((key, whose), Arc::clone(&attached));
        Some(Found { attached, was_there: false })
    }
}

fn attach(kernel: &mut Kernel, target: &Target, plan: &GoPlan) -> Result<Attached, Failure> {
    let offsets = match &plan.offsets {
        Ok(offsets) => *offsets,
        Err(why) => {
            let note = format!("the page heap is not recorded: {why}");
            return Ok(Attached { note, ..Attached::default() });
        }
    };
    let layout = kernel.heap_layout(layout_of(&offsets))?;
    let has_init = plan.points.iter().any(|point| point.verb == Verb::Init);
    // Where a function tells of a run and what it is for, the one that tells of the run alone is not needed.
    let wanted = plan.points.iter().filter(|point| point.verb != Verb::Alloc || !has_init);
    let points: Vec<(Cost, Point)> = wanted
        .map(|point| {
            let (verb, phase) = code_of(point.verb);
            let name = format!("{} ({})", point.symbol, point.cost.word());
            let cookie = cookie::of(verb, phase, layout);
            (point.cost, Point { name, offset: point.file_offset.0, cookie })
        })
        .collect();
    let stepped = points.iter().filter(|(cost, _)| *cost == Cost::SingleStepped).count();
    let points: Vec<Point> = points.into_iter().map(|(_, point)| point).collect();
    let mut probes = kernel.attach_heap(target, &points, Way::best())?;
    let attached = probes.iter().filter(|probe| probe.attached).count();
    probes.extend(plan.missing.iter().filter(|missing| missing.verb != Verb::Init).map(|missing| Probe {
        name: missing.symbols.join(" or "),
        attached: false,
        reason: missing.why.to_string(),
    }));
    let cost = if stepped == 0 { "all emulated".to_owned() } else { format!("{stepped} single-stepped") };
    let note = format!("the page heap of {} is recorded at {attached} points, {cost}", plan.version);
    let all_ps = AllPs { entry: plan.entry.0, places: plan.all_ps.iter().map(|place| place.0).collect() };
    Ok(Attached { offsets: Some(offsets), all_ps, probes, note })
}

fn layout_of(offsets: &GoOffsets) -> HeapLayout {
    let mut layout = [0; heap_layout::COUNT];
    for (word, offset) in [
        (heap_layout::G_M, offsets.g_m),
        (heap_layout::G_GOID, offsets.g_goid),
        (heap_layout::M_CURG, offsets.m_curg),
        (heap_layout::M_P, offsets.m_p),
        (heap_layout::P_ID, offsets.p_id),
        (heap_layout::SPAN_START, offsets.span_start),
        (heap_layout::SPAN_PAGES, offsets.span_pages),
        (heap_layout::SPAN_CLASS, offsets.span_class),
    ] {
        if let Some(place) = layout.get_mut(word) {
            *place = u64::from(offset);
        }
    }
    layout
}

/// The verb of a record, and of a phase its number.
fn code_of(verb: Verb) -> (u8, u8) {
    let phase = |kind: ScanKind| {
        let number = PHASES.iter().position(|&phase| phase == kind).unwrap_or(PHASES.len());
        (record::HEAP_PHASE, number as u8)
    };
    match verb {
        Verb::Alloc => (record::HEAP_ALLOC, 0),
        Verb::Init => (record::HEAP_INIT, 0),
        Verb::Purpose => (record::HEAP_PURPOSE, 0),
        Verb::Free => (record::HEAP_FREE, 0),
        Verb::Scav => (record::HEAP_SCAV, 0),
        Verb::Grow => (record::HEAP_GROW, 0),
        Verb::GcStart => phase(ScanKind::GcStart),
        Verb::GcMarkTermination => phase(ScanKind::GcMarkTermination),
        Verb::GcMarkEnd => phase(ScanKind::GcMarkEnd),
        Verb::GcSweep => phase(ScanKind::GcSweep),
    }
}
