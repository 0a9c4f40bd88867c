//! Objects of allocators: one program on every point of `malloc` and its kin, in the thread that calls them. The
//! attach cookie ([`object_cookie`]) says what the function does and where its arguments are.
//!
//! *Filter.* A point fires in every process that maps the file; only wanted address spaces emit. Which allocations are
//! sampled depends on their size and chance alone ([`sampling`]); frees are told of sampled objects only.
//! *Time.* An object's record comes when the call that gave it returns, the record of its end when the call that takes
//! it begins: at no time do two threads seem to have the same memory.
//! *Whose call.* A function of an allocator that another one of them calls is a part of that one's call. Where the outer
//! call's return is awaited that is plain; where it only hands on ([`object_cookie::FORWARDS`]), the inner call is told
//! by its return address or, when it was jumped to, by the stack pointer.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_attach_cookie, bpf_get_func_ip, bpf_get_prandom_u32},
    },
    programs::ProbeContext,
};
use pagetrace_common::{
    control::{
        LAYER_OBJECT, call_count,
        object_cookie::{self, CHOOSES, FORWARDS, IN_PLACE, LEAVES, NONE, NOT_OWN, TAKES_RETURN, THROWS},
        tally, word,
    },
    record, sampling,
};

use crate::{
    emit::Hook,
    maps::{CALLERS, CALLS, Caller, LIVE, Owner, RETURNS, add, control, tally_add},
    owner, registers,
    stack::{self, Place},
    task,
};

/// Flags of a call whose return is awaited: what it gives is sampled; it takes memory back as well; what it takes back
/// and gives is in one place; it may end by an exception.
const SAMPLED: u64 = 1;
const MOVES: u64 = 2;
const STAYS: u64 = 4;
const MAY_THROW: u64 = 8;

/// One hit of a point.
struct Hit<'a> {
    hook: Hook,
    owner: &'a Owner,
    cookie: u64,
    who: u32,
    period: u64,
}

/// By hand, because the program's return value counts: what the macro makes of a function always returns 0.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
pub fn pt_object(ctx: *mut c_void) -> u32 {
    let ctx = ProbeContext::new(ctx);
    // SAFETY: the helpers take the program's own context.
    let (cookie, function) = unsafe { (bpf_get_attach_cookie(ctx.as_ptr()), bpf_get_func_ip(ctx.as_ptr())) };
    // The verifier follows what a program returns back to where it comes from: it should not come from branches.
    let ignore = (cookie >> CHOOSES.trailing_zeros() & 1) as u32;
    let Some(hook) = Hook::enter() else { return ignore };
    // SAFETY: the context of a uprobe is the thread's registers.
    let (ip, sp) = unsafe { ((*ctx.regs).rip, (*ctx.regs).rsp) };
    let Some(owner) = owner::find(task::current_mm()) else {
        if ip == function && cookie & LEAVES == 0 {
            hook.filter(LAYER_OBJECT);
        }
        return ignore;
    };
    let hit = Hit { hook, owner, cookie, who: object_cookie::who(cookie), period: control(word::PERIOD) };
    let Some(caller) = caller() else {
        hook.lose(LAYER_OBJECT);
        return ignore;
    };
    if cookie & LEAVES != 0 {
        leave(&hit, caller, &ctx, sp);
        return ignore;
    }
    // At its return, a function's address is not where the thread is.
    if ip != function {
        leave(&hit, caller, &ctx, sp - 8);
        return ignore;
    }
    enter(&hit, caller, &ctx, ip, sp);
    // SAFETY: as of any reference.
    let wants_return = unsafe { core::ptr::read_volatile(&raw const caller.wants_return) };
    ignore & !(wants_return as u32)
}

