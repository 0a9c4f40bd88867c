//! What a trace tells of one moment, and of the time since another: the same as a trace that ends there, and lines that
//! add up.

use pagetrace_user::event::{Body, DirtyFile, Event, FilePages, Trailer};
use pagetrace_user::format::Reader;
use pagetrace_user::replay::{State, Window, fold, fold_within};
use pagetrace_user::report::Report;
use pagetrace_user::rss::{By, Rss};
use pagetrace_user::units::Nanos;

use crate::{fixture, stacked};

fn traces() -> [Vec<Event>; 3] {
    [fixture::eventful(), fixture::short_life(), stacked::trace()]
}

fn rss_of(events: &[Event], by: By, window: Window) -> Rss {
    Rss::of(&mut Reader::new(fixture::whole(events).as_slice()).unwrap(), by, window).unwrap().0
}

/// How long after the first event each event is: once for each time.
fn moments(events: &[Event]) -> Vec<Nanos> {
    let mut moments: Vec<Nanos> = events.iter().map(|event| event.ts.since(events[0].ts)).collect();
    moments.dedup();
    moments
}

#[test]
fn a_moment_is_the_end_of_what_came_before_it() {
    for events in traces() {
        for at in moments(&events) {
            let bytes = fixture::whole(&events);
            let window = Window { at: Some(at), since: None };
            let (state, _) = fold_within(&mut Reader::new(bytes.as_slice()).unwrap(), window, |_, _| {}).unwrap();
            let mut until = State::new();
            for event in events.iter().take_while(|event| event.ts.since(events[0].ts) <= at) {
                until.apply(event);
            }
            until.finish(true);
            assert_eq!(state.ledger(), until.ledger(), "at {at:?}");
            assert_eq!(state.snapshot().ranges, until.snapshot().ranges, "at {at:?}");
            assert!(state.tally().faults().eq(until.tally().faults()), "at {at:?}");
        }
    }
}

#[test]
fn changes_since_a_moment_are_the_difference_of_two_moments() {
    for events in traces() {
        let moments = moments(&events);
        for (index, &since) in moments.iter().enumerate() {
            // Another program begins with nothing, whatever there was; one that has ended does not change any more.
            let is_later = |event: &Event| event.ts.since(events[0].ts) > since;
            let is_told_otherwise = |event: &Event| match event.body {
                Body::Exec { .. } => is_later(event),
                Body::Exit { .. } | Body::MmGone => !is_later(event),
                _ => false,
            };
            if events.iter().any(is_told_otherwise) {
                continue;
            }
            for &at in moments[index..].iter().step_by(9) {
                for (_, by) in By::ALL {
                    let rss = rss_of(&events, by, Window { since: Some(since), at: Some(at) });
                    let before = rss_of(&events, by, Window { since: None, at: Some(since) });
                    let change = rss.rss_bytes as i64 - before.rss_bytes as i64;
                    assert_eq!(rss.change_bytes, Some(change), "{by:?} {since:?} {at:?}");
                    let lines: i64 = rss.lines.iter().filter_map(|line| line.change_bytes).sum();
                    let unexplained = rss.unexplained_bytes - before.unexplained_bytes;
                    assert!(by == By::Age || lines + unexplained == change, "{by:?} {since:?} {at:?}: {rss:#?}");
                }
            }
        }
    }
}

#[test]
fn lines_and_what_is_unexplained_are_the_rss() {
    for events in traces() {
        let whole = fixture::whole(&events);
        let (state, outcome) = fold(&mut Reader::new(whole.as_slice()).unwrap()).unwrap();
        let report = Report::new(&fixture::header(), &state, &outcome, 10);
        for (word, by) in By::ALL {
            let rss = rss_of(&events, by, Window::default());
            let lines: u64 = rss.lines.iter().map(|line| line.bytes).sum();
            assert_eq!(rss.rss_bytes, report.rss_bytes, "{word}");
            assert_eq!(lines as i64 + rss.unexplained_bytes, rss.rss_bytes as i64, "{word}");
            assert_eq!(rss.unexplained_bytes, report.unexplained_bytes, "{word}");
            assert_eq!(rss.change_bytes, report.rss_delta_bytes, "{word}");
        }
    }
}

#[test]
fn what_is_resident_by_every_question() {
    let mut text = String::new();
    for (word, by) in By::ALL {
        text += &format!("--by {word}\n{}\n", rss_of(&stacked::trace(), by, Window::default()).text(3));
    }
    let window = Window { since: Some(Nanos(10_000_000)), at: Some(Nanos(20_000_000)) };
    text += &rss_of(&fixture::eventful(), By::File, window).text(10);
    insta::assert_snapshot!(text);
}

#[test]
fn a_report_of_a_moment_says_so() {
    let bytes = fixture::whole(&fixture::eventful());
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let window = Window { since: Some(Nanos(10_000_000)), at: Some(Nanos(20_000_000)) };
    let (state, outcome) = fold_within(&mut reader, window, |_, _| {}).unwrap();
    insta::assert_snapshot!(Report::new(reader.header(), &state, &outcome, 3).text());
}

/// The last reading alone tells it.
#[test]
fn clean_and_dirty_pages_of_files_are_of_the_end() {
    let file = |path: &str, dirty_bytes| DirtyFile { path: path.to_owned(), clean_bytes: 4096, dirty_bytes };
    let dirty_files = vec![file("/var/lib/a", 12288), file("/var/lib/b\u{1b}", 8192)];
    let file_pages = Some(FilePages { clean_bytes: 1 << 20, dirty_bytes: 20480, dirty_files });
    for (events, window, is_told) in [
        (fixture::eventful(), Window::default(), true),
        (fixture::eventful(), Window { since: None, at: Some(Nanos(20_000_000)) }, false),
        (fixture::short_life(), Window::default(), false),
    ] {
        let trailer = Trailer { file_pages: file_pages.clone(), ..fixture::trailer(&events) };
        let bytes = fixture::file(&events, Some(&trailer));
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        let (state, outcome) = fold_within(&mut reader, window, |_, _| {}).unwrap();
        assert_eq!(outcome.trailer, Some(trailer));
        let report = Report::new(reader.header(), &state, &outcome, 1);
        let told = report.file_pages.clone();
        let of_first = |mut pages: FilePages| {
            pages.dirty_files.truncate(1);
            pages
        };
        assert_eq!(told, file_pages.clone().filter(|_| is_told).map(of_first));
        const LINES: &str =
            "  in class file: 1.0 MiB clean, 20.0 KiB dirty (to be written back), when the recording ended
    dirty: 12.0 KiB of /var/lib/a\n";
        assert_eq!(report.text().contains(LINES), is_told, "{}", report.text());
    }
}
