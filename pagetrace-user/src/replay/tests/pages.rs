//! The calls of the vma layer and the frames: rows of events, and the pages and mappings they leave.

use super::{ANON, FIXED, P, advise, check, frame, map, run, span, unmap};
use crate::event::{Body, Call, Member};
use crate::replay::mappings::Kind;
use crate::replay::vma::replaces;
use crate::replay::{Class, Oddity};
use crate::units::{Bytes, Comm, Nanos, Pages, Pfn, Range};

#[test]
fn pages_of_mappings() {
    let m = || (1, 1, map(span(10, 20), ANON, 0));
    check("a page comes", &[m(), (2, 1, frame(12, 7, 1))], &[(12, 7)], &[(10, 20)]);
    check(
        "another frame replaces it",
        &[m(), (2, 1, frame(12, 7, 1)), (3, 1, frame(12, 8, 1))],
        &[(12, 8)],
        &[(10, 20)],
    );
    check(
        "the free of the old frame, late, takes nothing",
        &[m(), (2, 1, frame(12, 7, 1)), (3, 1, frame(12, 8, 1)), (4, 2, Body::Free { pfn: Pfn(7), order: 0 })],
        &[(12, 8)],
        &[(10, 20)],
    );
    check(
        "a free takes it",
        &[m(), (2, 1, frame(12, 7, 1)), (3, 2, Body::Free { pfn: Pfn(6), order: 1 })],
        &[],
        &[(10, 20)],
    );
    check(
        "unmapping a part",
        &[m(), (2, 1, frame(11, 6, 1)), (2, 1, frame(12, 7, 2)), (5, 1, unmap(span(12, 14), 4))],
        &[(11, 6)],
        &[(10, 12), (14, 20)],
    );
    check(
        "unmapping nothing",
        &[m(), (2, 1, frame(12, 7, 1)), (3, 1, unmap(span(12, 12), 2))],
        &[(12, 7)],
        &[(10, 20)],
    );
    check(
        "unmapping everything",
        &[m(), (2, 1, frame(12, 7, 1)), (3, 1, unmap(Range { start: 0, end: u64::MAX }, 2))],
        &[],
        &[],
    );
    check("the address space goes", &[m(), (2, 1, frame(12, 7, 1)), (3, 1, Body::MmGone)], &[], &[]);
    let exec = Body::Exec { comm: Comm::of("x"), exe: "/x".to_owned() };
    check("exec", &[m(), (2, 1, frame(12, 7, 1)), (3, 1, exec), (4, 1, map(span(1, 2), ANON, 3))], &[], &[(1, 2)]);
}

#[test]
fn fixed_mappings_replace() {
    let old = || [(1, 1, map(span(10, 20), ANON, 0)), (2, 1, frame(12, 7, 1)), (3, 1, frame(18, 8, 2))];
    let with = |body: Body| old().into_iter().chain([(9, 1, body)]).collect::<Vec<_>>();
    check("MAP_FIXED", &with(map(span(11, 15), FIXED, 8)), &[(18, 8)], &[(10, 11), (11, 15), (15, 20)]);
    let shm = Body::Map {
        range: span(11, 15),
        prot: 3,
        flags: 0x4000,
        file: None,
        offset: Bytes(0),
        call: Call::Shmat,
        began: Nanos(8),
    };
    check("SHM_REMAP", &with(shm), &[(18, 8)], &[(10, 11), (11, 15), (15, 20)]);
    assert!(!replaces(Call::Mmap, 0x10_0032) && replaces(Call::Mmap, FIXED) && !replaces(Call::Shmat, 0x10));
    check(
        "pages that came while the mapping was made are its own (MAP_POPULATE)",
        &[
            (1, 1, map(span(10, 20), ANON, 0)),
            (2, 1, frame(12, 7, 1)),
            (5, 1, frame(13, 9, 2)),
            (6, 1, map(span(10, 20), FIXED | 0x8000, 4)),
        ],
        &[(13, 9)],
        &[(10, 20)],
    );
}

#[test]
fn what_another_thread_mapped_meanwhile_is_newer() {
    let start = || vec![(1, 1, map(span(10, 20), ANON, 0)), (2, 1, frame(11, 5, 1)), (2, 1, frame(12, 7, 2))];
    let then = |more: Vec<(u64, u32, Body)>| start().into_iter().chain(more).collect::<Vec<_>>();
    check(
        "another thread's mapping stays, with its pages",
        &then(vec![(6, 2, map(span(12, 14), ANON, 5)), (7, 2, frame(12, 9, 3)), (8, 1, unmap(span(10, 20), 4))]),
        &[(12, 9)],
        &[(12, 14)],
    );
    check(
        "the thread's own mapping is older: one thread does one thing after the other",
        &then(vec![(6, 1, map(span(12, 14), FIXED, 5)), (7, 1, frame(12, 9, 3)), (9, 1, unmap(span(10, 20), 8))]),
        &[],
        &[],
    );
    check(
        "a mapping from before the call goes",
        &then(vec![(3, 2, map(span(12, 14), FIXED, 3)), (7, 2, frame(12, 9, 3)), (8, 1, unmap(span(10, 20), 4))]),
        &[],
        &[],
    );
}