/// A call begins; says to its thread whether the return has to be seen.
#[inline(always)]
fn enter(hit: &Hit, caller: &mut Caller, ctx: &ProbeContext, ip: u64, sp: u64) {
    caller.wants_return = 0;
    let cookie = hit.cookie;
    let function = ip - object_cookie::before(cookie);
    let back: u64 = registers::word(sp).unwrap_or(0);
    let arguments = object_cookie::arguments(cookie);
    let (mut who, mut is_inner) = (hit.who, false);
    if caller.is_inside != 0 {
        // A call that was left by a jump out of it never returns: whatever is called at its place is newer.
        // Who calls others from a function that throws is about to, or asks the program for help.
        let left = sp > caller.sp || (sp == caller.sp && function == caller.function) || caller.flags & MAY_THROW != 0;
        if !left {
            return count(hit, hit.who, call_count::NESTED, 1);
        }
        caller.is_inside = 0;
    } else if caller.outer != 0 {
        // Who calls the same function again from the same place was not jumped to from it.
        let is_another = function != caller.outer_first;
        let is_jumped_to = sp == caller.outer_sp && back == caller.outer_back && is_another;
        let is_called = sp < caller.outer_sp && back > caller.outer_start && back <= caller.outer_end;
        if is_jumped_to || is_called {
            count(hit, hit.who, call_count::NESTED, 1);
            if cookie & FORWARDS != 0 {
                // It hands on itself: what it calls belongs to the first.
                return open(caller, caller.outer, sp, back, cookie, ip);
            }
            is_inner = true;
            who = (caller.outer - 1) as u32;
        }
        if is_jumped_to || sp >= caller.outer_sp {
            caller.outer = 0;
        }
    }
    if cookie & NOT_OWN != 0 && is_called_straight(back, function) {
        return count(hit, hit.who, call_count::NESTED, 1);
    }
    let size = size_of_call(arguments, ctx);
    if !is_inner {
        count(hit, hit.who, call_count::CALLS, 1);
        count(hit, hit.who, call_count::BYTES, size);
    }
    if cookie & FORWARDS != 0 {
        caller.outer_first = function;
        return open(caller, u64::from(hit.who) + 1, sp, back, cookie, ip);
    }
    let old = if arguments.old == NONE { 0 } else { registers::register(ctx, arguments.old) };
    if arguments.size == NONE {
        end(hit, who, old, 0);
        return;
    }
    caller.old = 0;
    if old != 0
        && let Some(bytes) = end(hit, who, old, record::OBJECT_MOVES)
    {
        (caller.old, caller.old_bytes) = (old, bytes);
    }
    // SAFETY: the helper has no conditions.
    let random = unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
    let takes_return = cookie & TAKES_RETURN != 0;
    let can_return = !takes_return || may_take_returns(hit.owner);
    let is_sampled = can_return && sampling::is_sampled(size, hit.period, random);
    if !is_sampled && arguments.old == NONE {
        hit.hook.filter(LAYER_OBJECT);
    }
    // What takes memory back as well may have to say that it did not; what is not `malloc` may call it.
    let calls_others = arguments.old != NONE || arguments.count != NONE || arguments.out != NONE;
    // Where another process is recorded too, the kernel may take over the return although nobody here waits for it.
    (caller.sp, caller.back) = (sp, back);
    if !can_return || !(is_sampled || calls_others) {
        return;
    }
    caller.is_inside = 1;
    (caller.function, caller.who, caller.size) = (function, u64::from(who), size);
    caller.flags = u64::from(is_sampled) * SAMPLED;
    if arguments.old != NONE {
        caller.flags |= MOVES;
    }
    if cookie & IN_PLACE != 0 {
        caller.flags |= STAYS;
    }
    if cookie & THROWS != 0 {
        caller.flags |= MAY_THROW;
    }
    caller.out = if arguments.out == NONE { 0 } else { registers::register(ctx, arguments.out) };
    caller.wants_return = u64::from(takes_return);
}

/// Whether the instruction before a return address calls this function by its address (`e8` and the distance).
#[inline(always)]
fn is_called_straight(back: u64, function: u64) -> bool {
    let code = registers::word(back - 8).unwrap_or(0);
    let distance = (code >> 32) as i32;
    code >> 24 & 0xff == 0xe8 && back.wrapping_add_signed(i64::from(distance)) == function
}

/// Whether returns of the program's functions may be taken over.
#[inline(always)]
fn may_take_returns(owner: &Owner) -> bool {
    let Some(allowed) = RETURNS.get_ptr_mut((bpf_get_current_pid_tgid() >> 32) as u32) else { return false };
    // SAFETY: an aligned word of a map's value, which the threads of one process write with one value.
    unsafe {
        if *allowed == 0 {
            *allowed = owner.number;
        }
        *allowed == owner.number
    }
}

/// A call returns whose stack pointer was `sp` at its entry.
#[inline(always)]
fn leave(hit: &Hit, caller: &mut Caller, ctx: &ProbeContext, sp: u64) {
    if caller.is_inside == 0 || caller.sp != sp {
        return;
    }
    caller.is_inside = 0;
    let who = caller.who as u32;
    // SAFETY: the context of a uprobe is the thread's registers.
    let result = unsafe { (*ctx.regs).rax };
    let mut address = result;
    if caller.out != 0 {
        address = if result as u32 == 0 { registers::word(caller.out).unwrap_or(0) } else { 0 };
    } else if caller.flags & STAYS != 0 {
        address = if result >= caller.size { caller.old } else { 0 };
    }
    let moves = caller.flags & MOVES != 0;
    if address == 0 {
        count(hit, who, call_count::FAILED, 1);
        if caller.old != 0 && caller.size != 0 {
            keep(hit, who, caller.old, caller.old_bytes);
        } else {
            hit.hook.filter(LAYER_OBJECT);
        }
    } else if caller.flags & SAMPLED != 0 {
        begin(hit, ctx, who, address, caller.size, if moves { record::OBJECT_MOVES } else { 0 });
    } else if moves {
        hit.hook.filter(LAYER_OBJECT);
    }
}

