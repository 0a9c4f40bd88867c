//! Traces made by hand: a process in which everything happens once, and whose books close.

use pagetrace_user::event::{
    Access, Actor, Body, Call, CallCount, CounterRow, Event, FileId, Header, HeapAct, HeapRun, HeapState, Layer,
    LibraryId, Member, Object, ObjectAct, ObjectCall, Probe, Scan, ScanKind, Span, SpanKind, SpanUse, Start, Trailer,
    Who, Why,
};
use pagetrace_user::format::Encoder;
use pagetrace_user::units::{Bytes, Comm, HeapPages, Nanos, PAGE_BYTES, Pages, Pfn, Pid, Range, Tid};

pub const T0: u64 = 5_000_000_000_000;
const HEAP: u64 = 0x5555_5555_6000;
const LIBC: u64 = 0x7f00_0000_0000;
const BIG: u64 = 0x7e00_0000_0000;
const HUGE: u64 = BIG + (2 << 20);
const STACK: u64 = 0x7fff_fffd_e000;
const VDSO: u64 = 0x7fff_ffff_e000;
const MAIN: u32 = 4242;
const WORKER: u32 = 4243;

pub fn header() -> Header {
    let probe = |name: &str, reason: &str| Probe {
        name: name.to_owned(),
        attached: reason.is_empty(),
        reason: reason.to_owned(),
    };
    Header {
        recorder: "0.1.0".to_owned(),
        tgid: MAIN,
        start_boottime: 4_321_000_000,
        comm: "redis-server".to_owned(),
        exe: "/usr/bin/redis-check-rdb".to_owned(),
        cmdline: vec!["redis-server".to_owned(), "*:6379".to_owned()],
        page_bytes: 4096,
        heap_page_bytes: 8192,
        clock_monotonic: T0,
        clock_wall: 1_795_400_100_000_000_000,
        boot_id: "6f1c7e52-6c1d-4d0e-9c59-0a7b2a1d3c44".to_owned(),
        kernel: "6.18.0".to_owned(),
        cpus: 2,
        object_period_bytes: None,
        ring_bytes: 8 << 20,
        probes: vec![
            probe("mmap", ""),
            probe("rss_stat", ""),
            probe("mm_collapse_huge_page", "the kernel has no such tracepoint"),
        ],
        notes: vec!["frames beyond 256 GiB are not joined".to_owned()],
    }
}

pub fn trailer(events: &[Event]) -> Trailer {
    let row = |cpu: u32, layer: &str, seen: u64, filtered: u64, dropped: u64| CounterRow {
        cpu,
        layer: layer.to_owned(),
        seen,
        emitted: seen - filtered - dropped,
        filtered,
        dropped,
    };
    let own = events.iter().filter(|event| event.body.is_own()).count() as u64;
    let records = events.len() as u64 - own;
    Trailer {
        end: T0 + 3_000_000_000,
        reason: "interrupted".to_owned(),
        counters: vec![row(0, "vma", 100, 90, 0), row(0, "page", 60, 30, 0), row(1, "page", 50, 20, 5)],
        decoded: 10 + 30 + 25,
        written: 64,
        skipped: 1,
        records,
        events: events.len() as u64,
        own_events: own,
        late: 2,
        recursion_misses: vec![("mm_page_free".to_owned(), 3)],
        frames_unjoined: 1,
        notes: Vec::new(),
        file_pages: None,
    }
}

/// Header, events, trailer: a whole file.
pub fn whole(events: &[Event]) -> Vec<u8> {
    file(events, Some(&trailer(events)))
}

pub fn file(events: &[Event], trailer: Option<&Trailer>) -> Vec<u8> {
    file_of(&header(), events, trailer)
}

pub fn file_of(header: &Header, events: &[Event], trailer: Option<&Trailer>) -> Vec<u8> {
    let mut encoder = Encoder::new(header);
    let mut bytes = Vec::new();
    for event in events {
        encoder.push(event);
        bytes.extend_from_slice(&encoder.take_ready().unwrap_or_default());
    }
    bytes.extend_from_slice(&encoder.flush());
    if let Some(trailer) = trailer {
        bytes.extend_from_slice(&encoder.finish(trailer));
    }
    bytes
}

