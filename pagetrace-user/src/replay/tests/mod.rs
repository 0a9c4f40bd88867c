//! One check for the fold, then rows of data: events in, pages and mappings out.

mod books;
mod heaps;
mod objects;
mod pages;
mod readings;
mod sets;

use crate::event::{Body, Call, Event, Member, Why};
use crate::replay::State;
use crate::units::{Bytes, Nanos, PAGE_BYTES, Pages, Pfn, Range, Tid};

const P: u64 = PAGE_BYTES;

fn at(ts: u64, tid: u32, body: Body) -> Event {
    Event { ts: Nanos(ts), cpu: 0, tid: Tid(tid), actor: None, body }
}

fn span(from: u64, to: u64) -> Range {
    Range { start: from * P, end: to * P }
}

fn map(range: Range, flags: u32, began: u64) -> Body {
    Body::Map { range, prot: 3, flags, file: None, offset: Bytes(0), call: Call::Mmap, began: Nanos(began) }
}

fn unmap(range: Range, began: u64) -> Body {
    Body::Unmap { range, call: Call::Munmap, began: Nanos(began) }
}

fn frame(page: u64, pfn: u64, level: u64) -> Body {
    Body::Frame { addr: Some(page * P), pfn: Pfn(pfn), order: 0, member: Member::Anon, level: Pages(level) }
}

fn advise(range: Range, advice: i32, began: u64) -> Body {
    Body::Advise { range, advice, call: Call::Madvise, began: Nanos(began) }
}

fn reading(why: Why, range: Range, maps: bool) -> Body {
    Body::Reading { why, range, maps }
}

fn map_row(range: Range, name: &str) -> Body {
    Body::BaselineMap { range, prot: 3, shared: false, file: None, offset: Bytes(0), name: name.to_owned() }
}

fn page_row(page: u64, pages: u64, pfn: Option<u64>, file: bool) -> Body {
    Body::BaselinePages { addr: page * P, pages: Pages(pages), pfn: pfn.map(Pfn), file, swapped: false }
}

fn run(events: &[(u64, u32, Body)]) -> State {
    let mut state = State::new();
    for (ts, tid, body) in events {
        state.apply(&at(*ts, *tid, body.clone()));
    }
    state.finish(true);
    state
}

/// (page, pfn) of all pages, and (from, to) of all mappings.
fn check(what: &str, events: &[(u64, u32, Body)], pages: &[(u64, u64)], mapped: &[(u64, u64)]) {
    let state = run(events);
    let found: Vec<(u64, u64)> =
        state.resident().iter().map(|(addr, page)| (addr / P, page.pfn.map_or(0, |pfn| pfn.0))).collect();
    assert_eq!(found, pages, "pages: {what}");
    let found: Vec<(u64, u64)> =
        state.mappings().iter().map(|mapping| (mapping.range.start / P, mapping.range.end / P)).collect();
    assert_eq!(found, mapped, "mappings: {what}");
}

const ANON: u32 = 0x22;
const FIXED: u32 = 0x32;
