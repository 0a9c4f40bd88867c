//! The reading commands over traces made by hand: goldens of text and JSON, exit codes, and what damage does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../shared/any_event.rs"]
mod any_event;
mod arenas;
mod browser;
mod clients;
mod fixture;
mod frag;
mod heat;
mod leaks;
mod page;
mod program;
mod properties;
mod stacked;
#[path = "../symbols/toolchain.rs"]
#[allow(dead_code, reason = "its command alone is needed")]
mod toolchain;
mod top;
mod window;

use pagetrace_user::check::check;
use pagetrace_user::dump::{Filter, dump, line};
use pagetrace_user::event::{Event, Layer};
use pagetrace_user::format::{Outcome, Reader};
use pagetrace_user::replay::State;
use pagetrace_user::replay::fold;
use pagetrace_user::report::Report;

fn dumped(bytes: &[u8], filter: &Filter, json: bool) -> (String, Outcome) {
    let mut out = Vec::new();
    let outcome = dump(&mut Reader::new(bytes).unwrap(), filter, json, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), outcome)
}

fn reported(bytes: &[u8]) -> Report {
    let mut reader = Reader::new(bytes).unwrap();
    let (state, outcome) = fold(&mut reader).unwrap();
    Report::new(reader.header(), &state, &outcome, 10)
}

fn pretty(json: &str) -> String {
    serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(json).unwrap()).unwrap()
}

#[test]
fn dump_as_json() {
    insta::assert_snapshot!(dumped(&fixture::whole(&fixture::eventful()), &Filter::default(), true).0);
}

#[test]
fn dump_as_text() {
    insta::assert_snapshot!(dumped(&fixture::whole(&fixture::eventful()), &Filter::default(), false).0);
}

#[test]
fn dump_of_a_short_life() {
    insta::assert_snapshot!(dumped(&fixture::whole(&fixture::short_life()), &Filter::default(), true).0);
}

#[test]
fn dump_of_a_page_heap() {
    insta::assert_snapshot!(dumped(&fixture::whole(&fixture::page_heap()), &Filter::default(), true).0);
}

#[test]
fn report_of_a_page_heap() {
    let report = reported(&fixture::whole(&fixture::page_heap()));
    let text = report.text();
    insta::assert_snapshot!(text.get(text.find("Page heap").unwrap()..).unwrap());
    let heap = report.heap.unwrap();
    assert_eq!((heap.objects_bytes, heap.stacks_bytes, heap.other_bytes), (3 * 8192, 4 * 8192, 3 * 8192));
    assert_eq!(heap.given_back_bytes, (512 - 12 + 512 - 20 + 16) * 8192);
}

#[test]
fn dump_of_objects() {
    insta::assert_snapshot!(dumped(&fixture::whole(&fixture::objects()), &Filter::default(), true).0);
}

#[test]
fn report_of_objects() {
    let report = reported(&fixture::whole(&fixture::objects()));
    let text = report.text();
    insta::assert_snapshot!(text.get(text.find("Objects of").unwrap()..).unwrap());
    let objects = report.objects.unwrap();
    assert_eq!((objects.live_objects, objects.live_bytes, objects.live_error_bytes), (2, 3096, 0));
    assert_eq!((objects.allocs, objects.frees, objects.unknown_frees), (4, 3, 1));
}

#[test]
fn report_as_text() {
    insta::assert_snapshot!(reported(&fixture::whole(&fixture::eventful())).text());
}

#[test]
fn report_as_json() {
    insta::assert_snapshot!(pretty(&reported(&fixture::whole(&fixture::eventful())).json()));
}

#[test]
fn report_of_a_short_life() {
    insta::assert_snapshot!(reported(&fixture::whole(&fixture::short_life())).text());
}

#[test]
fn report_of_an_unfinished_file() {
    let events = fixture::eventful();
    insta::assert_snapshot!(reported(&fixture::file(events.get(..20).unwrap(), None)).text());
}

#[test]
fn check_as_text_and_json() {
    let found = check(&mut Reader::new(fixture::whole(&fixture::eventful()).as_slice()).unwrap()).unwrap();
    insta::assert_snapshot!(found.text() + "\n" + &pretty(&found.json()));
}

#[test]
fn check_of_a_damaged_file() {
    let mut bytes = fixture::whole(&fixture::eventful());
    bytes.pop();
    let found = check(&mut Reader::new(bytes.as_slice()).unwrap()).unwrap();
    insta::assert_snapshot!(found.text());
    assert_eq!(found.code() as u8, 7);
}

