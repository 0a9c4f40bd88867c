//! Files cut, changed and made up: no panic, the longest prefix, and a word about everything that is odd.

use pagetrace_user::check::{Check, check};
use pagetrace_user::dump::{Filter, dump};
use pagetrace_user::event::{Body, HeapRun};
use pagetrace_user::format::Trace;
use pagetrace_user::format::go::GoReader;

use super::trace::Dice;
use super::{HELLO, TWO_PS, by_p, events, exported, report, words};

const BUFFER: usize = 32_768;
/// In `TWO_PS` 39 full buffers come first; then what the program wrote as it ended.
const FULL_BUFFERS: usize = 39 * BUFFER;

/// Everything that reads, on any bytes.
pub fn look_at(bytes: &[u8]) -> Check {
    let read = events(bytes);
    assert!(read.len() <= bytes.len() / 8);
    for json in [true, false] {
        let mut out = Vec::new();
        let outcome = dump(&mut GoReader::new(bytes).unwrap(), &Filter::default(), json, &mut out).unwrap();
        assert_eq!(outcome.events, read.len() as u64);
        assert!(outcome.bytes <= bytes.len() as u64);
        assert_eq!(outcome.damage.is_some(), outcome.bytes < bytes.len() as u64);
    }
    let report = report(bytes);
    assert!(!report.text().is_empty() && report.json().starts_with('{'));
    // All that could be read comes out again, and in every P's order.
    let again = by_p(&events(&exported(bytes)));
    let runs = |events| by_p(events).into_iter().map(|(p, runs)| (p, runs.into_iter().map(|(run, _)| run).collect()));
    assert!(
        again
            .into_iter()
            .map(|(p, runs)| (p, runs.into_iter().map(|(run, _)| run).collect::<Vec<_>>()))
            .eq(runs(&read))
    );
    check(&mut GoReader::new(bytes).unwrap()).unwrap()
}

/// The odd things that a check names, by kind.
fn odd(found: &Check) -> Vec<(&'static str, u64)> {
    found.go.iter().flat_map(|go| &go.quirks).map(|quirk| (quirk.kind, quirk.count)).collect()
}

#[test]
fn cut_at_every_byte_it_is_the_longest_prefix() {
    // An event of two words, 1500 pages, after the buffer of P 0.
    let large = [&HELLO[..104], &0xc000_4000_0005_u64.to_le_bytes(), &1500_u64.to_le_bytes(), &HELLO[104..]].concat();
    for (bytes, last) in [(HELLO, 128), (&large, 144)] {
        let mut longest = 0;
        for cut in 0..bytes.len() {
            let found = look_at(&bytes[..cut]);
            let (state, valid) = (found.file_state, found.bytes as usize);
            assert!(found.events >= longest && valid <= cut && cut - valid < 16, "cut at {cut}");
            longest = found.events;
            assert_eq!(state == "damaged", valid < cut, "cut at {cut}");
            assert!(cut % 8 == 0 || state == "damaged", "cut at {cut}");
            // Only within the buffer of no P, which stands last, a cut between two words does not show.
            assert_eq!(state == "complete", valid == cut && cut >= last + 8, "cut at {cut}: {found:?}");
        }
    }
}

#[test]
fn a_program_that_was_killed_leaves_full_buffers_only() {
    let found = look_at(&TWO_PS[..FULL_BUFFERS]);
    assert_eq!((found.file_state, found.code() as u8, found.damage.is_none()), ("unfinished", 7, true));
    assert_eq!(odd(&found), [("go_not_ended", 1)]);
    assert_eq!(words(&exported(&TWO_PS[..FULL_BUFFERS])), words(&TWO_PS[..FULL_BUFFERS]));
}

#[test]
fn a_p_that_was_given_up_lacks_its_last_buffer() {
    // Those of P 0 and P 1, of 8600 and 16800 bytes, and that of no P.
    let end = &TWO_PS[FULL_BUFFERS..];
    let found = look_at(&[&TWO_PS[..FULL_BUFFERS], &end[..8600], &end[8600 + 16_800..]].concat());
    assert_eq!((found.file_state, found.code() as u8), ("complete", 0));
    assert_eq!(odd(&found), [("go_buffer_lost", 1), ("go_no_p", 16)]);
    assert!(found.text().contains("the last buffer of P 1 is full"), "{}", found.text());
}

