//! What objects keep, over traces made by hand.

use pagetrace_user::event::{
    Body, Call, Event, Header, HeapAct, HeapRun, HeapState, LibraryId, Object, ObjectAct, ObjectCall, Place, Span,
    SpanKind, SpanUse, StackId, StackOf, Start, Who, Why,
};
use pagetrace_user::format::Reader;
use pagetrace_user::frag::{Frag, measure};
use pagetrace_user::units::{Bytes, HeapPages, Nanos, Pid};

use crate::fixture::{self, Script, frame, pages};

const HEAP: u64 = 0x7e00_0000_0000;
const PAGE: u64 = 4096;

/// Six pages, the fifth not resident. The first stack has a large object that ends on the third page, and one on the fifth; the
/// second and the third one on the fourth page each; the third one more, on the last, and so has one without a stack.
fn trace() -> Vec<Event> {
    let mut script = Script::default();
    script.main(Body::Start { how: Start::Executed, parent: Pid(1) });
    let libraries = [(LibraryId(0), "glibc 2.36"), (LibraryId(1), "C++ runtime")];
    for (id, name) in libraries {
        script.own(Body::Library { id, whole: true, name: name.to_owned(), path: String::new() });
    }
    for place in 0..3 {
        script.own(Body::StackNode { parent: None, place: Place::Address(0x100 + place) });
    }
    let (began, call) = (script.began(), Call::Mmap);
    let range = pages(HEAP, 6);
    script.main(Body::Map { range, prot: 3, flags: 0x22, file: None, offset: Bytes(0), call, began });
    for (count, page) in [0, 1, 2, 3, 5].into_iter().enumerate() {
        script.main(frame(HEAP + page * PAGE, 0x1000 + page, 0, count as u64 + 1));
    }
    for (addr, bytes, call, library, stack) in [
        (HEAP + 16, 2 * PAGE, ObjectCall::Malloc, 0, Some(0)),
        (HEAP + 3 * PAGE, 100, ObjectCall::Calloc, 0, Some(1)),
        (HEAP + 3 * PAGE + 112, 96, ObjectCall::New, 1, Some(2)),
        (HEAP + 4 * PAGE, 1000, ObjectCall::Malloc, 0, Some(0)),
        (HEAP + 5 * PAGE, 8, ObjectCall::New, 1, Some(2)),
        (HEAP + 6 * PAGE - 16, 0, ObjectCall::Malloc, 0, None),
    ] {
        let who = Who { call, library: LibraryId(library) };
        script.main(Body::Object(Object { act: ObjectAct::Alloc, addr, bytes: Bytes(bytes), who, moves: false }));
        if let Some(stack) = stack {
            script.main(Body::Stack { of: StackOf::Object, id: StackId(stack) });
        }
    }
    script.events
}

fn measured(events: &[Event], period: Option<u64>, older_than: Nanos) -> Frag {
    let header = Header { object_period_bytes: period, ..fixture::header() };
    let bytes = fixture::file_of(&header, events, Some(&fixture::trailer(events)));
    measure(&mut Reader::new(bytes.as_slice()).unwrap(), older_than).unwrap().0
}

#[test]
fn what_is_empty_is_charged_to_those_that_keep_it() {
    let frag = measured(&trace(), Some(0), Nanos(0));
    // The first page has 16 bytes before the object, the third 16 of it and room for rounding, up to a page's end.
    let third = PAGE - 16 - 2 * PAGE / 4;
    let fourth = PAGE - 100 - 12 - 96 - 32;
    let last = PAGE - 8 - 32 - 16;
    assert_eq!((frag.page_bytes, frag.live_bytes), (5 * PAGE, 2 * PAGE + 100 + 96 + 8));
    assert_eq!(frag.empty_bytes, 16 + third + fourth + last);
    assert_eq!(frag.page_bytes, frag.live_bytes + frag.beside_bytes + frag.empty_bytes);
    let site = |stack: u64| {
        let offset = 0x100 + stack;
        let site = frag.sites.iter().find(|site| site.frames.last().is_some_and(|frame| frame.offset == offset));
        site.unwrap()
    };
    let told = [0, 1, 2].map(site).map(|site| (site.empty_bytes, site.page_bytes, site.alone_bytes, site.objects));
    let expected =
        [(16 + third, 3 * PAGE, 3 * PAGE, 2), (fourth / 2, PAGE, 0, 1), (fourth / 2 + last / 2, 2 * PAGE, 0, 2)];
    assert_eq!(told, expected);
    let charged: u64 = frag.sites.iter().map(|site| site.empty_bytes).sum();
    assert_eq!((charged, frag.sites.len()), (frag.empty_bytes, 4));
    let sum = &frag.allocators[0];
    assert_eq!((frag.allocators.len(), sum.name.as_str()), (1, "C++ runtime, glibc 2.36"));
    assert_eq!((sum.objects, sum.live_bytes), (6, 2 * PAGE + 100 + 96 + 1000 + 8));
    assert_eq!((sum.resident_bytes, sum.page_bytes, sum.empty_bytes), (5 * PAGE, 5 * PAGE, frag.empty_bytes));
    insta::assert_snapshot!(frag.text(2));
}

