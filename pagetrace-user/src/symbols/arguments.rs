//! Where in a C function's first instructions a probe is best placed, and which registers hold the arguments there.
//!
//! As for Go ([`super::prologue`]) the kernel should emulate the instruction. The compiler moves arguments about before
//! it comes to one: their way from register to register is followed. The stack pointer must not have moved yet, so
//! that the return address is where the kernel looks for it.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};

use super::prologue::{Cost, is_emulated};

/// Arguments that a function of an allocator has at most.
pub const MOST: usize = 4;
/// The registers of the first arguments (System V ABI).
pub const ABI: [Register; MOST] = [Register::RDI, Register::RSI, Register::RDX, Register::RCX];

/// A place for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Bytes from the function's entry to the first byte of an instruction.
    pub offset: u64,
    pub cost: Cost,
    /// By argument: the number, as instructions have it, of the register that holds it at the site.
    pub registers: [u8; MOST],
}

/// The best place in a function that begins with these bytes, where its first `count` arguments are in registers;
/// `None` when they are not code.
#[must_use]
pub fn best_site(code: &[u8], count: usize) -> Option<Site> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut holders: [Vec<Register>; MOST] = ABI.map(|register| vec![register]);
    let mut at_entry = None;
    while decoder.can_decode() {
        let position = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        let cost =
            if is_emulated(code.get(position..).unwrap_or_default()) { Cost::Emulated } else { Cost::SingleStepped };
        let site = registers(&holders, count).map(|registers| Site { offset: position as u64, cost, registers });
        let Some(site) = site else { break };
        if cost == Cost::Emulated {
            return Some(site);
        }
        // A stepped instruction costs the same wherever it is.
        at_entry = at_entry.or(Some(site));
        if instruction.flow_control() != FlowControl::Next || !follow(&instruction, &mut info, &mut holders) {
            break;
        }
    }
    at_entry
}

/// For each argument a register that holds it; `None` when one of the first `count` is in none.
fn registers(holders: &[Vec<Register>; MOST], count: usize) -> Option<[u8; MOST]> {
    let mut numbers = [0; MOST];
    for (index, (number, holders)) in numbers.iter_mut().zip(holders).enumerate() {
        match holders.first() {
            Some(register) => *number = u8::try_from(register.number()).ok()?,
            None if index < count => return None,
            None => {}
        }
    }
    Some(numbers)
}

/// Notes where an instruction moves arguments. `false`: it moves the stack pointer.
fn follow(instruction: &Instruction, info: &mut InstructionInfoFactory, holders: &mut [Vec<Register>; MOST]) -> bool {
    let moved = (instruction.mnemonic() == Mnemonic::Mov && instruction.op1_register().is_gpr64())
        .then(|| (instruction.op0_register(), instruction.op1_register()));
    let from: Vec<bool> =
        holders.iter().map(|holders| moved.is_some_and(|(_, source)| holders.contains(&source))).collect();
    for used in info.info(instruction).used_registers() {
        let writes = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        let register = used.register().full_register();
        if writes && register == Register::RSP {
            return false;
        }
        if writes {
            holders.iter_mut().for_each(|holders| holders.retain(|holder| *holder != register));
        }
    }
    if let Some((target, _)) = moved.filter(|(target, _)| target.is_gpr64()) {
        let now_there = holders.iter_mut().zip(from).filter(|(_, from)| *from);
        now_there.for_each(|(holders, _)| holders.push(target));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Cost, best_site};

    #[track_caller]
    fn check(code: &[u8], count: usize, expected: Option<(u64, Cost, &[u8])>) {
        let found = best_site(code, count).map(|site| (site.offset, site.cost, site.registers[..count].to_vec()));
        assert_eq!(found, expected.map(|(offset, cost, registers)| (offset, cost, registers.to_vec())), "{code:x?}");
    }

    #[test]
    fn sites() {
        use Cost::{Emulated, SingleStepped};
        // push %r12: glibc's malloc.
        check(b"\x41\x54\x55", 1, Some((0, Emulated, &[7])));
        // cmp $0x1000,%rdi; ja: jemalloc's.
        check(b"\x48\x81\xff\0\x10\0\0\x0f\x87\x93\0\0\0", 1, Some((7, Emulated, &[7])));
        // endbr64; test %rdi,%rdi; mov $1,%eax; push %rbx: operator new.
        check(b"\xf3\x0f\x1e\xfa\x48\x85\xff\xb8\x01\0\0\0\x53", 1, Some((12, Emulated, &[7])));
        // endbr64; jmp: operator delete.
        check(b"\xf3\x0f\x1e\xfa\xe9\x87\x2f\xff\xff", 1, Some((4, Emulated, &[7])));
        // mov %rdi,%rsi; mov %fs:(%rax),%rdi; cmp $0x400,%rsi; ja: mimalloc's malloc has the size in rsi by then.
        check(b"\x48\x89\xfe\x64\x48\x8b\x38\x48\x81\xfe\0\x04\0\0\x77\x29", 1, Some((14, Emulated, &[6])));
        // The same with a second argument that is lost on the way: only the entry has both.
        check(b"\x48\x89\xfe\x64\x48\x8b\x38\x48\x81\xfe\0\x04\0\0\x77\x29", 2, Some((0, SingleStepped, &[7, 6])));
        // mov %edi,%esi loses the upper half.
        check(b"\x89\xfe\x31\xff\x77\x29", 1, Some((0, SingleStepped, &[7])));
        // sub $8,%rsp; push: the return address is elsewhere.
        check(b"\x48\x83\xec\x08\x55", 1, Some((0, SingleStepped, &[7])));
        // ret, call, nothing, no code.
        check(b"\xc3\x55", 1, Some((0, SingleStepped, &[7])));
        check(b"", 1, None);
        check(b"\x06\x55", 1, None);
    }
}