/// Collects events, each a microsecond after the one before; a reading's rows share its time.
#[derive(Default)]
pub struct Script {
    pub events: Vec<Event>,
    now: u64,
}

impl Script {
    fn add(&mut self, tid: u32, actor: Option<Actor>, body: Body) {
        let row = matches!(
            body,
            Body::BaselineMap { .. }
                | Body::BaselinePages { .. }
                | Body::BaselineHeap { .. }
                | Body::Arena(_)
                | Body::ArenaPages(_)
        );
        self.now += u64::from(!row) * 1_000_000;
        let cpu = u16::from(tid == WORKER);
        self.events.push(Event { ts: Nanos(T0 + self.now), cpu, tid: Tid(tid), actor, body });
    }

    pub fn own(&mut self, body: Body) {
        self.add(0, None, body);
    }

    pub fn main(&mut self, body: Body) {
        self.add(MAIN, None, body);
    }

    pub fn worker(&mut self, body: Body) {
        self.add(WORKER, None, body);
    }

    pub fn other(&mut self, comm: &str, tid: u32, body: Body) {
        self.add(tid, Some(Actor { tgid: Pid(tid), comm: Comm::of(comm) }), body);
    }

    pub fn began(&self) -> Nanos {
        Nanos(T0 + self.now + 900_000)
    }

    fn baseline(&mut self, heap: u64, heap_pages: &[(u64, u64, Option<u64>)]) {
        let map = |range: Range, prot: u32, file: Option<u32>, name: &str| Body::BaselineMap {
            range,
            prot,
            shared: false,
            file: file.map(FileId),
            offset: Bytes(0),
            name: name.to_owned(),
        };
        let row = |addr: u64, pages: u64, pfn: u64, file: bool| Body::BaselinePages {
            addr,
            pages: Pages(pages),
            pfn: Some(Pfn(pfn)),
            file,
            swapped: false,
        };
        self.own(map(pages(HEAP, heap), 3, None, "[heap]"));
        for &(at, count, pfn) in heap_pages {
            self.own(Body::BaselinePages {
                addr: HEAP + at * PAGE_BYTES,
                pages: Pages(count),
                pfn: pfn.map(Pfn),
                file: false,
                swapped: pfn.is_none(),
            });
        }
        self.own(map(pages(LIBC, 64), 5, Some(1), ""));
        self.own(row(LIBC, 20, 0x2000, true));
        self.own(map(pages(STACK, 32), 3, None, "[stack]"));
        self.own(row(STACK + 29 * PAGE_BYTES, 3, 0x2100, false));
        self.own(map(pages(VDSO, 1), 5, None, "[vdso]"));
        self.own(row(VDSO, 1, 0x2200, true));
    }
}

pub fn pages(start: u64, pages: u64) -> Range {
    Range::of(start, pages * PAGE_BYTES)
}

pub fn rss(member: Member, level: u64) -> Body {
    Body::Rss { member, level: Pages(level) }
}

pub fn frame(addr: u64, pfn: u64, order: u8, level: u64) -> Body {
    Body::Frame { addr: Some(addr), pfn: Pfn(pfn), order, member: Member::Anon, level: Pages(level) }
}

const ALL: Range = Range { start: 0, end: 1 << 47 };

