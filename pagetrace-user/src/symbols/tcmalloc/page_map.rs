//! Where tcmalloc notes which span each page belongs to, and where a span says what it is: read off the code of
//! `PageHeap::Carve`, which sets both.
//!
//! ```text
//! andb $0xfc,0x2b(span)                             the span's place: in use
//! shr $18,%rdx; and $0x3ffff,%ecx; mov 0x80000(heap,%rdx,8),%rdx      the upper table
//! mov span,(%rdx,%rcx,8)                            the lower one
//! ```
//!
//! *Bound.* Of a map of another shape, and of code that says two things, there is no answer.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// The map from pages to spans: a table of tables in the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageMap {
    /// Where the upper table begins, from the heap on, in bytes.
    pub root: u64,
    /// Entries of a lower table, as a power of 2.
    pub leaf_bits: u8,
    /// Where a span has the byte whose lowest two bits are 0 for one in use, 1 for a free one, 2 for one given back.
    pub place_at: u64,
}

/// Powers of 2 that the entries of a lower table are believed to have.
const LEAF_BITS: std::ops::RangeInclusive<u8> = 12..=24;
/// A smaller offset is a field's, not the table's.
const LEAST_ROOT: u64 = 0x1000;
const MOST_ROOT: u64 = 1 << 24;
/// Bytes of a span.
const MOST_SPAN: u64 = 0x80;

/// The map that a function with this code uses.
pub(super) fn of(code: &[u8]) -> Option<PageMap> {
    let (mut roots, mut bits, mut masks, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            break;
        }
        let is_table = instruction.memory_index() != Register::None && instruction.memory_index_scale() == 8;
        match (instruction.mnemonic(), instruction.op0_kind()) {
            (Mnemonic::Mov, OpKind::Register) if is_table && instruction.memory_displacement64() != 0 => {
                roots.push(instruction.memory_displacement64());
            }
            (Mnemonic::Shr, OpKind::Register) if instruction.op1_kind() == OpKind::Immediate8 => {
                bits.push(instruction.immediate8());
            }
            (Mnemonic::And, OpKind::Memory) if is_to_in_use(&instruction) => {
                places.push(instruction.memory_displacement64());
            }
            (Mnemonic::And, OpKind::Register) if instruction.op1_kind() == OpKind::Immediate32 => {
                masks.push(u64::from(instruction.immediate32()));
            }
            _ => {}
        }
    }
    let (root, leaf_bits, place_at) = (only(&roots)?, only(&bits)?, only(&places)?);
    let is_one = (LEAST_ROOT..MOST_ROOT).contains(&root) && LEAF_BITS.contains(&leaf_bits) && place_at < MOST_SPAN;
    let mask = (1_u64 << leaf_bits.min(63)) - 1;
    (is_one && masks.contains(&mask)).then_some(PageMap { root, leaf_bits, place_at })
}

/// Whether it takes the lowest two bits away from a byte in memory.
fn is_to_in_use(instruction: &Instruction) -> bool {
    instruction.op1_kind() == OpKind::Immediate8
        && instruction.immediate8() == 0xfc
        && instruction.memory_size().size() == 1
}

/// What all of them are.
fn only<T: Copy + PartialEq>(values: &[T]) -> Option<T> {
    let first = *values.first()?;
    values.iter().all(|value| *value == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        // andb $0xfc,0x2b(%r12).
        let place = b"\x41\x80\x64\x24\x2b\xfc";
        // shr $18,%rdx; and $0x3ffff,%ecx; mov 0x80000(%rbp,%rdx,8),%rdx; mov %rsi,(%rdx,%rcx,8).
        let table = b"\x48\xc1\xea\x12\x81\xe1\xff\xff\x03\x00\x48\x8b\x94\xd5\x00\x00\x08\x00\x48\x89\x34\xca";
        let other = b"\x48\xc1\xea\x12\x81\xe1\xff\xff\x03\x00\x48\x8b\x94\xd5\x10\x00\x08\x00\x48\x89\x34\xca";
        let deeper = b"\x48\xc1\xea\x0c";
        let map = |root| Some(PageMap { root, leaf_bits: 18, place_at: 0x2b });
        assert_eq!(of(&[&place[..], table].concat()), map(0x80000));
        assert_eq!(of(&[&place[..], other, other].concat()), map(0x80010));
        // Two tables, three levels, no place, nothing.
        assert_eq!(of(&[&place[..], table, other].concat()), None);
        assert_eq!(of(&[&place[..], table, deeper].concat()), None);
        assert_eq!(of(table), None);
        assert_eq!(of(b""), None);
    }
}
