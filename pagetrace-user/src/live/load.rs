//! The eBPF object in the kernel: its maps, rings, programs and attach points.
//!
//! *Invariant.* Programs return at once until [`Kernel::set`] turns `word::ON` on. Dropping a [`Kernel`] detaches
//! everything; maps and programs go with it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, RingBuf};
use aya::programs::Iter;
use aya::{Btf, Ebpf, EbpfLoader};
use aya_obj::btf::{BtfType, Func, FuncLinkage};
use pagetrace_common::control::{COUNTER_WORDS, FRAMES_PER_ROW, MAX_EXACT_CPUS, heap_layout, stack_way, tally, word};
use pagetrace_common::record::PADDED_WORDS;

use crate::event::Probe;
use crate::failure::{Code, Failure};
use crate::live::attach::AttachPoints;
use crate::live::frames::FrameTable;
use crate::live::layout::Layout;
use crate::live::uprobe::{MapFds, Program, UprobeSet};
use crate::units::Pid;

mod heaps;
mod host;
mod objects;

use host::{frames_spanned, online_cpus, possible_cpus};
pub use objects::ObjectPoint;
use objects::{MOST_CALLS, MOST_LIVE, ObjectMaps};

/// The program that runs at faults of the kernel on user addresses. In itself only its own look at a stack can take one,
/// where memory is not there: a skip of it hides nothing.
const LOOKS: &str = "pt_fault_kernel";
const WALK: &str = "pt_walk";
/// What the uprobes' programs are called together.
const UPROBES: &str = "uprobes";

/// Bytes of a record of frames' owners that the kernel is asked for at most: 256 GiB of memory.
const MAX_FRAMES: u64 = 256 << 30 >> 12;
/// `struct page`, on every kernel this runs on.
const PAGE_STRUCT_BYTES: u64 = 64;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;
/// `BPF_EXIST`: change only what is there.
const BPF_EXIST: u64 = 2;
/// `BPF_RB_NO_WAKEUP`: the reader looks by itself.
const NO_WAKEUP: u64 = 1;

/// An address space as the kernel's map has it (the programs' `Owner`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OwnerRow {
    pub number: u32,
    pub tgid: u32,
    pub muted: u64,
    pub levels: [u64; 4],
}

// SAFETY: integers without padding: any bytes are a value.
unsafe impl aya::Pod for OwnerRow {}

/// A row of the map `HEAP_LAYOUTS`.
pub type HeapLayout = [u64; heap_layout::COUNT];

/// One ring buffer.
pub type Ring = RingBuf<MapData>;

type OuterMap = ArrayOfMaps<MapData, Ring>;

/// What is loaded.
pub struct Kernel {
    /// Dropped first, which detaches everything.
    attached: AttachPoints,
    uprobes: Vec<UprobeSet>,
    ebpf: Ebpf,
    control: Array<MapData, [u64; word::COUNT]>,
    tallies: Array<MapData, [u64; tally::COUNT]>,
    counters: Array<MapData, [u64; COUNTER_WORDS]>,
    owners: HashMap<MapData, u64, OwnerRow>,
    processes: HashMap<MapData, u32, u64>,
    pub frames: FrameTable,
    heap_layouts: Array<MapData, HeapLayout>,
    /// The rows that are set.
    layouts_known: Vec<HeapLayout>,
    /// The program on tcmalloc's points, made of the object when it is first needed.
    tcmalloc: Option<Program>,
    maps: MapFds,
    objects: ObjectMaps,
    /// By tgid, how stacks are told.
    ways: HashMap<MapData, u32, u32>,
    pub frames_of_host: u64,
    words: [u64; word::COUNT],
    tallies_before: [u64; tally::COUNT],
    pub cpus: u32,
    /// Levels are exact, not the kernel's approximate ones.
    pub exact: bool,
}

/// What the load needs to know.
pub struct LoadOptions {
    pub ring_bytes: u32,
    pub one_ring: bool,
    pub wake_ups: bool,
    pub padded: bool,
    /// Bytes between two samples of objects, 0 for every one; `None`: they are not recorded.
    pub object_period: Option<u64>,
}

