//! Page heaps of allocators: one program on every point of the Go runtime's, in the thread that allocates or
//! collects. The attach cookie ([`cookie`]) says which point it is and whose layout holds.
//!
//! *Arguments* (Go's ABIInternal on amd64, since 1.17): RAX, RBX, RCX, RDI, RSI, R8 in this order, the receiver first; R14 is the
//! running `g`, which at these points is often the thread's own (g0): the goroutine is the thread's `curg`.
//! *Purpose.* Where no point tells both the pages and what they are for (Go 1.19), one a little earlier in the same thread
//! tells the latter ([`record::HEAP_PURPOSE`]); like the entry of a call it only notes, and is not counted.
//! *Filter.* A point fires in every process that maps the file; only wanted address spaces emit.
//! *Cost.* Each read of the process's memory costs as much as writing the record, however long it is: what lies together
//! is read together, and what stays as it is for long is read once ([`Known`]).

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, generated::bpf_get_attach_cookie},
    macros::uprobe,
    programs::ProbeContext,
};
use pagetrace_common::{
    control::{KNOWN_ROWS, LAYER_HEAP, cookie, heap_layout},
    record,
};

use crate::{
    emit::Hook,
    maps::{HEAP_LAYOUTS, KNOWN_MS, KNOWN_PS, Known},
    owner,
    stack::{self, Place},
    task,
};

/// Words of an `mspan` that are read at once, from its start on to its class; and of an `m`, from `curg` to `p`.
const SPAN_WORDS: usize = 11;
const M_WORDS: usize = 4;

#[uprobe]
pub fn pt_heap(ctx: ProbeContext) -> u32 {
    let Some(hook) = Hook::enter() else { return 0 };
    let Some(owner) = owner::find(task::current_mm()) else {
        hook.filter(LAYER_HEAP);
        return 0;
    };
    // SAFETY: the helper takes the program's own context.
    let point = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    if cookie::flags(point) & record::HEAP_VERB == record::HEAP_PURPOSE {
        note_purpose(&ctx);
        return 0;
    }
    let (flags, payload) = match read(&ctx, point, owner.number) {
        Some(payload) => (cookie::flags(point), payload),
        None => (record::HEAP_UNREAD, [0; 5]),
    };
    if let Some(at) = hook.emit(record::HEAP, flags, owner.number, payload) {
        stack::emit(hook, at, ctx.as_ptr(), record::STACK_OF_HEAP, owner.number, || Place::at(&ctx));
    }
    0
}

/// The arguments of a function that is about to hand out pages: a type and a class.
#[inline(always)]
fn note_purpose(ctx: &ProbeContext) {
    // SAFETY: the context of a uprobe is the thread's registers.
    let (cx, di) = unsafe { ((*ctx.regs).rcx, (*ctx.regs).rdi) };
    if let Some(thread) = owner::thread(bpf_get_current_pid_tgid() as u32) {
        thread.purpose = span(cx, di);
    }
}

/// What this thread noted last, once.
#[inline(always)]
fn purpose() -> u64 {
    match owner::thread_if_any(bpf_get_current_pid_tgid() as u32) {
        Some(thread) => core::mem::take(&mut thread.purpose),
        None => 0,
    }
}

/// The type and the class of a span, as they stand in the upper half of a record's word.
#[inline(always)]
fn span(kind: u64, class: u64) -> u64 {
    (kind & 0xff) + 1 | (class & 0xff) << 8
}

