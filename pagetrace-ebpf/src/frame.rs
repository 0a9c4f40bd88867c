//! Frames: `kmem:mm_page_alloc(struct page *, unsigned int order, gfp_t, int)` in the context that allocates, and
//! `kmem:mm_page_free(struct page *, unsigned int order)` in anyone's.
//!
//! An allocation is only noted, for the change of a counter that completes it (`rss`): it counts as filtered.
//! A freed frame is joined to its owner by the table `FRAMES`.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use pagetrace_common::{
    control::{LAYER_PAGE, word},
    record,
};

use crate::{
    emit::Hook,
    maps::{control, frame_slot},
    owner,
};

/// `___GFP_MOVABLE`: pages of users and of the page cache; page tables and slabs lack it.
const GFP_MOVABLE: u64 = 0x08;

#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub fn pt_page_alloc(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let page: u64 = ctx.arg(0);
    if page != 0 && ctx.arg::<u64>(2) & GFP_MOVABLE != 0 {
        if let Some(thread) = owner::thread_if_any(bpf_get_current_pid_tgid() as u32) {
            thread.frame_page = page;
            thread.frame_order = ctx.arg::<u64>(1) & 15;
            thread.allocations += 1;
        }
    }
    hook.filter(LAYER_PAGE);
}

#[raw_tracepoint(tracepoint = "mm_page_free")]
pub fn pt_page_free(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let pfn = (ctx.arg::<u64>(0) - control(word::VMEMMAP)) / 64;
    let Some(slot) = frame_slot(pfn) else { return hook.filter(LAYER_PAGE) };
    // SAFETY: a place in the map's row; a frame is freed once, by one CPU.
    let number = unsafe { *slot };
    if number == 0 {
        return hook.filter(LAYER_PAGE);
    }
    // SAFETY: as above.
    unsafe { *slot = 0 };
    hook.emit(record::FREE, (ctx.arg::<u64>(1) & 15) as u8, number, [pfn]);
}
