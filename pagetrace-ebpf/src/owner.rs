//! Ownership is by address space, never by who was running.
//!
//! *Invariant.* The record [`record::INTRO`] of an owner is in a ring before any other record of it, and has an
//! earlier time.

use aya_ebpf::bindings::BPF_NOEXIST;
use pagetrace_common::{
    control::{LAYER_TASK, tally, word},
    record,
};

use crate::{
    emit::Hook,
    image, layout,
    maps::{OWNERS, Owner, PROCESSES, Process, THREADS, Thread, control, tally_add},
    rss, task,
};

/// The owner of an address space; `None`: not wanted.
#[inline(always)]
pub fn find(mm: u64) -> Option<&'static mut Owner> {
    if mm == 0 {
        return None;
    }
    let owner = OWNERS.get_ptr_mut(mm)?;
    // SAFETY: the pointer is to a value of a preallocated map: it stays readable, though it may be reused.
    let owner = unsafe { &mut *owner };
    if owner.muted != 0 { None } else { Some(owner) }
}

/// Whether new address spaces of this process are wanted for their own sake.
#[inline(always)]
pub fn is_wanted(tgid: u32) -> bool {
    (control(word::ALL) != 0 && u64::from(tgid) != control(word::OWN_TGID)) || PROCESSES.get_ptr(tgid).is_some()
}

/// Brings the address space `mm` of the process led by `leader` into view.
#[inline(always)]
pub fn introduce(hook: Hook, leader: u64, mm: u64, how: u8) {
    let tgid = task::tgid(leader);
    let start: u64 = task::read(leader + layout::TASK_START_BOOTTIME.load());
    let parent: u64 = task::read(leader + layout::TASK_REAL_PARENT.load());
    let comm = task::comm(leader);
    let number = tally_add(tally::OWNERS) as u32;
    let acting = u64::from(tgid) << 32 | u64::from(tgid);
    let payload = [mm, start, u64::from(task::tgid(parent)), comm[0], comm[1], 0, 0, 0];
    let told = if how == record::HOW_EXECUTED && layout::MM_TREE.load() != 0 {
        image::emit(hook, acting, number, payload)
    } else {
        hook.emit_as(acting, record::INTRO, how, number, payload)
    };
    if told.is_none() {
        return;
    }
    let owner = Owner { number, tgid, muted: 0, levels: [0; 4] };
    if OWNERS.insert(mm, owner, BPF_NOEXIST.into()).is_err() {
        tally_add(tally::MAP_FULL);
        return;
    }
    if PROCESSES.insert(tgid, Process { owner: u64::from(number) }, 0).is_err() {
        tally_add(tally::MAP_FULL);
    }
    rss::emit_all(hook, acting, number, mm);
}

/// The state of a thread of a wanted process, made if absent.
#[inline(always)]
pub fn thread(tid: u32) -> Option<&'static mut Thread> {
    let found = match THREADS.get_ptr_mut(tid) {
        Some(found) => Some(found),
        None => {
            let empty = Thread {
                fault_addr: 0,
                frame_page: 0,
                frame_order: 0,
                allocations: 0,
                from_user: 0,
                copies: 0,
                call_began: 0,
                call: 0,
                call_brk: 0,
                reclaim_began: 0,
                purpose: 0,
            };
            if THREADS.insert(tid, empty, 0).is_err() {
                tally_add(tally::MAP_FULL);
            }
            THREADS.get_ptr_mut(tid)
        }
    };
    // SAFETY: as in `find`; only the thread itself uses its row.
    found.map(|at| unsafe { &mut *at })
}

/// The same, only if there is one.
#[inline(always)]
pub fn thread_if_any(tid: u32) -> Option<&'static mut Thread> {
    // SAFETY: as in `thread`.
    THREADS.get_ptr_mut(tid).map(|at| unsafe { &mut *at })
}

/// Ends a run that concerns nobody.
#[inline(always)]
pub fn not_wanted(hook: Hook) {
    hook.filter(LAYER_TASK);
}