#[test]
fn check_names_every_sum_that_does_not_hold() {
    let events = fixture::eventful();
    let mut trailer = fixture::trailer(&events);
    trailer.counters.get_mut(1).unwrap().seen += 1;
    trailer.written -= 1;
    trailer.decoded += 3;
    trailer.events += 1;
    trailer.own_events = 2;
    let found = check(&mut Reader::new(fixture::file(&events, Some(&trailer)).as_slice()).unwrap()).unwrap();
    insta::assert_snapshot!(found.violations.join("\n"));
    assert_eq!((found.code() as u8, found.exit), (1, 1));
}

#[test]
fn filters_keep_header_and_trailer() {
    let lines = |events: &[Event], filter: &Filter| -> Vec<String> {
        let (text, _) = dumped(&fixture::whole(events), filter, true);
        text.lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                format!("{}/{}", line["layer"].as_str().unwrap(), line["kind"].as_str().unwrap())
            })
            .collect()
    };
    let kinds = |filter: Filter| lines(&fixture::eventful(), &filter);
    let filter = Filter { layers: vec![Layer::Vma], kinds: vec!["scav".to_owned(), "fork".to_owned()] };
    assert_eq!(kinds(filter), ["task/header", "vma/scav", "vma/scav", "task/trailer"]);
    let filter = Filter { layers: Vec::new(), kinds: vec!["lost".to_owned(), "fork".to_owned()] };
    assert_eq!(kinds(filter), ["task/header", "page/lost", "task/fork", "task/trailer"]);
    let mut shown = kinds(Filter::default());
    shown.extend(lines(&fixture::page_heap(), &Filter::default()));
    shown.extend(lines(&fixture::objects(), &Filter::default()));
    shown.extend(lines(&stacked::trace(), &Filter::default()));
    shown.extend(lines(&arenas::trace(), &Filter::default()));
    for kind in line::KINDS.iter().filter(|kind| !["exec", "exit", "mm_gone"].contains(kind)) {
        assert!(shown.iter().any(|line| line.ends_with(&format!("/{kind}"))), "{kind}");
    }
}

#[test]
fn every_line_has_the_common_keys() {
    for events in [fixture::eventful(), fixture::short_life()] {
        let (text, _) = dumped(&fixture::file(&events, None), &Filter::default(), true);
        assert_eq!(text.lines().count(), events.len() + 2);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            for key in ["ts", "cpu", "layer", "kind", "tgid", "tid"] {
                assert!(line.get(key).is_some(), "{key}: {line}");
            }
        }
        assert!(text.lines().last().unwrap().contains(r#""kind":"end""#));
    }
}

#[test]
fn the_books_close_and_the_sum_of_all_ranges_is_the_change() {
    let report = reported(&fixture::whole(&fixture::eventful()));
    assert_eq!(report.unexplained_bytes, 0);
    assert_eq!(report.classes.iter().map(|class| class.bytes).sum::<u64>(), report.rss_bytes);
    assert_eq!(report.rss_bytes, 544 * 4096);
    let change = report.rss_delta_bytes.unwrap();
    assert_eq!(change, 512 * 4096);
    assert_eq!(report.classes.iter().map(|class| class.delta_bytes.unwrap()).sum::<i64>(), change);
    assert_eq!(report.ranges.iter().map(|range| range.delta_bytes).sum::<i64>(), change);
    let khugepaged = report.actors.iter().find(|line| line.actor == "khugepaged").unwrap();
    assert_eq!((khugepaged.bytes, khugepaged.collapses), (256 * 4096, 1));
    assert_eq!(
        report.corrections.iter().map(|line| (line.why, line.added_file_bytes, line.placed_bytes)).collect::<Vec<_>>(),
        [("start", 0, 0), ("drift", 0, 512 * 4096), ("end", 2 * 4096, 0)]
    );
}

/// What replay says of every prefix of the events, without panicking: the same as folding them afresh.
#[test]
fn a_prefix_of_the_file_gives_the_state_of_its_events() {
    let events: Vec<Event> = fixture::eventful();
    let bytes = fixture::file(&events, None);
    for cut in 0..bytes.len() {
        let Ok(mut reader) = Reader::new(bytes.get(..cut).unwrap()) else { continue };
        let (state, outcome) = fold(&mut reader).unwrap();
        let mut fresh = State::new();
        for event in events.iter().take(usize::try_from(outcome.events).unwrap()) {
            fresh.apply(event);
        }
        fresh.finish(false);
        assert_eq!(state.ledger(), fresh.ledger(), "cut at {cut}");
    }
}