/// Every kind of event at least once; RSS 32 pages before, 544 after; the books close.
pub fn eventful() -> Vec<Event> {
    let mut s = Script::default();
    s.own(Body::Start { how: Start::Running, parent: Pid(1) });
    let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    s.own(Body::MapFile { id: FileId(1), path: libc.to_owned(), whole: true, dev: 0x801, ino: 77 });
    s.own(Body::Reading { why: Why::Start, range: ALL, maps: true });
    s.baseline(16, &[(0, 8, Some(0x1000))]);
    for (member, level) in [(Member::File, 21), (Member::Anon, 11), (Member::Shmem, 0), (Member::Swap, 0)] {
        s.own(rss(member, level));
    }
    early(&mut s);
    late(&mut s);
    s.own(Body::Reading { why: Why::End, range: ALL, maps: true });
    s.baseline(20, &[(0, 4, Some(0x1000)), (4, 4, None), (16, 1, Some(0x1100))]);
    let began_at = |range: Range, file: Option<u32>| Body::BaselineMap {
        range,
        prot: 3,
        shared: false,
        file: file.map(FileId),
        offset: Bytes(0),
        name: String::new(),
    };
    s.own(began_at(pages(BIG, 2), Some(1)));
    s.own(Body::BaselinePages { addr: BIG, pages: Pages(2), pfn: Some(Pfn(0x2000)), file: true, swapped: false });
    s.own(began_at(pages(BIG + 2 * PAGE_BYTES, 1022), None));
    s.own(Body::BaselinePages { addr: HUGE, pages: Pages(512), pfn: Some(Pfn(0x50000)), file: false, swapped: false });
    s.own(began_at(pages(BIG + (64 << 20), 4), None));
    s.own(Body::BaselinePages {
        addr: BIG + (64 << 20),
        pages: Pages(1),
        pfn: Some(Pfn(0x6000)),
        file: false,
        swapped: false,
    });
    s.events
}

/// Mapping, touching, giving back, and khugepaged putting it back again.
fn early(s: &mut Script) {
    let (began, flags) = (s.began(), 0x22);
    s.main(Body::Map {
        range: pages(BIG, 1024),
        prot: 3,
        flags,
        file: None,
        offset: Bytes(0),
        call: Call::Mmap,
        began,
    });
    s.main(Body::Fault { addr: BIG + 0x123, ip: 0x5555_5555_5123, access: Access::Write, kernel: false });
    s.main(frame(BIG, 0x3000, 0, 12));
    s.worker(Body::Fault { addr: HUGE + 0x4567, ip: 0xffff_ffff_8100_0000, access: Access::Write, kernel: true });
    s.worker(frame(HUGE, 0x40000, 9, 524));
    s.main(Body::Brk { old: HEAP + 16 * PAGE_BYTES, new: HEAP + 16 * PAGE_BYTES });
    s.main(Body::Brk { old: HEAP + 16 * PAGE_BYTES, new: HEAP + 24 * PAGE_BYTES });
    s.main(frame(HEAP + 16 * PAGE_BYTES, 0x1100, 0, 525));
    s.main(Body::Brk { old: HEAP + 24 * PAGE_BYTES, new: HEAP + 20 * PAGE_BYTES });
    let began = s.began();
    s.main(rss(Member::Anon, 269));
    s.main(Body::Free { pfn: Pfn(0x40000), order: 8 });
    s.main(Body::Advise { range: pages(HUGE, 256), advice: 4, call: Call::Madvise, began });
    let began = s.began();
    s.main(Body::Advise { range: pages(HEAP, 2), advice: 8, call: Call::Madvise, began });
    s.other(
        "memory adviser",
        900,
        Body::Advise { range: pages(BIG, 1024), advice: 14, call: Call::ProcessMadvise, began },
    );
    s.main(Body::Advise { range: pages(BIG, 1), advice: 77, call: Call::Madvise, began });
    s.other(
        "khugepaged",
        40,
        Body::Frame { addr: None, pfn: Pfn(0x50000), order: 9, member: Member::Anon, level: Pages(269) },
    );
    s.other("khugepaged", 40, rss(Member::Anon, 525));
    s.other("khugepaged", 40, Body::Free { pfn: Pfn(0x40100), order: 8 });
    s.other("khugepaged", 40, Body::Scan(Scan { kind: ScanKind::Collapse, value: 1, began: None }));
    s.own(Body::Reading { why: Why::Drift, range: pages(HUGE, 512), maps: false });
    s.own(Body::BaselinePages { addr: HUGE, pages: Pages(512), pfn: Some(Pfn(0x50000)), file: false, swapped: false });
}

