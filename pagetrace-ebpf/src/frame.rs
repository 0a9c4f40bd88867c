//! Frames: `kmem:mm_page_alloc(struct page *, unsigned int order, gfp_t, int)` in the context that allocates, and
//! `kmem:mm_page_free(struct page *, unsigned int order)` in anyone's.
//!
//! An allocation is only noted, for the change of a counter that completes it (`rss`): it counts as filtered. A copy on
//! write of an anonymous page changes no counter: its frame is told at the thread's next fault, memory call or end.
//! A freed frame is joined to its owner by the table `FRAMES`. One that goes back in the fault that allocated it was not
//! for that fault: where a page of a file is locked, the kernel gives up and faults once more.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use pagetrace_common::{
    control::{FRAMES_PER_ROW, LAYER_PAGE, NOBODY_YET, tally, word},
    record,
};

use crate::{
    emit::Hook,
    maps::{Thread, control, frame_slot, tally_add},
    owner, task,
};

/// Bytes of the kernel's `struct page`; the recorder refuses a kernel where it differs.
const PAGE_STRUCT_BYTES: u64 = 64;
const MEMBER_ANON: u64 = 1;
/// `___GFP_MOVABLE`: pages of users and of the page cache; page tables and slabs lack it.
const GFP_MOVABLE: u64 = 0x08;
/// `___GFP_WRITE`, `___GFP_NOWARN`, `___GFP_NORETRY`: the page cache's writes and read-ahead, never an anonymous page.
const GFP_CACHE: u64 = 0x1000 | GFP_READ_AHEAD;
/// `___GFP_NOWARN` and `___GFP_NORETRY` together.
const GFP_READ_AHEAD: u64 = 0x2000 | 0x1_0000;
/// `___GFP_NOMEMALLOC`: a part of `GFP_TRANSHUGE_LIGHT`.
const GFP_NOMEMALLOC: u64 = 0x8_0000;

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub fn pt_page_alloc(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let page: u64 = ctx.arg(0);
    let (order, gfp) = (ctx.arg::<u64>(1) & 15, ctx.arg::<u64>(2));
    // Read-ahead in the middle of a fault is not what the fault was given. (Huge anonymous pages may have its flags, but
    // with one more.)
    let is_read_ahead = gfp & (GFP_READ_AHEAD | GFP_NOMEMALLOC) == GFP_READ_AHEAD;
    if page != 0 && gfp & GFP_MOVABLE != 0 && !is_read_ahead {
        // A thread that faulted from its own code is in that fault while the kernel holds an exception's registers.
        if let Some(thread) = owner::thread_if_any(bpf_get_current_pid_tgid() as u32)
            && (thread.from_user == 0 || task::is_in_exception())
        {
            thread.frame_page = page;
            thread.frame_order = order;
            thread.allocations += 1;
            if let Some(slot) = frame_slot(number_of(page)) {
                // SAFETY: a place in the map's row; the frame is the thread's alone until it is mapped.
                unsafe { *slot = NOBODY_YET };
            }
            if gfp & GFP_CACHE != 0 {
                thread.copies = 0;
            }
        }
    }
    hook.filter(LAYER_PAGE);
}

#[raw_tracepoint(tracepoint = "mm_page_free")]
pub fn pt_page_free(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let page: u64 = ctx.arg(0);
    let pfn = number_of(page);
    let Some(slot) = frame_slot(pfn) else { return hook.filter(LAYER_PAGE) };
    // SAFETY: a place in the map's row; a frame is freed once, by one CPU.
    let number = unsafe { *slot };
    if number == 0 {
        return hook.filter(LAYER_PAGE);
    }
    if number == NOBODY_YET {
        // SAFETY: as above.
        unsafe { *slot = 0 };
        if let Some(thread) = owner::thread_if_any(bpf_get_current_pid_tgid() as u32)
            && thread.allocations == 1
            && thread.frame_page == page
        {
            thread.allocations = 0;
        }
        return hook.filter(LAYER_PAGE);
    }
    let order = ctx.arg::<u64>(1) & 15;
    note(slot, pfn, order, 0);
    hook.emit(record::FREE, order as u8, number, [pfn]);
}

/// Tells the frame that was allocated for the fault of a thread; the fault is over.
#[inline(always)]
pub fn emit(hook: Hook, thread: &mut Thread, owner: u32, member: u64, level: u64) {
    let order = thread.frame_order & 15;
    let pfn = number_of(thread.frame_page);
    let addr = thread.fault_addr & !((4096 << order) - 1);
    thread.fault_addr = 0;
    thread.allocations = 0;
    thread.copies = 0;
    match frame_slot(pfn) {
        Some(slot) => note(slot, pfn, order, owner),
        None => {
            tally_add(tally::FRAMES_BEYOND);
        }
    }
    hook.emit(record::FRAME, (order | member << 4) as u8, owner, [addr, pfn, level]);
}

/// Tells the frame of a copy on write that no counter told, if the thread has one.
#[inline(always)]
pub fn emit_copy(hook: Hook, thread: &mut Thread, owner: u32, levels: &[u64; 4]) {
    if thread.copies != 0 && thread.allocations == 1 && thread.fault_addr != 0 {
        emit(hook, thread, owner, MEMBER_ANON, levels[MEMBER_ANON as usize]);
    }
}

/// Notes the owner of a frame's base pages. A frame never spans two rows: a row holds the largest there is.
#[inline(always)]
fn note(slot: *mut u32, pfn: u64, order: u64, owner: u32) {
    // SAFETY: a place in the map's row.
    unsafe { *slot = owner };
    if order == 0 {
        return;
    }
    for index in 1..FRAMES_PER_ROW as u64 {
        if index >> order != 0 {
            break;
        }
        if let Some(slot) = frame_slot(pfn + index) {
            // SAFETY: as above.
            unsafe { *slot = owner };
        }
    }
}

/// The number of a frame, from the address of its `struct page`.
#[inline(always)]
fn number_of(page: u64) -> u64 {
    (page - control(word::VMEMMAP)) / PAGE_STRUCT_BYTES
}
