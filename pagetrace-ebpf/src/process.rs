//! Processes: fork, exec, exit, the end of an address space, and the walk over what already runs.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use core::ffi::c_void;
use pagetrace_common::{
    control::{KNOWN_ROWS, MAX_EXACT_CPUS, tally, word},
    record,
};

use crate::{
    emit::Hook,
    frame, layout,
    maps::{
        CALLERS, CPU_OFFSETS, CPU_PROBE, KNOWN_MS, Known, OWNERS, PROCESSES, Process, RETURNS, THREADS, control,
        tally_add,
    },
    owner, rss, task,
};

/// `SIGNAL_GROUP_EXIT` (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `sched:sched_process_fork(struct task_struct *parent, struct task_struct *child)`, in the parent, before the
/// child runs. Threads are filtered.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn pt_fork(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let parent: u64 = ctx.arg(0);
    let child: u64 = ctx.arg(1);
    let tgid = task::tgid(child);
    let mm = task::mm(child);
    if task::pid(child) != tgid || mm == 0 {
        return owner::not_wanted(hook);
    }
    let parent_mm = task::mm(parent);
    let mut wanted = control(word::ALL) != 0 && control(word::OWN_TGID) != u64::from(task::tgid(parent));
    let mut told = false;
    if let Some(owner) = owner::find(parent_mm) {
        let comm = task::comm(child);
        hook.emit(record::FORK, 0, owner.number, [u64::from(tgid), comm[0], comm[1]]);
        wanted |= control(word::FOLLOW) != 0;
        told = true;
    }
    if wanted {
        // A child that shares its parent's address space (vfork) is wanted from its exec on.
        if PROCESSES.insert(tgid, Process { owner: 0 }, 0).is_err() {
            tally_add(tally::MAP_FULL);
        }
        if mm != parent_mm {
            owner::introduce(hook, child, mm, record::HOW_FORKED);
            return inherit_returns(task::tgid(parent), parent_mm, tgid);
        }
    }
    if !told {
        owner::not_wanted(hook);
    }
}

/// A child runs what its parent runs: what holds for the returns of its functions does too, until it runs another program.
#[inline(always)]
fn inherit_returns(parent: u32, parent_mm: u64, child: u32) {
    let (Some(allowed), Some(owner)) = (RETURNS.get_ptr(parent), owner::find(parent_mm)) else { return };
    // SAFETY: an aligned word of a map's value.
    if unsafe { *allowed } != owner.number {
        return;
    }
    if let Some(process) = PROCESSES.get_ptr(child) {
        // SAFETY: a value of a preallocated map.
        let _ = RETURNS.insert(child, unsafe { (*process).owner } as u32, 0);
    }
}

/// `sched:sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *)`, in the task, after its
/// address space became the new one.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn pt_exec(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let task: u64 = ctx.arg(0);
    if !owner::is_wanted(task::tgid(task)) {
        return owner::not_wanted(hook);
    }
    owner::introduce(hook, task, task::mm(task), record::HOW_EXECUTED);
}

/// `sched:sched_process_exit(struct task_struct *p, ...)`, in the ending thread. Only a process's last one counts.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn pt_exit(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let tid = bpf_get_current_pid_tgid() as u32;
    if let (Some(thread), Some(owner)) = (owner::thread_if_any(tid), owner::find(task::current_mm())) {
        frame::emit_copy(hook, thread, owner.number, &owner.levels);
    }
    let _ = THREADS.remove(tid);
    let _ = CALLERS.remove(tid);
    if let Some(row) = KNOWN_MS.get_ptr_mut(tid % KNOWN_ROWS) {
        // SAFETY: a row of a map, of aligned words. The next thread of this number has another `m`.
        unsafe { core::ptr::write_volatile(row, Known { value: 0, seals: [0; 2] }) };
    }
    let task: u64 = ctx.arg(0);
    let signal: u64 = task::read(task + layout::TASK_SIGNAL.load());
    let live: u32 = task::read(signal + layout::SIGNAL_LIVE.load());
    let tgid = task::tgid(task);
    if live != 0 {
        return owner::not_wanted(hook);
    }
    let Some(process) = PROCESSES.get_ptr(tgid) else { return owner::not_wanted(hook) };
    let _ = RETURNS.remove(tgid);
    // SAFETY: a value of a preallocated map.
    let number = unsafe { (*process).owner } as u32;
    // Two threads that end at once may both find themselves the last.
    if PROCESSES.remove(tgid).is_err() || number == 0 {
        return owner::not_wanted(hook);
    }
    let flags: u32 = task::read(signal + layout::SIGNAL_FLAGS.load());
    let code: u32 = if flags & SIGNAL_GROUP_EXIT != 0 {
        task::read(signal + layout::SIGNAL_GROUP_EXIT_CODE.load())
    } else {
        task::read(task + layout::TASK_EXIT_CODE.load())
    };
    hook.emit(record::EXIT, 0, number, [u64::from(code)]);
}

