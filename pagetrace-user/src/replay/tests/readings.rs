//! What readings of /proc replace, put right and leave alone.

use super::{ANON, P, at, check, frame, map, map_row, page_row, reading, run, span, unmap};
use crate::event::{Body, Member, Start, Why};
use crate::replay::resident::Split;
use crate::replay::{Class, Closed, Correction, Oddity, State};
use crate::units::{Nanos, Pages, Pfn, Pid, Range};

#[test]
fn readings_replace_and_count_what_they_put_right() {
    let all = span(0, 1 << 30);
    let events = [
        (1, 0, reading(Why::Start, all, true)),
        (1, 0, map_row(span(10, 20), "[heap]")),
        (1, 0, page_row(10, 3, Some(100), false)),
        (1, 0, Body::Rss { member: Member::Anon, level: Pages(3) }),
        (2, 4, frame(14, 7, 4)),
        (3, 4, Body::Frame { addr: None, pfn: Pfn(9), order: 0, member: Member::Anon, level: Pages(5) }),
        (5, 0, reading(Why::Drift, span(11, 20), false)),
        (5, 0, page_row(12, 1, Some(102), false)),
        (5, 0, page_row(14, 1, Some(7), false)),
        (5, 0, page_row(15, 2, Some(8), false)),
        (5, 0, page_row(18, 1, Some(50), true)),
    ];
    check("a part is read again", &events, &[(10, 100), (12, 102), (14, 7), (15, 8), (16, 9), (18, 50)], &[(10, 20)]);
    let state = run(&events);
    let start = state.corrections().get(&Why::Start).copied().unwrap_or_default();
    assert_eq!((start.readings, start.added.all()), (1, 0), "the first reading corrects nothing");
    let drift = state.corrections().get(&Why::Drift).copied().unwrap_or_default();
    assert_eq!(
        drift,
        Correction {
            readings: 1,
            added: Split { anon: 1, file: 1 },
            removed: Split { anon: 1, file: 0 },
            placed: Pages(1)
        }
    );
    let makers: Vec<(u64, u32)> = state.resident().iter().map(|(addr, page)| (addr / P, page.maker.0)).collect();
    assert_eq!(makers, [(10, 0), (12, 0), (14, 1), (15, 0), (16, 1), (18, 0)], "who made a page outlives a reading");
    assert_eq!(state.closed(), Some(Closed { why: Why::Start, at: Nanos(1) }));
    let base = state.base().map(|base| base.ledger.rss());
    assert_eq!(base, Some(Pages(3)));
}

#[test]
fn events_that_a_reading_has_already_seen_change_nothing() {
    let all = span(0, 1 << 30);
    let start = |rows: Vec<Body>| {
        let head = [(1, 0, reading(Why::Start, all, true))];
        head.into_iter().chain(rows.into_iter().map(|row| (1, 0, row))).collect::<Vec<_>>()
    };
    let mut events =
        start(vec![map_row(span(10, 20), ""), page_row(12, 1, Some(7), false), page_row(15, 2, Some(90), true)]);
    events.extend([(3, 1, map(span(10, 20), ANON, 2)), (4, 1, frame(12, 7, 1))]);
    check("a mapping and its page", &events, &[(12, 7), (15, 90), (16, 91)], &[(10, 20)]);
    let mut events = start(vec![map_row(span(50, 60), ""), page_row(52, 1, Some(7), false)]);
    events.push((3, 1, Body::Remap { old: span(10, 20), new: span(50, 60), flags: 1, began: Nanos(2) }));
    check("a move", &events, &[(52, 7)], &[(50, 60)]);
    let mut events = start(vec![map_row(span(10, 20), "")]);
    events.push((3, 1, unmap(span(10, 20), 0)));
    check("a reading within a call does not make its mapping newer than the call", &events, &[], &[]);
}

#[test]
fn a_reading_cut_short_is_undone() {
    let mut state = State::new();
    for (ts, tid, body) in [
        (1, 1, map(span(10, 20), ANON, 0)),
        (2, 1, frame(12, 7, 1)),
        (3, 0, reading(Why::End, span(0, 1000), true)),
        (3, 0, map_row(span(10, 15), "")),
        (3, 0, page_row(10, 1, Some(3), false)),
    ] {
        state.apply(&at(ts, tid, body));
    }
    state.finish(false);
    assert_eq!(state.resident().iter().map(|(addr, _)| addr / P).collect::<Vec<_>>(), [12]);
    assert_eq!(state.mappings().covered(span(0, 1000)), [span(10, 20)]);
    assert_eq!(state.anomalies().first().map(|anomaly| anomaly.what), Some(Oddity::ReadingCutShort));
}

#[test]
fn a_reading_of_everything_comes_in_pieces() {
    let mut state = State::new();
    let row = |page: u64| page_row(page, 2, Some(1000 + page), false);
    let none = Range::default();
    let steps: [(u64, Body, Option<u64>); 12] = [
        (1, Body::Start { how: Start::Running, parent: Pid(1) }, None),
        (2, reading(Why::Start, none, true), None),
        (2, map_row(span(10, 20), "[heap]"), None),
        (2, map_row(span(30, 40), ""), None),
        (2, map_row(span(90, 91), "[vvar]"), None),
        (3, reading(Why::Start, span(0, 20), false), None),
        (3, row(12), None),
        (4, frame(13, 7, 5), None),
        (5, reading(Why::Start, span(20, 60), false), None),
        (5, row(31), None),
        (6, reading(Why::Start, span(60, 1 << 35), false), Some(5)),
        (7, frame(32, 8, 6), Some(5)),
    ];
    for (ts, body, closed) in steps {
        state.apply(&at(ts, 0, body));
        assert_eq!(state.closed().map(|closed| closed.at.0), closed, "at {ts}");
    }
    state.finish(true);
    let base =
        state.base().map(|base| (base.ledger.at, base.ledger.class(Class::Heap), base.ledger.class(Class::Anonymous)));
    assert_eq!(base, Some((Nanos(5), Pages(2), Pages(2))));
    assert_eq!(state.corrections().get(&Why::Start).map(|correction| correction.readings), Some(1));
}