#[test]
fn advice() {
    let with = |advice: i32, began: u64| {
        vec![
            (1, 1, map(span(10, 20), ANON, 0)),
            (2, 1, frame(12, 7, 1)),
            (4, 2, frame(13, 8, 2)),
            (5, 1, advise(span(11, 14), advice, began)),
        ]
    };
    for drops in [4, 9, 24, 102] {
        check("drops at once", &with(drops, 5), &[], &[(10, 20)]);
        check("but not what came while it ran", &with(drops, 3), &[(13, 8)], &[(10, 20)]);
    }
    for later in [8, 20, 21, 14, 3, -1, 999] {
        check("drops nothing by itself", &with(later, 5), &[(12, 7), (13, 8)], &[(10, 20)]);
    }
}

#[test]
fn moves() {
    let start = || vec![(1, 1, map(span(10, 20), ANON, 0)), (2, 1, frame(11, 5, 1)), (3, 1, frame(15, 6, 2))];
    let with = |old: Range, new: Range, flags: u32| {
        start().into_iter().chain([(9, 1, Body::Remap { old, new, flags, began: Nanos(8) })]).collect::<Vec<_>>()
    };
    check("a move takes the pages along", &with(span(10, 20), span(50, 60), 1), &[(51, 5), (55, 6)], &[(50, 60)]);
    check("a part moves, and grows", &with(span(14, 20), span(50, 70), 1), &[(11, 5), (51, 6)], &[(10, 14), (50, 70)]);
    check("a move that shrinks", &with(span(10, 20), span(50, 53), 1), &[(51, 5)], &[(50, 53)]);
    check("in place, up", &with(span(10, 20), span(10, 25), 0), &[(11, 5), (15, 6)], &[(10, 20), (20, 25)]);
    check("in place, down", &with(span(10, 20), span(10, 13), 0), &[(11, 5)], &[(10, 13)]);
    check("MREMAP_DONTUNMAP", &with(span(10, 20), span(50, 60), 5), &[(51, 5), (55, 6)], &[(10, 20), (50, 60)]);
    check(
        "a second view moves nothing",
        &with(span(10, 10), span(50, 55), 1),
        &[(11, 5), (15, 6)],
        &[(10, 20), (50, 55)],
    );
    check("of nothing", &with(span(100, 101), span(200, 201), 1), &[(11, 5), (15, 6)], &[(10, 20)]);
}

#[test]
fn the_heap_moves_up_and_down() {
    let brk = |old: u64, new: u64| Body::Brk { old, new };
    let events = [
        (1, 1, brk(10 * P, 12 * P + 1)),
        (2, 1, frame(12, 7, 1)),
        (3, 1, brk(12 * P + 1, 15 * P)),
        (4, 1, frame(14, 8, 2)),
        (5, 1, brk(15 * P, 15 * P)),
        (6, 1, brk(15 * P, 12 * P + 1)),
    ];
    check("brk", &events, &[(12, 7)], &[(10, 13)]);
    let state = run(&events);
    assert_eq!(state.mappings().at(10 * P).map(|mapping| mapping.kind), Some(Kind::Heap));
    assert_eq!(state.ledger().class(Class::Heap), Pages(1));
}

#[test]
fn huge_frames_are_cut_to_their_mapping() {
    let huge = |page: u64, order: u8| Body::Frame {
        addr: Some(page * P),
        pfn: Pfn(512),
        order,
        member: Member::Anon,
        level: Pages(512),
    };
    let state = run(&[(1, 1, map(span(512, 1024), ANON, 0)), (2, 1, huge(512, 9))]);
    assert_eq!(state.resident().len(), Pages(512));
    assert_eq!(state.resident().get(1023 * P).and_then(|page| page.pfn), Some(Pfn(1023)));
    let state = run(&[(1, 1, map(span(514, 520), ANON, 0)), (2, 1, huge(512, 4))]);
    assert_eq!(state.resident().iter().map(|(addr, _)| addr / P).collect::<Vec<_>>(), [514, 515, 516, 517, 518, 519]);
    let state = run(&[(2, 1, huge(512, 4))]);
    assert_eq!(state.resident().len(), Pages(16), "no mapping known: nothing to cut to");
    for (page, order) in [(512, 19), (512, 255), (513, 4)] {
        let state = run(&[(2, 1, huge(page, order))]);
        assert_eq!(state.anomalies().first().map(|anomaly| anomaly.what), Some(Oddity::OddFrame), "{page} {order}");
    }
}
