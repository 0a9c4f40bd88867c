//! The objects of a trace as a file of heaptrack, for `heaptrack_print` and `heaptrack_gui`.
//!
//! *Format.* Lines of text, version 3, compressed with gzip or zstd; numbers are hexadecimal, and an index counts from 1:
//!
//! | line | is |
//! |---|---|
//! | `v VERSION 3` | the heaptrack that would write this, and the version of the form |
//! | `I PAGE_BYTES PAGES` | the machine's memory; how much it has is not in a trace: 0 |
//! | `s LENGTH TEXT` | the next string |
//! | `i ADDRESS MODULE (FUNCTION FILE LINE)...` | the next place of code, the innermost function first |
//! | `t PLACE PARENT` | the next node of the tree of calls |
//! | `a BYTES NODE` | the next kind of object |
//! | `+ KIND`, `- KIND` | one is given, or taken back |
//! | `c MS` | the time of what follows |
//! | `R PAGES` | RSS |
//! | `A` | attached to a running process |
//! | `X TEXT` | the command line |
//!
//! A reader needs kinds before the objects, and the rest not before the end. Names stand at the end of a trace, so the
//! tables of strings, places and nodes do here: the trace is read once, and only what lives is held.
//!
//! *Samples.* Of a sampled recording every sample is one object of as many bytes as it stands for: leaks and peaks are
//! estimates without bias, and the numbers of calls are those of samples. The command line says so.
//!
//! *Loss.* What was taken back in a gap looks as if it stayed. The command line says how many records were lost.
//!
//! *Source.* `src/analyze/accumulatedtracedata.cpp` of heaptrack 1.4.

mod sites;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use self::sites::Sites;
use super::waiting::{Act, Entry, Waiting};
use super::{Exported, Stopped};
use crate::event::{Body, Header, Layer, Member, ObjectAct, StackId, StackOf};
use crate::format::Trace;
use crate::replay::{Estimate, State};
use crate::units::{Bytes, Nanos, Tid};

/// Objects that are held at most, as in replay.
const MOST: usize = 1 << 26;

/// Writes the objects of the trace.
///
/// *Errors.* When the source cannot be read or `out` cannot be written.
pub(super) fn write(trace: &mut impl Trace, out: &mut impl Write) -> Result<Exported, Stopped> {
    let header = trace.header().clone();
    let mut writer = Writer::new(&header, out);
    writer.head()?;
    let mut done =
        Exported { period_bytes: header.object_period_bytes.filter(|period| *period > 0), ..Exported::default() };
    while let Some(event) = trace.next_event().map_err(Stopped::Read)? {
        let (ts, tid) = (event.ts, event.tid);
        match &event.body {
            Body::Object(object) => {
                done.events = done.events.saturating_add(1);
                match object.act {
                    ObjectAct::Alloc => writer.waiting.given(ts, tid, object.addr, object.bytes),
                    ObjectAct::Free => writer.waiting.taken(ts, tid, object.addr, object.moves),
                    ObjectAct::Kept => writer.waiting.kept(ts, tid, object.addr, object.bytes),
                }
            }
            Body::Stack { of: StackOf::Object, id } => writer.waiting.stack(tid, *id),
            Body::StackNode { .. } | Body::Symbol { .. } | Body::MapFile { .. } => writer.state.apply(event),
            Body::Frame { member, level, .. } | Body::Rss { member, level } => writer.level(ts, *member, level.0),
            Body::Library { whole: false, .. } => writer.waiting.push(ts, tid, Act::Attached),
            Body::Exec { .. } => writer.waiting.push(ts, tid, Act::Gone),
            Body::Lost { layer: Layer::Object, count, .. } => writer.lost = writer.lost.saturating_add(*count),
            _ => {}
        }
        if event.body.layer() != Layer::Object {
            done.others = done.others.saturating_add(1);
        }
        writer.start.get_or_insert(ts);
        writer.until(ts)?;
    }
    done.unfit = writer.finish(&header)?;
    Ok(done)
}

struct Writer<'a, W> {
    out: &'a mut W,
    /// Bytes between two samples; 0: every object.
    period: u64,
    /// Of it, only stacks and files.
    state: State,
    waiting: Waiting,
    sites: Sites,
    /// The kinds of objects by bytes and node.
    kinds: HashMap<(u64, u32), u32>,
    /// What lives, by address.
    live: HashMap<u64, u32>,
    /// By thread: what its call that moves took back.
    moving: HashMap<Tid, (u64, u32)>,
    /// The counters of RSS, in the order of [`Member::ALL`].
    levels: [u64; 4],
    start: Option<Nanos>,
    now: Nanos,
    /// The last time that was written, ms.
    told_ms: u64,
    lost: u64,
    /// Objects beyond [`MOST`].
    unfit: u64,
}

