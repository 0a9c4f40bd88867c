//! Stacks: where the thread was in its own code when an event of another layer came.
//!
//! *Which.* As many as the pause between two of one CPU allows ([`word::STACK_PAUSE`]), and only while its ring is mostly
//! empty: what a stack needs is never missing for an event. The others count as filtered.
//! *How.* Programs rarely keep frame pointers: the memory from the stack pointer on is copied, as far as it is there, and
//! the recorder unwinds it. Where a program's own code keeps them (Go), the kernel follows them instead, from one stack to
//! the next.
//! *The kernel's part* is told of events that happen in the kernel; that of a uprobe would be the probe.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    bindings::{BPF_F_USER_STACK, BPF_RB_AVAIL_DATA},
    helpers::{
        bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        generated::{bpf_get_stack, bpf_probe_read_user, bpf_ringbuf_query},
    },
    programs::ProbeContext,
};
use pagetrace_common::{
    control::{LAYER_STACK, STACK_BURST, stack_parts, stack_way, word},
    record::{
        self, STACK_ADDRESSES, STACK_HAS_KERNEL, STACK_IS_ALONE, STACK_IS_KERNEL, STACK_IS_WHOLE, STACK_KINDS,
        STACK_RETURNED, STACK_WORDS,
    },
};

use crate::{
    emit::Hook,
    layout,
    maps::{CALLERS, RINGS, STACK_TIMES, WAYS, control},
    registers, task,
};

const PAGE_BYTES: u64 = 4096;
/// Pages below a stack that one function may reach into at once.
const NEW_PAGES: u64 = 16;
/// Pages in a row that are not there before that is taken for the end of a stack.
const MOST_MISSING: u64 = 3;
const MOST_BYTES: u64 = STACK_WORDS as u64 * 8;
/// Words of the longest row of addresses: as many as the kernel follows at most.
const ADDRESS_WORDS: usize = 127;
/// Words of the kernel's part of a stack: it is rarely half as deep.
const KERNEL_WORDS: usize = 64;
/// Where the kernel has calls return to whose return is a uprobe's: the last page of an address space, if it was free
/// (kernel/events/uprobes.c, `xol_add_vma`).
const TRAMPOLINE: u64 = 0x7fff_ffff_e000;
/// A thread whose stack pointer is this far below the place where its process's first stack began is elsewhere.
const FIRST_STACK_BYTES: u64 = 64 << 20;

/// Registers of a thread in its own code.
#[derive(Clone, Copy)]
pub struct Place {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// A call just returned there.
    pub has_returned: bool,
}

impl Place {
    /// Where a thread came upon a uprobe.
    #[inline(always)]
    pub fn at(ctx: &ProbeContext) -> Place {
        // SAFETY: the context of a uprobe is the thread's registers.
        unsafe { Place { ip: (*ctx.regs).rip, sp: (*ctx.regs).rsp, bp: (*ctx.regs).rbp, has_returned: false } }
    }

    /// Where the running thread left its own code for the kernel.
    #[inline(always)]
    pub fn saved() -> Place {
        Place {
            ip: task::saved_register(layout::REGS_IP.load()),
            sp: task::saved_register(layout::REGS_SP.load()),
            bp: task::saved_register(layout::REGS_BP.load()),
            has_returned: false,
        }
    }
}

#[repr(C)]
struct Record<const TAIL: usize> {
    head: [u64; record::HEAD_WORDS],
    fixed: [u64; 7],
    tail: [u64; TAIL],
}

/// Emits the stack that belongs to the record which this thread just emitted at a time `now`, if one is wanted.
///
/// `ctx` is the program's own context. The place is asked for only then: most events have no stack.
#[inline(always)]
pub fn emit(hook: Hook, now: u64, ctx: *mut c_void, of: u8, owner: u32, place: impl FnOnce() -> Place) {
    let pause = control(word::STACK_PAUSE);
    if pause == 0 {
        return;
    }
    let cpu = hook.cpu;
    let parts = control(word::STACK_PARTS);
    let is_in_kernel = of == record::STACK_OF_FAULT || of == record::STACK_OF_CALL;
    let (has_user, has_kernel) = (parts & stack_parts::USER != 0, is_in_kernel && parts & stack_parts::KERNEL != 0);
    if !has_user && !has_kernel {
        return;
    }
    if !is_due(cpu, of, now, pause) || !has_room(cpu) {
        return hook.filter(LAYER_STACK);
    }
    let mut told = 0;
    if has_kernel {
        let is_in = put_kernel(cpu, ctx, hook.head(record::STACK, of, owner), has_user);
        hook.told(LAYER_STACK, is_in);
        if !has_user {
            return;
        }
        told = if is_in { STACK_HAS_KERNEL } else { 0 };
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the value is read once.
    let way = unsafe { WAYS.get(tgid) }.copied().unwrap_or(stack_way::COPY);
    let place = place();
    let head = hook.head(record::STACK, of, owner);
    told |= if place.has_returned { STACK_RETURNED } else { 0 };
    let fixed = [place.ip, place.sp, place.bp, told, 0, 0, place.sp];
    let is_in = if way == stack_way::FRAME_POINTERS && is_in_program(place.ip) {
        put_addresses(cpu, ctx, head, fixed)
    } else {
        put_copy(cpu, head, fixed)
    };
    hook.told(LAYER_STACK, is_in);
}

/// Whether the CPU's pause for stacks of this kind is over. Two programs that ask at once may both be told so.
#[inline(always)]
fn is_due(cpu: u32, of: u8, now: u64, pause: u64) -> bool {
    let Some(at) = STACK_TIMES.get_ptr_mut(cpu * STACK_KINDS + u32::from(of)) else { return false };
    // SAFETY: the place is an aligned word of a map's value.
    let next = unsafe { core::ptr::read_volatile(at) };
    let earliest = now.saturating_sub(STACK_BURST);
    let next = if next > earliest { next } else { earliest };
    if next > now {
        return false;
    }
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(at, next + pause) };
    true
}