/// An object begins to live.
#[inline(always)]
fn begin(hit: &Hit, ctx: &ProbeContext, who: u32, address: u64, bytes: u64, flags: u8) {
    let key = [u64::from(hit.owner.number), address];
    if hit.period != 0 && LIVE.insert(key, bytes, 0).is_err() {
        return hit.hook.lose(LAYER_OBJECT);
    }
    let payload = [address, bytes, u64::from(who)];
    if let Some(at) = hit.hook.emit(record::OBJECT, record::OBJECT_ALLOC | flags, hit.owner.number, payload) {
        let place = || Place { has_returned: hit.cookie & LEAVES == 0, ..Place::at(ctx) };
        stack::emit(hit.hook, at, ctx.as_ptr(), record::STACK_OF_OBJECT, hit.owner.number, place);
    } else if hit.period != 0 {
        // Who never heard of it need not hear of its end.
        let _ = LIVE.remove(key);
    }
}

/// An object ends; its bytes, where it is one that is recorded.
#[inline(always)]
fn end(hit: &Hit, who: u32, address: u64, flags: u8) -> Option<u64> {
    let mut bytes = 0;
    let mut is_known = address != 0;
    if is_known && hit.period != 0 {
        let key = [u64::from(hit.owner.number), address];
        // SAFETY: the value is read once; whoever frees an object twice at once has worse troubles.
        match unsafe { LIVE.get(key) } {
            Some(live) => {
                bytes = *live;
                let _ = LIVE.remove(key);
            }
            None => is_known = false,
        }
    }
    if !is_known {
        // The other half of a call that moves memory is counted when it returns.
        if flags & record::OBJECT_MOVES == 0 {
            hit.hook.filter(LAYER_OBJECT);
        }
        return None;
    }
    let payload = [address, bytes, u64::from(who)];
    hit.hook.emit(record::OBJECT, record::OBJECT_FREE | flags, hit.owner.number, payload);
    Some(bytes)
}

/// What [`end`] told did not happen.
#[inline(always)]
fn keep(hit: &Hit, who: u32, address: u64, bytes: u64) {
    if hit.period != 0 && LIVE.insert([u64::from(hit.owner.number), address], bytes, 0).is_err() {
        return hit.hook.lose(LAYER_OBJECT);
    }
    let payload = [address, bytes, u64::from(who)];
    hit.hook.emit(record::OBJECT, record::OBJECT_KEPT, hit.owner.number, payload);
}

/// Notes a call that hands on.
#[inline(always)]
fn open(caller: &mut Caller, outer: u64, sp: u64, back: u64, cookie: u64, ip: u64) {
    (caller.outer, caller.outer_sp, caller.outer_back) = (outer, sp, back);
    caller.outer_start = ip - object_cookie::before(cookie);
    caller.outer_end = ip + object_cookie::after(cookie);
}

/// Bytes that the call asks for.
#[inline(always)]
fn size_of_call(arguments: object_cookie::Arguments, ctx: &ProbeContext) -> u64 {
    if arguments.size == NONE {
        return 0;
    }
    let size = registers::register(ctx, arguments.size);
    if arguments.count == NONE {
        return size;
    }
    let count = registers::register(ctx, arguments.count);
    // A product beyond 64 bits is refused by the allocator.
    if size >> 32 == 0 && count >> 32 == 0 { size * count } else { size.wrapping_mul(count) }
}

/// Adds to what is counted of a call.
#[inline(always)]
fn count(hit: &Hit, who: u32, column: usize, value: u64) {
    if value == 0 {
        return;
    }
    let key = [hit.owner.number, who];
    let row = match CALLS.get_ptr_mut(key) {
        Some(row) => Some(row),
        None => {
            // Another thread may have put it there meanwhile.
            let _ = CALLS.insert(key, [0; call_count::COUNT], aya_ebpf::bindings::BPF_NOEXIST.into());
            CALLS.get_ptr_mut(key)
        }
    };
    match row {
        // SAFETY: the column is a constant inside the row.
        Some(row) => unsafe { add(row.cast::<u64>().add(column), value) },
        None => {
            tally_add(tally::CALLS_UNCOUNTED);
        }
    }
}

/// What is known of the running thread, made if absent.
#[inline(always)]
fn caller() -> Option<&'static mut Caller> {
    let tid = bpf_get_current_pid_tgid() as u32;
    let found = match CALLERS.get_ptr_mut(tid) {
        Some(found) => Some(found),
        None => {
            let empty = Caller {
                is_inside: 0,
                wants_return: 0,
                sp: 0,
                function: 0,
                who: 0,
                size: 0,
                out: 0,
                back: 0,
                old: 0,
                old_bytes: 0,
                flags: 0,
                outer: 0,
                outer_sp: 0,
                outer_back: 0,
                outer_first: 0,
                outer_start: 0,
                outer_end: 0,
            };
            if CALLERS.insert(tid, empty, 0).is_err() {
                tally_add(tally::MAP_FULL);
            }
            CALLERS.get_ptr_mut(tid)
        }
    };
    // SAFETY: only the thread itself uses its row, and removes it when it ends.
    found.map(|at| unsafe { &mut *at })
}
