//! Any events in any order: no panic, books that add up, and the same answer twice.

use proptest::prelude::*;

use pagetrace_user::dump::{Filter, dump};
use pagetrace_user::event::{
    Access, Actor, Body, Call, Event, FileId, Header, HeapAct, HeapRun, Layer, LibraryId, Member, Object, ObjectAct,
    ObjectCall, Place, Scan, ScanKind, SpanUse, StackId, StackOf, Start, Who, Why,
};
use pagetrace_user::format::Reader;
use pagetrace_user::frag::measure;
use pagetrace_user::heat::{Cell, Heat, MOST_COLUMNS, MOST_ROWS};
use pagetrace_user::html::page;
use pagetrace_user::leaks::Leaks;
use pagetrace_user::replay::fold;
use pagetrace_user::replay::{Class, RESIDENT, State, Window};
use pagetrace_user::report::Report;
use pagetrace_user::units::{Bytes, Comm, HEAP_PAGE_BYTES, HeapPages, Nanos, PAGE_BYTES, Pages, Pfn, Pid, Range, Tid};

use crate::fixture;

/// Mostly a few dozen pages, so that events meet; sometimes the ends of the address space.
fn addr() -> BoxedStrategy<u64> {
    prop_oneof![
        20 => (0_u64..64).prop_map(|page| page * PAGE_BYTES),
        2 => 0_u64..64 * PAGE_BYTES,
        1 => prop_oneof![Just(u64::MAX), Just(u64::MAX - 4095), Just(1 << 56), any::<u64>()],
    ]
    .boxed()
}

fn range() -> BoxedStrategy<Range> {
    prop_oneof![
        10 => (addr(), 0_u64..20).prop_map(|(start, pages)| Range::of(start, pages * PAGE_BYTES)),
        1 => (addr(), addr()).prop_map(|(start, end)| Range { start, end }),
        1 => Just(Range { start: 0, end: 1 << 47 }),
    ]
    .boxed()
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn member() -> impl Strategy<Value = Member> {
    one_of(Member::ALL)
}

fn order() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0_u8..4, 1 => 0_u8..12, 1 => any::<u8>().prop_map(|order| order.max(19))]
}

fn pfn() -> impl Strategy<Value = Pfn> {
    prop_oneof![20 => (0_u64..80).prop_map(Pfn), 1 => any::<u64>().prop_map(Pfn)]
}

fn vma() -> BoxedStrategy<Body> {
    let began = (0_u64..200).prop_map(Nanos);
    let flags = prop_oneof![Just(0x22_u32), Just(0x32), Just(0x12), Just(0x10_0022), any::<u32>()];
    let file = prop::option::of((0_u32..3).prop_map(FileId));
    prop_oneof![
        (range(), flags, file, one_of(&[Call::Mmap, Call::Shmat]), began.clone()).prop_map(
            |(range, flags, file, call, began)| {
                Body::Map { range, prot: 3, flags, file, offset: Bytes(0), call, began }
            }
        ),
        (range(), began.clone()).prop_map(|(range, began)| Body::Unmap { range, call: Call::Munmap, began }),
        (addr(), addr()).prop_map(|(old, new)| Body::Brk { old, new }),
        (range(), range(), 0_u32..8, began.clone()).prop_map(|(old, new, flags, began)| Body::Remap {
            old,
            new,
            flags,
            began
        }),
        (range(), one_of(&[4, 8, 9, 21, 24, 102, -1]), began).prop_map(|(range, advice, began)| Body::Advise {
            range,
            advice,
            call: Call::Madvise,
            began
        }),
        (range(), any::<u32>()).prop_map(|(range, prot)| Body::Protect { range, prot }),
        (addr(), any::<u64>(), any::<u32>()).prop_map(|(addr, bytes, errno)| Body::Failed {
            call: Call::Brk,
            addr,
            bytes: Bytes(bytes),
            errno
        }),
    ]
    .boxed()
}

fn pages() -> BoxedStrategy<Body> {
    let level = prop_oneof![9 => 0_u64..100, 1 => any::<u64>()].prop_map(Pages);
    prop_oneof![
        6 => (prop::option::weighted(0.9, addr()), pfn(), order(), member(), level.clone())
            .prop_map(|(addr, pfn, order, member, level)| Body::Frame { addr, pfn, order, member, level }),
        3 => (pfn(), order()).prop_map(|(pfn, order)| Body::Free { pfn, order }),
        2 => (member(), level).prop_map(|(member, level)| Body::Rss { member, level }),
        1 => (addr(), addr()).prop_map(|(addr, ip)| Body::Fault { addr, ip, access: Access::Exec, kernel: true }),
        1 => (one_of(ScanKind::ALL), any::<u64>()).prop_map(|(kind, value)| Body::Scan(Scan { kind, value, began: None })),
    ]
    .boxed()
}

