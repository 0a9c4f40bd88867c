//! Page faults on user addresses: `exceptions:page_fault_user` and `page_fault_kernel`
//! `(unsigned long address, struct pt_regs *regs, unsigned long error_code)`, in the faulting thread (x86 only).

use aya_ebpf::{
    EbpfContext, helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};
use pagetrace_common::{control::LAYER_PAGE, record};

use crate::{
    emit::Hook,
    frame, layout, owner,
    stack::{self, Place},
    task,
};

/// Bits of the error code (arch/x86/include/asm/trap_pf.h).
const CODE_PRESENT: u64 = 1 << 0;
const CODE_WRITE: u64 = 1 << 1;
const CODE_INSTRUCTION: u64 = 1 << 4;

#[raw_tracepoint(tracepoint = "page_fault_user")]
pub fn pt_fault_user(ctx: RawTracePointContext) {
    fault(&ctx, 0);
}

#[raw_tracepoint(tracepoint = "page_fault_kernel")]
pub fn pt_fault_kernel(ctx: RawTracePointContext) {
    fault(&ctx, record::FAULT_KERNEL);
}

#[inline(always)]
fn fault(ctx: &RawTracePointContext, mode: u8) {
    let Some(hook) = Hook::enter() else { return };
    let addr: u64 = ctx.arg(0);
    // The upper half of the address space is the kernel's own.
    if addr >> 63 != 0 {
        return hook.filter(LAYER_PAGE);
    }
    // The kernel only looks whether memory is there, on behalf of a tracer for instance: nothing will come of it.
    if mode != 0 && task::only_looks() {
        return hook.filter(LAYER_PAGE);
    }
    let Some(owner) = owner::find(task::current_mm()) else { return hook.filter(LAYER_PAGE) };
    let code: u64 = ctx.arg(2);
    if let Some(thread) = owner::thread(bpf_get_current_pid_tgid() as u32) {
        frame::emit_copy(hook, thread, owner.number, &owner.levels);
        // A null address cannot be told from none; nothing is ever mapped there.
        thread.fault_addr = addr;
        thread.allocations = 0;
        thread.from_user = u64::from(mode == 0);
        // In the kernel the fault's end cannot be told from what the call does next.
        thread.copies = u64::from(mode == 0 && code & (CODE_PRESENT | CODE_WRITE) == CODE_PRESENT | CODE_WRITE);
    }
    let mut flags = mode;
    if code & CODE_WRITE != 0 {
        flags |= record::FAULT_WRITE;
    }
    if code & CODE_INSTRUCTION != 0 {
        flags |= record::FAULT_EXEC;
    }
    let ip = if mode == 0 {
        task::saved_register(layout::REGS_IP.load())
    } else {
        task::read(ctx.arg::<u64>(1) + layout::REGS_IP.load())
    };
    if let Some(at) = hook.emit(record::FAULT, flags, owner.number, [addr, ip]) {
        stack::emit(hook, at, ctx.as_ptr(), record::STACK_OF_FAULT, owner.number, Place::saved);
    }
}
