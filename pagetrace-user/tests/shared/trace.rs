//! Whole trace files in memory: made of events, read back, and events to make them of that are the same in every run.
//!
//! Included by test crates with `#[path = "shared/trace.rs"] mod trace;`, beside `any_event`.

#![allow(dead_code, reason = "no test crate needs all of it")]

use std::io::Read;

use pagetrace_user::event::{Access, Body, CounterRow, Event, Header, Member, Probe, Trailer};
use pagetrace_user::format::{Encoder, FormatError, Outcome, Reader};
use pagetrace_user::units::{Nanos, Pages, Pfn, Tid};
use proptest::prelude::ProptestConfig;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::any_event::any_event;

pub fn header() -> Header {
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

pub fn trailer(events: u64) -> Trailer {
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
pub fn file_of(events: &[Event], flush_every: usize) -> Vec<u8> {
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

pub fn read(file: impl Read) -> Result<(Header, Vec<Event>, Outcome), FormatError> {
    let mut reader = Reader::new(file)?;
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        events.push(event.clone());
    }
    assert_eq!(reader.next_event().unwrap(), None, "the end stays the end");
    Ok((reader.header().clone(), events, reader.outcome()))
}

/// Both are the same; says only where they first differ.
pub fn check_same(back: &[Event], truth: &[Event]) {
    if let Some(at) = back.iter().zip(truth).position(|(back, truth)| back != truth) {
        assert_eq!(back[at], truth[at], "event {at} of {}", truth.len());
    }
    assert_eq!(back.len(), truth.len());
}

/// Whatever `file` is: nothing is read that is not a prefix of `truth`.
pub fn check_prefix(file: &[u8], truth: &[Event]) -> Option<(usize, Outcome)> {
    let (_, events, outcome) = read(file).ok()?;
    assert!(truth.starts_with(&events), "an event that nobody wrote");
    assert_eq!(outcome.events, events.len() as u64);
    assert!(outcome.bytes <= file.len() as u64);
    Some((events.len(), outcome))
}

/// The same events in every run.
pub fn fixed_events(count: usize) -> Vec<Event> {
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
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Of those, `count` that have no long text: what is done with every bit of a file wants a small file.
pub fn short_events(count: usize) -> Vec<Event> {
    let mut events = fixed_events(2 * count);
    events.retain(|event| format!("{event:?}").len() < 400);
    events.truncate(count);
    assert_eq!(events.len(), count);
    events
}

/// As a recorder sees it when a program touches `count` new pages one after the other, and gives all of them back in
/// that order, `rounds` times: fault, frame and give-back, and a level of the RSS now and then.
///
/// Times and frames are as on a machine in use (6.18, 4 GiB, 20,000 pages looked up in pagemap): 4 of 5 frames are far
/// from the one before; whatever was given back comes again in the opposite order, every single one.
pub fn touches(count: u64, rounds: u64) -> Vec<Event> {
    let mut dice = Dice(7);
    let mut ts = 1_000_000_000_000;
    let mut pfn = 500_000;
    let mut frames: Vec<u64> = (0..count)
        .map(|_| {
            pfn = match dice.roll(20) {
                0 => pfn + 1,
                1..4 => pfn + 2 + dice.roll(60),
                _ => dice.roll(1 << 20),
            };
            pfn
        })
        .collect();
    let mut events = Vec::new();
    let event = |ts, body| Event { ts: Nanos(ts), cpu: 1, tid: Tid(4242), actor: None, body };
    for _ in 0..rounds {
        let (member, order) = (Member::Anon, 0);
        for (page, pfn) in (0..).zip(&frames) {
            let addr = 0x7f12_3456_0000 + page * 4096;
            ts += 700 + dice.roll(500);
            let ip = 0x55aa_1234_5678;
            events.push(event(ts, Body::Fault { addr: addr + 16, ip, access: Access::Write, kernel: false }));
            ts += 200 + dice.roll(200);
            let (addr, level) = (Some(addr), Pages(1000 + page));
            events.push(event(ts, Body::Frame { addr, pfn: Pfn(*pfn), order, member, level }));
        }
        for (at, pfn) in (0..).zip(&frames) {
            ts += 40 + dice.roll(120);
            events.push(event(ts, Body::Free { pfn: Pfn(*pfn), order }));
            if at % 64 == 63 {
                events.push(event(ts, Body::Rss { member, level: Pages(999 + count - at) }));
            }
        }
        frames.reverse();
    }
    events
}
