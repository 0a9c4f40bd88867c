//! Writes a trace of as many events as asked for, the same in every run: what readers are measured on.
//!
//! usage: forge EVENTS FILE
//!
//! The process that it tells of was seen from its birth. It maps a mebibyte at a time, touches every page of it (a fault and a frame each), and holds
//! 64 of them: the oldest is given back (a free for each page) and unmapped. One fault in 64 has a stack, of 256.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

use pagetrace_user::event::{
    Access, Body, Call, CounterRow, Event, Header, Member, Place, StackId, StackOf, Start, Trailer,
};
use pagetrace_user::format::Encoder;
use pagetrace_user::units::{Bytes, Nanos, PAGE_BYTES, Pages, Pfn, Pid, Range, Tid};

/// Pages of one mapping, and mappings that are held.
const RUN: u64 = 256;
const HELD: u64 = 64;
const STACKS: u32 = 256;
/// Ns between two events.
const STEP: u64 = 700;

struct Forge {
    encoder: Encoder,
    out: BufWriter<File>,
    now: u64,
    events: u64,
}

impl Forge {
    fn push(&mut self, tid: u32, body: Body) -> std::io::Result<()> {
        self.encoder.push(&Event { ts: Nanos(self.now), cpu: (tid % 2) as u16, tid: Tid(tid), actor: None, body });
        self.events += 1;
        self.now += STEP;
        match self.encoder.take_ready() {
            Some(ready) => self.out.write_all(&ready),
            None => Ok(()),
        }
    }

    fn begin(&mut self) -> std::io::Result<()> {
        self.push(1, Body::Start { how: Start::Forked, parent: Pid(1) })?;
        for member in [Member::Anon, Member::File, Member::Shmem] {
            self.push(1, Body::Rss { member, level: Pages(0) })?;
        }
        for number in 0..STACKS {
            let parent = if number % 16 == 0 { None } else { Some(StackId(number - 1)) };
            self.push(0, Body::StackNode { parent, place: Place::Address(0x40_0000 + u64::from(number)) })?;
        }
        Ok(())
    }

    /// Maps a run, touches it, and gives the one of `HELD` runs before back.
    fn run(&mut self, index: u64) -> std::io::Result<()> {
        let tid = 1 + (index % 4) as u32;
        let range = |index: u64| Range::of(0x7000_0000_0000 + index % (4 * HELD) * RUN * PAGE_BYTES, RUN * PAGE_BYTES);
        let here = range(index);
        let first_frame = |index: u64| 0x10_0000 + index % (HELD + 1) * RUN;
        let mut level = index.min(HELD) * RUN;
        let began = Nanos(self.now.saturating_sub(STEP / 2));
        let map =
            Body::Map { call: Call::Mmap, range: here, prot: 3, flags: 0x22, file: None, offset: Bytes(0), began };
        self.push(tid, map)?;
        for page in 0..RUN {
            let addr = here.start + page * PAGE_BYTES;
            let ip = 0x40_0000 + addr / PAGE_BYTES % 7;
            self.push(tid, Body::Fault { addr, ip, access: Access::Write, kernel: false })?;
            if page % 64 == 0 {
                let id = StackId(((index + page) % u64::from(STACKS)) as u32);
                self.push(tid, Body::Stack { of: StackOf::Fault, id })?;
            }
            level += 1;
            let pfn = Pfn(first_frame(index) + page);
            let (order, member, level) = (0, Member::Anon, Pages(level));
            self.push(tid, Body::Frame { addr: Some(addr), pfn, order, member, level })?;
        }
        if index < HELD {
            return Ok(());
        }
        let oldest = index - HELD;
        for page in 0..RUN {
            self.push(tid, Body::Free { pfn: Pfn(first_frame(oldest) + page), order: 0 })?;
        }
        self.push(tid, Body::Rss { member: Member::Anon, level: Pages(level - RUN) })?;
        let began = Nanos(self.now.saturating_sub(STEP / 2));
        self.push(tid, Body::Unmap { call: Call::Munmap, range: range(oldest), began })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [events, file] = &arguments[..] else { return Err("usage: forge EVENTS FILE".into()) };
    let events: u64 = events.parse()?;
    let header =
        Header { recorder: "forge".into(), comm: "forge".into(), tgid: 1, page_bytes: PAGE_BYTES, ..Header::default() };
    let out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut forge = Forge { encoder: Encoder::new(&header), out, now: 1_000_000_000, events: 0 };
    forge.begin()?;
    let mut index = 0;
    while forge.events < events {
        forge.run(index)?;
        index += 1;
    }
    let (events, own_events) = (forge.events, u64::from(STACKS));
    let records = events - own_events;
    let row = CounterRow { layer: "page".into(), seen: records, emitted: records, ..CounterRow::default() };
    let trailer = Trailer {
        end: forge.now,
        reason: "duration".into(),
        counters: vec![row],
        decoded: records,
        written: records,
        records,
        events,
        own_events,
        ..Trailer::default()
    };
    let rest = forge.encoder.finish(&trailer);
    forge.out.write_all(&rest)?;
    Ok(forge.out.flush()?)
}
