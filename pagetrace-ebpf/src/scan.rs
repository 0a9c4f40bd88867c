//! Looks of the kernel at pages: collapse into huge pages, reclaim, migration, the OOM killer's choice.
//!
//! *In whose context.* Collapse: khugepaged's or an adviser's. Reclaim and migration: the thread that has to do
//! it. The victim is named by whoever runs out of memory.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use pagetrace_common::{control::LAYER_PAGE, record};

use crate::{emit::Hook, layout, owner, task};

/// `huge_memory:mm_collapse_huge_page(struct mm_struct *, int isolated, int status)`.
#[raw_tracepoint(tracepoint = "mm_collapse_huge_page")]
pub fn pt_collapse(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    emit(hook, ctx.arg(0), record::SCAN_COLLAPSE, ctx.arg::<u64>(2) & 0xffff_ffff, 0);
}

/// `huge_memory:mm_khugepaged_scan_pmd(struct mm_struct *, ..., int status, int unmapped)`; 6.18 dropped an argument.
#[raw_tracepoint(tracepoint = "mm_khugepaged_scan_pmd")]
pub fn pt_khugepaged(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let args = ctx.as_ptr().cast::<u64>();
    // SAFETY: the tracepoint has at least six arguments. Both are read: the verifier wants offsets it can see.
    let (fifth, sixth) = unsafe { (args.add(4).read_volatile(), args.add(5).read_volatile()) };
    let status = if layout::KHUGEPAGED_STATUS_ARG.load() == 4 { fifth } else { sixth };
    emit(hook, ctx.arg(0), record::SCAN_KHUGEPAGED, status & 0xffff_ffff, 0);
}

#[raw_tracepoint(tracepoint = "mm_vmscan_direct_reclaim_begin")]
pub fn pt_reclaim_begin(_ctx: RawTracePointContext) {
    begin();
}

#[raw_tracepoint(tracepoint = "mm_vmscan_memcg_reclaim_begin")]
pub fn pt_memcg_reclaim_begin(_ctx: RawTracePointContext) {
    begin();
}

/// `vmscan:mm_vmscan_direct_reclaim_end(unsigned long nr_reclaimed)`.
#[raw_tracepoint(tracepoint = "mm_vmscan_direct_reclaim_end")]
pub fn pt_reclaim_end(ctx: RawTracePointContext) {
    end(ctx.arg(0), record::SCAN_DIRECT_RECLAIM);
}

/// `vmscan:mm_vmscan_memcg_reclaim_end(unsigned long nr_reclaimed)`.
#[raw_tracepoint(tracepoint = "mm_vmscan_memcg_reclaim_end")]
pub fn pt_memcg_reclaim_end(ctx: RawTracePointContext) {
    end(ctx.arg(0), record::SCAN_MEMCG_RECLAIM);
}

/// `migrate:mm_migrate_pages(unsigned long succeeded, unsigned long failed, ...)`.
#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
pub fn pt_migrate(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    emit(hook, task::current_mm(), record::SCAN_MIGRATE, ctx.arg(0), 0);
}

/// `oom:mark_victim(struct task_struct *, uid_t)` since 6.8.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn pt_oom(ctx: RawTracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    emit(hook, task::mm(ctx.arg(0)), record::SCAN_OOM_VICTIM, 0, 0);
}

/// The beginning is half of the event that the end emits, and is not counted.
#[inline(always)]
fn begin() {
    if Hook::enter().is_none() || owner::find(task::current_mm()).is_none() {
        return;
    }
    if let Some(thread) = owner::thread(bpf_get_current_pid_tgid() as u32) {
        // SAFETY: the helper has no conditions.
        thread.reclaim_began = unsafe { bpf_ktime_get_ns() };
    }
}

#[inline(always)]
fn end(reclaimed: u64, kind: u8) {
    let Some(hook) = Hook::enter() else { return };
    let mut began = 0;
    if let Some(thread) = owner::thread_if_any(bpf_get_current_pid_tgid() as u32) {
        began = thread.reclaim_began;
        thread.reclaim_began = 0;
    }
    emit(hook, task::current_mm(), kind, reclaimed, began);
}

#[inline(always)]
fn emit(hook: Hook, mm: u64, kind: u8, value: u64, began: u64) {
    let Some(owner) = owner::find(mm) else { return hook.filter(LAYER_PAGE) };
    let mut flags = kind;
    let mut comm = [0; 2];
    if task::current_mm() != mm {
        flags |= record::FLAG_OTHER;
        comm = task::current_comm();
    }
    hook.emit(record::SCAN, flags, owner.number, [value, began, comm[0], comm[1]]);
}
