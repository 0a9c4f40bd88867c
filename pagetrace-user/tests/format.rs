//! The trace file, as bytes: what is written is read, and whatever else is read is a prefix of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "shared/any_event.rs"]
mod any_event;

use std::io::Read;

use any_event::{any_event, any_events};
use pagetrace_user::event::{Access, Actor, Body, CounterRow, Event, Header, Member, Probe, Trailer, Why};
use pagetrace_user::format::{BLOCK_BYTES_MAX, Encoder, FormatError, MAGIC, Outcome, Reader};
use pagetrace_user::units::{Comm, Nanos, Pages, Pfn, Pid, Range, Tid};
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

fn header() -> Header {
    Header {
        recorder: "0.1.0".into(),
        tgid: 4242,
        comm: "redis-server".into(),
        cmdline: vec!["redis-server".into(), "ü\u{fffd}\"\n".into()],
        page_bytes: 4096,
        heap_page_bytes: 8192,
        probes: vec![Probe { name: "rss_stat".into(), attached: false, reason: "why not".into() }],
        notes: vec!["a limit".into()],
        ..Header::default()
    }
}

fn trailer(events: u64) -> Trailer {
    Trailer {
        end: 17,
        reason: "interrupted".into(),
        events,
        counters: vec![CounterRow { cpu: 1, layer: "page".into(), seen: 3, emitted: 1, filtered: 1, dropped: 1 }],
        recursion_misses: vec![("rss_stat".into(), 2)],
        ..Trailer::default()
    }
}

/// A whole file, flushed after every `flush_every` events.
fn file_of(events: &[Event], flush_every: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(&header());
    let mut file = Vec::new();
    for (at, event) in events.iter().enumerate() {
        encoder.push(event);
        if let Some(ready) = encoder.take_ready() {
            file.extend_from_slice(&ready);
        }
        if at % flush_every == flush_every - 1 {
            file.extend_from_slice(&encoder.flush());
        }
    }
    file.extend_from_slice(&encoder.finish(&trailer(events.len() as u64)));
    assert_eq!(encoder.bytes(), file.len() as u64);
    assert_eq!(encoder.events(), events.len() as u64);
    file
}

fn read(file: impl Read) -> Result<(Header, Vec<Event>, Outcome), FormatError> {
    let mut reader = Reader::new(file)?;
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        events.push(event);
    }
    assert_eq!(reader.next_event().unwrap(), None, "the end stays the end");
    Ok((reader.header().clone(), events, reader.outcome()))
}

/// Both are the same; says only where they first differ.
fn check_same(back: &[Event], truth: &[Event]) {
    if let Some(at) = back.iter().zip(truth).position(|(back, truth)| back != truth) {
        assert_eq!(back[at], truth[at], "event {at} of {}", truth.len());
    }
    assert_eq!(back.len(), truth.len());
}

/// Whatever `file` is: nothing is read that is not a prefix of `truth`.
fn check_prefix(file: &[u8], truth: &[Event]) -> Option<(usize, Outcome)> {
    let (_, events, outcome) = read(file).ok()?;
    assert!(truth.starts_with(&events), "an event that nobody wrote");
    assert_eq!(outcome.events, events.len() as u64);
    assert!(outcome.bytes <= file.len() as u64);
    Some((events.len(), outcome))
}

/// The same events in every run.
fn fixed_events(count: usize) -> Vec<Event> {
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, b"pagetrace: the same in every run"),
    );
    let strategy = any_event();
    let mut events: Vec<Event> = (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    events.sort_by_key(|event| event.ts);
    events
}

/// A generator that needs no seed from outside (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_are_read_back(events in any_events(200), flush_every in 1usize..100) {
        let (head, back, outcome) = read(file_of(&events, flush_every).as_slice()).unwrap();
        assert_eq!(head, header());
        check_same(&back, &events);
        assert_eq!(outcome.trailer, Some(trailer(events.len() as u64)));
        assert!(outcome.is_whole());
    }

    #[test]
    fn garbage_is_refused_or_cut(garbage in proptest::collection::vec(any::<u8>(), 0..2000), keep in 0usize..600) {
        let mut file = file_of(&[], 1);
        file.truncate(keep);
        file.extend_from_slice(&garbage);
        check_prefix(&file, &[]);
    }
}

