//! The screen of `top`: what it draws of traces made by hand on terminals of three sizes, and what keys do.

use std::io::{Read, Write};

use pagetrace_user::event::Event;
use pagetrace_user::format::Reader;
use pagetrace_user::replay::Window;
use pagetrace_user::rss::Rss;
use pagetrace_user::top::{Act, Folding, Key, Screen, Shot, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::{fixture, stacked};

fn shot_of(bytes: &[u8]) -> Shot {
    let mut reader = Reader::new(bytes).unwrap();
    let mut folding = Folding::default();
    while let Some(event) = reader.next_event().unwrap() {
        folding.apply(event);
    }
    let outcome = reader.outcome();
    folding.finish(outcome.is_whole());
    folding.shot(reader.header(), &outcome)
}

fn shot(events: &[Event]) -> Shot {
    shot_of(&fixture::whole(events))
}

fn drawn(screen: &Screen, shot: Option<&Shot>, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen, shot)).unwrap();
    format!("{}\n", terminal.backend())
}

fn on_screen(list: usize) -> Screen {
    Screen { list, ..Screen::default() }
}

#[test]
fn a_trace_on_terminals_of_three_sizes() {
    let shot = shot(&fixture::eventful());
    for (width, height) in [(80, 24), (120, 40), (40, 10)] {
        insta::assert_snapshot!(format!("top_{width}x{height}"), drawn(&on_screen(0), Some(&shot), width, height));
    }
}

