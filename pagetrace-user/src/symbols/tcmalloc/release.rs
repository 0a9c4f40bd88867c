//! Where in `PageHeap::DecommitSpan` the kernel's answer is known, and what its code tells of a span.
//!
//! ```text
//! mov 8(span),%rsi; mov (span),%rdi; shl $13 each; call TCMalloc_SystemRelease; test %al,%al; je
//! ```
//!
//! The branch is a good point: the kernel emulates it, the answer is in a register, and the span in another, because it is
//! needed behind. Registers are followed from the entry on, whatever the compiler chose.

use std::collections::BTreeMap;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use crate::symbols::Address;
use crate::symbols::prologue::{Cost, is_emulated};

/// The branch on the kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// From the function's entry.
    pub offset: u64,
    pub cost: Cost,
    /// The registers of the span and of the answer.
    pub span: u8,
    pub answer: u8,
    pub page_shift: u8,
    /// What was called with the pages.
    pub callee: Address,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Span,
    /// The span's word at this offset, shifted to the left by so many bits.
    Word(u64, u8),
    /// What the call gave.
    Answer,
}

/// Registers that a called function keeps (System V ABI).
const KEPT: [Register; 6] = [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// The branch in a function with this code; `None` when the code does anything else.
pub(super) fn site(code: &[u8], entry: Address) -> Option<Released> {
    let mut decoder = Decoder::with_ip(64, code, entry.0, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut values = BTreeMap::from([(Register::RSI, Value::Span)]);
    let mut called: Option<(Address, u8)> = None;
    let mut tested: Option<Register> = None;
    while decoder.can_decode() {
        let position = decoder.position();
        let instruction = decoder.decode();
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::Call if called.is_none() && instruction.op0_kind() == OpKind::NearBranch64 => {
                let (first, bytes) = (values.get(&Register::RDI)?, values.get(&Register::RSI)?);
                let (Value::Word(0, shift), Value::Word(8, same)) = (*first, *bytes) else { return None };
                if shift != same {
                    return None;
                }
                called = Some((Address(instruction.near_branch_target()), shift));
                values.retain(|register, _| KEPT.contains(register));
                values.insert(Register::RAX, Value::Answer);
                continue;
            }
            FlowControl::ConditionalBranch => {
                let ((callee, page_shift), answer) = (called?, tested?);
                let (span, _) = values.iter().find(|(_, value)| **value == Value::Span)?;
                let bytes = code.get(position..).unwrap_or_default();
                return Some(Released {
                    offset: position as u64,
                    cost: if is_emulated(bytes) { Cost::Emulated } else { Cost::SingleStepped },
                    span: number(*span)?,
                    answer: number(answer)?,
                    page_shift,
                    callee,
                });
            }
            _ => return None,
        }
        if instruction.is_invalid() {
            return None;
        }
        let is_flags_only = matches!(instruction.mnemonic(), Mnemonic::Test | Mnemonic::Cmp);
        if is_flags_only {
            tested = tests_answer(&instruction, &values);
            continue;
        }
        let new = moved(&instruction, &values);
        for used in info.info(&instruction).used_registers() {
            if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess) {
                values.remove(&used.register().full_register());
                // Other instructions may change the flags: only a branch right behind the test counts.
                tested = None;
            }
        }
        if let Some((register, value)) = new {
            values.insert(register, value);
        }
    }
    None
}

/// What an instruction puts into a register, as far as it matters here.
fn moved(instruction: &Instruction, values: &BTreeMap<Register, Value>) -> Option<(Register, Value)> {
    let target = instruction.op0_register();
    let full = target.full_register();
    match (instruction.mnemonic(), instruction.op0_kind(), instruction.op1_kind()) {
        (Mnemonic::Mov | Mnemonic::Movzx, OpKind::Register, OpKind::Register) => {
            let value = *values.get(&instruction.op1_register().full_register())?;
            // Of an answer the lowest byte is all.
            (target.is_gpr64() || value == Value::Answer).then_some((full, value))
        }
        (Mnemonic::Mov, OpKind::Register, OpKind::Memory) if target.is_gpr64() => {
            let is_plain = instruction.memory_index() == Register::None;
            let is_span = values.get(&instruction.memory_base()) == Some(&Value::Span);
            (is_plain && is_span).then_some((full, Value::Word(instruction.memory_displacement64(), 0)))
        }
        (Mnemonic::Shl, OpKind::Register, OpKind::Immediate8) if target.is_gpr64() => match values.get(&full)? {
            Value::Word(at, shift) => Some((full, Value::Word(*at, shift.checked_add(instruction.immediate8())?))),
            _ => None,
        },
        _ => None,
    }
}

