//! Memory calls: one program on `syscalls:sys_enter_*` and one on `syscalls:sys_exit_*` of each call of the vma
//! layer, in the calling thread.
//!
//! *Layout* (include/trace/syscall.h, struct syscall_tp_t): `int nr` at 8; `long ret` at 16.
//! Arguments come from the thread's saved registers, which a call leaves as they were: so a call that was
//! already running at attach is whole, but for the time of its entry.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user, generated::bpf_task_pt_regs},
    macros::tracepoint,
    programs::TracePointContext,
};
use pagetrace_common::{control::LAYER_VMA, record};

use crate::{
    emit::Hook,
    frame, layout, owner, path,
    stack::{self, Place},
    task,
};

/// x86-64 numbers.
const NR_MMAP: u64 = 9;
const NR_BRK: u64 = 12;
const NR_SHMAT: u64 = 30;
const NR_PROCESS_MADVISE: u64 = 440;
const MAP_ANONYMOUS: u64 = 0x20;
/// Ranges of a `process_madvise` that are read.
const MAX_RANGES: u64 = 64;

/// The saved registers of x86-64 in the kernel's order, as far as they are used (`struct pt_regs`, a user ABI).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Registers {
    _r15_bx: [u64; 6],
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
}

#[tracepoint]
pub fn pt_call_enter(ctx: TracePointContext) -> u32 {
    enter(&ctx);
    0
}

#[tracepoint]
pub fn pt_call_exit(ctx: TracePointContext) -> u32 {
    exit(&ctx);
    0
}

/// The entry only notes: it is a part of the event that the exit emits, and is not counted.
#[inline(always)]
fn enter(ctx: &TracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let nr = number(ctx);
    let mm = task::current_mm();
    let owner = owner::find(mm);
    if owner.is_none() && nr != NR_PROCESS_MADVISE {
        return;
    }
    let Some(thread) = owner::thread(bpf_get_current_pid_tgid() as u32) else { return };
    if let Some(owner) = owner {
        frame::emit_copy(hook, thread, owner.number, &owner.levels);
    }
    thread.fault_addr = 0;
    thread.call = nr + 1;
    thread.call_brk = if nr == NR_BRK { task::read(mm + layout::MM_BRK.load()) } else { 0 };
    // SAFETY: the helper has no conditions.
    thread.call_began = unsafe { bpf_ktime_get_ns() };
}

#[inline(always)]
fn exit(ctx: &TracePointContext) {
    let Some(hook) = Hook::enter() else { return };
    let nr = number(ctx);
    let mm = task::current_mm();
    if nr == NR_PROCESS_MADVISE {
        return process_madvise(hook, ctx, mm);
    }
    let Some(owner) = owner::find(mm) else { return hook.filter(LAYER_VMA) };
    let number = owner.number;
    let (began, mut known) = begun(nr);
    let regs = registers();
    let args = [regs.di, regs.si, regs.dx, regs.r10, regs.r8, regs.r9];
    let ret = result(ctx);
    if nr == NR_MMAP && args[3] & MAP_ANONYMOUS == 0 && (ret as i64) > 0 {
        let file = task::file_of(args[4] as u32);
        if file != 0 {
            let call = [began, nr, args[0], args[1], args[2], args[3], args[4], args[5], ret];
            if let Some(at) = emit_file(hook, number, call, file) {
                emit_stack(hook, at, ctx, number);
            }
            return;
        }
    }
    if nr == NR_SHMAT && (ret as i64) > 0 {
        known = task::segment_bytes(args[0] as u32);
    }
    let payload = [began, nr, args[0], args[1], args[2], args[3], args[4], args[5], ret, known, 0, 0];
    if let Some(at) = hook.emit(record::CALL, 0, number, payload) {
        emit_stack(hook, at, ctx, number);
    }
}

#[inline(always)]
fn emit_stack(hook: Hook, at: u64, ctx: &TracePointContext, number: u32) {
    stack::emit(hook, at, ctx.as_ptr(), record::STACK_OF_CALL, number, Place::saved);
}

/// What the entry noted, if it was seen.
#[inline(always)]
fn begun(nr: u64) -> (u64, u64) {
    match owner::thread_if_any(bpf_get_current_pid_tgid() as u32) {
        Some(thread) if thread.call == nr + 1 => {
            thread.call = 0;
            (thread.call_began, thread.call_brk)
        }
        _ => (0, 0),
    }
}

#[inline(always)]
fn emit_file(hook: Hook, number: u32, call: [u64; 9], file: u64) -> Option<u64> {
    let [device, inode] = path::identity(file);
    let [a, b, c, d, e, f, g, h, i] = call;
    let payload = [a, b, c, d, e, f, g, h, i, 0, 0, 0, device, inode, 0];
    let fill = |tail: *mut path::Text| path::put(file, tail);
    hook.emit_filled(bpf_get_current_pid_tgid(), (record::CALL_FILE, 0), number, payload, fill)
}

/// `process_madvise(pidfd, iovec, count, advice, flags)`: the address space is the pidfd's; each range is a record
/// of its own, as far as the call came.
#[inline(always)]
fn process_madvise(hook: Hook, ctx: &TracePointContext, own: u64) {
    let (began, _) = begun(NR_PROCESS_MADVISE);
    let regs = registers();
    let target = task::task_of_pidfd(regs.di as u32);
    let mm = if target != 0 { task::mm(target) } else { own };
    let Some(owner) = owner::find(mm) else { return hook.filter(LAYER_VMA) };
    let number = owner.number;
    let mut flags = 0;
    let mut comm = [0; 2];
    if mm != own {
        flags = record::FLAG_OTHER;
        comm = task::current_comm();
    }
    let ret = result(ctx) as i64;
    if ret <= 0 {
        let payload = [began, NR_PROCESS_MADVISE, 0, 0, regs.r10, 0, 0, 0, ret as u64, 0, comm[0], comm[1]];
        hook.emit(record::CALL, flags, number, payload);
        return;
    }
    let mut left = ret as u64;
    let mut told = false;
    for index in 0..MAX_RANGES {
        if index >= regs.dx || left == 0 {
            break;
        }
        // SAFETY: the helper checks the address.
        let Ok(range) = (unsafe { bpf_probe_read_user((regs.si + index * 16) as *const [u64; 2]) }) else { break };
        let bytes = if range[1] < left { range[1] } else { left };
        left -= bytes;
        let payload = [began, NR_PROCESS_MADVISE, range[0], bytes, regs.r10, 0, 0, 0, bytes, 0, comm[0], comm[1]];
        hook.emit(record::CALL, flags, number, payload);
        told = true;
    }
    if !told {
        hook.filter(LAYER_VMA);
    }
}

#[inline(always)]
fn number(ctx: &TracePointContext) -> u64 {
    // SAFETY: a fixed offset inside the context.
    u64::from(unsafe { *ctx.as_ptr().cast::<u8>().add(8).cast::<u32>() })
}

#[inline(always)]
fn result(ctx: &TracePointContext) -> u64 {
    // SAFETY: a fixed offset inside the context of every sys_exit tracepoint.
    unsafe { *ctx.as_ptr().cast::<u8>().add(16).cast::<u64>() }
}

#[inline(always)]
fn registers() -> Registers {
    // SAFETY: the helper takes the running task.
    task::read(unsafe { bpf_task_pt_regs(task::current()) } as u64)
}