/// Whether the CPU's ring is as empty as it has to be.
#[inline(always)]
fn has_room(cpu: u32) -> bool {
    match RINGS.get(cpu) {
        Some(ring) => {
            // SAFETY: what the map of rings gives is the address of one.
            let unread =
                unsafe { bpf_ringbuf_query(core::ptr::from_ref(ring).cast_mut().cast(), BPF_RB_AVAIL_DATA.into()) };
            unread <= control(word::STACK_ROOM)
        }
        None => false,
    }
}

/// Whether an instruction is in the program's own file.
#[inline(always)]
fn is_in_program(ip: u64) -> bool {
    let mm = task::current_mm();
    let (start, end): (u64, u64) =
        (task::read(mm + layout::MM_START_CODE.load()), task::read(mm + layout::MM_END_CODE.load()));
    start <= ip && ip < end
}

/// Puts a record into the CPU's ring, whose tail `fill` fills; what it gives is added to the word that says what the tail is.
#[inline(always)]
fn put<const TAIL: usize>(
    cpu: u32,
    head: [u64; 2],
    mut fixed: [u64; 7],
    fill: impl FnOnce(*mut [u64; TAIL]) -> u64,
) -> bool {
    let Some(ring) = RINGS.get(cpu) else { return false };
    let Some(mut entry) = ring.reserve_untyped::<Record<TAIL>>(0) else { return false };
    let at = entry.as_mut_ptr();
    // SAFETY: the reserved space has the alignment and the size of the record.
    unsafe {
        (*at).head = [bpf_ktime_get_ns(), head[0], head[1]];
        fixed[3] |= fill(&raw mut (*at).tail);
        (*at).fixed = fixed;
    }
    entry.submit(layout::SUBMIT_FLAGS.load());
    true
}

#[inline(always)]
fn put_addresses(cpu: u32, ctx: *mut c_void, head: [u64; 2], fixed: [u64; 7]) -> bool {
    put::<ADDRESS_WORDS>(cpu, head, fixed, |tail| {
        // SAFETY: the helper writes no more than it is told.
        let bytes = unsafe { bpf_get_stack(ctx, tail.cast(), ADDRESS_WORDS as u32 * 8, BPF_F_USER_STACK.into()) };
        if bytes > 0 { bytes as u64 & 0xffff_ffff | STACK_ADDRESSES } else { STACK_ADDRESSES }
    })
}

/// What the thread does in the kernel, whose code keeps frame pointers or tables of its own.
#[inline(always)]
fn put_kernel(cpu: u32, ctx: *mut c_void, head: [u64; 2], goes_on: bool) -> bool {
    let what = if goes_on { STACK_IS_KERNEL } else { STACK_IS_KERNEL | STACK_IS_ALONE };
    put::<KERNEL_WORDS>(cpu, head, [0, 0, 0, what, 0, 0, 0], |tail| {
        // SAFETY: the helper writes no more than it is told.
        let bytes = unsafe { bpf_get_stack(ctx, tail.cast(), KERNEL_WORDS as u32 * 8, 0) };
        if bytes > 0 { bytes as u64 & 0xffff_ffff } else { 0 }
    })
}

