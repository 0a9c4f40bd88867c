//! Strategies for any event: every body, with extreme values more often than chance would have them.
//!
//! Included by test crates with `#[path = "shared/any_event.rs"] mod any_event;`.

#![allow(dead_code, reason = "no test crate needs all of it")]

use pagetrace_user::event::{
    Access, Actor, Arena, ArenaPages, Body, Call, CallCount, Chunks, Event, FileId, Function, HeapAct, HeapRun,
    HeapState, Layer, LibraryId, Member, Object, ObjectAct, ObjectCall, Place, Scan, ScanKind, Span, SpanKind, SpanUse,
    StackId, StackOf, Start, Who, Why,
};
use pagetrace_user::units::{Bytes, Comm, HeapPages, Nanos, Pages, Pfn, Pid, Range, Tid};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::sample::select;

/// Numbers as they come in traces (small, page-aligned, near each other) and as they never should.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..300,
        4 => (0u64..0x8000).prop_map(|page| 0x7f00_0000_0000 + page * 4096),
        2 => any::<u64>(),
        1 => select(vec![0, 1, 4095, 4096, u64::from(u32::MAX), i64::MAX as u64, 1 << 63, u64::MAX - 4095, u64::MAX]),
    ]
}

fn pfn() -> impl Strategy<Value = Pfn> {
    prop_oneof![6 => 1000u64..1040, 2 => 0u64..1 << 28, 1 => number()].prop_map(Pfn)
}

fn range() -> impl Strategy<Value = Range> {
    (number(), number()).prop_map(|(start, bytes)| Range::of(start, bytes))
}

fn order() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0), 2 => Just(9), 1 => any::<u8>()]
}

fn comm() -> impl Strategy<Value = Comm> {
    prop_oneof![
        4 => select(vec!["", "redis-server", "khugepaged", "kworker/u4:1-ev"]).prop_map(Comm::of),
        1 => any::<[u8; 16]>().prop_map(Comm),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "\\PC{0,12}", 2 => "/[a-z/]{0,60}", 1 => Just("ü".repeat(8192))]
}

fn file() -> impl Strategy<Value = Option<FileId>> {
    prop_oneof![Just(None), any::<u32>().prop_map(|id| Some(FileId(id)))]
}

fn word<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    select(all)
}

/// Any of the vma layer.
fn vma() -> BoxedStrategy<Body> {
    let call = || word(Call::ALL);
    let began = || number().prop_map(Nanos);
    prop_oneof![
        (range(), any::<u32>(), any::<u32>(), file(), number(), call(), began()).prop_map(
            |(range, prot, flags, file, offset, call, began)| Body::Map {
                range,
                prot,
                flags,
                file,
                offset: Bytes(offset),
                call,
                began
            }
        ),
        (range(), call(), began()).prop_map(|(range, call, began)| Body::Unmap { range, call, began }),
        (number(), number()).prop_map(|(old, new)| Body::Brk { old, new }),
        (range(), range(), any::<u32>(), began()).prop_map(|(old, new, flags, began)| Body::Remap {
            old,
            new,
            flags,
            began
        }),
        (range(), any::<i32>(), call(), began()).prop_map(|(range, advice, call, began)| Body::Advise {
            range,
            advice,
            call,
            began
        }),
        (range(), any::<u32>()).prop_map(|(range, prot)| Body::Protect { range, prot }),
        (call(), number(), number(), any::<u32>()).prop_map(|(call, addr, bytes, errno)| Body::Failed {
            call,
            addr,
            bytes: Bytes(bytes),
            errno
        }),
        (any::<u32>(), text(), any::<bool>(), number(), number())
            .prop_map(|(id, path, whole, dev, ino)| { Body::MapFile { id: FileId(id), path, whole, dev, ino } }),
    ]
    .boxed()
}

