//! Damage to a real trace: the longest valid prefix is read, nothing wrong is accepted, nobody panics.

use std::path::Path;

use pagetrace_user::event::{Event, Trailer};
use pagetrace_user::format::{Outcome, Reader};

use crate::accounts::{Loss, close};
use crate::programs::program;
use crate::recorder::{Recorder, run};
use crate::stage::Stage;
use crate::trace::Trace;

/// A small real trace: a program from its first instruction to its end.
fn small_trace(stage: &Stage) -> Vec<u8> {
    let program = program("family");
    let args = [std::ffi::OsStr::new("--"), program.as_os_str(), "blink".as_ref()];
    let recording = Recorder::start(&stage.join("traces"), args).ended();
    close(&recording, Loss::Nothing);
    std::fs::read(recording.file()).unwrap()
}

/// All that can be read; `None` where not even the header can.
fn read(bytes: &[u8]) -> Option<(Vec<Event>, Outcome)> {
    let mut reader = Reader::new(bytes).ok()?;
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().expect("memory has no errors") {
        events.push(event.clone());
    }
    Some((events, reader.outcome()))
}

struct Truth {
    bytes: Vec<u8>,
    events: Vec<Event>,
    trailer: Trailer,
}

impl Truth {
    fn of(bytes: Vec<u8>) -> Truth {
        let (events, outcome) = read(&bytes).expect("a trace");
        assert!(outcome.is_whole(), "{outcome:?}");
        let trailer = outcome.trailer.unwrap();
        assert!(events.len() > 100, "{} events", events.len());
        Truth { bytes, events, trailer }
    }

    /// Asserts that `bytes`, which differ from the trace first at `at`, are read as a prefix of it and as not whole.
    /// Returns how many events were read.
    fn check(&self, bytes: &[u8], at: usize) -> usize {
        let Some((events, outcome)) = read(bytes) else { return 0 };
        assert!(self.events.starts_with(&events), "changed at byte {at}: an event that was never written");
        assert!(!outcome.is_whole(), "changed at byte {at}: taken for whole");
        assert!(
            outcome.trailer.is_none() || outcome.trailer.as_ref() == Some(&self.trailer),
            "changed at byte {at}: trailer"
        );
        assert!(outcome.bytes as usize <= bytes.len(), "changed at byte {at}");
        events.len()
    }
}

#[test]
fn cut_at_every_byte() {
    let stage = Stage::enter("damage");
    let truth = Truth::of(small_trace(&stage));
    let mut known = 0;
    for length in 0..truth.bytes.len() {
        let events = truth.check(&truth.bytes[..length], length);
        assert!(events >= known, "cut at byte {length}: fewer events than of a shorter piece");
        known = events;
    }
    assert_eq!(known, truth.events.len(), "cut before its last byte, every event is there");
}

#[test]
fn ten_thousand_flipped_bits() {
    let stage = Stage::enter("damage");
    let truth = Truth::of(small_trace(&stage));
    let bits = truth.bytes.len() as u64 * 8;
    let mut bytes = truth.bytes.clone();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..10_000 {
        // xorshift64: the same bits each time for the same length.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bit = state % bits;
        let (at, mask) = (usize::try_from(bit / 8).unwrap(), 1_u8 << (bit % 8));
        bytes[at] ^= mask;
        truth.check(&bytes, at);
        bytes[at] ^= mask;
    }
}

#[test]
fn the_commands_say_so() {
    let stage = Stage::enter("damage");
    let truth = Truth::of(small_trace(&stage));
    let file = stage.join("damaged.pgt");
    let length = truth.bytes.len();
    for at in [16, length / 4, length / 2, length - 9, length - 1] {
        check_commands(&truth, &file, &truth.bytes[..at], &format!("cut at {at}"));
        let mut flipped = truth.bytes.clone();
        flipped[at] ^= 1;
        check_commands(&truth, &file, &flipped, &format!("changed at {at}"));
    }
}

fn check_commands(truth: &Truth, file: &Path, bytes: &[u8], what: &str) {
    std::fs::write(file, bytes).unwrap();
    for command in ["check", "report"] {
        let ran = run([command.as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, Some(7), "{command}, {what}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{command}, {what}: {ran:?}");
    }
    let readable = read(bytes).map(|(events, _)| events.len());
    match readable {
        // What could be read is shown, to the last event.
        Some(events) => assert_eq!(Trace::dump_with(file, 7).lines.len(), events, "{what}"),
        None => assert_eq!(run(["dump".as_ref(), "--json".as_ref(), file.as_os_str()]).code, Some(7), "{what}"),
    }
    assert!(readable.unwrap_or(0) <= truth.events.len());
}
