//! The kernel stores, and the only accessors to them.
//!
//! *Bounds.* Every map has a fixed size; where one is full, a counter of the map `CONTROL` says so.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use pagetrace_common::control::{
    COUNTER_WORDS, FRAMES_PER_ROW, HEAP_LAYOUTS as HEAP_LAYOUT_ROWS, KNOWN_ROWS, MAX_CPUS, MAX_EXACT_CPUS, call_count,
    heap_layout, tally, word,
};
use pagetrace_common::record::STACK_KINDS;

/// An address space that is wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Owner {
    pub number: u32,
    pub tgid: u32,
    /// Not 0: the recorder does not want it after all.
    pub muted: u64,
    /// The level last seen of each member, in pages.
    pub levels: [u64; 4],
}

/// What a thread of a wanted process is in the middle of.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// Address of the fault being handled; 0: none.
    pub fault_addr: u64,
    /// The `struct page` allocated for it, its order, and how many allocations the fault has made so far.
    pub frame_page: u64,
    pub frame_order: u64,
    pub allocations: u64,
    /// Not 0: the fault was taken in the thread's own code, not in the kernel on its behalf.
    pub from_user: u64,
    /// Not 0: the fault is a write to a page that is there, which may be copied without any counter's change.
    pub copies: u64,
    /// When the memory call in progress was entered, which it is (number + 1), and the heap's end before it.
    pub call_began: u64,
    pub call: u64,
    pub call_brk: u64,
    /// When the reclaim in progress began; 0: none.
    pub reclaim_began: u64,
    /// What the pages are for that the page heap is about to hand out (type + 1, class << 8); 0: it did not tell.
    pub purpose: u64,
}

/// A wanted process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Process {
    /// Its present address space's number; 0: none yet (it is wanted from its next exec).
    pub owner: u64,
}

/// What was read once of a process's memory, and does not change. Whoever has the same row takes its place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Known {
    pub value: u64,
    /// Of the value and each word of its key.
    pub seals: [u64; 2],
}

/// What a thread's calls of allocators have in common, and the one whose return is awaited.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Caller {
    /// Not 0: a call's return is awaited.
    pub is_inside: u64,
    /// 1: the kernel has to run the program again when the function returns.
    pub wants_return: u64,
    /// Of that call: the stack pointer at its entry, the function's entry, call and library, arguments.
    pub sp: u64,
    pub function: u64,
    pub who: u64,
    pub size: u64,
    pub out: u64,
    /// Where it returns to.
    pub back: u64,
    /// The object that it takes back, and its bytes where they are known; 0: none that is recorded.
    pub old: u64,
    pub old_bytes: u64,
    pub flags: u64,
    /// The last call that hands on to another function: call and library + 1, 0: none; stack pointer, return address,
    /// its function's entry, and where the code of the function lies to which it came so far.
    pub outer: u64,
    pub outer_sp: u64,
    pub outer_back: u64,
    pub outer_first: u64,
    pub outer_start: u64,
    pub outer_end: u64,
}

/// The outer map of the rings, one a CPU; the template's size does not bind the real ones.
#[btf_map]
pub static RINGS: ArrayOfMaps<RingBuf<u64, { 256 * 1024 }>, { MAX_CPUS as usize }> = ArrayOfMaps::new();

#[btf_map]
pub static CONTROL: Array<[u64; word::COUNT], 1> = Array::new();

#[btf_map]
pub static TALLIES: Array<[u64; tally::COUNT], 1> = Array::new();

#[btf_map]
pub static COUNTERS: Array<[u64; COUNTER_WORDS], { MAX_CPUS as usize }> = Array::new();

/// By `mm_struct` address.
#[btf_map]
pub static OWNERS: HashMap<u64, Owner, 32768> = HashMap::new();

/// By tid.
#[btf_map]
pub static THREADS: HashMap<u32, Thread, 65536> = HashMap::new();

/// By tgid.
#[btf_map]
pub static PROCESSES: HashMap<u32, Process, 65536> = HashMap::new();