/// Replacing, moving, failing, losing, swapping.
fn late(s: &mut Script) {
    let began = s.began();
    s.main(Body::Free { pfn: Pfn(0x3000), order: 0 });
    s.main(rss(Member::Anon, 524));
    let (file, call) = (Some(FileId(1)), Call::Mmap);
    s.main(Body::Map { range: pages(BIG, 2), prot: 1, flags: 0x12, file, offset: Bytes(0x1000), call, began });
    s.main(Body::Fault { addr: BIG, ip: 0x5555_5555_5456, access: Access::Read, kernel: false });
    s.main(rss(Member::File, 23));
    s.main(Body::Protect { range: pages(BIG, 2), prot: 3 });
    let (began, small) = (s.began(), BIG + (32 << 20));
    s.worker(Body::Map { range: pages(small, 2), prot: 3, flags: 0x22, file: None, offset: Bytes(0), call, began });
    s.worker(frame(small, 0x6000, 0, 525));
    let began = s.began();
    s.worker(Body::Remap { old: pages(small, 2), new: pages(BIG + (64 << 20), 4), flags: 1, began });
    let began = s.began();
    s.worker(Body::Map { range: pages(small, 9), prot: 0, flags: 0x22, file: None, offset: Bytes(0), call, began });
    let began = s.began();
    s.worker(Body::Unmap { range: pages(small, 9), call: Call::Munmap, began });
    s.worker(Body::Failed { call: Call::Mmap, addr: 0, bytes: Bytes(1 << 46), errno: 12 });
    s.worker(Body::Failed { call: Call::Madvise, addr: BIG + 1, bytes: Bytes(1), errno: 999 });
    let (from, to) = (Nanos(T0 + s.now - 500_000), Nanos(T0 + s.now + 100_000));
    s.add(WORKER, None, Body::Scan(Scan { kind: ScanKind::DirectReclaim, value: 32, began: Some(from) }));
    s.worker(Body::Lost { layer: Layer::Page, from, to, count: 5 });
    s.main(Body::Fork { child: Pid(4300), child_comm: Comm::of("redis-rdb-bgsave") });
    s.other("kswapd0", 41, rss(Member::Swap, 4));
    s.other("kswapd0", 41, rss(Member::Anon, 521));
    s.other("kswapd0", 41, Body::Free { pfn: Pfn(0x1004), order: 2 });
}

/// A program run from its first instruction to its death by a signal.
pub fn short_life() -> Vec<Event> {
    let mut s = Script::default();
    s.own(Body::Start { how: Start::Forked, parent: Pid(1) });
    s.main(rss(Member::Anon, 9));
    s.main(Body::Exec { comm: Comm::of("job\u{1b}[2J"), exe: "/opt/job \"x\"".to_owned() });
    let began = s.began();
    s.main(Body::Map {
        range: pages(BIG, 8),
        prot: 3,
        flags: 0x2_0022,
        file: None,
        offset: Bytes(0),
        call: Call::Mmap,
        began,
    });
    s.main(rss(Member::Anon, 0));
    s.main(frame(BIG, 0x10, 0, 1));
    s.main(frame(BIG + PAGE_BYTES, 0x11, 0, 2));
    s.main(rss(Member::Anon, 3));
    s.main(Body::Exit { code: 0, signal: 9 });
    s.main(rss(Member::Anon, 0));
    s.main(Body::Free { pfn: Pfn(0x10), order: 1 });
    s.main(Body::MmGone);
    s.events
}