#[test]
fn a_buffer_that_is_missing_shows_in_the_pages() {
    // The second of P 0.
    let bytes = [&TWO_PS[..2 * BUFFER], &TWO_PS[3 * BUFFER..]].concat();
    let kinds: Vec<_> = report(&bytes).anomalies.iter().map(|odd| odd.kind).collect();
    assert_eq!(kinds, ["heap_alloc_twice", "heap_free_twice", "heap_scav_in_use", "heap_scav_twice", "go_no_p"]);
    look_at(&bytes);
}

#[test]
fn a_buffer_cut_in_the_middle_of_the_file_is_odd() {
    let found = look_at(&[&TWO_PS[..BUFFER - 800], &TWO_PS[BUFFER..]].concat());
    assert_eq!(odd(&found), [("go_short_buffer", 1), ("go_no_p", 16)]);
}

#[test]
fn time_that_goes_back_within_a_p_is_odd_and_stays() {
    let mut bytes = HELLO.to_vec();
    // The time of the buffer of no P, and so of its 17 events, the second buffer's first being later.
    bytes.extend_from_slice(&HELLO[128..]);
    bytes[288..296].copy_from_slice(&(1_000_000_u64 << 3).to_le_bytes());
    let found = look_at(&bytes);
    assert_eq!(odd(&found)[0], ("go_time_went_back", 17));
    assert_eq!(found.out_of_order, 0);
}

#[test]
fn a_buffer_without_a_time_is_read_with_that_of_the_boot() {
    let bytes = [&HELLO[..8], &HELLO[16..]].concat();
    let found = look_at(&bytes);
    assert_eq!((odd(&found)[0], found.first_ns), (("go_no_sync", 1), 0));
}

#[test]
fn words_that_no_runtime_writes_end_the_prefix() {
    let start = &HELLO[..104];
    for (words, why) in [
        (&[0xc000_0000_0001_u64][..], "an event of no pages"),
        (&[0xc000_0000_000d, 2000], "an event with two numbers of pages"),
        (&[0xc000_0000_0005, 1023], "an event with an impossible number of pages"),
        (&[0xc000_0000_0005, u64::MAX], "an event with an impossible number of pages"),
        (&[0xffff_ffff_e011], "an event with an impossible number of pages"),
        (&[0xc000_0000_0005], "the file ends in the middle of an event"),
        (&[(1 << 16) << 3 | 4], "a P that no machine has"),
        (&[(-2_i64 << 3) as u64 | 4], "a P that no machine has"),
        (&[4, 12], "a buffer with nothing in it"),
        (&[u64::MAX << 3], "a time beyond 64 bits"),
        (&[1 << 57 << 3], "a time beyond 64 bits"),
        (&[((1 << 57) - 1) << 3, 0xffff_c000_0000_0009], "a time beyond 64 bits"),
    ] {
        let mut bytes = start.to_vec();
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.extend_from_slice(&0xc000_0000_0009_u64.to_le_bytes()[..if words.len() == 1 { 0 } else { 8 }]);
        let found = look_at(&bytes);
        let damage = found.damage.unwrap();
        assert_eq!((damage.why.as_str(), found.events), (why, 11), "{words:x?}");
    }
    let found = look_at(&HELLO[8..]);
    assert_eq!(found.damage.unwrap().why, "no P says whose words these are");
}

#[test]
fn random_changes_are_no_panic() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut whole, mut cut) = (0, 0);
    for _ in 0..1_000 {
        let mut bytes = HELLO.to_vec();
        for _ in 0..=dice.roll(4) {
            bytes[dice.roll(280) as usize] = dice.roll(256) as u8;
        }
        let found = look_at(&bytes);
        whole += u64::from(found.events == 29);
        cut += u64::from(found.damage.is_some());
    }
    assert!(whole > 100 && cut > 100, "{whole} {cut}");
}

#[test]
fn events_of_threads_without_a_p_are_told() {
    let without =
        events(HELLO).iter().filter(|event| matches!(event.body, Body::Heap(HeapRun { p: None, .. }))).count();
    assert_eq!(without, 17);
    let mut out = Vec::new();
    dump(&mut GoReader::new(HELLO).unwrap(), &Filter::default(), true, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains(r#""p":-1"#)).count(), 17);
    assert!(GoReader::new(HELLO).unwrap().header().notes.iter().any(|note| note.contains("no header")));
}
