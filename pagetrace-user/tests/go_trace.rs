//! The page trace of the Go runtime: two real ones read, shown, written back, cut and changed.
//!
//! `data/go1.22-hello.pt` is of a program that only prints, `data/go1.21-2P.pt` of one that allocates on two Ps for 2.7 s,
//! both built with `GOEXPERIMENT=pagetrace` and run with `GODEBUG=pagetrace=FILE`. The numbers that are expected were
//! counted by a few lines that know nothing of this program: one flag for each page, words by `w & 7`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "shared/trace.rs"]
mod trace;
// Of the shared strategies, for `trace`.
#[path = "shared/any_event.rs"]
mod any_event;

#[path = "go_trace/changed.rs"]
mod changed;
#[path = "go_trace/program.rs"]
mod program;

use std::collections::BTreeMap;

use pagetrace_user::check::check;
use pagetrace_user::event::{Body, Event, HeapAct, HeapRun};
use pagetrace_user::export::{Form, export};
use pagetrace_user::format::Trace;
use pagetrace_user::format::go::{GoReader, GoWriter};
use pagetrace_user::replay::fold;
use pagetrace_user::report::Report;
use pagetrace_user::stacks::Of;
use pagetrace_user::units::{HeapPages, Nanos, Tid};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

const HELLO: &[u8] = include_bytes!("data/go1.22-hello.pt");
const TWO_PS: &[u8] = include_bytes!("data/go1.21-2P.pt");

/// A run as it stands in a file: act, address, pages.
type Run = (HeapAct, u64, u64);

fn events(bytes: &[u8]) -> Vec<Event> {
    let mut reader = GoReader::new(bytes).unwrap();
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        events.push(event.clone());
    }
    assert_eq!(reader.outcome().events, events.len() as u64);
    assert!(events.windows(2).all(|two| two[0].ts <= two[1].ts), "time order");
    events
}

fn report(bytes: &[u8]) -> Report {
    let mut reader = GoReader::new(bytes).unwrap();
    let (state, outcome) = fold(&mut reader).unwrap();
    Report::new(reader.header(), &state, &outcome, 10)
}

fn exported(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let done = export(&mut GoReader::new(bytes).unwrap(), Form::Go, Of::Resident, &mut out).unwrap();
    assert_eq!((done.unfit, done.others), (0, 0));
    out
}

/// What each P did, in its order.
fn by_p(events: &[Event]) -> BTreeMap<Option<u32>, Vec<(Run, Nanos)>> {
    let mut lanes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events {
        let Body::Heap(HeapRun { act, addr, pages, p, .. }) = event.body else { panic!("{event:?}") };
        lanes.entry(p).or_default().push(((act, addr, pages.0), event.ts));
    }
    lanes
}

/// The words of a file that are events, by P, without the bits of the time.
fn words(bytes: &[u8]) -> BTreeMap<i64, Vec<u64>> {
    let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    let (mut lanes, mut p) = (BTreeMap::<i64, Vec<u64>>::new(), 0);
    while let Some(word) = words.next() {
        match word & 7 {
            0 => {}
            4 => p = word as i64 >> 3,
            kind => {
                let lane = lanes.entry(p).or_default();
                lane.push(word << 16 >> 16);
                if kind > 4 {
                    lane.push(words.next().unwrap());
                }
            }
        }
    }
    lanes
}

#[test]
fn the_small_one_has_the_counts_of_its_words() {
    let report = report(HELLO);
    let (heap, go) = (report.heap.unwrap(), report.go.unwrap());
    assert_eq!(heap.acts.iter().map(|act| act.count).collect::<Vec<_>>(), [29, 0, 0]);
    assert_eq!((go.syncs, go.buffers, go.large, go.ps, go.events_without_p), (3, 3, 0, 2, 17));
    assert_eq!((heap.in_use_bytes, heap.peak_bytes, heap.given_back_bytes), (56 * 8192, 56 * 8192, 0));
    assert_eq!((report.from_ns, report.to_ns), (3_173_132_848_000, 3_173_133_222_144));
    assert_eq!(report.anomalies.iter().map(|odd| (odd.kind, odd.count)).collect::<Vec<_>>(), [("go_no_p", 17)]);
}

#[test]
fn the_large_one_has_the_counts_of_its_words() {
    let report = report(TWO_PS);
    let (heap, go) = (report.heap.unwrap(), report.go.unwrap());
    assert_eq!(
        heap.acts.iter().map(|act| (act.name.as_str(), act.count, act.bytes / 8192)).collect::<Vec<_>>(),
        [("alloc", 79_139, 1_439_447), ("free", 79_088, 1_439_347), ("scav", 3_979, 388_197)]
    );
    assert_eq!((go.syncs, go.buffers, go.large, go.ps, go.ended), (449, 42, 240, 2, true));
    assert_eq!((heap.in_use_bytes, heap.given_back_bytes), (100 * 8192, 27_906 * 8192));
    assert_eq!((heap.peak_bytes, heap.peak_ns - report.from_ns), (24_286 * 8192, 235_625_728));
    assert_eq!(report.to_ns - report.from_ns, 2_669_912_704);
    // No double alloc, no double free, no scav of pages in use: nothing but the events without a P.
    assert_eq!(report.anomalies.iter().map(|odd| (odd.kind, odd.count)).collect::<Vec<_>>(), [("go_no_p", 16)]);
}