/// A Go program from mid-life on: its page heap is read, grows, is used, freed and given back around a collection.
pub fn page_heap() -> Vec<Event> {
    const ARENA: u64 = 0xc0_0000_0000;
    let mut s = Script::default();
    s.own(Body::Start { how: Start::Running, parent: Pid(1) });
    s.own(Body::HeapReading { why: Why::Start });
    for (page, pages, state) in
        [(0, 3, HeapState::Heap), (3, 4, HeapState::Stack), (7, 1, HeapState::Other), (9, 503, HeapState::GivenBack)]
    {
        s.own(Body::BaselineHeap { addr: ARENA + page * 8192, pages: HeapPages(pages), state });
    }
    let run = |act, page: u64, pages, p, goid, span: Option<(SpanKind, u8)>| {
        let span = span.map(|(kind, class)| Span { kind, class });
        Body::Heap(HeapRun { act, addr: ARENA + page * 8192, pages: HeapPages(pages), p, goid, span })
    };
    s.main(run(HeapAct::Mark, 512, 512, Some(0), Some(1), None));
    s.main(run(HeapAct::Alloc, 512, 20, Some(0), Some(1), Some((SpanKind::Heap, 8))));
    s.worker(run(HeapAct::Alloc, 8, 4, Some(1), Some(7), Some((SpanKind::Stack, 0))));
    let phases = [ScanKind::GcStart, ScanKind::GcMarkTermination, ScanKind::GcMarkEnd, ScanKind::GcSweep];
    for kind in phases {
        s.worker(Body::Scan(Scan { kind, value: 0, began: None }));
    }
    s.worker(run(HeapAct::Free, 512, 20, None, None, Some((SpanKind::Heap, 8))));
    s.worker(run(HeapAct::Scav, 512, 16, None, Some(2), None));
    s.worker(run(HeapAct::Free, 3, 4, Some(1), None, Some((SpanKind::Stack, 0))));
    s.main(run(HeapAct::Alloc, 3, 2, Some(0), None, None));
    s.own(Body::SpanUse(SpanUse { addr: ARENA, pages: HeapPages(3), object_bytes: 1024, objects: 17 }));
    s.events
}

/// A C++ program: an object is given, moved, kept and taken back, one is lost from sight, and every call is counted.
pub fn objects() -> Vec<Event> {
    let mut s = Script::default();
    s.own(Body::Start { how: Start::Running, parent: Pid(1) });
    let (libc, runtime) = (LibraryId(0), LibraryId(1));
    for (id, name, file) in [(libc, "glibc 2.36", "libc.so.6"), (runtime, "C++ runtime", "libstdc++.so.6")] {
        s.own(Body::Library {
            id,
            whole: id == libc,
            name: name.to_owned(),
            path: format!("/usr/lib/x86_64-linux-gnu/{file}"),
        });
    }
    let who = |call, library| Who { call, library };
    let object = |act, addr, bytes, who, moves| Body::Object(Object { act, addr, bytes: Bytes(bytes), who, moves });
    let (malloc, realloc) = (who(ObjectCall::Malloc, libc), who(ObjectCall::Realloc, libc));
    let (new, delete) = (who(ObjectCall::New, runtime), who(ObjectCall::Delete, runtime));
    s.main(object(ObjectAct::Alloc, HEAP, 1000, malloc, false));
    s.main(object(ObjectAct::Free, HEAP, 0, realloc, true));
    s.main(object(ObjectAct::Alloc, HEAP + 4096, 3000, realloc, true));
    s.main(object(ObjectAct::Free, HEAP + 4096, 0, realloc, true));
    s.main(object(ObjectAct::Kept, HEAP + 4096, 0, realloc, false));
    s.worker(object(ObjectAct::Alloc, HEAP, 64, new, false));
    s.own(Body::Lost { layer: Layer::Object, from: Nanos(T0), to: Nanos(T0 + 1), count: 2 });
    s.worker(object(ObjectAct::Alloc, HEAP + 64, 96, new, false));
    s.main(object(ObjectAct::Free, HEAP, 0, delete, false));
    s.main(object(ObjectAct::Free, HEAP + 8192, 0, delete, false));
    for (who, calls, bytes, nested, failed) in
        [(malloc, 1, 1000, 2, 0), (realloc, 2, 1 << 60, 0, 1), (new, 2, 160, 0, 0), (delete, 2, 0, 1, 0)]
    {
        s.own(Body::Calls { who, count: CallCount { calls, bytes: Bytes(bytes), nested, failed } });
    }
    s.events
}