/// Any of the page layer.
fn page() -> BoxedStrategy<Body> {
    let member = || word(Member::ALL);
    prop_oneof![
        (number(), number(), word(Access::ALL), any::<bool>()).prop_map(|(addr, ip, access, kernel)| Body::Fault {
            addr,
            ip,
            access,
            kernel
        }),
        (prop_oneof![Just(None), number().prop_map(Some)], pfn(), order(), member(), number()).prop_map(
            |(addr, pfn, order, member, level)| Body::Frame { addr, pfn, order, member, level: Pages(level) }
        ),
        (pfn(), order()).prop_map(|(pfn, order)| Body::Free { pfn, order }),
        (member(), number()).prop_map(|(member, level)| Body::Rss { member, level: Pages(level) }),
        (word(ScanKind::ALL), number(), prop_oneof![Just(None), number().prop_map(|began| Some(Nanos(began)))])
            .prop_map(|(kind, value, began)| Body::Scan(Scan { kind, value, began })),
    ]
    .boxed()
}

/// Any of the heap layer.
fn heap() -> BoxedStrategy<Body> {
    let p = prop_oneof![4 => (0u32..3).prop_map(Some), 1 => Just(None), 1 => any::<u32>().prop_map(Some)];
    let pages = prop_oneof![4 => Just(1), 3 => 1u64..2000, 1 => number()].prop_map(HeapPages);
    let goid = prop_oneof![3 => Just(None), 2 => (0u64..40).prop_map(Some), 1 => any::<u64>().prop_map(Some)];
    let class = prop_oneof![1 => Just(0), 2 => any::<u8>()];
    let span = prop_oneof![
        1 => Just(None),
        3 => (word(SpanKind::ALL), class).prop_map(|(kind, class)| Some(Span { kind, class })),
    ];
    prop_oneof![
        6 => (word(HeapAct::ALL), number(), pages.clone(), p, goid, span)
            .prop_map(|(act, addr, pages, p, goid, span)| Body::Heap(HeapRun { act, addr, pages, p, goid, span })),
        1 => word(Why::ALL).prop_map(|why| Body::HeapReading { why }),
        1 => (number(), pages.clone(), number(), number()).prop_map(|(addr, pages, object_bytes, objects)| {
            Body::SpanUse(SpanUse { addr, pages, object_bytes, objects })
        }),
        2 => (number(), pages, word(HeapState::ALL))
            .prop_map(|(addr, pages, state)| Body::BaselineHeap { addr, pages, state }),
    ]
    .boxed()
}

/// Any of arenas.
fn arenas() -> BoxedStrategy<Body> {
    let bytes = || number().prop_map(Bytes);
    let chunks = || (number(), bytes()).prop_map(|(count, bytes)| Chunks { count, bytes });
    let flags = || (any::<bool>(), any::<bool>());
    prop_oneof![
        1 => (word(Why::ALL), text(), text()).prop_map(|(why, name, path)| Body::ArenaReading { why, name, path }),
        2 => (number(), flags(), bytes(), (chunks(), chunks(), chunks(), chunks()), bytes()).prop_map(
            |(addr, (is_main, settled), size, (in_use, cached, fast, free), top)| {
                Body::Arena(Arena { addr, is_main, settled, size, in_use, cached, fast, free, top })
            }
        ),
        4 => (number(), number(), (bytes(), bytes(), bytes()), any::<bool>()).prop_map(
            |(addr, pages, (in_use, kept, free), trims)| {
                Body::ArenaPages(ArenaPages { addr, pages: Pages(pages), in_use, kept, free, trims })
            }
        ),
    ]
    .boxed()
}

/// Any of the object layer.
fn object() -> BoxedStrategy<Body> {
    let who = || {
        let library = prop_oneof![6 => 0u8..3, 1 => any::<u8>()];
        (word(ObjectCall::ALL), library).prop_map(|(call, library)| Who { call, library: LibraryId(library) })
    };
    let bytes = prop_oneof![2 => Just(0), 6 => 1u64..5000, 1 => number()].prop_map(Bytes);
    prop_oneof![
        8 => (word(ObjectAct::ALL), number(), bytes.clone(), who(), any::<bool>())
            .prop_map(|(act, addr, bytes, who, moves)| Body::Object(Object { act, addr, bytes, who, moves })),
        1 => (any::<u8>(), any::<bool>(), text(), text())
            .prop_map(|(id, whole, name, path)| Body::Library { id: LibraryId(id), whole, name, path }),
        1 => (who(), number(), bytes, number(), number()).prop_map(|(who, calls, bytes, nested, failed)| Body::Calls {
            who,
            count: CallCount { calls, bytes, nested, failed }
        }),
    ]
    .boxed()
}