/// The register whose lowest byte is tested for being 0, if that is the answer.
fn tests_answer(instruction: &Instruction, values: &BTreeMap<Register, Value>) -> Option<Register> {
    let tested = instruction.op0_register();
    let is_of_itself = instruction.mnemonic() == Mnemonic::Test
        && instruction.op1_kind() == OpKind::Register
        && instruction.op1_register() == tested;
    let is_lowest = tested.size() == 1 && !matches!(tested, Register::AH | Register::BH | Register::CH | Register::DH);
    let full = tested.full_register();
    (is_of_itself && is_lowest && values.get(&full) == Some(&Value::Answer)).then_some(full)
}

fn number(register: Register) -> Option<u8> {
    u8::try_from(register.number()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &[u8], expected: Option<(u64, u8, u8, u8)>) {
        let found = site(code, Address(0x1000));
        assert!(found.is_none_or(|found| found.cost == Cost::Emulated && found.callee == Address(0x1100)), "{found:?}");
        assert_eq!(
            found.map(|found| (found.offset, found.span, found.answer, found.page_shift)),
            expected,
            "{code:x?}"
        );
    }

    /// The bytes, with a call of 0x1100 in the place of each 0xe8 0 0 0 0.
    fn code(bytes: &[u8]) -> Vec<u8> {
        let mut code = bytes.to_vec();
        let at = code.windows(5).position(|five| five == b"\xe8\0\0\0\0").unwrap_or(0);
        if let Some(distance) = code.get_mut(at + 1..at + 5) {
            distance.copy_from_slice(&(0x100 - (at as u32 + 5)).to_le_bytes());
        }
        code
    }

    #[test]
    fn sites() {
        // push %rbp; mov %rsi,%rbp; push %rbx; mov %rdi,%rbx; sub $8,%rsp: Debian's 2.10.
        let head = b"\x55\x48\x89\xf5\x53\x48\x89\xfb\x48\x83\xec\x08";
        // mov 8(%rsi),%rsi; mov 0(%rbp),%rdi; shl $13,%rsi; shl $13,%rdi.
        let pages = b"\x48\x8b\x76\x08\x48\x8b\x7d\x00\x48\xc1\xe6\x0d\x48\xc1\xe7\x0d";
        let (call, test, branch) = (b"\xe8\0\0\0\0", b"\x84\xc0", b"\x74\x1e");
        let whole = code(&[&head[..], pages, call, test, branch].concat());
        check(&whole, Some((35, 5, 0, 13)));
        // The answer is kept elsewhere: mov %eax,%r12d; test %r12b,%r12b; jne.
        let kept = code(&[&head[..], pages, call, b"\x41\x89\xc4\x45\x84\xe4\x75\x1e"].concat());
        check(&kept, Some((39, 5, 12, 13)));
        // Pages of 32 KiB: shl $15.
        let larger = b"\x48\x8b\x76\x08\x48\x8b\x7d\x00\x48\xc1\xe6\x0f\x48\xc1\xe7\x0f";
        check(&code(&[&head[..], larger, call, test, branch].concat()), Some((35, 5, 0, 15)));
        // One of the two is shifted otherwise, or stands elsewhere in the span.
        let uneven = b"\x48\x8b\x76\x08\x48\x8b\x7d\x00\x48\xc1\xe6\x0d\x48\xc1\xe7\x0c";
        check(&code(&[&head[..], uneven, call, test, branch].concat()), None);
        let elsewhere = b"\x48\x8b\x76\x10\x48\x8b\x7d\x00\x48\xc1\xe6\x0d\x48\xc1\xe7\x0d";
        check(&code(&[&head[..], elsewhere, call, test, branch].concat()), None);
        // No register keeps the span over the call; another register is tested; the flags are changed behind the test.
        check(&code(&[&b"\x48\x89\xf0"[..], pages, call, test, branch].concat()), None);
        check(&code(&[&head[..], pages, call, b"\x84\xdb", branch].concat()), None);
        check(&code(&[&head[..], pages, call, test, b"\x83\xc0\x01", branch].concat()), None);
        // No call, no branch, cut off, nothing.
        check(&[&head[..], pages, test, branch].concat(), None);
        check(&code(&[&head[..], pages, call, test].concat()), None);
        (0..whole.len() - 2).for_each(|length| check(whole.get(..length).unwrap_or_default(), None));
    }
}