impl Kernel {
    /// Loads everything and attaches it, quiet.
    ///
    /// *Errors.* Exit code 4 where a privilege is missing, 5 where the kernel lacks something that recording rests on.
    pub fn load(layout: &Layout, options: &LoadOptions) -> Result<(Kernel, Vec<Ring>), Failure> {
        if layout.get("PAGE_BYTES") != Some(&PAGE_STRUCT_BYTES) {
            return Err(Failure::new(
                Code::Kernel,
                "cannot join frames to their owners",
                format!("the kernel's struct page is not {PAGE_STRUCT_BYTES} bytes long"),
                "use a kernel without debugging options for pages",
            ));
        }
        let cpus = possible_cpus()?;
        let frames_of_host = frames_spanned();
        let frame_limit = frames_of_host.min(MAX_FRAMES);
        let rows = u32::try_from(frame_limit.div_ceil(u64::from(FRAMES_PER_ROW))).unwrap_or(u32::MAX);
        let online = online_cpus()?;
        let highest = online.iter().max().map_or(cpus, |cpu| cpu + 1);
        // Parts of CPUs that are not online were added to the whole when they went.
        let exact = if highest <= MAX_EXACT_CPUS { u64::from(highest) } else { 0 };

        let mut loader = EbpfLoader::new();
        loader.btf(None).map_max_entries("FRAMES", rows);
        if let Some(period) = options.object_period {
            let live = if period == 0 { 1 } else { MOST_LIVE };
            loader.map_max_entries("CALLS", MOST_CALLS).map_max_entries("LIVE", live);
        }
        for (name, value) in layout {
            loader.override_global(name.as_str(), value, false);
        }
        loader.override_global("EXACT_CPUS", &exact, true);
        let submit_flags = if options.wake_ups { 0 } else { NO_WAKEUP };
        loader.override_global("SUBMIT_FLAGS", &submit_flags, true);
        let least_words: u64 = if options.padded { PADDED_WORDS as u64 } else { 0 };
        loader.override_global("LEAST_WORDS", &least_words, true);
        let mut ebpf = loader.load(object()).map_err(|error| failed("load the eBPF object", &error))?;
        let maps = MapFds::of(&ebpf).map_err(|error| failed("keep the maps", &error))?;
        let types = walk_types(layout.get("WALK_TYPE").copied().unwrap_or(0));
        let walk: &mut Iter = program(&mut ebpf, WALK)?;
        walk.load("task", &types).map_err(|error| failed("load the walk over tasks", &error))?;
        drop(types);
        // The outer map's descriptor must live until every program is loaded.
        let (_outer, rings) = make_rings(&mut ebpf, cpus, &online, options)?;

        let attached = AttachPoints::all(&mut ebpf)?;
        let Some(Map::Array(frames)) = ebpf.take_map("FRAMES") else {
            return Err(failed("find the map", "FRAMES"));
        };
        let kernel = Kernel {
            attached,
            uprobes: Vec::new(),
            control: take(&mut ebpf, "CONTROL")?,
            tallies: take(&mut ebpf, "TALLIES")?,
            counters: take(&mut ebpf, "COUNTERS")?,
            owners: take(&mut ebpf, "OWNERS")?,
            processes: take(&mut ebpf, "PROCESSES")?,
            frames: FrameTable::new(frames, u64::from(rows) * u64::from(FRAMES_PER_ROW)),
            heap_layouts: take(&mut ebpf, "HEAP_LAYOUTS")?,
            layouts_known: Vec::new(),
            tcmalloc: None,
            objects: ObjectMaps {
                calls: take(&mut ebpf, "CALLS")?,
                live: take(&mut ebpf, "LIVE")?,
                returns: take(&mut ebpf, "RETURNS")?,
                program: None,
            },
            ways: take(&mut ebpf, "WAYS")?,
            maps,
            frames_of_host,
            words: [0; word::COUNT],
            tallies_before: [0; tally::COUNT],
            ebpf,
            cpus,
            exact: exact > 0,
        };
        Ok((kernel, rings))
    }

    /// The attach points, and why some are missing.
    #[must_use]
    pub fn probes(&self) -> &[Probe] {
        self.attached.probes()
    }

    /// Sets a word of the control row.
    pub fn set(&mut self, index: usize, value: u64) -> Result<(), Failure> {
        if let Some(word) = self.words.get_mut(index) {
            *word = value;
        }
        self.control.set(0, self.words, 0).map_err(|error| failed("steer the programs", &error))
    }

    /// A tally that programs keep.
    pub fn tally(&self, index: usize) -> u64 {
        let now = self.tallies.get(&0, 0).ok().and_then(|row| row.get(index).copied()).unwrap_or(0);
        now.saturating_sub(self.tallies_before.get(index).copied().unwrap_or(0))
    }

    /// The counters of one CPU.
    pub fn counters(&self, cpu: u32) -> [u64; COUNTER_WORDS] {
        self.counters.get(&cpu, 0).unwrap_or([0; COUNTER_WORDS])
    }

    /// Wants this process: its address space at the next walk, or the one of its next exec.
    pub fn want(&mut self, pid: Pid) -> Result<(), Failure> {
        self.processes.insert(pid.0, 0, 0).map_err(|error| failed("choose the process", &error))
    }

    /// Chooses how stacks of a process's threads are told: its program's code keeps frame pointers, or may not.
    pub fn has_frame_pointers(&mut self, pid: Pid, has: bool) {
        // Without a row stacks are copied, which does for all.
        let _ = if has { self.ways.insert(pid.0, stack_way::FRAME_POINTERS, 0) } else { self.ways.remove(&pid.0) };
    }

    /// Does not want this address space after all: its events are filtered in the kernel from now on.
    pub fn mute(&mut self, mm: u64, owner: u32) {
        // The kernel gives the address to another soon: the number tells whether it still is the one meant.
        if let Ok(row) = self.owners.get(&mm, 0)
            && row.number == owner
        {
            // The address space may have gone meanwhile: then there is nothing to mute.
            let _ = self.owners.insert(mm, OwnerRow { muted: 1, ..row }, BPF_EXIST);
        }
    }

