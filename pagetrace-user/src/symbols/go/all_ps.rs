//! Where a Go program keeps the list of its scheduler's Ps, `runtime.allp`: a slice of pointers.
//!
//! A stripped program has no symbol that tells it, but its code does: `runtime.procresize`, which makes the Ps, names the
//! variable by its distance from the instruction. It names others too; whoever reads the process's memory sees which of
//! them is a list of Ps.
//!
//! *Bound.* At most [`MOST_PLACES`] places, of the first [`LENGTH`] bytes of the function.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, OpKind, Register};

use crate::symbols::elf::Elf;
use crate::symbols::gopclntab::Function;
use crate::symbols::{Address, SymbolError};

/// The function.
pub const SYMBOL: &str = "runtime.procresize";

/// Bytes of it that are read; it has some 3,000.
const LENGTH: u64 = 16 << 10;
const MOST_PLACES: usize = 256;

/// Every aligned variable that the function names, one of which is the list; the lowest first.
///
/// # Errors
/// When the program cannot be read.
pub fn places(elf: &Elf, function: Function) -> Result<Vec<Address>, SymbolError> {
    let bytes = function.end.0.saturating_sub(function.entry.0).min(LENGTH);
    let code = elf.code(function.entry, bytes)?;
    let decoder = Decoder::with_ip(64, &code, function.entry.0, DecoderOptions::NONE);
    let mut places = BTreeSet::new();
    for instruction in decoder {
        let names_one = instruction.memory_base() == Register::RIP
            && (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
        let place = Address(instruction.memory_displacement64());
        let is_code = elf.segment_of(place).is_some_and(|segment| segment.executable);
        if names_one && !is_code && place.0.is_multiple_of(8) {
            places.insert(place);
        }
        if places.len() == MOST_PLACES {
            break;
        }
    }
    Ok(places.into_iter().collect())
}