/// Garbage behind a checksum that holds: a writer with a bug, or malice.
#[test]
fn a_checksum_that_holds_over_garbage_is_no_panic() {
    let mut dice = Dice(42);
    let start = {
        let mut encoder = Encoder::new(&header());
        encoder.flush().to_vec()
    };
    for _ in 0..3000 {
        let mut block = vec![0u8; 36 + dice.roll(300) as usize];
        let length = block.len() as u32;
        block.iter_mut().skip(36).for_each(|byte| *byte = dice.roll(256) as u8);
        // Low bytes make short events, and so more of them.
        block.iter_mut().skip(36).step_by(2).for_each(|byte| *byte &= 0x0f);
        block[..4].copy_from_slice(&length.to_le_bytes());
        block[8] = 1;
        block[12] = 2;
        let count = if dice.roll(2) == 0 { u32::MAX } else { dice.roll(50) as u32 };
        block[16..20].copy_from_slice(&count.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..4]), &block[8..]);
        block[4..8].copy_from_slice(&crc.to_le_bytes());
        let mut file = start.clone();
        file.extend_from_slice(&block);
        let (_, events, outcome) = read(file.as_slice()).unwrap();
        assert!(events.len() < 300);
        assert!(!outcome.is_whole());
    }
}

/// Of those, `count` that have no long text: what is done with every bit of a file wants a small file.
fn short_events(count: usize) -> Vec<Event> {
    let mut events = fixed_events(2 * count);
    events.retain(|event| format!("{event:?}").len() < 400);
    events.truncate(count);
    assert_eq!(events.len(), count);
    events
}