    /// Forgets every process and address space: the programs want nothing any more. Tallies begin anew.
    pub fn forget_all(&mut self) -> Result<(), Failure> {
        let owners: Vec<u64> = self.owners.keys().filter_map(Result::ok).collect();
        for mm in owners {
            // What is gone already needs no removal.
            let _ = self.owners.remove(&mm);
        }
        let processes: Vec<u32> = self.processes.keys().filter_map(Result::ok).collect();
        for tgid in processes {
            let _ = self.processes.remove(&tgid);
        }
        self.tallies_before = self.tallies.get(&0, 0).map_err(|error| failed("read the tallies", &error))?;
        Ok(())
    }

    /// Walks over all tasks once: wanted ones that are not known come into view.
    pub fn walk(&mut self) -> Result<(), Failure> {
        let walk: &mut Iter = program(&mut self.ebpf, WALK)?;
        let link = walk.attach().map_err(|error| failed("walk over the tasks", &error))?;
        let link = walk.take_link(link).map_err(|error| failed("walk over the tasks", &error))?;
        let mut file = link.into_file().map_err(|error| failed("walk over the tasks", &error))?;
        io::copy(&mut file, &mut io::sink()).map_err(|error| failed("walk over the tasks", &error))?;
        Ok(())
    }

    /// Runs that the kernel skipped because the program was already running on the CPU: by program, not zero.
    ///
    /// *Source.* `recursion_misses` in /proc/self/fdinfo (5.12).
    pub fn recursion_misses(&self) -> Vec<(String, u64)> {
        let mut misses: Vec<(String, u64)> = self
            .ebpf
            .programs()
            .filter(|(name, _)| *name != LOOKS)
            .filter_map(|(name, program)| {
                let fd = program.fd().ok()?.as_fd().as_raw_fd();
                let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
                let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
                let count = line.trim().parse().ok()?;
                (count > 0).then(|| (name.to_owned(), count))
            })
            .collect();
        let first_of_program =
            |(at, set): &(usize, &UprobeSet)| !self.uprobes.iter().take(*at).any(|earlier| earlier.shares_program(set));
        let sets = self.uprobes.iter().enumerate().filter(first_of_program);
        let uprobes: u64 = sets.map(|(_, set)| set.recursion_misses()).sum();
        misses.extend((uprobes > 0).then(|| (UPROBES.to_owned(), uprobes)));
        misses.sort();
        misses
    }
}

/// The eBPF object.
fn object() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pagetrace-ebpf"))
}

/// A list of types in which only the walk's has its true place: what aya asks of it is that number. The kernel's own
/// list would take 20 MB here; a child process has read it ([`crate::live::layout`]).
fn walk_types(id: u64) -> Btf {
    let mut types = Btf::new();
    let name = types.add_string("bpf_iter_task");
    // The new list has its number 0, like every other.
    for _ in 1..id {
        types.add_type(BtfType::Unknown);
    }
    types.add_type(BtfType::Func(Func::new(name, 0, FuncLinkage::Global)));
    types
}

/// The rings, set into the outer map before any program can run.
fn make_rings(
    ebpf: &mut Ebpf,
    cpus: u32,
    online: &[u32],
    options: &LoadOptions,
) -> Result<(OuterMap, Vec<Ring>), Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(
            Code::Failed,
            "cannot make the ring buffers",
            error.to_string(),
            "choose a smaller --ring (the default is 8MiB for each CPU)",
        )
    };
    let mut outer: OuterMap = take(ebpf, "RINGS")?;
    let mut rings: Vec<Ring> = Vec::new();
    for cpu in 0..cpus {
        // CPUs that are not there have no ring of their own; should one come, it shares the last.
        if rings.is_empty() || (!options.one_ring && online.contains(&cpu)) {
            let parameters = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF, 0, 0, options.ring_bytes, 0);
            let data = MapData::create(parameters, "pt_ring", None).map_err(|error| wrong(&error))?;
            let map = Map::from_map_data(data).map_err(|error| wrong(&error))?;
            rings.push(map.try_into().map_err(|error: aya::maps::MapError| wrong(&error))?);
        }
        if let Some(ring) = rings.last() {
            outer.set(cpu, ring, 0).map_err(|error| wrong(&error))?;
        }
    }
    Ok((outer, rings))
}

/// A program of the object, by name.
pub fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Failure>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let found = ebpf.program_mut(name).ok_or_else(|| failed("find the program", &name))?;
    found.try_into().map_err(|error| failed("use the program", &error))
}

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Failure>
where
    M: TryFrom<Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| failed("find the map", &name))?;
    map.try_into().map_err(|error| failed("use the map", &error))
}

/// An error of the kernel as a failure: what it means depends on the system's own error number.
pub fn failed(act: &str, error: &(impl std::fmt::Display + ?Sized)) -> Failure {
    let why = error.to_string();
    Failure::new(
        Code::Kernel,
        format!("cannot {act}"),
        why,
        "run `pagetrace-user doctor`: it tells what this host lacks and what mends it",
    )
}
