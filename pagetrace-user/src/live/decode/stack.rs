//! Records of stacks.

use pagetrace_common::record;

use crate::event::StackOf;
use crate::live::decode::What;

/// The words of a stack: registers, what the tail is, what was mended.
pub(super) fn stack(flags: u8, word: &dyn Fn(usize) -> u64) -> What {
    let Ok(of) = StackOf::try_from(flags) else { return What::Unknown };
    if word(3) & record::STACK_IS_KERNEL != 0 {
        return What::KernelStack { of, is_alone: word(3) & record::STACK_IS_ALONE != 0 };
    }
    What::Stack {
        of,
        ip: word(0),
        sp: word(1),
        bp: word(2),
        from: word(6),
        is_walked: word(3) & record::STACK_ADDRESSES != 0,
        is_whole: word(3) & record::STACK_IS_WHOLE != 0,
        has_returned: word(3) & record::STACK_RETURNED != 0,
        has_kernel: word(3) & record::STACK_HAS_KERNEL != 0,
        mended: (word(4) != 0).then_some((word(4), word(5))),
    }
}