/// Copies the stack into the smallest space that it fits into.
#[inline(always)]
fn put_copy(cpu: u32, head: [u64; 2], mut fixed: [u64; 7]) -> bool {
    let sp = fixed[1];
    // SAFETY: the value is read at once, and only the thread itself changes it.
    if let Some(caller) = unsafe { CALLERS.get(bpf_get_current_pid_tgid() as u32) }
        && (caller.is_inside != 0
            || registers::word(caller.sp).is_some_and(|there| there & !(PAGE_BYTES - 1) == TRAMPOLINE))
    {
        // The kernel has put an address of its own there, to see the call return.
        (fixed[4], fixed[5]) = (caller.sp, caller.back);
    }
    // A thread that is about to use new pages of its stack has nothing there yet.
    let mut from = sp;
    for _ in 0..NEW_PAGES {
        if registers::word(from).is_some() {
            break;
        }
        from = (from | (PAGE_BYTES - 1)) + 1;
    }
    fixed[6] = from;
    let Reach { bytes, is_whole, has_holes } = reach(from);
    if is_whole {
        fixed[3] |= STACK_IS_WHOLE;
    }
    if has_holes {
        return if bytes <= 4 << 10 {
            copy_pieces::<{ (8 << 10) / 8 }>(cpu, head, fixed, bytes)
        } else if bytes <= 12 << 10 {
            copy_pieces::<{ (16 << 10) / 8 }>(cpu, head, fixed, bytes)
        } else {
            copy_pieces::<STACK_WORDS>(cpu, head, fixed, bytes)
        };
    }
    if bytes <= 2 << 10 {
        copy::<{ (2 << 10) / 8 }>(cpu, head, fixed, bytes)
    } else if bytes <= 4 << 10 {
        copy::<{ (4 << 10) / 8 }>(cpu, head, fixed, bytes)
    } else if bytes <= 8 << 10 {
        copy::<{ (8 << 10) / 8 }>(cpu, head, fixed, bytes)
    } else if bytes <= 16 << 10 {
        copy::<{ (16 << 10) / 8 }>(cpu, head, fixed, bytes)
    } else {
        copy::<STACK_WORDS>(cpu, head, fixed, bytes)
    }
}

/// What there is of a stack from some address on.
struct Reach {
    bytes: u64,
    /// It ends where the process's first stack began.
    is_whole: bool,
    /// Some of its pages are not there: a function has room that it did not use yet.
    has_holes: bool,
}

/// Looks up to where the process's first stack began, to where several pages are not there, or as far as is copied at most.
#[inline(always)]
fn reach(from: u64) -> Reach {
    let start: u64 = task::read(task::current_mm() + layout::MM_START_STACK.load());
    // At a program's first instruction there is nothing on it yet.
    let is_first = from <= start && start - from <= FIRST_STACK_BYTES;
    let top = if is_first { start } else { u64::MAX };
    let mut at = (from | (PAGE_BYTES - 1)) + 1;
    let mut end = at;
    let (mut missing, mut has_holes) = (0, false);
    for _ in 0..MOST_BYTES / PAGE_BYTES {
        if at >= top || missing > MOST_MISSING {
            break;
        }
        let is_there = registers::word(at).is_some();
        at += PAGE_BYTES;
        if is_there {
            has_holes |= missing > 0;
            (end, missing) = (at, 0);
        } else {
            missing += 1;
        }
    }
    let bytes = if end < top { end - from } else { top - from };
    // In pieces, the last one needs room for a whole page.
    let most = if has_holes { MOST_BYTES - PAGE_BYTES } else { MOST_BYTES };
    Reach { bytes: if bytes < most { bytes } else { most }, is_whole: end >= top && bytes <= most, has_holes }
}

#[inline(always)]
fn copy<const TAIL: usize>(cpu: u32, head: [u64; 2], fixed: [u64; 7], mut bytes: u64) -> bool {
    let from = fixed[6] as *const c_void;
    put::<TAIL>(cpu, head, fixed, |tail| {
        // The verifier has to see that it fits, just before it is used; a compiler knows, and would leave it out.
        // SAFETY: arithmetic.
        unsafe {
            asm!("if {bytes} <= {most} goto +1", "{bytes} = {most}", bytes = inout(reg) bytes, most = const TAIL * 8);
        }
        // SAFETY: `bytes` are not more than the tail.
        let failed = unsafe { bpf_probe_read_user(tail.cast(), bytes as u32, from) };
        if failed == 0 { bytes } else { 0 }
    })
}

/// The same, page by page: zeros stand for those that are not there. `bytes` are at least a page less than the space.
#[inline(always)]
fn copy_pieces<const TAIL: usize>(cpu: u32, head: [u64; 2], fixed: [u64; 7], bytes: u64) -> bool {
    let from = fixed[6];
    put::<TAIL>(cpu, head, fixed, |tail| {
        let mut done = 0;
        for _ in 0..=TAIL as u64 * 8 / PAGE_BYTES {
            // As in `copy`: what the verifier has to see.
            let mut place = done;
            let left = bytes - done;
            let to_page_end = PAGE_BYTES - ((from + done) & (PAGE_BYTES - 1));
            let mut piece = if left < to_page_end { left } else { to_page_end };
            // SAFETY: arithmetic.
            unsafe {
                asm!("if {place} <= {most} goto +1", "{place} = {most}", place = inout(reg) place, most = const TAIL * 8 - 4096);
                asm!("if {piece} <= 4096 goto +1", "{piece} = 4096", piece = inout(reg) piece);
            }
            // SAFETY: a place in the tail with room for a page.
            unsafe {
                let to = tail.cast::<u8>().add(place as usize);
                bpf_probe_read_user(to.cast(), piece as u32, (from + done) as *const c_void);
            }
            done += piece;
            if done >= bytes {
                break;
            }
        }
        done
    })
}
