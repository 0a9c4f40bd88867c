//! The page heap: what is in use, without memory or never used, and what is odd about it.

use super::run;
use crate::event::{Body, HeapAct, HeapRun, HeapState, Start, Why};
use crate::replay::{Oddity, State};
use crate::units::{HEAP_PAGE_BYTES, HeapPages, Pid};

/// An act on `pages` from page `at` on, by an allocator that tells nothing else.
fn act(act: HeapAct, at: u64, pages: u64) -> Body {
    Body::Heap(HeapRun { act, addr: at * HEAP_PAGE_BYTES, pages: HeapPages(pages), p: None, goid: None, span: None })
}

fn start(how: Start) -> Body {
    Body::Start { how, parent: Pid(1) }
}

fn folded(bodies: &[Body]) -> State {
    let events: Vec<(u64, u32, Body)> = (1..).zip(bodies).map(|(ts, body)| (ts, 1, body.clone())).collect();
    run(&events)
}

/// Pages in use, without memory, of those never used, in frees of older runs; and what is odd.
#[track_caller]
fn check(bodies: &[Body], expected: [u64; 4], odd: &[Oddity]) {
    let state = folded(bodies);
    let heap = state.heap();
    let bytes = [heap.in_use(), heap.given_back(), heap.never_used(), heap.older.bytes];
    assert_eq!(bytes.map(|bytes| bytes.0 / HEAP_PAGE_BYTES), expected);
    let found: Vec<Oddity> = state.anomalies().iter().map(|anomaly| anomaly.what).collect();
    assert_eq!(found, odd);
}

#[test]
fn pages_that_were_never_used() {
    use HeapAct::{Alloc, Free, Mark, Scav};
    let begin = [start(Start::Executed), act(Mark, 0, 128), act(Alloc, 0, 10), act(Free, 0, 10)];
    let with = |more: &[Body]| [&begin[..], more].concat();
    check(&begin[..2], [0, 128, 128, 0], &[]);
    check(&begin[..3], [10, 118, 118, 0], &[]);
    check(&begin, [0, 118, 118, 0], &[]);
    // A free run of both is given back as a whole.
    check(&with(&[act(Scav, 0, 128)]), [0, 128, 0, 0], &[]);
    check(&with(&[act(Scav, 0, 128), act(Alloc, 5, 20)]), [20, 108, 0, 0], &[]);
    check(&with(&[act(Scav, 0, 128), act(Scav, 100, 1)]), [0, 128, 0, 0], &[Oddity::HeapScavTwice]);
    check(&with(&[act(Mark, 120, 10)]), [0, 120, 120, 0], &[Oddity::HeapScavTwice]);
}

#[test]
fn runs_from_before_the_trace() {
    use HeapAct::{Alloc, Free, Scav};
    for how in [Start::Running, Start::Forked] {
        check(&[start(how), act(Free, 7, 3)], [0, 0, 0, 3], &[]);
        assert!(folded(&[start(how), act(Free, 7, 3)]).heap().has_past());
        // What an event has told of is known.
        check(&[start(how), act(Free, 7, 3), act(Free, 7, 3)], [0, 0, 0, 3], &[Oddity::HeapFreeTwice]);
        check(&[start(how), act(Scav, 0, 8), act(Free, 7, 1)], [0, 8, 0, 0], &[Oddity::HeapFreeTwice]);
        check(&[start(how), act(Alloc, 7, 3), act(Free, 7, 3)], [0, 0, 0, 0], &[]);
    }
    // A program that is known from its beginning has none, until a reading says that nothing is known of it.
    check(&[start(Start::Executed), act(Free, 7, 3)], [0, 0, 0, 0], &[Oddity::HeapFreeTwice]);
    let reading = Body::HeapReading { why: Why::Start };
    let unknown = [start(Start::Executed), reading.clone(), act(Free, 7, 3)];
    check(&unknown, [0, 0, 0, 3], &[]);
    // Rows tell everything.
    let row = Body::BaselineHeap { addr: 0, pages: HeapPages(4), state: HeapState::Other };
    let known = [&unknown[..], &[reading, row, act(Free, 0, 4), act(Free, 9, 1)]].concat();
    check(&known, [0, 0, 0, 0], &[Oddity::HeapFreeTwice]);
    assert!(!folded(&known).heap().has_past());
}