impl<'a, W: Write> Writer<'a, W> {
    fn new(header: &Header, out: &'a mut W) -> Writer<'a, W> {
        Writer {
            out,
            period: header.object_period_bytes.unwrap_or(0),
            state: State::new(),
            waiting: Waiting::default(),
            sites: Sites::default(),
            kinds: HashMap::new(),
            live: HashMap::new(),
            moving: HashMap::new(),
            levels: [0; 4],
            start: None,
            now: Nanos(0),
            told_ms: 0,
            lost: 0,
            unfit: 0,
        }
    }

    fn head(&mut self) -> io::Result<()> {
        writeln!(self.out, "v 10400 3")?;
        writeln!(self.out, "# pagetrace {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(self.out, "I {:x} 0", crate::units::PAGE_BYTES)
    }

    fn level(&mut self, ts: Nanos, member: Member, pages: u64) {
        if let Some(level) = self.levels.get_mut(usize::from(member.code())) {
            *level = pages;
        }
        if member != Member::Swap {
            let resident = [Member::File, Member::Anon, Member::Shmem]
                .iter()
                .filter_map(|member| self.levels.get(usize::from(member.code())))
                .fold(0, |sum: u64, level| sum.saturating_add(*level));
            self.waiting.push(ts, Tid(0), Act::Rss(resident));
        }
    }

    /// Writes what need not wait any longer.
    fn until(&mut self, now: Nanos) -> io::Result<()> {
        self.now = now;
        while let Some(entry) = self.waiting.next(now) {
            self.entry(&entry)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.time(entry.at)?;
        match entry.act {
            Act::Given { addr, bytes, stack } => self.give(addr, bytes, stack),
            Act::Taken { addr, moves } => {
                let taken = self.live.remove(&addr);
                self.moving.remove(&entry.tid);
                if let Some(kind) = taken {
                    if moves {
                        self.moving.insert(entry.tid, (addr, kind));
                    }
                    writeln!(self.out, "- {kind:x}")?;
                }
                Ok(())
            }
            Act::Kept { addr, bytes } => match self.moving.remove(&entry.tid).filter(|(moved, _)| *moved == addr) {
                Some((_, kind)) => self.put(addr, kind),
                None if bytes.0 > 0 && !self.live.contains_key(&addr) => self.give(addr, bytes, None),
                None => Ok(()),
            },
            Act::Gone => {
                let mut gone: Vec<(u64, u32)> = self.live.drain().collect();
                self.moving.clear();
                gone.sort_unstable();
                gone.iter().try_for_each(|(_, kind)| writeln!(self.out, "- {kind:x}"))
            }
            Act::Attached if self.kinds.is_empty() => writeln!(self.out, "A"),
            Act::Attached => Ok(()),
            Act::Rss(pages) => writeln!(self.out, "R {pages:x}"),
        }
    }

    fn give(&mut self, addr: u64, bytes: Bytes, stack: Option<StackId>) -> io::Result<()> {
        let mut estimate = Estimate::default();
        estimate.add(bytes, self.period);
        // An object of no bytes has no chance to be sampled; a file that says otherwise is forged.
        let weight = if estimate.bytes.is_finite() { estimate.bytes.round() as u64 } else { bytes.0 };
        let node = self.sites.node(&self.state, stack);
        let next = self.kinds.len() as u32;
        let kind = *self.kinds.entry((weight, node)).or_insert(next);
        if kind == next {
            writeln!(self.out, "a {weight:x} {node:x}")?;
        }
        self.put(addr, kind)
    }

    fn put(&mut self, addr: u64, kind: u32) -> io::Result<()> {
        if self.live.len() >= MOST && !self.live.contains_key(&addr) {
            self.unfit = self.unfit.saturating_add(1);
            return Ok(());
        }
        // What was there before has gone without being seen.
        if let Some(before) = self.live.insert(addr, kind) {
            writeln!(self.out, "- {before:x}")?;
        }
        writeln!(self.out, "+ {kind:x}")
    }

    fn time(&mut self, at: Nanos) -> io::Result<()> {
        let ms = at.since(self.start.unwrap_or_default()).0 / 1_000_000;
        if ms > self.told_ms {
            self.told_ms = ms;
            writeln!(self.out, "c {ms:x}")?;
        }
        Ok(())
    }

    /// Writes the rest: what waited, the tables and the words that say what this is. Objects that were left out.
    fn finish(mut self, header: &Header) -> io::Result<u64> {
        while let Some(entry) = self.waiting.last() {
            self.entry(&entry)?;
        }
        self.time(self.now)?;
        self.sites.write(&self.state, self.out)?;
        let mut words = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = match header.object_period_bytes {
            Some(period) if period > 0 => write!(
                words,
                "[SAMPLES, one in {} on average: bytes are estimates, each call stands for many] ",
                Bytes(period)
            ),
            _ => Ok(()),
        };
        if self.lost > 0 {
            let _ = write!(words, "[{} RECORDS WERE LOST: leaks may be none] ", self.lost);
        }
        let line = if header.cmdline.is_empty() { header.comm.clone() } else { header.cmdline.join(" ") };
        writeln!(self.out, "X {words}{}", sites::one_line(&line))?;
        self.out.flush()?;
        Ok(self.unfit)
    }
}
