//! Unwinding by tables that lie: whatever they say, there is an answer.

use std::sync::Arc;

use framehop::Module;

use super::*;
use crate::live::stacks::unwind::Copied;
use crate::units::Range;

/// Mutations of the tables, and places in the code from which each is tried.
const MUTATIONS: u64 = 400;
const PLACES: u64 = 40;

/// One number after the other, the same ones every time.
fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 16
}

#[test]
fn tables_that_lie_give_an_answer() {
    let code = CodeFile::open(&std::env::current_exe().unwrap()).unwrap();
    let sections = code.sections();
    let text = sections.text_svma.clone().unwrap();
    let mut random = 1;
    let words: Vec<u64> = (0..512).map(|at| 0x7000_0000 + at * 8).collect();
    let mut shared = Unwinding::default();
    for mutation in 0..MUTATIONS {
        let mut lying = sections.clone();
        for table in [&mut lying.eh_frame, &mut lying.eh_frame_hdr] {
            let mut bytes = table.as_ref().unwrap().to_vec();
            let length = bytes.len() as u64;
            for _ in 0..=mutation * 4 {
                let at = next(&mut random) % length;
                bytes[at as usize] = [0, 0xff, 0x7f, 0x80, next(&mut random) as u8][next(&mut random) as usize % 5];
            }
            if mutation % 10 == 9 {
                bytes.truncate((next(&mut random) % length) as usize);
            }
            *table = Some(Arc::from(bytes));
        }
        let module = guarded(|| Module::new("lies".to_owned(), text.clone(), 0, lying));
        let mut stacks = ProcessStacks::default();
        stacks.know(Range { start: text.start, end: text.end }, module);
        for _ in 0..PLACES {
            let ip = text.start + next(&mut random) % (text.end - text.start);
            let copied = Copied {
                ip,
                sp: 0x7000_0000,
                bp: 0x7000_0100,
                from: 0x7000_0000,
                words: &words,
                is_whole: false,
                has_returned: false,
                mended: None,
            };
            let mut addresses = Vec::new();
            stacks.unwind(&mut shared, copied, &mut addresses);
            assert!(!addresses.is_empty() && addresses.len() <= 512, "{mutation}: {}", addresses.len());
        }
    }
}
