//! What was never taken back, over traces made by hand.

use pagetrace_user::event::{
    Body, HeapAct, HeapRun, HeapState, Layer, Place, Span, SpanKind, StackId, StackOf, Start, Why,
};
use pagetrace_user::format::Reader;
use pagetrace_user::leaks::Leaks;
use pagetrace_user::replay::fold;
use pagetrace_user::units::{HeapPages, Nanos, Pid};

use crate::fixture::{self, Script};

const ARENA: u64 = 0xc0_0000_0000;
const PAGE: u64 = 8192;

fn heap(act: HeapAct, page: u64, pages: u64, kind: SpanKind) -> Body {
    let span = Some(Span { kind, class: 0 });
    Body::Heap(HeapRun { act, addr: ARENA + page * PAGE, pages: HeapPages(pages), p: Some(0), goid: Some(1), span })
}

/// Two runs of the first stack stay, before and after a gap; of the second's three one is freed, one is not found by a reading,
/// and one for stacks stays; one that has no stack stays.
#[test]
fn leaks_of_a_page_heap() {
    let mut script = Script::default();
    script.main(Body::Start { how: Start::Running, parent: Pid(1) });
    for place in 0..2 {
        script.own(Body::StackNode { parent: None, place: Place::Address(0x100 + place) });
    }
    let give = |script: &mut Script, page: u64, pages: u64, kind: SpanKind, stack: Option<u32>| {
        script.main(heap(HeapAct::Alloc, page, pages, kind));
        if let Some(stack) = stack {
            script.main(Body::Stack { of: StackOf::Heap, id: StackId(stack) });
        }
    };
    give(&mut script, 0, 3, SpanKind::Heap, Some(0));
    give(&mut script, 10, 1, SpanKind::Heap, Some(1));
    give(&mut script, 11, 1, SpanKind::Heap, Some(1));
    let now = script.events.last().unwrap().ts;
    script.own(Body::Lost { layer: Layer::Heap, from: now, to: now, count: 1 });
    script.own(Body::HeapReading { why: Why::Start });
    for (page, pages) in [(0, 3), (10, 1), (100, 7)] {
        script.own(Body::BaselineHeap { addr: ARENA + page * PAGE, pages: HeapPages(pages), state: HeapState::Heap });
    }
    script.main(heap(HeapAct::Free, 10, 1, SpanKind::Heap));
    give(&mut script, 20, 5, SpanKind::Heap, Some(0));
    give(&mut script, 30, 4, SpanKind::Stack, Some(1));
    give(&mut script, 40, 2, SpanKind::Heap, None);
    let bytes = fixture::whole(&script.events);
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let (state, _) = fold(&mut reader).unwrap();
    let leaks = Leaks::new(reader.header(), &state, Nanos(0));
    assert_eq!((leaks.bytes, leaks.objects, leaks.without_stack), ((3 + 5 + 4 + 2) * PAGE, 4, 1));
    let told: Vec<(u64, u64, u64, &str)> =
        leaks.sites.iter().map(|site| (site.bytes, site.objects, site.uncertain, site.call)).collect();
    assert_eq!(told, [(8 * PAGE, 2, 1, "objects"), (4 * PAGE, 1, 0, "stacks"), (2 * PAGE, 1, 0, "objects")]);
    insta::assert_snapshot!(leaks.text(2));
}
