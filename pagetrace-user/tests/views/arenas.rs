//! Views of the arenas of an allocator, over a trace made by hand.

use pagetrace_user::dump::Filter;
use pagetrace_user::event::{Arena, ArenaPages, Body, Chunks, Event, Start, Why};
use pagetrace_user::units::{Bytes, PAGE_BYTES, Pages, Pfn, Pid, Range};

use crate::fixture::{self, Script, pages};
use crate::{dumped, reported};

const HEAP: u64 = 0x5555_5555_6000;
const OTHER: u64 = 0x7f00_0000_0000;
const BIG: u64 = 0x7e00_0000_0000;

fn chunks(count: u64, bytes: u64) -> Chunks {
    Chunks { count, bytes: Bytes(bytes) }
}

fn row(start: u64, page: u64, pages: u64, [in_use, kept, free]: [u64; 3], trims: bool) -> Body {
    let addr = start + page * PAGE_BYTES;
    let (in_use, kept, free) = (Bytes(in_use), Bytes(kept), Bytes(free));
    Body::ArenaPages(ArenaPages { addr, pages: Pages(pages), in_use, kept, free, trims })
}

/// Two arenas: the main one of 12 pages, and one of 8. Resident are of the first all pages but the end of `top`, half of those
/// that hold several things; of the other 3; and 2 pages of nobody's.
pub fn trace() -> Vec<Event> {
    let mut s = Script::default();
    s.own(Body::Start { how: Start::Running, parent: Pid(1) });
    s.own(Body::Reading { why: Why::Start, range: Range { start: 0, end: 1 << 47 }, maps: true });
    let (mut pfn, mut resident) = (0x1000, Vec::new());
    for (start, count, name, parts) in
        [(HEAP, 12, "[heap]", &[(0, 3), (4, 1), (6, 4)][..]), (BIG, 2, "", &[(0, 2)]), (OTHER, 8, "", &[(0, 3)])]
    {
        let (range, name) = (pages(start, count), name.to_owned());
        s.own(Body::BaselineMap { range, prot: 3, shared: false, file: None, offset: Bytes(0), name });
        for &(page, count) in parts {
            let (addr, pages) = (start + page * PAGE_BYTES, Pages(count));
            resident.push(Body::BaselinePages { addr, pages, pfn: Some(Pfn(pfn)), file: false, swapped: false });
            pfn += count;
        }
    }
    resident.into_iter().for_each(|row| s.own(row));
    let (name, path) = ("glibc 2.36".to_owned(), "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned());
    s.own(Body::ArenaReading { why: Why::Start, name, path });
    s.own(Body::Arena(Arena { addr: 1, size: Bytes(4096), ..Arena::default() }));
    s.own(row(HEAP, 0, 20, [4096, 4096, 4096], true));
    let (name, path) = ("glibc 2.36".to_owned(), "/lib/\u{1b}[2J/libc.so.6".to_owned());
    s.own(Body::ArenaReading { why: Why::End, name, path });
    s.own(Body::Arena(Arena {
        addr: 0x7f00_1234_5c60,
        is_main: true,
        settled: true,
        size: Bytes(12 * PAGE_BYTES),
        in_use: chunks(70, 3 * PAGE_BYTES + 5000),
        cached: chunks(3, 120),
        fast: chunks(2, 64),
        free: chunks(5, 4 * PAGE_BYTES - 992 - 4096),
        top: Bytes(12 * PAGE_BYTES - 3 * PAGE_BYTES - 5000 - 184 - 4 * PAGE_BYTES + 992 + 4096),
    }));
    s.own(row(HEAP, 0, 2, [2 * PAGE_BYTES, 0, 0], false));
    // Two of four are in swap.
    s.own(row(HEAP, 2, 4, [PAGE_BYTES + 5000, 184, 4 * PAGE_BYTES - PAGE_BYTES - 5184], false));
    s.own(row(HEAP, 6, 3, [0, 0, 3 * PAGE_BYTES], true));
    s.own(row(HEAP, 9, 3, [0, 0, 3 * PAGE_BYTES], false));
    s.own(Body::Arena(Arena {
        addr: OTHER + 0x30,
        size: Bytes(8 * PAGE_BYTES),
        in_use: chunks(9, 3000),
        top: Bytes(8 * PAGE_BYTES - 3000 - 2256),
        ..Arena::default()
    }));
    s.own(row(OTHER, 0, 2, [3000, 0, 2 * PAGE_BYTES - 3000 - 2256], false));
    s.own(row(OTHER, 2, 6, [0, 0, 6 * PAGE_BYTES], false));
    s.events
}

#[test]
fn dump_of_arenas() {
    insta::assert_snapshot!(dumped(&fixture::whole(&trace()), &Filter::default(), true).0);
}

#[test]
fn report_of_arenas() {
    let report = reported(&fixture::whole(&trace()));
    let text = report.text();
    insta::assert_snapshot!(text.get(text.find("Allocators").unwrap()..).unwrap());
    let arenas = report.arenas.unwrap();
    let sum = &arenas.sum;
    assert_eq!((arenas.why, arenas.count, arenas.settled), ("end", 2, false));
    assert_eq!(sum.resident_bytes, 11 * PAGE_BYTES);
    // Of the four pages that hold several things each has half.
    assert_eq!(sum.resident_in_use_bytes, 2 * PAGE_BYTES + (PAGE_BYTES + 5000) / 2 + 3000);
    assert_eq!(sum.resident_kept_bytes, 184 / 2);
    assert_eq!((sum.trim_bytes, sum.resident_own_bytes, sum.own_bytes), (3 * PAGE_BYTES, 2256, 2256));
    let uses: Vec<u64> = report.uses.iter().map(|line| line.bytes).collect();
    assert_eq!(uses.iter().sum::<u64>(), 13 * PAGE_BYTES);
    assert_eq!(uses.last(), Some(&(2 * PAGE_BYTES)));
}

#[test]
fn the_page_has_the_arenas() {
    let page = crate::page::paged(&fixture::whole(&trace())).html;
    for words in
        ["id=\"allocators\"", "id=\"arenas\"", "0x7f0012345c60 (main)", "malloc_trim(0) would give back 12.0 KiB"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
}