/// Any of the stack layer.
fn stack() -> BoxedStrategy<Body> {
    let id = || prop_oneof![6 => 0u32..40, 1 => any::<u32>()].prop_map(StackId);
    let place = || {
        prop_oneof![
            6 => (0u32..4, number()).prop_map(|(file, offset)| Place::File { file: FileId(file), offset }),
            2 => number().prop_map(Place::Address),
            1 => Just(Place::Cut),
            2 => number().prop_map(Place::Kernel),
        ]
    };
    let text = || prop_oneof![8 => "\\PC{0,12}", 1 => Just("ü".repeat(512))];
    let function = (text(), text(), any::<u32>()).prop_map(|(name, file, line)| Function { name, file, line });
    prop_oneof![
        6 => (word(StackOf::ALL), id()).prop_map(|(of, id)| Body::Stack { of, id }),
        4 => (prop_oneof![Just(None), id().prop_map(Some)], place())
            .prop_map(|(parent, place)| Body::StackNode { parent, place }),
        1 => (place(), proptest::collection::vec(function, 0..4))
            .prop_map(|(place, functions)| Body::Symbol { place, functions }),
        1 => (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40), any::<Option<u64>>())
            .prop_map(|(file, id, linked)| Body::BuildId { file: FileId(file), id, linked }),
    ]
    .boxed()
}

/// Any of the task layer, and any from the recorder.
fn other() -> BoxedStrategy<Body> {
    prop_oneof![
        (word(Start::ALL), any::<u32>()).prop_map(|(how, parent)| Body::Start { how, parent: Pid(parent) }),
        (any::<u32>(), comm()).prop_map(|(child, child_comm)| Body::Fork { child: Pid(child), child_comm }),
        (comm(), text()).prop_map(|(comm, exe)| Body::Exec { comm, exe }),
        (any::<u8>(), any::<u8>()).prop_map(|(code, signal)| Body::Exit { code, signal }),
        Just(Body::MmGone),
        (word(Why::ALL), range(), any::<bool>()).prop_map(|(why, range, maps)| Body::Reading { why, range, maps }),
        (range(), any::<u32>(), any::<bool>(), file(), number(), text()).prop_map(
            |(range, prot, shared, file, offset, name)| Body::BaselineMap {
                range,
                prot,
                shared,
                file,
                offset: Bytes(offset),
                name
            }
        ),
        (number(), number(), prop_oneof![Just(None), pfn().prop_map(Some)], any::<bool>(), any::<bool>()).prop_map(
            |(addr, pages, pfn, file, swapped)| Body::BaselinePages { addr, pages: Pages(pages), pfn, file, swapped }
        ),
        (word(Layer::ALL), number(), number(), number()).prop_map(|(layer, from, to, count)| Body::Lost {
            layer,
            from: Nanos(from),
            to: Nanos(to),
            count
        }),
    ]
    .boxed()
}

/// Any event, at any time.
pub fn any_event() -> impl Strategy<Value = Event> {
    let body = prop_oneof![vma(), page(), page(), other(), heap(), arenas(), object(), stack()];
    let ts = prop_oneof![8 => 0u64..5000, 1 => any::<u64>()];
    let cpu = prop_oneof![8 => 0u16..3, 1 => any::<u16>()];
    let tid = prop_oneof![8 => 100u32..104, 1 => any::<u32>()];
    let actor = prop_oneof![
        8 => Just(None),
        1 => (any::<u32>(), comm()).prop_map(|(tgid, comm)| Some(Actor { tgid: Pid(tgid), comm })),
    ];
    (ts, cpu, tid, actor, body).prop_map(|(ts, cpu, tid, actor, body)| Event {
        ts: Nanos(ts),
        cpu,
        tid: Tid(tid),
        actor,
        body,
    })
}

/// Up to `most` events in time order.
pub fn any_events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(any_event(), 0..=most).prop_map(|mut events| {
        events.sort_by_key(|event| event.ts);
        events
    })
}