#[test]
fn cut_at_every_byte_it_is_the_longest_prefix() {
    let events = short_events(300);
    let file = file_of(&events, 20);
    let mut longest = 0;
    for cut in 0..file.len() {
        match check_prefix(&file[..cut], &events) {
            None => assert_eq!(longest, 0, "cut at {cut}"),
            Some((read, outcome)) => {
                assert!(read >= longest && read % 20 == 0, "cut at {cut}");
                longest = read;
                assert_eq!(outcome.trailer, None);
                let whole_blocks = outcome.bytes == cut as u64;
                assert_eq!(outcome.is_unfinished(), whole_blocks, "cut at {cut}");
                assert_eq!(outcome.damage.map(|damage| damage.offset), (!whole_blocks).then_some(outcome.bytes));
            }
        }
    }
    assert_eq!(longest, 300);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let events = short_events(60);
    let file = file_of(&events, 6);
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
    let events = touches(600);
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

#[test]
fn the_first_flush_makes_a_readable_file() {
    let mut encoder = Encoder::new(&header());
    assert!(encoder.take_ready().is_none());
    let (head, events, outcome) = read(&encoder.flush()[..]).unwrap();
    assert_eq!((head, events.len(), outcome.is_unfinished()), (header(), 0, true));
}

#[test]
fn blocks_are_bounded_and_full_ones_come_by_themselves() {
    let events = fixed_events(20_000);
    let mut encoder = Encoder::new(&header());
    let mut file = encoder.flush().to_vec();
    for event in &events {
        encoder.push(event);
        if let Some(ready) = encoder.take_ready() {
            let length = u32::from_le_bytes(ready[..4].try_into().unwrap()) as usize;
            assert_eq!(length, ready.len(), "one block at a time");
            assert!(length <= BLOCK_BYTES_MAX);
            assert!(length > BLOCK_BYTES_MAX / 2, "{length}");
            file.extend_from_slice(&ready);
        }
    }
    file.extend_from_slice(&encoder.finish(&trailer(20_000)));
    check_same(&read(file.as_slice()).unwrap().1, &events);
}

#[test]
fn long_headers_and_trailers_take_more_blocks_than_one() {
    let mut long = header();
    long.cmdline = vec!["x".repeat(100_000); 3];
    let mut end = trailer(0);
    end.counters = vec![end.counters[0].clone(); 5 * 1024];
    let mut encoder = Encoder::new(&long);
    let file = encoder.finish(&end);
    let (head, _, outcome) = read(&file[..]).unwrap();
    assert_eq!(head, long);
    assert_eq!(outcome.trailer, Some(end));

    long.cmdline = vec!["x".repeat(17 << 20)];
    let mut encoder = Encoder::new(&long);
    let (head, _, _) = read(&encoder.flush()[..]).unwrap();
    assert!(head.cmdline.is_empty());
    assert_eq!(head.notes.len(), long.notes.len() + 1);
}

#[test]
fn an_event_from_the_past_takes_the_time_of_the_one_before() {
    let at = |ts| Event { ts: Nanos(ts), cpu: 0, tid: Tid(1), actor: None, body: Body::MmGone };
    let mut encoder = Encoder::new(&header());
    [at(10), at(7), at(12)].iter().for_each(|event| encoder.push(event));
    let mut file = encoder.flush().to_vec();
    encoder.push(&at(11));
    assert_eq!(encoder.moved(), 2);
    file.extend_from_slice(&encoder.finish(&trailer(4)));
    assert_eq!(read(file.as_slice()).unwrap().1, [at(10), at(10), at(12), at(12)]);
}

#[test]
fn what_is_no_trace_is_named() {
    let whole = file_of(&[], 1);
    let error = |file: &[u8]| Reader::new(file).expect_err("an error");
    assert!(matches!(error(b""), FormatError::Empty));
    assert!(matches!(error(b"\x7fELF\x02\x01\x01"), FormatError::Foreign { start } if start == b"\x7fELF\x02\x01\x01"));
    assert!(matches!(error(b"x"), FormatError::Foreign { .. }));
    assert!(matches!(error(&MAGIC), FormatError::Header { .. }));
    let mut newer = whole.clone();
    newer[8] = 2;
    assert!(matches!(error(&newer), FormatError::Header { .. }), "the version is under the checksum");
    let crc = crc32c::crc32c(&newer[..12]);
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(error(&newer), FormatError::Newer { version: 2 }));
    assert!(matches!(error(&whole[..16]), FormatError::Header { offset: 16, .. }));
}

/// A stream that gives one byte at a time, and an error at its end.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let (Some((&first, rest)), Some(place)) = (self.0.split_first(), into.first_mut()) else {
            return Err(std::io::Error::other("the disk is gone"));
        };
        (*place, self.0) = (first, rest);
        Ok(1)
    }
}

#[test]
fn an_error_of_the_stream_is_an_error_and_no_end() {
    let events = fixed_events(30);
    let file = file_of(&events, 10);
    let mut reader = Reader::new(Dribble(&file)).unwrap();
    for event in &events {
        assert_eq!(reader.next_event().unwrap().as_ref(), Some(event));
    }
    assert_eq!(reader.next_event().unwrap_err().to_string(), "the disk is gone");
    assert_eq!(reader.next_event().unwrap(), None);
    assert!(!reader.outcome().is_whole() || reader.outcome().trailer.is_some());
}

