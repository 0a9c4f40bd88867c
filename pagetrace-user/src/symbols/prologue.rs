//! Where in a function's first instructions a probe is best placed: the arguments are still in the registers that the
//! caller put them in, and the kernel need not run the instruction out of line.
//!
//! The kernel emulates some instructions under a uprobe (`arch/x86/kernel/uprobes.c`: `push_setup_xol_ops` and
//! `branch_setup_xol_ops`, since Linux 4.17 and 3.16); any other is copied elsewhere and stepped over, which costs
//! another trap, 20 times as much.
//!
//! A Go function on a goroutine's stack begins with a check of the stack's limit, and is entered again once the stack
//! has grown: a probe behind the check sees each call once. `push %rbp` stands there since Go 1.21, so it is better
//! than the check's own branch, which is met twice.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};

/// Bytes of code that are enough for the longest check of the stack and the instruction behind it.
pub const LENGTH: u64 = 64;

/// What a hit of a probe costs, as far as the place decides it; the cheaper is the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// The kernel emulates the instruction.
    Emulated,
    /// The kernel runs the instruction out of line and traps once more.
    SingleStepped,
}

impl Cost {
    /// The word for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Cost::Emulated => "emulated",
            Cost::SingleStepped => "single-stepped",
        }
    }
}

/// A place for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Bytes from the function's entry to the first byte of an instruction.
    pub offset: u64,
    pub cost: Cost,
}

/// The best place in a function that begins with these bytes; `None` when they are not code.
///
/// Every call comes by there, and an instruction counts only when all before it, from the entry on, were decoded and
/// leave the arguments in place.
#[must_use]
pub fn best_site(code: &[u8]) -> Option<Site> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut best = None;
    let mut limit_was_compared = false;
    while decoder.can_decode() {
        let position = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        let offset = position as u64;
        let is_branch = instruction.is_jcc_short_or_near();
        if is_emulated(code.get(position..).unwrap_or_default()) {
            best = Some(Site { offset, cost: Cost::Emulated });
            // Not all calls come by behind a branch, unless it only leads to where the stack grows.
            if !is_branch || !limit_was_compared {
                break;
            }
        } else {
            best = best.or(Some(Site { offset, cost: Cost::SingleStepped }));
            if is_branch || !leaves_arguments(&instruction) {
                break;
            }
        }
        limit_was_compared = compares_limit(&instruction);
    }
    best
}

/// Whether the kernel emulates the instruction that these bytes begin with: `push` of a register, the one-byte `nop`,
/// and a jump without prefix to an address that it names.
#[must_use]
pub fn is_emulated(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x50..=0x57 | 0x70..=0x7f | 0x90 | 0xe9 | 0xeb, ..] | [0x41, 0x50..=0x57, ..] | [0x0f, 0x80..=0x8f, ..]
    )
}

/// Whether the instruction is of the kind that a check of the stack consists of: only r12, r13 and the flags are
/// written, none of which carries an argument in Go's or C's calling convention.
fn leaves_arguments(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Endbr64 | Mnemonic::Nop => true,
        Mnemonic::Lea | Mnemonic::Mov | Mnemonic::Sub => {
            matches!(instruction.op0_register().full_register(), Register::R12 | Register::R13)
        }
        _ => false,
    }
}

/// Whether the instruction is the last one before the branch of a check of the stack: it compares with the goroutine's
/// limit (`stackguard0`, at 0x10 of the `g` in r14), or subtracts a huge frame from a copy of the stack pointer.
fn compares_limit(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Cmp => instruction.memory_base() == Register::R14 && instruction.memory_displacement64() == 0x10,
        Mnemonic::Sub => instruction.op0_register() == Register::R12,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, Site, best_site};

    #[track_caller]
    fn check(code: &[u8], expected: Option<(u64, Cost)>) {
        assert_eq!(best_site(code), expected.map(|(offset, cost)| Site { offset, cost }), "{code:x?}");
    }

    #[test]
    fn sites() {
        use Cost::{Emulated, SingleStepped};
        // cmp 0x10(%r14),%rsp; jbe; push %rbp: Go since 1.21.
        check(b"\x49\x3b\x66\x10\x0f\x86\x01\x02\0\0\x55\x48\x89\xe5", Some((10, Emulated)));
        // The same with a short branch, and without push: Go 1.19.
        check(b"\x49\x3b\x66\x10\x76\x20\x48\x83\xec\x18", Some((4, Emulated)));
        // lea -0x88(%rsp),%r12; cmp 0x10(%r14),%r12; jbe; push %rbp: a large frame.
        check(b"\x4c\x8d\xa4\x24\x78\xff\xff\xff\x4d\x3b\x66\x10\x0f\x86\0\x01\0\0\x55", Some((18, Emulated)));
        // No check at all.
        check(b"\x55\x48\x89\xe5", Some((0, Emulated)));
        check(b"\x90\xc3", Some((0, Emulated)));
        check(b"\x41\x57\x41\x56", Some((0, Emulated)));
        check(b"\x48\x83\xec\x18\x55", Some((0, SingleStepped)));
        check(b"\xf3\x0f\x1e\xfa\x55", Some((4, Emulated)));
        // mov %rdi,%rax is harmless, mov %rax,%rdi would not be: neither is told apart.
        check(b"\x48\x89\xf8\x55", Some((0, SingleStepped)));
        // test %rdi,%rdi; je; push: calls that leave early would be missed at the push.
        check(b"\x48\x85\xff\x74\x10\x55", Some((3, Emulated)));
        // 66 push, pause: not emulated, though their last byte looks like it.
        check(b"\x66\x55", Some((0, SingleStepped)));
        check(b"\xf3\x90\x55", Some((0, SingleStepped)));
        // Cut off, empty, not code.
        check(b"\x49\x3b\x66", None);
        check(b"\x49\x3b\x66\x10\x0f\x86", Some((0, SingleStepped)));
        check(b"", None);
        check(b"\x06\x55", None);
    }
}
