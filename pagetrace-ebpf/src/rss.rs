//! RSS levels: `kmem:rss_stat(struct mm_struct *mm, int member)`, in the context of whoever changes the counter.
//!
//! The change that a frame just allocated for a fault of the same thread makes becomes one record with that frame's
//! address and number. Which change that is, the thread's own state tells; levels cannot, because other threads change
//! them between two looks.
//! *Source.* `struct percpu_counter` since 6.2: `count` plus every CPU's part, added up here for exact levels.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use pagetrace_common::{
    control::{LAYER_PAGE, MAX_EXACT_CPUS},
    record,
};

use crate::{emit::Hook, frame, layout, maps::CPU_OFFSETS, owner, task};

const MEMBER_FILE: u64 = 0;
const MEMBER_SWAP: u64 = 2;

#[raw_tracepoint(tracepoint = "rss_stat")]
pub fn pt_rss_stat(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let mm: u64 = ctx.arg(0);
    let Some(owner) = owner::find(mm) else { return hook.filter(LAYER_PAGE) };
    let member = ctx.arg::<u64>(1) & 3;
    let level = level(mm, member);
    // SAFETY: `member` is below the array's length.
    let last = unsafe { owner.levels.as_mut_ptr().add(member as usize) };
    // SAFETY: as above.
    unsafe { *last = level };
    if task::current_mm() != mm {
        let comm = task::current_comm();
        hook.emit(record::RSS_BY_OTHER, member as u8 | record::FLAG_OTHER, owner.number, [level, comm[0], comm[1]]);
        return;
    }
    if member != MEMBER_SWAP {
        if let Some(thread) = owner::thread_if_any(bpf_get_current_pid_tgid() as u32) {
            if member == MEMBER_FILE {
                // What was allocated is a page of the cache, and the counter rose by all that were mapped around it;
                // but where a file's page is copied on write, it fell by that page, and the copy is still to be counted.
                if thread.copies == 0 {
                    thread.allocations = 0;
                }
            } else if thread.allocations == 1 && thread.fault_addr != 0 {
                return frame::emit(hook, thread, owner.number, member, level);
            }
        }
    }
    hook.emit(record::RSS, member as u8, owner.number, [level]);
}

/// The level of a counter in pages; negative ones, which the kernel may hold for a moment, as 0.
#[inline(always)]
fn level(mm: u64, member: u64) -> u64 {
    let counter = mm + layout::MM_RSS_STAT.load() + member * layout::COUNTER_BYTES.load();
    let mut sum: i64 = task::read(counter + layout::COUNTER_COUNT.load());
    let parts: u64 = task::read(counter + layout::COUNTER_COUNTERS.load());
    let cpus = layout::EXACT_CPUS.load();
    if let Some(offsets) = CPU_OFFSETS.get(0) {
        for cpu in 0..MAX_EXACT_CPUS as usize {
            if cpu as u64 >= cpus {
                break;
            }
            sum += i64::from(task::read::<i32>(parts + offsets[cpu]));
        }
    }
    if sum < 0 { 0 } else { sum as u64 }
}

/// Emits the level of every member of an address space that just came into view.
#[inline(always)]
pub fn emit_all(hook: Hook, acting: u64, number: u32, mm: u64) {
    for member in 0..4u64 {
        let level = level(mm, member);
        if let Some(owner) = owner::find(mm) {
            // SAFETY: `member` is below the array's length.
            unsafe { *owner.levels.as_mut_ptr().add(member as usize) = level };
        }
        hook.emit_as(acting, record::RSS, member as u8, number, [level]);
    }
}