fn reading() -> BoxedStrategy<Body> {
    let count = prop_oneof![20 => 0_u64..20, 1 => Just(5000)].prop_map(Pages);
    prop_oneof![
        (one_of(Why::ALL), range(), any::<bool>()).prop_map(|(why, range, maps)| Body::Reading { why, range, maps }),
        (range(), one_of(&["", "[heap]", "[stack]", "[vvar]"]), any::<bool>()).prop_map(|(range, name, shared)| {
            Body::BaselineMap { range, prot: 3, shared, file: None, offset: Bytes(0), name: name.to_owned() }
        }),
        (addr(), count, prop::option::of(pfn()), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(addr, pages, pfn, file, swapped)| Body::BaselinePages { addr, pages, pfn, file, swapped }),
        (0_u32..3, "[a-z/]{0,6}").prop_map(|(id, path)| Body::MapFile {
            id: FileId(id),
            path,
            whole: true,
            dev: 0,
            ino: 0
        }),
    ]
    .boxed()
}

fn heap() -> BoxedStrategy<Body> {
    let addr = prop_oneof![9 => (0_u64..32).prop_map(|page| page * HEAP_PAGE_BYTES), 1 => addr()];
    let pages = prop_oneof![9 => 1_u64..8, 1 => any::<u64>()].prop_map(HeapPages);
    (one_of(HeapAct::ALL), addr, pages, prop::option::of(0_u32..3))
        .prop_map(|(act, addr, pages, p)| Body::Heap(HeapRun { act, addr, pages, p, goid: None, span: None }))
        .boxed()
}

fn objects() -> BoxedStrategy<Body> {
    let addr = || prop_oneof![9 => 0_u64..64 * PAGE_BYTES, 1 => addr()];
    let bytes = prop_oneof![6 => 0_u64..200, 3 => 0_u64..5 * PAGE_BYTES, 1 => any::<u64>()].prop_map(Bytes);
    let who = (one_of(ObjectCall::ALL), 0_u8..3).prop_map(|(call, id)| Who { call, library: LibraryId(id) });
    let stack = || 0_u32..6;
    prop_oneof![
        8 => (one_of(ObjectAct::ALL), addr(), bytes, who, prop::bool::weighted(0.2))
            .prop_map(|(act, addr, bytes, who, moves)| Body::Object(Object { act, addr, bytes, who, moves })),
        4 => (one_of(StackOf::ALL), stack()).prop_map(|(of, id)| Body::Stack { of, id: StackId(id) }),
        2 => (prop::option::of(stack()), 0_u64..3).prop_map(|(parent, place)| Body::StackNode {
            parent: parent.map(StackId),
            place: Place::Address(place)
        }),
        2 => (0_u64..32, 0_u64..1 << 40, any::<u64>(), prop_oneof![0_u64..9000, any::<u64>()]).prop_map(
            |(page, pages, object_bytes, objects)| {
                let (addr, pages) = (page * HEAP_PAGE_BYTES, HeapPages(pages));
                Body::SpanUse(SpanUse { addr, pages, object_bytes, objects })
            }
        ),
    ]
    .boxed()
}

fn task() -> BoxedStrategy<Body> {
    prop_oneof![
        one_of(Start::ALL).prop_map(|how| Body::Start { how, parent: Pid(1) }),
        Just(Body::Exec { comm: Comm::of("x"), exe: "/x".to_owned() }),
        Just(Body::Exit { code: 1, signal: 0 }),
        Just(Body::MmGone),
        any::<u64>().prop_map(|count| Body::Lost { layer: Layer::Vma, from: Nanos(9), to: Nanos(1), count }),
    ]
    .boxed()
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let body = prop_oneof![20 => vma(), 30 => pages(), 10 => reading(), 5 => heap(), 20 => objects(), 1 => task()];
    let actor = prop::option::weighted(0.1, Just(Actor { tgid: Pid(9), comm: Comm::of("kswapd0") }));
    let event = (0_u64..3, 0_u32..4, actor, body);
    prop::collection::vec(event, 0..150).prop_map(|events| {
        let mut now = 0;
        (events.into_iter())
            .map(|(step, tid, actor, body)| {
                now += step;
                Event { ts: Nanos(now), cpu: 0, tid: Tid(tid), actor, body }
            })
            .collect()
    })
}