/// What is young shares a page and pays nothing; of samples only the sums are told; and a process that ended is told as it was.
#[test]
fn young_objects_samples_and_the_end() {
    let events = trace();
    let last = events.last().unwrap().clone();
    let is_first = |event: &&Event| matches!(&event.body, Body::Object(object) if object.addr == HEAP + 16);
    let first = events.iter().find(is_first).unwrap().ts;
    let old = measured(&events, Some(0), last.ts.since(first));
    let all = measured(&events, Some(0), Nanos(0));
    assert_eq!((old.sites.len(), old.empty_bytes), (1, all.empty_bytes));
    assert_eq!(old.sites[0].empty_bytes + old.young_bytes, old.empty_bytes);
    let mut ended = events.clone();
    for body in [Body::Exit { code: 0, signal: 0 }, Body::MmGone] {
        ended.push(Event { body, ..last.clone() });
    }
    assert_eq!(measured(&ended, Some(0), Nanos(0)), all);
    let sampled = measured(&events, Some(512), Nanos(0));
    assert_eq!((sampled.sites.len(), sampled.page_bytes, sampled.allocators[0].resident_bytes), (0, 0, 5 * PAGE));
    assert!(sampled.allocators[0].live_bytes > all.allocators[0].live_bytes);
    insta::assert_snapshot!(sampled.text(2) + "\n" + &measured(&events, None, Nanos(0)).text(2));
}

/// Runs of a page heap: one of before the recording, two of the first stack, one of the second; one more that was taken back after
/// it was looked at, and one that was looked at before it was handed out anew.
#[test]
fn what_is_empty_in_runs_is_charged_to_whom_they_were_handed_out_to() {
    const HEAP_PAGE: u64 = 8192;
    let mut script = Script::default();
    script.main(Body::Start { how: Start::Running, parent: Pid(1) });
    script.own(Body::HeapReading { why: Why::Start });
    script.own(Body::BaselineHeap { addr: HEAP, pages: HeapPages(1), state: HeapState::Heap });
    for place in 0..2 {
        script.own(Body::StackNode { parent: None, place: Place::Address(0x100 + place) });
    }
    let run = |act, page: u64, pages| {
        let span = Some(Span { kind: SpanKind::Heap, class: 0 });
        let (addr, pages) = (HEAP + page * HEAP_PAGE, HeapPages(pages));
        Body::Heap(HeapRun { act, addr, pages, p: Some(0), goid: None, span })
    };
    for (page, pages, stack) in [(10, 1, 0), (11, 1, 0), (20, 3, 1), (30, 1, 1), (40, 1, 1)] {
        script.main(run(HeapAct::Alloc, page, pages));
        script.main(Body::Stack { of: StackOf::Heap, id: StackId(stack) });
    }
    let uses =
        [(0, 1, 16, 512), (10, 1, 3000, 1), (11, 1, 3000, 2), (20, 3, 24576, 1), (30, 1, 1024, 4), (40, 1, 1024, 4)];
    for (page, pages, object_bytes, objects) in uses {
        let (addr, pages) = (HEAP + page * HEAP_PAGE, HeapPages(pages));
        script.own(Body::SpanUse(SpanUse { addr, pages, object_bytes, objects }));
    }
    script.main(run(HeapAct::Free, 30, 1));
    script.main(run(HeapAct::Free, 40, 1));
    script.main(run(HeapAct::Alloc, 40, 1));
    let frag = measured(&script.events, None, Nanos(0));
    assert_eq!((frag.page_bytes, frag.live_bytes, frag.objects), (6 * HEAP_PAGE, 8192 + 9000 + 24576, 516));
    assert_eq!(frag.empty_bytes, frag.page_bytes - frag.live_bytes);
    let told: Vec<(u64, u64, u64)> =
        frag.sites.iter().map(|site| (site.empty_bytes, site.page_bytes, site.objects)).collect();
    assert_eq!(told, [(2 * 8192 - 9000, 2 * 8192, 3), (0, 3 * 8192, 1), (0, 8192, 512)]);
    let sizes: Vec<(u64, u64, u64)> =
        frag.sizes.iter().map(|size| (size.object_bytes, size.objects, size.room)).collect();
    assert_eq!(sizes, [(3000, 3, 4), (16, 512, 512), (24576, 1, 1)]);
    insta::assert_snapshot!(frag.text(10));
    script.own(Body::HeapReading { why: Why::Lost });
    script.own(Body::BaselineHeap { addr: HEAP, pages: HeapPages(1), state: HeapState::Heap });
    let unknown = measured(&script.events, None, Nanos(0));
    assert_eq!((unknown.sizes.len(), unknown.page_bytes), (0, 0));
    insta::assert_snapshot!(unknown.text(10));
}
