//! Objects: what lives, calls that move, losses.

use crate::event::{Body, CallCount, Layer, LibraryId, Object, ObjectAct, ObjectCall, Who};
use crate::replay::{Estimate, Oddity, State};
use crate::units::{Bytes, Nanos};

use super::at;

const WHO: Who = Who { call: ObjectCall::Malloc, library: LibraryId(0) };

/// Acts as (time, thread, act, address, bytes, moves).
type Act = (u64, u32, ObjectAct, u64, u64, bool);

fn replayed(acts: &[Act]) -> State {
    let mut state = State::new();
    for (ts, tid, act, addr, bytes, moves) in acts {
        let object = Object { act: *act, addr: *addr, bytes: Bytes(*bytes), who: WHO, moves: *moves };
        state.apply(&at(*ts, *tid, Body::Object(object)));
    }
    state
}

/// The objects that live then, as (address, bytes, since), and the oddities.
#[track_caller]
fn check(acts: &[Act], live: &[(u64, u64, u64)], odd: &[Oddity]) {
    let state = replayed(acts);
    let mut found: Vec<_> = state.objects().live().map(|(addr, live)| (addr, live.bytes.0, live.since.0)).collect();
    found.sort_unstable();
    assert_eq!(found, live);
    let oddities: Vec<Oddity> = state.anomalies().iter().map(|anomaly| anomaly.what).collect();
    assert_eq!(oddities, odd);
}

#[test]
fn lives() {
    use ObjectAct::{Alloc, Free, Kept};
    check(&[(1, 1, Alloc, 16, 5, false)], &[(16, 5, 1)], &[]);
    check(&[(1, 1, Alloc, 16, 5, false), (2, 9, Free, 16, 0, false)], &[], &[]);
    // What was there before the recording.
    check(&[(1, 1, Free, 16, 0, false)], &[], &[]);
    // realloc, in place and elsewhere, while another thread gets the memory that it gives up.
    let first = (1, 1, Alloc, 16, 5, false);
    check(&[first, (2, 1, Free, 16, 0, true), (3, 1, Alloc, 16, 9, true)], &[(16, 9, 3)], &[]);
    let other = (3, 2, Alloc, 16, 7, false);
    check(&[first, (2, 1, Free, 16, 0, true), other, (4, 1, Alloc, 32, 9, true)], &[(16, 7, 3), (32, 9, 4)], &[]);
    // One that fails, and another thread's that does not.
    check(&[first, (2, 1, Free, 16, 0, true), (3, 1, Kept, 16, 0, false)], &[(16, 5, 1)], &[]);
    check(&[first, (2, 1, Free, 16, 0, true), (3, 2, Kept, 16, 0, false)], &[], &[]);
    // An end that was not seen, and one of a sample that nobody knows.
    check(&[first, (2, 1, Alloc, 16, 6, false)], &[(16, 6, 2)], &[Oddity::ObjectAllocTwice]);
    check(&[(1, 1, Free, 16, 5, false)], &[], &[Oddity::ObjectFreeUnknown]);
}

/// Whatever lived when records were dropped may have ended; what came after is certain, and so is all when records of
/// another layer were.
#[test]
fn a_gap_makes_uncertain() {
    let mut state = replayed(&[(1, 1, ObjectAct::Alloc, 16, 5, false)]);
    let uncertain = |state: &State| -> Vec<u64> {
        let live = state.objects().live().filter(|(_, live)| state.objects().is_uncertain(live));
        live.map(|(addr, _)| addr).collect()
    };
    let lost = |layer| Body::Lost { layer, from: Nanos(2), to: Nanos(4), count: 3 };
    state.apply(&at(5, 1, lost(Layer::Page)));
    assert_eq!(uncertain(&state), Vec::<u64>::new());
    state.apply(&at(5, 1, lost(Layer::Object)));
    let object = Object { act: ObjectAct::Alloc, addr: 32, bytes: Bytes(5), who: WHO, moves: false };
    state.apply(&at(6, 1, Body::Object(object)));
    assert_eq!(uncertain(&state), [16]);
}

#[test]
fn counts_add_up() {
    let mut state = State::new();
    for _ in 0..2 {
        let count = CallCount { calls: 3, bytes: Bytes(u64::MAX / 2 + 1), nested: 1, failed: 2 };
        state.apply(&at(1, 1, Body::Calls { who: WHO, count }));
    }
    let expected = CallCount { calls: 6, bytes: Bytes(u64::MAX), nested: 2, failed: 4 };
    assert_eq!(state.objects().counts().get(&WHO), Some(&expected));
}

/// A sample of a period's size stands for 1.58 objects: it is taken 63 times of 100.
#[test]
fn estimates() {
    let mut exact = Estimate::default();
    let mut sampled = Estimate::default();
    for _ in 0..100 {
        exact.add(Bytes(4096), 0);
        sampled.add(Bytes(4096), 4096);
    }
    assert_eq!((exact.objects.round() as u64, exact.bytes.round() as u64, exact.error()), (100, 409_600, 0.0));
    assert_eq!((sampled.objects.round() as u64, sampled.samples), (158, 100));
    assert!((sampled.error() / 4096.0 - (100.0_f64 * 0.3679).sqrt() / 0.6321).abs() < 0.01, "{}", sampled.error());
}