/// `mmap:exit_mmap(struct mm_struct *)`, in whoever drops the last reference, after its pages were freed.
#[raw_tracepoint(tracepoint = "exit_mmap")]
pub fn pt_exit_mmap(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let mm: u64 = ctx.arg(0);
    let Some(owner) = owner::find(mm) else {
        let _ = OWNERS.remove(mm);
        return owner::not_wanted(hook);
    };
    let number = owner.number;
    let _ = OWNERS.remove(mm);
    hook.emit(record::MM_GONE, 0, number, []);
}

/// A walk over every task (`bpf_iter__task { meta, task }`), run by the recorder: introduces wanted address spaces
/// that are not known yet, tells the levels of those that are, and at its first step finds where each CPU's part of a per-CPU variable lies.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn pt_walk(ctx: *mut c_void) -> i32 {
    // SAFETY: the second word of the context is the task.
    let task = unsafe { *ctx.cast::<u64>().add(1) };
    if task == 0 {
        return 0;
    }
    find_cpu_offsets();
    let Some(hook) = Hook::enter() else { return 0 };
    let tgid = task::tgid(task);
    let mm = task::mm(task);
    // A process whose first thread has ended is met by another.
    let leader: u64 = task::read(task + layout::TASK_GROUP_LEADER.load());
    let stands_in = leader != task && task::mm(leader) == 0;
    if (leader != task && !stands_in) || mm == 0 || !owner::is_wanted(tgid) {
        owner::not_wanted(hook);
        return 0;
    }
    if let Some(owner) = owner::find(mm) {
        rss::emit_all(hook, u64::from(tgid) << 32 | u64::from(tgid), owner.number, mm);
        return 0;
    }
    if OWNERS.get_ptr(mm).is_some() {
        owner::not_wanted(hook);
        return 0;
    }
    owner::introduce(hook, leader, mm, record::HOW_RUNNING);
    0
}

/// A per-CPU map knows both a per-CPU pointer (in `struct bpf_array`) and the address that it has on a CPU.
#[inline(always)]
fn find_cpu_offsets() {
    let Some(row) = CPU_OFFSETS.get_ptr_mut(0) else { return };
    let row = row.cast::<u64>();
    // SAFETY: `row` has MAX_EXACT_CPUS words. Pointers pass through the map to become numbers to the verifier.
    unsafe {
        if core::ptr::read_volatile(row) != 0 {
            return;
        }
        let map = core::ptr::from_ref(&CPU_PROBE).cast_mut().cast::<c_void>();
        core::ptr::write_volatile(row, map as u64);
        let pointer: u64 = task::read(core::ptr::read_volatile(row) + layout::ARRAY_PPTRS.load());
        for cpu in 0..MAX_EXACT_CPUS as usize {
            if cpu as u64 >= layout::EXACT_CPUS.load() {
                break;
            }
            let at = aya_ebpf::helpers::generated::bpf_map_lookup_percpu_elem(
                map,
                core::ptr::from_ref(&0u32).cast::<c_void>().cast_mut(),
                cpu as u32,
            );
            if at.is_null() {
                break;
            }
            core::ptr::write_volatile(row.add(cpu), at as u64);
            let address = core::ptr::read_volatile(row.add(cpu));
            core::ptr::write_volatile(row.add(cpu), address - pointer);
        }
    }
}
