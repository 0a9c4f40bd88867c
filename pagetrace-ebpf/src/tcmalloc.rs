//! The page heap of tcmalloc: one program on every point, in the thread that allocates, which holds the heap's lock. The
//! attach cookie ([`span_cookie`]) says which point it is and where its arguments are.
//!
//! *Arguments.* The heap, a span, and how many of its pages are handed out. A `Span` begins with the number of its first
//! page and how many it has.
//! *Growth.* The heap frees what it has just got: such a free is told as growth, known by the address that it returns to.
//! *Filter.* A point fires in every process that maps the file; only wanted address spaces emit. What the kernel refused
//! to take back was not given back.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_probe_read_user, generated::bpf_get_attach_cookie},
    macros::uprobe,
    programs::ProbeContext,
};
use pagetrace_common::{
    control::{LAYER_HEAP, span_cookie},
    record,
};

use crate::{
    emit::Hook,
    owner, registers,
    stack::{self, Place},
    task,
};

/// Bytes of a page of a record, as a power of 2.
const PAGE_SHIFT: u8 = 13;

#[uprobe]
pub fn pt_tcmalloc(ctx: ProbeContext) -> u32 {
    let Some(hook) = Hook::enter() else { return 0 };
    let Some(owner) = owner::find(task::current_mm()) else {
        hook.filter(LAYER_HEAP);
        return 0;
    };
    // SAFETY: the helper takes the program's own context.
    let point = span_cookie::point(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    let told = registers::register(&ctx, point.told);
    // A `bool` is the register's lowest byte.
    if point.verb == record::HEAP_SCAV && told & 0xff == 0 {
        hook.filter(LAYER_HEAP);
        return 0;
    }
    let (verb, payload) = read(&ctx, point, told).unwrap_or((record::HEAP_UNREAD, [0; 5]));
    if let Some(at) = hook.emit(record::HEAP, verb | record::HEAP_TCMALLOC, owner.number, payload) {
        stack::emit(hook, at, ctx.as_ptr(), record::STACK_OF_HEAP, owner.number, || Place::at(&ctx));
    }
    0
}

#[inline(always)]
fn read(ctx: &ProbeContext, point: span_cookie::Point, told: u64) -> Option<(u8, [u64; 5])> {
    let span = registers::register(ctx, point.span);
    // SAFETY: the helper checks the address.
    let [start, length] = unsafe { bpf_probe_read_user(span as *const [u64; 2]) }.ok()?;
    let shift = PAGE_SHIFT + point.shift;
    let (address, heap) = (start << shift, registers::register(ctx, point.heap));
    let (verb, amount) = match point.verb {
        record::HEAP_ALLOC => (record::HEAP_ALLOC, told << point.shift),
        record::HEAP_FREE if is_growth(ctx, point)? => (record::HEAP_GROW, length << shift),
        record::HEAP_FREE => (record::HEAP_FREE, length << point.shift),
        verb => (verb, length << shift),
    };
    Some((verb, [address, amount, 0, 0, heap]))
}

/// Whether the function returns into the one that makes the heap grow.
#[inline(always)]
fn is_growth(ctx: &ProbeContext, point: span_cookie::Point) -> Option<bool> {
    if point.grows_bytes == 0 {
        return Some(false);
    }
    // SAFETY: the context of a uprobe is the thread's registers.
    let (ip, sp) = unsafe { ((*ctx.regs).rip, (*ctx.regs).rsp) };
    let back = registers::word(sp)?;
    let grows = ip.wrapping_add(i64::from(point.grows_from) as u64);
    Some(back.wrapping_sub(grows) <= u64::from(point.grows_bytes))
}
