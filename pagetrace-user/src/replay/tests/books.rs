//! Levels, ledger, movers, anomalies.

use super::{ANON, FIXED, P, advise, at, frame, map, map_row, page_row, reading, run, span, unmap};
use crate::event::{Access, Actor, Body, Call, Event, FileId, Layer, Member, Scan, ScanKind, Why};
use crate::replay::{Class, Oddity, Peak, RESIDENT, State};
use crate::units::{Bytes, Comm, Nanos, Pages, Pfn, Pid, Range};

#[test]
fn levels_and_who_moved_them() {
    let khugepaged = Some(Actor { tgid: Pid(40), comm: Comm::of("khugepaged") });
    let rss = |member: Member, level: u64| Body::Rss { member, level: Pages(level) };
    let mut state = State::new();
    for event in [
        at(1, 5, rss(Member::Anon, 100)),
        at(2, 5, rss(Member::Anon, 110)),
        at(3, 5, rss(Member::File, 20)),
        Event { actor: khugepaged, ..at(4, 40, rss(Member::Anon, 400)) },
        Event { actor: khugepaged, ..at(4, 40, Body::Scan(Scan { kind: ScanKind::Collapse, value: 1, began: None })) },
        Event { actor: khugepaged, ..at(4, 40, Body::Scan(Scan { kind: ScanKind::Collapse, value: 3, began: None })) },
        at(5, 6, rss(Member::Anon, 300)),
        at(6, 6, rss(Member::Swap, 90)),
    ] {
        state.apply(&event);
    }
    let moves: Vec<_> = state
        .snapshot()
        .tasks
        .iter()
        .map(|moved| (moved.task.tid.0, moved.grew.0, moved.shrank.0, moved.collapses))
        .collect();
    assert_eq!(moves, [(40, 290, 0, 1), (6, 0, 100, 0), (5, 10, 0, 0)]);
    assert_eq!(state.peak(), Peak { rss: Pages(420), at: Nanos(4) });
    assert_eq!((state.ledger().rss(), state.ledger().levels.of(Member::Swap)), (Pages(320), Some(Pages(90))));
    assert_eq!(state.ledger().unexplained(), 300 * 4096);
    assert_eq!((state.ledger().unplaced(Member::File), state.ledger().class(Class::File)), (Pages(20), Pages(20)));
}

#[test]
fn the_moment_before_the_end_is_kept() {
    let state = run(&[
        (1, 1, map(span(10, 20), ANON, 0)),
        (2, 1, frame(12, 7, 0)),
        (3, 1, Body::Rss { member: Member::Anon, level: Pages(1) }),
        (4, 1, Body::Exit { code: 3, signal: 0 }),
        (5, 1, Body::Rss { member: Member::Anon, level: Pages(0) }),
        (6, 1, Body::Free { pfn: Pfn(7), order: 0 }),
        (7, 1, Body::MmGone),
    ]);
    let snapshot = state.snapshot();
    assert_eq!(
        (snapshot.ledger.rss(), snapshot.ledger.class(Class::Anonymous), snapshot.ledger.unexplained()),
        (Pages(1), Pages(1), 0)
    );
    assert_eq!((state.ledger().rss(), state.ended(), state.exit().map(|exit| exit.code)), (Pages(0), true, Some(3)));
    let state = run(&[(1, 1, frame(12, 7, 0)), (2, 1, Body::MmGone), (3, 1, frame(13, 7, 0))]);
    assert_eq!(state.anomalies().first().map(|anomaly| anomaly.what), Some(Oddity::AfterTheEnd));
    assert!(state.resident().is_empty());
}

