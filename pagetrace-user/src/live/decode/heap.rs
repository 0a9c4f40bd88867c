//! Records of page heaps.

use pagetrace_common::record;

use crate::event::{Body, HeapAct, HeapRun, Scan, ScanKind, Span, SpanKind};
use crate::live::decode::What;
use crate::units::{HEAP_PAGE_BYTES, HeapPages};

/// The phases of the collector, in the order of their numbers in a cookie.
pub const PHASES: [ScanKind; 4] =
    [ScanKind::GcStart, ScanKind::GcMarkTermination, ScanKind::GcMarkEnd, ScanKind::GcSweep];

/// The words of a page heap's act: address, amount, P and span, goroutine, heap.
pub(super) fn heap(flags: u8, word: &dyn Fn(usize) -> u64) -> What {
    let (act, pages) = match flags & record::HEAP_VERB {
        record::HEAP_ALLOC | record::HEAP_INIT => (HeapAct::Alloc, word(1)),
        record::HEAP_FREE => (HeapAct::Free, word(1)),
        record::HEAP_SCAV => (HeapAct::Scav, word(1) / HEAP_PAGE_BYTES),
        record::HEAP_GROW => (HeapAct::Mark, word(1) / HEAP_PAGE_BYTES),
        record::HEAP_PHASE => {
            return match PHASES.get(usize::from(flags >> 3 & 15)) {
                Some(&kind) => What::Event(Body::Scan(Scan { kind, value: 0, began: None })),
                None => What::Unknown,
            };
        }
        _ => return What::Unknown,
    };
    // The runtime's types of spans: objects, stacks, and then kinds of its own structures.
    let kind = match word(2) >> 32 & 0xff {
        0 => None,
        1 => Some(SpanKind::Heap),
        2 => Some(SpanKind::Stack),
        _ => Some(SpanKind::Other),
    };
    let run = HeapRun {
        act,
        addr: word(0),
        pages: HeapPages(pages),
        p: (word(2) as u32).checked_sub(1),
        goid: (word(3) != 0).then(|| word(3)),
        span: kind.map(|kind| Span { kind, class: (word(2) >> 40) as u8 }),
    };
    What::Heap { run, heap: (word(4) != 0).then(|| word(4)), is_go: flags & record::HEAP_TCMALLOC == 0 }
}

#[cfg(test)]
mod tests {
    use pagetrace_common::control::cookie;
    use pagetrace_common::record::MAX_WORDS;

    use super::*;
    use crate::live::decode::decode;
    use crate::units::{Nanos, Tid};

    /// Act, address, pages, P, goroutine, span, heap.
    type Told = (HeapAct, u64, u64, Option<u32>, Option<u64>, Option<(SpanKind, u8)>, Option<u64>);

    fn told(verb: u8, phase: u8, payload: [u64; 5]) -> What {
        let flags = cookie::flags(cookie::of(verb, phase, 63));
        let mut words = [0; MAX_WORDS];
        for (to, from) in words.iter_mut().zip([1, record::head(record::HEAP, flags, 3, 9), 7].iter().chain(&payload)) {
            *to = *from;
        }
        let decoded = decode(Nanos(1), &words, &[]);
        assert_eq!((decoded.owner, decoded.cpu, decoded.tid), (9, 3, Tid(7)));
        decoded.what
    }

    #[track_caller]
    fn check(verb: u8, payload: [u64; 5], expected: Option<Told>) {
        let found = match told(verb, 0, payload) {
            What::Heap { run: HeapRun { act, addr, pages, p, goid, span }, heap, is_go: true } => {
                Some((act, addr, pages.0, p, goid, span.map(|span| (span.kind, span.class)), heap))
            }
            _ => None,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn page_heaps() {
        use HeapAct::{Alloc, Free, Mark, Scav};
        let span = |kind: u64, class: u64| (kind + 1) << 32 | class << 40;
        check(record::HEAP_ALLOC, [0x2000, 3, 2, 17, 9], Some((Alloc, 0x2000, 3, Some(1), Some(17), None, Some(9))));
        let stack = Some((SpanKind::Stack, 0));
        check(record::HEAP_INIT, [0x2000, 3, span(1, 0), 0, 9], Some((Alloc, 0x2000, 3, None, None, stack, Some(9))));
        check(record::HEAP_ALLOC, [0x2000, 3, span(1, 0), 0, 9], Some((Alloc, 0x2000, 3, None, None, stack, Some(9))));
        let objects = Some((SpanKind::Heap, 255));
        check(record::HEAP_FREE, [0x2000, 1, span(0, 255), 0, 0], Some((Free, 0x2000, 1, None, None, objects, None)));
        let other = Some((SpanKind::Other, 0));
        check(
            record::HEAP_FREE,
            [0x2000, 1, 1 | span(3, 0), 0, 0],
            Some((Free, 0x2000, 1, Some(0), None, other, None)),
        );
        check(record::HEAP_SCAV, [0x2000, 65536, 1, 0, 0], Some((Scav, 0x2000, 8, Some(0), None, None, None)));
        check(record::HEAP_GROW, [0x2000, 65536, 1, 0, 0], Some((Mark, 0x2000, 8, Some(0), None, None, None)));
        check(record::HEAP_PURPOSE, [0; 5], None);
        check(record::HEAP_UNREAD, [0; 5], None);
        let tcmallocs = told(record::HEAP_FREE, record::HEAP_TCMALLOC >> 3, [0x2000, 3, 0, 0, 9]);
        let run = HeapRun { act: Free, addr: 0x2000, pages: HeapPages(3), p: None, goid: None, span: None };
        assert!(
            matches!(tcmallocs, What::Heap { run: found, heap: Some(9), is_go: false } if found == run),
            "{tcmallocs:?}"
        );
        let phase = told(record::HEAP_PHASE, 3, [0; 5]);
        assert!(matches!(phase, What::Event(Body::Scan(Scan { kind: ScanKind::GcSweep, .. }))), "{phase:?}");
        assert!(matches!(told(record::HEAP_PHASE, 4, [0; 5]), What::Unknown));
    }
}
