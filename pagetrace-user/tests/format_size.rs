//! Bytes an event, on streams as a recorder sees them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "shared/any_event.rs"]
mod any_event;
#[path = "shared/trace.rs"]
mod trace;

use pagetrace_user::event::{Actor, Body, Event, Why};
use pagetrace_user::units::{Comm, Nanos, Pages, Pfn, Pid, Range, Tid};
use trace::{Dice, check_same, file_of, read, touches};

/// Bytes an event, header and trailer included.
fn check_size(events: &[Event], at_most: f64) {
    let file = file_of(events, 50_000);
    check_same(&read(file.as_slice()).unwrap().1, events);
    let each = file.len() as f64 / events.len() as f64;
    println!("{} events, {} bytes: {each:.2} an event", events.len(), file.len());
    assert!(each <= at_most, "{each:.2} bytes an event");
}

#[test]
fn touching_and_giving_back_again_and_again_takes_three_and_a_half_bytes_an_event() {
    check_size(&touches(20_000, 4), 3.5);
}

/// Every frame is new: nothing tells its number.
#[test]
fn touching_and_giving_back_once_takes_four_and_a_quarter_bytes_an_event() {
    check_size(&touches(50_000, 1), 4.25);
}

#[test]
fn a_baseline_of_scattered_pages_takes_five_bytes_a_run_at_most() {
    let mut dice = Dice(3);
    let at = |body| Event { ts: Nanos(77), cpu: 0, tid: Tid(0), actor: None, body };
    let all = Range::of(0, 1 << 47);
    let mut events = vec![at(Body::Reading { why: Why::Start, range: all, maps: true })];
    let mut addr = 0x7f00_0000_0000;
    for _ in 0..50_000 {
        addr += if dice.roll(20) == 0 { 8192 } else { 4096 };
        let pfn = Some(Pfn(dice.roll(1 << 27)));
        events.push(at(Body::BaselinePages { addr, pages: Pages(1), pfn, file: false, swapped: false }));
    }
    check_size(&events, 5.1);
}

/// Two threads on two CPUs at once, and khugepaged between them.
#[test]
fn threads_that_take_turns_take_five_bytes_an_event_at_most() {
    let one = touches(20_000, 2);
    let mut events: Vec<Event> = one
        .iter()
        .cloned()
        .chain(one.iter().cloned().map(|mut event| {
            event.ts.0 += 333;
            event.cpu = 0;
            event.tid = Tid(4243);
            match &mut event.body {
                Body::Fault { addr, .. } => *addr += 1 << 30,
                Body::Frame { addr: Some(addr), pfn, .. } => {
                    *addr += 1 << 30;
                    pfn.0 += 1 << 21;
                }
                Body::Free { pfn, .. } => pfn.0 += 1 << 21,
                _ => {}
            }
            event
        }))
        .collect();
    events.sort_by_key(|event| event.ts);
    for (at, event) in events.iter_mut().enumerate() {
        if at % 5000 == 0 {
            event.actor = Some(Actor { tgid: Pid(0), comm: Comm::of("khugepaged") });
        }
    }
    check_size(&events, 5.0);
}