/// As a recorder sees it when a program touches `count` new pages one after the other: fault, frame, and a level
/// of the RSS now and then; then gives all of them back in that order. Times and frames are those of a machine
/// that is used: 0.7 to 1.2 us a fault, frames from the per-CPU lists in runs of 1 to 40, either direction.
fn touches(count: u64) -> Vec<Event> {
    let mut dice = Dice(7);
    let mut ts = 1_000_000_000_000;
    let mut pfn = 500_000;
    let (mut run, mut step) = (0, 1i64);
    let mut events = Vec::new();
    let mut frames = Vec::new();
    let event = |ts, body| Event { ts: Nanos(ts), cpu: 1, tid: Tid(4242), actor: None, body };
    for page in 0..count {
        if run == 0 {
            run = 1 + dice.roll(40);
            step = if dice.roll(2) == 0 { 1 } else { -1 };
            pfn = 300_000 + dice.roll(700_000);
        }
        run -= 1;
        pfn = pfn.wrapping_add_signed(step);
        frames.push(pfn);
        let addr = 0x7f12_3456_0000 + page * 4096;
        ts += 700 + dice.roll(500);
        events.push(event(
            ts,
            Body::Fault { addr: addr + 16, ip: 0x55aa_1234_5678, access: Access::Write, kernel: false },
        ));
        ts += 200 + dice.roll(200);
        events.push(event(
            ts,
            Body::Frame { addr: Some(addr), pfn: Pfn(pfn), order: 0, member: Member::Anon, level: Pages(1000 + page) },
        ));
    }
    for (at, pfn) in frames.iter().enumerate() {
        ts += 40 + dice.roll(120);
        events.push(event(ts, Body::Free { pfn: Pfn(*pfn), order: 0 }));
        if at % 64 == 63 {
            events.push(event(ts, Body::Rss { member: Member::Anon, level: Pages(1000 + count - at as u64) }));
        }
    }
    events
}

/// Bytes an event, header and trailer included.
fn check_size(events: &[Event], at_most: f64) {
    let file = file_of(events, 50_000);
    check_same(&read(file.as_slice()).unwrap().1, events);
    let each = file.len() as f64 / events.len() as f64;
    println!("{} events, {} bytes: {each:.2} an event", events.len(), file.len());
    assert!(each <= at_most, "{each:.2} bytes an event");
}

#[test]
fn touching_and_giving_back_takes_four_bytes_an_event_at_most() {
    check_size(&touches(50_000), 4.0);
}

/// The same with every frame anywhere in 4 GiB, which is the worst that a machine can do.
#[test]
fn scattered_frames_take_six_bytes_an_event_at_most() {
    let mut dice = Dice(99);
    let mut map = std::collections::HashMap::new();
    let mut events = touches(50_000);
    for event in &mut events {
        if let Body::Frame { pfn, .. } | Body::Free { pfn, .. } = &mut event.body {
            pfn.0 = *map.entry(pfn.0).or_insert_with(|| dice.roll(1 << 20));
        }
    }
    check_size(&events, 6.0);
}

#[test]
fn a_baseline_of_scattered_pages_takes_five_bytes_a_run_at_most() {
    let mut dice = Dice(3);
    let at = |body| Event { ts: Nanos(77), cpu: 0, tid: Tid(0), actor: None, body };
    let all = Range::of(0, 1 << 47);
    let mut events = vec![at(Body::Reading { why: Why::Start, range: all, maps: true })];
    let mut addr = 0x7f00_0000_0000;
    for _ in 0..50_000 {
        addr += if dice.roll(20) == 0 { 8192 } else { 4096 };
        let pfn = Some(Pfn(dice.roll(1 << 27)));
        events.push(at(Body::BaselinePages { addr, pages: Pages(1), pfn, file: false, swapped: false }));
    }
    check_size(&events, 5.1);
}

/// Two threads on two CPUs at once, and khugepaged between them.
#[test]
fn threads_that_take_turns_take_five_bytes_an_event_at_most() {
    let one = touches(20_000);
    let mut events: Vec<Event> = one
        .iter()
        .cloned()
        .chain(one.iter().cloned().map(|mut event| {
            event.ts.0 += 333;
            event.cpu = 0;
            event.tid = Tid(4243);
            match &mut event.body {
                Body::Fault { addr, .. } => *addr += 1 << 30,
                Body::Frame { addr: Some(addr), pfn, .. } => {
                    *addr += 1 << 30;
                    pfn.0 += 1 << 21;
                }
                Body::Free { pfn, .. } => pfn.0 += 1 << 21,
                _ => {}
            }
            event
        }))
        .collect();
    events.sort_by_key(|event| event.ts);
    for (at, event) in events.iter_mut().enumerate() {
        if at % 5000 == 0 {
            event.actor = Some(Actor { tgid: Pid(0), comm: Comm::of("khugepaged") });
        }
    }
    check_size(&events, 5.0);
}