fn folded(events: &[Event], whole: bool) -> State {
    let mut state = State::new();
    for event in events {
        state.apply(event);
    }
    state.finish(whole);
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_events_give_books_that_add_up(events in events(), whole in any::<bool>()) {
        let state = folded(&events, whole);
        let ledger = state.ledger();
        let classes: u64 = Class::ALL.iter().map(|&class| ledger.placed(class).0).sum();
        prop_assert_eq!(classes + ledger.uncounted.0, state.resident().len().0, "every page is in one class");
        prop_assert_eq!(RESIDENT.iter().map(|&member| ledger.pages_of(member).0).sum::<u64>(), classes);
        prop_assert_eq!(state.resident().iter().count() as u64, state.resident().len().0);
        for (addr, page) in state.resident().iter() {
            let held = page.pfn.and_then(|pfn| state.resident().holder(pfn));
            prop_assert!(held.is_none_or(|held| held == addr || state.resident().get(held).is_some_and(|other| other.pfn == page.pfn)));
        }
        let ranges: Vec<Range> = state.mappings().iter().map(|mapping| mapping.range).collect();
        prop_assert!(ranges.iter().all(|range| !range.is_empty()));
        prop_assert!(ranges.windows(2).all(|pair| matches!(pair, [left, right] if left.end <= right.start)), "mappings do not overlap");
    }

    #[test]
    fn cells_of_any_events_add_up(events in events(), since in 0_u64..200, at in prop::option::of(0_u64..300)) {
        let bytes = fixture::whole(&events);
        let window = Window { since: Some(Nanos(since)), at: at.map(Nanos) };
        let heat = Heat::of(&mut Reader::new(bytes.as_slice()).unwrap(), window).unwrap().0;
        let rows: Vec<_> = heat.map.blocks.iter().flat_map(|block| &block.rows).collect();
        prop_assert!(rows.len() <= 2 * MOST_ROWS && heat.map.moments.len() <= MOST_COLUMNS);
        for (at, moment) in heat.map.moments.iter().enumerate() {
            let cells: Vec<_> = rows.iter().map(|row| row[at]).collect();
            let sum: u64 = cells.iter().map(|cell| cell.resident).sum();
            prop_assert_eq!(sum, moment.sum.resident);
            let fits = |cell: &Cell| cell.live + cell.free <= cell.resident && cell.resident + cell.given_back <= heat.map.row.0 / PAGE_BYTES;
            prop_assert!(cells.iter().all(fits), "{:?}", cells);
        }
        let svg = heat.svg(None).unwrap();
        prop_assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        prop_assert!(heat.text(Some(5), 1).lines().count() > 1);
    }

    #[test]
    fn what_objects_and_runs_keep_adds_up(events in events(), is_of_objects in any::<bool>(), age in 0_u64..100) {
        let header = Header { object_period_bytes: is_of_objects.then_some(0), ..fixture::header() };
        let bytes = fixture::file_of(&header, &events, Some(&fixture::trailer(&events)));
        let frag = || measure(&mut Reader::new(bytes.as_slice()).unwrap(), Nanos(age)).unwrap().0;
        let told = frag();
        prop_assert_eq!(told.page_bytes, told.live_bytes + told.beside_bytes + told.empty_bytes);
        let charged: u64 = told.sites.iter().map(|site| site.empty_bytes).sum();
        prop_assert_eq!(charged + told.young_bytes, told.empty_bytes);
        prop_assert!(told.sites.iter().all(|site| site.alone_bytes <= site.page_bytes && site.page_bytes <= told.page_bytes));
        prop_assert_eq!(told.sizes.iter().map(|size| size.empty_bytes).sum::<u64>(), if is_of_objects { 0 } else { told.empty_bytes });
        prop_assert_eq!((told.text(3), told.json()), (frag().text(3), frag().json()));
    }

    #[test]
    fn the_same_file_gives_the_same_words(events in events()) {
        let bytes = fixture::whole(&events);
        let views = || {
            let mut reader = Reader::new(bytes.as_slice()).unwrap();
            let (state, outcome) = fold(&mut reader).unwrap();
            assert_eq!(outcome.events, events.len() as u64);
            let report = Report::new(reader.header(), &state, &outcome, 5);
            let mut lines = Vec::new();
            for json in [true, false] {
                dump(&mut Reader::new(bytes.as_slice()).unwrap(), &Filter::default(), json, &mut lines).unwrap();
            }
            let page = page(&mut Reader::new(bytes.as_slice()).unwrap(), 5).unwrap();
            let leaks = Leaks::new(reader.header(), &state, Nanos(0));
            [report.text(), report.json(), String::from_utf8(lines).unwrap(), page.html, leaks.text(5), leaks.json()]
        };
        for (one, other) in views().iter().zip(views()) {
            for (one, other) in one.lines().zip(other.lines()) {
                prop_assert_eq!(one, other);
            }
        }
    }
}