#[test]
fn every_list() {
    let shot = shot(&stacked::trace());
    let text: String = (0..4).map(|list| drawn(&on_screen(list), Some(&shot), 100, 22)).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn the_end_of_a_process_the_help_and_the_time_before_the_first_shot() {
    let ended = drawn(&on_screen(0), Some(&shot(&fixture::short_life())), 80, 24);
    let help = drawn(&Screen { help: true, ..Screen::default() }, None, 90, 14);
    let waiting = drawn(&Screen { note: "reading".to_owned(), ..Screen::default() }, None, 40, 4);
    insta::assert_snapshot!(ended + &help + &waiting);
}

#[test]
fn no_size_of_a_terminal_is_too_small() {
    let shot = shot(&fixture::eventful());
    for width in 1..30 {
        for height in 1..30 {
            drawn(&on_screen(1), Some(&shot), width, height);
        }
    }
}

#[test]
fn the_books_on_the_screen_are_the_report() {
    for events in [fixture::eventful(), fixture::short_life(), stacked::trace()] {
        let (shot, report) = (shot(&events), crate::reported(&fixture::whole(&events)));
        assert_eq!(shot.rss_bytes, report.rss_bytes);
        assert_eq!(shot.change_bytes, report.rss_delta_bytes);
        assert_eq!(shot.unexplained_bytes, report.unexplained_bytes);
        assert_eq!(shot.lost, report.lost);
        assert_eq!(shot.anomalies, report.anomalies.iter().map(|line| line.count).sum::<u64>());
        for (ours, theirs) in shot.classes.iter().zip(&report.classes) {
            assert_eq!((ours.class, ours.bytes, ours.change_bytes), (theirs.class, theirs.bytes, theirs.delta_bytes));
        }
        let highest = shot.course.iter().map(|step| step.highest_bytes).max().unwrap_or(0);
        // A peak is of the present program, the course of every one.
        assert!(highest >= report.peak_rss_bytes && (report.execs > 0 || highest == report.peak_rss_bytes));
        for list in &shot.lists {
            let lines: u64 = list.lines.iter().map(|line| line.bytes).sum();
            assert_eq!(lines as i64 + list.unexplained_bytes, shot.rss_bytes as i64, "{:?}", list.by);
        }
    }
}

#[test]
fn a_moment_of_the_past_is_what_rss_says_of_it() {
    for events in [fixture::eventful(), fixture::short_life(), stacked::trace()] {
        let bytes = fixture::whole(&events);
        for event in &events {
            let at = event.ts.since(events[0].ts);
            let window = Window { since: None, at: Some(at) };
            let shot = Shot::at(&mut Reader::new(bytes.as_slice()).unwrap(), at).unwrap();
            for list in &shot.lists {
                let (rss, _) = Rss::of(&mut Reader::new(bytes.as_slice()).unwrap(), list.by, window).unwrap();
                assert_eq!(*list, rss, "at {at:?}");
                assert_eq!(shot.rss_bytes, rss.rss_bytes, "at {at:?}");
            }
        }
    }
}

#[test]
fn names_of_the_traced_machine_do_not_reach_the_terminal_as_commands() {
    let mut header = fixture::header();
    header.comm = "\u{1b}[2J\u{7}evil".to_owned();
    let events = stacked::trace();
    let shot = shot_of(&fixture::file_of(&header, &events, None));
    let text = drawn(&on_screen(0), Some(&shot), 120, 40);
    assert!(text.contains("\\u{1b}[2J\\u{7}evil (4242)"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
}

#[test]
fn without_colours_where_none_are_wanted() {
    let shot = shot(&fixture::eventful());
    let coloured = |plain| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let screen = Screen { plain, ..Screen::default() };
        terminal.draw(|frame| draw(frame, &screen, Some(&shot))).unwrap();
        let cells = terminal.backend().buffer().content().to_vec();
        cells.iter().filter(|cell| cell.fg != ratatui::style::Color::Reset).count()
    };
    assert!(coloured(false) > 0);
    assert_eq!(coloured(true), 0);
}

#[test]
fn keys_choose_the_moment_the_list_and_its_lines() {
    let shot = shot(&fixture::eventful());
    let (end, lines) = (shot.end_ns, shot.lists[0].lines.len());
    assert!(lines > 3 && end > 50);
    let mut screen = Screen::default();
    let mut press = |key| {
        let act = screen.press(key, Some(&shot), 2);
        (act, screen.clone())
    };
    assert_eq!(press(Key::Left).0, Act::Show(Some(end - end / 50)));
    assert_eq!(press(Key::Left).0, Act::Show(Some(end - 2 * (end / 50))));
    assert_eq!(press(Key::Right).0, Act::Show(Some(end - end / 50)));
    assert_eq!(press(Key::Right).0, Act::Show(None));
    assert_eq!(press(Key::Home).0, Act::Show(Some(0)));
    assert_eq!(press(Key::Left).0, Act::Show(Some(0)));
    assert_eq!(press(Key::End).0, Act::Show(None));

    assert_eq!(press(Key::Down).1.scrolled, 1);
    assert_eq!(press(Key::PageDown).1.scrolled, 3.min(lines - 2));
    (0..lines).for_each(|_| _ = press(Key::Down));
    assert_eq!(press(Key::Down).1.scrolled, lines - 2, "the last lines stay");
    assert_eq!(press(Key::PageUp).1.scrolled, lines - 4);
    let (_, next) = press(Key::Tab);
    assert_eq!((next.list, next.scrolled), (1, 0));
    assert_eq!(press(Key::List(4)).1.list, 3);
    assert_eq!(press(Key::Tab).1.list, 0);
    assert_eq!(press(Key::BackTab).1.list, 3);

    assert!(press(Key::Help).1.help);
    assert_eq!(press(Key::Left).0, Act::Nothing, "it ends the help");
    assert!(!press(Key::Up).1.help);
    assert_eq!(press(Key::Quit).0, Act::Quit);
}

/// A file that grows by so many bytes at a time: what is there gives whole events, and never a wrong one.
#[test]
fn a_file_that_is_still_written_is_read_on_to_the_same_end() {
    let bytes = fixture::whole(&fixture::eventful());
    let expected = shot_of(&bytes);
    for step in [1, 7, 100, 1000] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = file.reopen().unwrap();
        // The recorder writes the header in one piece.
        let whole = (16..bytes.len()).find(|cut| Reader::new(&bytes[..*cut]).is_ok()).unwrap();
        writer.write_all(&bytes[..whole]).unwrap();
        let mut reader = Reader::new(Box::new(file.reopen().unwrap()) as Box<dyn Read>).unwrap();
        let mut folding = Folding::default();
        for more in bytes[whole..].chunks(step) {
            writer.write_all(more).unwrap();
            while let Some(event) = reader.next_event().unwrap() {
                folding.apply(event);
            }
            let is_over = reader.outcome().trailer.is_some();
            assert_eq!(reader.resume(), !is_over, "{:?}", reader.outcome());
        }
        let outcome = reader.outcome();
        assert!(outcome.is_whole(), "by {step}: {outcome:?}");
        folding.finish(true);
        assert_eq!(folding.shot(reader.header(), &outcome), expected, "by {step}");
    }
}
