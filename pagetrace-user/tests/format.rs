//! The trace file, as bytes: what is written is read back, and what is none is named.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "shared/any_event.rs"]
mod any_event;
#[path = "shared/trace.rs"]
mod trace;

use std::io::Read;

use any_event::any_events;
use pagetrace_user::event::{Body, Event, Layer};
use pagetrace_user::format::{BLOCK_BYTES_MAX, Encoder, FormatError, MAGIC, Reader, VERSION};
use pagetrace_user::units::{Nanos, Tid};
use proptest::prelude::{ProptestConfig, proptest};
use trace::{check_same, file_of, fixed_events, header, read, trailer};

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
    newer[8] = VERSION as u8 + 1;
    assert!(matches!(error(&newer), FormatError::Header { .. }), "the version is under the checksum");
    let crc = crc32c::crc32c(&newer[..12]);
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(error(&newer), FormatError::Newer { version } if version == VERSION + 1));
    assert!(matches!(error(&whole[..16]), FormatError::Header { offset: 16, .. }));
}

/// Version 1 had no heap layer, and was the same in everything else.
#[test]
fn an_older_file_is_read() {
    let mut events = fixed_events(200);
    events.retain(|event| event.body.layer() != Layer::Heap);
    let mut older = file_of(&events, 50);
    older[8] = 1;
    let crc = crc32c::crc32c(&older[..12]);
    older[12..16].copy_from_slice(&crc.to_le_bytes());
    let (_, back, outcome) = read(older.as_slice()).unwrap();
    check_same(&back, &events);
    assert!(outcome.is_whole());
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
        assert_eq!(reader.next_event().unwrap(), Some(event));
    }
    assert_eq!(reader.next_event().unwrap_err().to_string(), "the disk is gone");
    assert_eq!(reader.next_event().unwrap(), None);
    assert!(!reader.outcome().is_whole() || reader.outcome().trailer.is_some());
}