#[inline(always)]
fn read(ctx: &ProbeContext, point: u64, owner: u32) -> Option<[u64; 5]> {
    let layout = HEAP_LAYOUTS.get(cookie::layout(point))?;
    if layout[heap_layout::G_M] == 0 {
        return None;
    }
    // SAFETY: the context of a uprobe is the thread's registers.
    let (ax, bx, cx, g) = unsafe { ((*ctx.regs).rax, (*ctx.regs).rbx, (*ctx.regs).rcx, (*ctx.regs).r14) };
    let (mut heap, mut told) = (0, 0);
    let (address, amount) = match cookie::flags(point) & record::HEAP_VERB {
        record::HEAP_FREE => {
            let from = layout[heap_layout::SPAN_START];
            let fields: [u64; SPAN_WORDS] = user(bx + from)?;
            let class = field(&fields, from, layout[heap_layout::SPAN_CLASS])? & 0xff;
            (heap, told) = (ax, span(cx, class));
            (fields[0], field(&fields, from, layout[heap_layout::SPAN_PAGES])?)
        }
        record::HEAP_INIT => {
            // SAFETY: as above.
            let (si, di, r8) = unsafe { ((*ctx.regs).rsi, (*ctx.regs).rdi, (*ctx.regs).r8) };
            (heap, told) = (ax, span(cx, di));
            (si, r8)
        }
        record::HEAP_ALLOC => {
            (heap, told) = (ax, purpose());
            (bx, cx)
        }
        record::HEAP_SCAV => (ax, bx),
        _ => (bx, cx),
    };
    let m = m_of(owner, g, g + layout[heap_layout::G_M])?;
    let from = layout[heap_layout::M_CURG];
    let fields: [u64; M_WORDS] = user(m + from)?;
    let p = field(&fields, from, layout[heap_layout::M_P])?;
    // The number of the scheduler's P that the thread holds, plus 1; 0: it holds none.
    let processor = if p == 0 { 0 } else { number_of(owner, p, p + layout[heap_layout::P_ID])? + 1 };
    // The number of the goroutine that the thread runs or works for; 0: none.
    let goroutine = if fields[0] == 0 { 0 } else { user(fields[0] + layout[heap_layout::G_GOID])? };
    Some([address, amount, processor | told << 32, goroutine, heap])
}

/// The `m` of the `g` that this thread runs, which is there at `at`. A thread of the runtime's own has one `m` as long as it
/// lives; one that only visits (cgo) may have another each time, and another `g0` with it.
#[inline(always)]
fn m_of(owner: u32, g: u64, at: u64) -> Option<u64> {
    let tid = bpf_get_current_pid_tgid() as u32;
    let key = [u64::from(owner) << 32 | u64::from(tid), g];
    let row = KNOWN_MS.get_ptr_mut(tid % KNOWN_ROWS)?;
    known(row, key, || user(at))
}

/// The number of a P, which is there at `at`: the runtime makes each P once and keeps it.
#[inline(always)]
fn number_of(owner: u32, p: u64, at: u64) -> Option<u64> {
    let row = KNOWN_PS.get_ptr_mut((p >> 11 ^ u64::from(owner)) as u32 % KNOWN_ROWS)?;
    known(row, [u64::from(owner), p], || Some(u64::from(user::<u32>(at)?)))
}

/// What a row knows of `key`, and else what is read.
#[inline(always)]
fn known(row: *mut Known, key: [u64; 2], read: impl FnOnce() -> Option<u64>) -> Option<u64> {
    // SAFETY: a row of a map, of aligned words, each of which is read once.
    let Known { value, seals } = unsafe { core::ptr::read_volatile(row) };
    if seals == sealed(value, key) {
        return Some(value);
    }
    let value = read()?;
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(row, Known { value, seals: sealed(value, key) }) };
    Some(value)
}

/// A row may be written by several threads at once, word by word: a value counts only with both of its own seals.
#[inline(always)]
fn sealed(value: u64, key: [u64; 2]) -> [u64; 2] {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [mixed ^ key[0], mixed.rotate_left(32) ^ key[1]]
}

/// The field at `offset` of a structure whose words were read from the offset `from` on; `None`: it lies outside.
#[inline(always)]
fn field<const WORDS: usize>(words: &[u64; WORDS], from: u64, offset: u64) -> Option<u64> {
    let distance = offset.wrapping_sub(from);
    let word = *words.get((distance / 8) as usize)?;
    Some(word >> (distance % 8 * 8))
}

/// Reads a value of the process's own memory; `None` where it is not there at once.
#[inline(always)]
fn user<T>(addr: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(addr as *const T) }.ok()
}