#[test]
fn classes_by_mapping() {
    let file =
        |id: u32, path: &str| Body::MapFile { id: FileId(id), path: path.to_owned(), whole: true, dev: 1, ino: 2 };
    let row = |range: Range, id: u32, shared: bool| Body::BaselineMap {
        range,
        prot: 1,
        shared,
        file: Some(FileId(id)),
        offset: Bytes(0),
        name: String::new(),
    };
    let state = run(&[
        (1, 0, file(1, "/lib/c.so")),
        (1, 0, file(2, "/dev/zero (deleted)")),
        (1, 0, file(3, "/run/pool")),
        (1, 0, file(4, "/dev/hugepages/x")),
        (1, 0, reading(Why::Start, Range { start: 0, end: u64::MAX }, true)),
        (1, 0, map_row(span(10, 20), "[heap]")),
        (1, 0, map_row(span(20, 30), "")),
        (1, 0, map_row(span(30, 40), "[stack]")),
        (1, 0, map_row(span(40, 50), "[vdso]")),
        (1, 0, map_row(span(50, 60), "[vvar]")),
        (1, 0, row(span(60, 70), 1, false)),
        (1, 0, row(span(70, 80), 2, true)),
        (1, 0, row(span(80, 90), 3, true)),
        (1, 0, row(span(90, 99), 4, true)),
        (1, 0, page_row(10, 1, None, false)),
        (1, 0, page_row(20, 2, None, false)),
        (1, 0, page_row(30, 3, None, false)),
        (1, 0, page_row(40, 1, None, true)),
        (1, 0, page_row(50, 1, None, false)),
        (1, 0, page_row(60, 4, None, true)),
        (1, 0, page_row(65, 1, None, false)),
        (1, 0, page_row(70, 5, None, true)),
        (1, 0, page_row(80, 1, None, true)),
        (1, 0, page_row(90, 1, None, true)),
        (1, 0, page_row(200, 1, None, false)),
        (2, 1, Body::Frame { addr: Some(81 * P), pfn: Pfn(1), order: 0, member: Member::Shmem, level: Pages(7) }),
        (3, 1, Body::Fault { addr: 1, ip: 2, access: Access::Read, kernel: false }),
        (3, 0, Body::Lost { layer: Layer::Page, from: Nanos(2), to: Nanos(3), count: 4 }),
    ]);
    let ledger = state.ledger();
    let classes: Vec<(&str, u64)> = Class::ALL.iter().map(|&class| (class.word(), ledger.class(class).0)).collect();
    assert_eq!(classes, [("heap", 1), ("anonymous", 3), ("stack", 3), ("file", 4), ("shmem", 7), ("other", 2)]);
    assert_eq!((ledger.uncounted, ledger.unmapped), (Pages(2), Pages(1)));
    assert_eq!(RESIDENT.map(|member| ledger.pages_of(member).0), [5, 8, 7]);
    assert_eq!(ledger.unexplained(), 0);
    assert_eq!((state.tally().lost, state.tally().gaps.len()), (4, 1));
}

#[test]
fn ranges_add_up() {
    let state = run(&[
        (1, 0, reading(Why::Start, span(0, 1 << 30), true)),
        (1, 0, map_row(span(10, 20), "[heap]")),
        (1, 0, map_row(span(30, 40), "")),
        (1, 0, page_row(10, 4, Some(100), false)),
        (1, 0, page_row(30, 6, Some(200), false)),
        (2, 1, unmap(span(32, 40), 1)),
        (3, 1, Body::Free { pfn: Pfn(101), order: 0 }),
        (4, 1, frame(15, 9, 1)),
        (5, 1, frame(16, 10, 2)),
        (6, 1, map(span(50, 60), ANON, 5)),
        (7, 1, frame(50, 11, 3)),
    ]);
    let moves: Vec<_> = (state.snapshot().ranges.iter())
        .map(|moved| {
            (
                moved.range.start / P,
                moved.range.end / P,
                moved.label.clone(),
                moved.resident.0,
                moved.gained.0,
                moved.lost.0,
                moved.gone,
            )
        })
        .collect();
    assert_eq!(
        moves,
        [
            (32, 40, "[anonymous]".to_owned(), 0, 0, 4, true),
            (10, 20, "[heap]".to_owned(), 5, 2, 1, false),
            (50, 60, "[anonymous]".to_owned(), 1, 1, 0, false),
            (30, 32, "[anonymous]".to_owned(), 2, 0, 0, false),
        ]
    );
}

#[test]
fn odd_events_are_counted() {
    let inverted = Range { start: 9 * P, end: P };
    let rows = [
        (
            Oddity::OddRange,
            vec![(1, 1, unmap(inverted, 0)), (1, 1, map(inverted, FIXED, 0)), (1, 1, advise(inverted, 4, 0))],
        ),
        (Oddity::TimeWentBack, vec![(5, 1, unmap(span(1, 2), 0)), (4, 1, unmap(span(1, 2), 0))]),
        (Oddity::RowWithoutReading, vec![(1, 0, page_row(1, 1, None, false))]),
        (
            Oddity::RowOutsideReading,
            vec![(1, 0, reading(Why::Lost, span(5, 6), false)), (1, 0, page_row(6, 1, None, false))],
        ),
        (
            Oddity::RowsOverlap,
            vec![
                (1, 0, reading(Why::Lost, span(5, 9), false)),
                (1, 0, page_row(5, 2, None, false)),
                (1, 0, page_row(6, 1, None, false)),
            ],
        ),
        (Oddity::FrameTwice, vec![(1, 1, frame(1, 7, 1)), (2, 1, frame(2, 7, 1))]),
        (
            Oddity::UnknownFile,
            vec![(
                1,
                1,
                Body::Map {
                    range: span(1, 2),
                    prot: 1,
                    flags: 2,
                    file: Some(FileId(9)),
                    offset: Bytes(0),
                    call: Call::Mmap,
                    began: Nanos(0),
                },
            )],
        ),
    ];
    for (what, events) in rows {
        let state = run(&events);
        assert_eq!(state.anomalies().iter().map(|anomaly| anomaly.what).collect::<Vec<_>>(), [what]);
    }
}
