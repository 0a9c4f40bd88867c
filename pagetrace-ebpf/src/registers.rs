//! What a thread had in its registers when it came upon a uprobe, and what its memory holds.

use core::{arch::asm, mem::offset_of};

use aya_ebpf::{bindings::pt_regs, helpers::bpf_probe_read_user, programs::ProbeContext};

/// A register by its number in instructions.
#[inline(always)]
pub fn register(ctx: &ProbeContext, number: u8) -> u64 {
    // The verifier wants each register at an offset of its own, which a compiler would make one of all of them.
    macro_rules! load {
        ($field:ident) => {{
            let value: u64;
            // SAFETY: the context of a uprobe is the thread's registers.
            unsafe {
                asm!(
                    "{value} = *(u64 *)({regs} + {offset})",
                    value = out(reg) value,
                    regs = in(reg) ctx.regs,
                    offset = const offset_of!(pt_regs, $field),
                );
            }
            value
        }};
    }
    let mut which = u64::from(number);
    // To the verifier a value of its own. Else it knows from here on which of them the number is, and whoever asks
    // later whether there is one has it go on with each of the sixteen apart, those of four arguments together.
    // SAFETY: registers have four bits.
    unsafe { asm!("{which} &= 15", which = inout(reg) which) };
    match which {
        7 => load!(rdi),
        6 => load!(rsi),
        2 => load!(rdx),
        1 => load!(rcx),
        0 => load!(rax),
        3 => load!(rbx),
        5 => load!(rbp),
        8 => load!(r8),
        9 => load!(r9),
        10 => load!(r10),
        11 => load!(r11),
        12 => load!(r12),
        13 => load!(r13),
        14 => load!(r14),
        15 => load!(r15),
        _ => 0,
    }
}

/// Reads a word of the process's own memory; `None` where it is not there at once.
#[inline(always)]
pub fn word(addr: u64) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(addr as *const u64) }.ok()
}
