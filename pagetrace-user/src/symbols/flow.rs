//! Where a function's code goes: the instructions by which it returns, and the functions that it calls or ends in.
//!
//! Every path from the entry on is followed, through jumps into other functions too: a function that ends in another
//! one returns by that one's instruction. A jump through a word that the loader fills counts as one to the file's own
//! function. What cannot be followed (a jump to an address that only the running program
//! knows) makes the answer incomplete, and says so.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::elf::Elf;
use super::slots::Slots;
use super::{Address, SymbolError};

/// Instructions that are looked at, at most.
const MOST_INSTRUCTIONS: usize = 8192;
/// Bytes that are read at once.
const PIECE: u64 = 256;

/// Where code goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Of the instructions that return.
    pub returns: BTreeSet<Address>,
    /// Of the code that the function's own instructions call, or jump to outside of it.
    pub own_targets: BTreeSet<Address>,
    /// Every path was followed to its end.
    pub is_complete: bool,
}

/// Follows the code of a function `[entry, end)`.
///
/// # Errors
/// When the file's allowance is used up.
pub fn follow(elf: &Elf, slots: &Slots, entry: Address, end: Address) -> Result<Flow, SymbolError> {
    let mut flow = Flow { is_complete: true, ..Flow::default() };
    let (mut waiting, mut seen) = (vec![entry], BTreeSet::new());
    let mut left = MOST_INSTRUCTIONS;
    while let Some(start) = waiting.pop() {
        let mut at = start;
        let mut piece = (at, Vec::new());
        loop {
            if !seen.insert(at) {
                break;
            }
            left = left.saturating_sub(1);
            let Some(instruction) = decode(elf, at, &mut piece)?.filter(|_| left > 0) else {
                flow.is_complete = false;
                break;
            };
            let near = direct(&instruction);
            match instruction.flow_control() {
                FlowControl::Next => {}
                FlowControl::ConditionalBranch => waiting.extend(near),
                FlowControl::Call | FlowControl::IndirectCall => {
                    flow.own_targets.extend(near.filter(|_| (entry..end).contains(&at)));
                }
                FlowControl::Return => {
                    flow.returns.insert(at);
                    break;
                }
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                    let slot = (near.is_none() && instruction.is_ip_rel_memory_operand())
                        .then(|| Address(instruction.ip_rel_memory_address()));
                    let Some(target) = near.or_else(|| slots.own.get(&slot?).copied()) else {
                        flow.is_complete = false;
                        break;
                    };
                    if (entry..end).contains(&at) && !(entry..end).contains(&target) {
                        flow.own_targets.insert(target);
                    }
                    waiting.push(target);
                    break;
                }
                // Traps: nothing comes back.
                _ => break,
            }
            let is_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
            at = Address(instruction.next_ip());
            // The last instruction of a function is a call only if that never returns.
            if is_call && at >= end && start < end {
                break;
            }
        }
    }
    Ok(flow)
}

/// The place from which an indirect jump that begins a stub of the procedure linkage table takes its target.
///
/// # Errors
/// When the file's allowance is used up.
pub fn slot_of_stub(elf: &Elf, stub: Address) -> Result<Option<Address>, SymbolError> {
    let (mut at, mut piece) = (stub, (stub, Vec::new()));
    for _ in 0..3 {
        let Some(instruction) = decode(elf, at, &mut piece)? else { return Ok(None) };
        if instruction.flow_control() == FlowControl::IndirectBranch {
            return Ok(instruction.is_ip_rel_memory_operand().then(|| Address(instruction.ip_rel_memory_address())));
        }
        if instruction.code() != Code::Endbr64 {
            return Ok(None);
        }
        at = Address(instruction.next_ip());
    }
    Ok(None)
}

/// The instruction at an address; `None` where there is no code. `piece` keeps what was read.
fn decode(elf: &Elf, at: Address, piece: &mut (Address, Vec<u8>)) -> Result<Option<Instruction>, SymbolError> {
    let skip = |piece: &(Address, Vec<u8>)| usize::try_from(at.0.checked_sub(piece.0.0)?).ok();
    // The longest instruction has 15 bytes.
    if skip(piece).is_none_or(|skip| skip.saturating_add(15) > piece.1.len()) {
        *piece = (at, elf.code(at, PIECE)?);
    }
    let bytes = skip(piece).and_then(|skip| piece.1.get(skip..)).unwrap_or_default();
    let mut decoder = Decoder::with_ip(64, bytes, at.0, DecoderOptions::NONE);
    let instruction = decoder.decode();
    Ok((!instruction.is_invalid()).then_some(instruction))
}

/// The target that an instruction names itself.
fn direct(instruction: &Instruction) -> Option<Address> {
    let is_direct = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64;
    is_direct.then(|| Address(instruction.near_branch_target()))
}