#[test]
fn reports_and_checks_of_both() {
    for (name, bytes) in [("hello", HELLO), ("2P", TWO_PS)] {
        let found = check(&mut GoReader::new(bytes).unwrap()).unwrap();
        assert_eq!((found.code() as u8, found.file_state, found.bytes), (0, "complete", bytes.len() as u64));
        insta::assert_snapshot!(name, report(bytes).text() + "\n\n" + &found.text());
    }
}

/// Stronger than what the format asks for, the words of each P: also times, buffers and their order are the same.
#[test]
fn both_are_written_back_as_the_runtime_wrote_them() {
    for bytes in [HELLO, TWO_PS] {
        assert!(exported(bytes) == bytes);
    }
}

#[test]
fn a_trace_file_holds_them_too() {
    let truth = events(TWO_PS);
    let file = trace::file_of(&truth, 50_000);
    let (_, back, _) = trace::read(file.as_slice()).unwrap();
    trace::check_same(&back, &truth);
    let each = file.len() as f64 / truth.len() as f64;
    println!("{each:.2} bytes an event");
    assert!(each <= 6.0, "{each:.2} bytes an event; the runtime takes 8.04");
    let mut out = Vec::new();
    let mut reader = pagetrace_user::format::Reader::new(file.as_slice()).unwrap();
    export(&mut reader, Form::Go, Of::Resident, &mut out).unwrap();
    assert!(out == TWO_PS, "and gives them back");

    let mut reader = pagetrace_user::format::Reader::new(file.as_slice()).unwrap();
    let (state, outcome) = fold(&mut reader).unwrap();
    let of_file = Report::new(reader.header(), &state, &outcome, 10);
    assert_eq!(format!("{:?}", of_file.heap), format!("{:?}", report(TWO_PS).heap));
    assert!(of_file.go.is_none() && of_file.anomalies.is_empty());
    assert!(
        of_file.text().contains("\nRSS ") && of_file.text().contains("\nPage heap of the allocator: 800.0 KiB in use")
    );
}

fn any_run() -> impl Strategy<Value = (u64, Run, Option<u32>)> {
    let step = prop_oneof![8 => 0u64..5_000, 2 => 8_000_000u64..9_000_000, 1 => 0u64..1 << 50];
    let pages = prop_oneof![4 => 1u64..4, 2 => 1020u64..1030, 1 => 1u64..1 << 20];
    let act = prop_oneof![Just(HeapAct::Alloc), Just(HeapAct::Free), Just(HeapAct::Scav)];
    let addr = prop_oneof![Just(0), Just(1 << 34), 0u64..1 << 34].prop_map(|page| page * 8192);
    let p = prop_oneof![1 => Just(None), 5 => (0u32..3).prop_map(Some), 1 => Just(Some(65_535))];
    (step, act, addr, pages, p).prop_map(|(step, act, addr, pages, p)| (step, (act, addr, pages), p))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_are_read_back(runs in proptest::collection::vec(any_run(), 1..12_000), whole in any::<bool>()) {
        let mut writer = GoWriter::new(Vec::new());
        let (mut now, mut truth) = (0, Vec::new());
        for (step, (act, addr, pages), p) in runs {
            now += step;
            let body = Body::Heap(HeapRun { act, addr, pages: HeapPages(pages), p, goid: None, span: None });
            let event = Event { ts: Nanos(now), cpu: 3, tid: Tid(7), actor: None, body };
            writer.push(&event).unwrap().unwrap();
            truth.push(event);
        }
        assert_eq!(writer.events(), truth.len() as u64);
        let file = writer.finish(whole).unwrap();
        let (back, truth) = (by_p(&events(&file)), by_p(&truth));
        assert_eq!(back.keys().collect::<Vec<_>>(), truth.keys().collect::<Vec<_>>());
        for (p, truth) in &truth {
            assert_eq!(back[p].len(), truth.len());
            for ((run, ts), (true_run, true_ts)) in back[p].iter().zip(truth) {
                assert_eq!(run, true_run);
                assert!(ts <= true_ts && true_ts.0 - ts.0 < 255, "{ts:?} for {true_ts:?}");
            }
        }
        let go = GoReader::new(file.as_slice()).unwrap().outcome().go.unwrap();
        if !truth.contains_key(&None) {
            assert_eq!(go.ended, whole);
        }
        assert!(words(&exported(&file)) == words(&file));
    }

    #[test]
    fn any_bytes_are_no_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), begins in any::<bool>()) {
        if begins {
            bytes.splice(..0, HELLO[..16].iter().copied());
        }
        changed::look_at(&bytes);
    }
}

#[test]
fn what_has_no_place_in_the_format_is_refused() {
    let mut writer = GoWriter::new(Vec::new());
    for (addr, pages, fits) in [
        (8192, 1, true),
        (8193, 1, false),
        (4096, 1, false),
        (8192, 0, false),
        ((1 << 48) - 8192, 1, true),
        ((1 << 48) - 8192, 2, false),
        (1 << 48, 1, false),
        (8192, u64::MAX, false),
    ] {
        let (act, run) = (HeapAct::Scav, HeapPages(pages));
        let body = Body::Heap(HeapRun { act, addr, pages: run, p: Some(1), goid: None, span: None });
        let event = Event { ts: Nanos(1), cpu: 0, tid: Tid(0), actor: None, body };
        assert_eq!(writer.push(&event).unwrap().is_ok(), fits, "{addr:#x} {pages}");
    }
    let other = Event { ts: Nanos(1), cpu: 0, tid: Tid(0), actor: None, body: Body::MmGone };
    assert!(writer.push(&other).unwrap().is_ok(), "passed over");
    assert_eq!(writer.events(), 2);
    assert_eq!(events(&writer.finish(true).unwrap()).len(), 2);
}