/// By tid; only what calls of allocators need.
#[btf_map]
pub static CALLERS: HashMap<u32, Caller, 65536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// By tgid: how stacks are told ([`pagetrace_common::control::stack_way`]).
#[btf_map]
pub static WAYS: HashMap<u32, u32, 65536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// The earliest time of a CPU's next stack of each kind: what is rare has its turn beside what is frequent.
#[btf_map]
pub static STACK_TIMES: Array<u64, { (MAX_CPUS * STACK_KINDS) as usize }> = Array::new();

/// By tgid: the owner number of the program in which returns of functions may be taken over; 0: of the next one seen.
#[btf_map]
pub static RETURNS: HashMap<u32, u32, 65536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Bytes by owner number and address: the sampled objects that live. The recorder sets the number of rows.
#[btf_map]
pub static LIVE: HashMap<[u64; 2], u64, 1, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// By owner number and call and library. The recorder sets the number of rows, and removes them.
#[btf_map]
pub static CALLS: HashMap<[u32; 2], [u64; call_count::COUNT], 1, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Owner number by frame, [`FRAMES_PER_ROW`] frames a row; the recorder sets the number of rows, and maps it to note
/// the frames of a reading.
#[btf_map]
pub static FRAMES: Array<[u32; FRAMES_PER_ROW as usize], 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Where fields lie in the Go runtimes that are traced, one version a row; the cookie of an attach point names it.
#[btf_map]
pub static HEAP_LAYOUTS: Array<[u64; heap_layout::COUNT], { HEAP_LAYOUT_ROWS as usize }> = Array::new();

/// The `m` of a thread; by its tid.
#[btf_map]
pub static KNOWN_MS: Array<Known, { KNOWN_ROWS as usize }> = Array::new();

/// The number of a P; by its address and the owner's number.
#[btf_map]
pub static KNOWN_PS: Array<Known, { KNOWN_ROWS as usize }> = Array::new();

/// What to add to a per-CPU pointer to reach each CPU's copy.
#[btf_map]
pub static CPU_OFFSETS: Array<[u64; MAX_EXACT_CPUS as usize], 1> = Array::new();

/// A per-CPU map whose addresses give the offsets of the CPUs.
#[btf_map]
pub static CPU_PROBE: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Adds to a word and gives what it was: one instruction, whole to interrupts and other CPUs. (The precompiled
/// core library has no atomics for this target.)
///
/// # Safety
/// `at` is an aligned word of a map's value.
#[inline(always)]
pub unsafe fn fetch_add(at: *mut u64, value: u64) -> u64 {
    let mut word = value;
    // SAFETY: the caller's promise.
    unsafe { asm!("{w} = atomic_fetch_add((u64 *)({p} + 0), {w})", w = inout(reg) word, p = in(reg) at) };
    word
}

/// Adds to a word, like [`fetch_add`], where nobody asks what it was.
///
/// # Safety
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn add(at: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {w}", w = in(reg) value, p = in(reg) at) };
}

/// A word of the control row.
#[inline(always)]
pub fn control(index: usize) -> u64 {
    match CONTROL.get_ptr(0) {
        // SAFETY: the pointer is to the map's only row, and `index` is a constant below its length.
        Some(row) => unsafe { core::ptr::read_volatile(row.cast::<u64>().add(index)) },
        None => 0,
    }
}

/// Adds one to a tally and gives what it is then.
#[inline(always)]
pub fn tally_add(index: usize) -> u64 {
    match TALLIES.get_ptr_mut(0) {
        // SAFETY: as in `control`; tallies are only ever added to, whole.
        Some(row) => unsafe { fetch_add(row.cast::<u64>().add(index), 1) + 1 },
        None => 0,
    }
}

/// The owner noted for a frame, as a place to read and write; `None` beyond the table.
#[inline(always)]
pub fn frame_slot(pfn: u64) -> Option<*mut u32> {
    let row = FRAMES.get_ptr_mut((pfn / FRAMES_PER_ROW as u64) as u32)?;
    // SAFETY: the index is below the row's length.
    Some(unsafe { row.cast::<u32>().add((pfn % FRAMES_PER_ROW as u64) as usize) })
}
