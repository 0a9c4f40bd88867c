//! Trace files cut, flipped, reordered and made up: what is read is always a prefix of what was written.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "shared/any_event.rs"]
mod any_event;
#[path = "shared/trace.rs"]
mod trace;

use pagetrace_user::format::Encoder;
use proptest::prelude::{ProptestConfig, any, proptest};
use trace::{Dice, check_prefix, file_of, fixed_events, header, read, short_events, touches, trailer};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused_or_cut(garbage in proptest::collection::vec(any::<u8>(), 0..2000), keep in 0usize..600) {
        let mut file = file_of(&[], 1);
        file.truncate(keep);
        file.extend_from_slice(&garbage);
        check_prefix(&file, &[]);
    }
}

/// The length of the block at the start of `bytes`.
fn block_length(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
}

/// Makes the checksum of a block hold again.
fn reseal(block: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..4]), &block[8..]);
    block[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Behind a checksum that holds: a writer with a bug, or malice.
#[test]
fn changed_events_under_a_checksum_that_holds_are_no_panic() {
    let events = short_events(400);
    let mut encoder = Encoder::new(&header());
    let start = encoder.flush();
    events.iter().for_each(|event| encoder.push(event));
    let block = encoder.flush();
    assert_eq!(block_length(&block), block.len());
    let mut dice = Dice(42);
    let (mut longest, mut reasons) = (0, std::collections::BTreeSet::new());
    for _ in 0..4000 {
        let mut changed = block.to_vec();
        for _ in 0..=dice.roll(4) {
            // Past length, checksum and number.
            let at = 12 + dice.roll(block.len() as u64 - 12) as usize;
            changed[at] = dice.roll(256) as u8;
        }
        reseal(&mut changed);
        let (_, read, outcome) = read([&start[..], &changed].concat().as_slice()).unwrap();
        assert!(read.len() <= block.len());
        longest = longest.max(read.len());
        assert!(read.windows(2).all(|two| two[0].ts <= two[1].ts));
        reasons.extend(outcome.damage.map(|damage| damage.why));
    }
    // The changes reach far, and most of the checks.
    assert!(longest >= 400, "{longest}");
    assert!(reasons.len() >= 12, "{reasons:#?}");
}

/// Counts and lengths that promise more than there is take no memory.
#[test]
fn claims_of_a_block_cost_nothing() {
    let start = Encoder::new(&header()).flush();
    for (at, claim) in [(14, &[0xff; 2][..]), (16, &[0xff; 4]), (20, &[0xff; 8])] {
        let mut block = vec![0u8; 40];
        block[0] = 40;
        block[8] = 1;
        block[12] = 2;
        block[at..at + claim.len()].copy_from_slice(claim);
        reseal(&mut block);
        let (_, events, outcome) = read([&start[..], &block].concat().as_slice()).unwrap();
        assert!(events.is_empty() && outcome.damage.is_some());
    }
    for length in [0, 35, 65_537, u32::MAX] {
        let file = [&start[..], &length.to_le_bytes(), &[0; 100_000]].concat();
        let (_, events, outcome) = read(file.as_slice()).unwrap();
        assert!(events.is_empty());
        assert_eq!(outcome.damage.unwrap().why, "a block of impossible length");
    }
}

#[test]
fn cut_at_every_byte_it_is_the_longest_prefix() {
    let events = short_events(120);
    let file = file_of(&events, 10);
    let mut longest = 0;
    for cut in 0..file.len() {
        match check_prefix(&file[..cut], &events) {
            None => assert_eq!(longest, 0, "cut at {cut}"),
            Some((read, outcome)) => {
                assert!(read >= longest && read % 10 == 0, "cut at {cut}");
                longest = read;
                assert_eq!(outcome.trailer, None);
                let whole_blocks = outcome.bytes == cut as u64;
                assert_eq!(outcome.is_unfinished(), whole_blocks, "cut at {cut}");
                assert_eq!(outcome.damage.map(|damage| damage.offset), (!whole_blocks).then_some(outcome.bytes));
            }
        }
    }
    assert_eq!(longest, 120);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let events = short_events(28);
    let file = file_of(&events, 4);
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Some((_, outcome)) = check_prefix(&flipped, &events) {
            assert!(!outcome.is_whole(), "bit {bit}");
            let damage = outcome.damage.expect("a flipped bit is damage");
            assert!(damage.offset <= bit as u64 / 8, "bit {bit}");
        }
    }
}

#[test]
fn ten_thousand_random_flips_in_a_larger_file() {
    let events = touches(600, 1);
    let file = file_of(&events, 150);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..10_000 {
        let mut flipped = file.clone();
        for _ in 0..=dice.roll(3) {
            let bit = dice.roll(file.len() as u64 * 8) as usize;
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        if let Some((_, outcome)) = check_prefix(&flipped, &events) {
            assert!(flipped == file || !outcome.is_whole());
        }
    }
}

#[test]
fn a_block_missing_or_twice_ends_the_prefix() {
    let events = fixed_events(30);
    let mut encoder = Encoder::new(&header());
    let head = encoder.flush();
    let mut blocks = Vec::new();
    for ten in events.chunks(10) {
        ten.iter().for_each(|event| encoder.push(event));
        blocks.push(encoder.flush());
    }
    let end = encoder.finish(&trailer(30));
    assert!(encoder.flush().is_empty());
    let of = |order: &[usize]| {
        let mut file = head.to_vec();
        order.iter().for_each(|&block| file.extend_from_slice(&blocks[block]));
        file.extend_from_slice(&end);
        check_prefix(&file, &events).unwrap()
    };
    assert_eq!((of(&[0, 1, 2]).0, of(&[0, 1, 2]).1.is_whole()), (30, true));
    for (order, expected) in [(&[0, 2][..], 10), (&[0, 0, 1, 2], 10), (&[1, 0, 2], 0), (&[0, 1], 20)] {
        let (read, outcome) = of(order);
        assert_eq!((read, outcome.is_whole()), (expected, false), "{order:?}");
    }
}

#[test]
fn bytes_after_the_end_are_damage_but_cost_no_event() {
    let events = fixed_events(30);
    let mut file = file_of(&events, 10);
    file.push(0);
    let (read, outcome) = check_prefix(&file, &events).unwrap();
    assert_eq!(read, 30);
    assert!(outcome.trailer.is_some() && !outcome.is_whole());
    assert_eq!(outcome.damage.unwrap().offset, file.len() as u64 - 1);
}
