//! A trace for Perfetto: what happened when, on the tracks of the process and of the threads that acted.
//!
//! | track | has |
//! |---|---|
//! | of the process | counters of RSS and its members; forks, execs, the exit; gaps |
//! | of a thread | its calls of the vma layer and the kernel's looks as slices where both ends are known, else as instants |
//! | `GC` | cycles of the process's own collector as slices, its phases as instants |
//!
//! and a heap profile of its objects by stack, at the end. Single faults and frames are not in it: the counters tell them.
//!
//! *Units.* Time is the kernel's monotonic clock, which a snapshot ties to the wall's; sizes are bytes.
//!
//! *Cost.* Written while the trace is read; held is what lives of the objects, and stacks.

mod heap;
mod messages;

use std::collections::HashSet;
use std::io::{self, Write};

use prost::Message;

use self::heap::Heap;
use self::messages::{
    Clock, ClockSnapshot, CounterDescriptor, DebugAnnotation, ProcessDescriptor, ThreadDescriptor, TracePacket,
    TrackDescriptor, TrackEvent,
};
use super::{Exported, Stopped};
use crate::dump::line::{Value, describe, kind};
use crate::dump::{Before, json_of};
use crate::event::{Body, Event, Header, Layer, Member, Scan, ScanKind};
use crate::format::Trace;
use crate::replay::State;
use crate::units::{Nanos, Range};

/// `BUILTIN_CLOCK_REALTIME`, `_MONOTONIC`, and `_MONOTONIC_COARSE`, which heap profiles use.
const CLOCKS: [u32; 3] = [1, 3, 4];
const MONOTONIC: u32 = 3;
/// `TYPE_SLICE_BEGIN` and those after it.
const BEGIN: i32 = 1;
const END: i32 = 2;
const INSTANT: i32 = 3;
const COUNTER: i32 = 4;
/// `UNIT_SIZE_BYTES`
const SIZE_BYTES: i32 = 3;
/// Tracks; those of threads are their tgid and tid, which are beyond these.
const PROCESS: u64 = 1;
const COLLECTOR: u64 = 2;
const RSS: u64 = 3;
/// The first one of the members of RSS.
const MEMBERS: u64 = 4;

/// Writes the trace.
///
/// *Errors.* When the source cannot be read or `out` cannot be written.
pub(super) fn write(trace: &mut impl Trace, out: &mut impl Write) -> Result<Exported, Stopped> {
    let header = trace.header().clone();
    let mut writer = Writer::new(&header, out);
    writer.head()?;
    let mut heap = Heap::new(&header);
    let mut state = State::new();
    let mut before = Before::default();
    let mut last = Nanos(0);
    while let Some(event) = trace.next_event().map_err(Stopped::Read)? {
        last = event.ts;
        heap.apply(event);
        if matches!(event.body, Body::StackNode { .. } | Body::Symbol { .. } | Body::MapFile { .. }) {
            state.apply(event);
        }
        let replaced = before.take(event);
        writer.event(event, &before, &replaced)?;
    }
    if writer.in_cycle {
        writer.track_event(last, TrackEvent { r#type: END, track_uuid: COLLECTOR, ..TrackEvent::default() })?;
    }
    if let Some((names, profile)) = heap.finish(&header, &state, last) {
        writer.packet(Some(last), |packet| {
            (packet.interned_data, packet.profile_packet) = (Some(names), Some(profile));
        })?;
    }
    out.flush()?;
    let period_bytes = header.object_period_bytes.filter(|period| *period > 0);
    Ok(Exported { events: trace.outcome().events, period_bytes, ..Exported::default() })
}

struct Writer<'a, W> {
    header: &'a Header,
    out: &'a mut W,
    bytes: Vec<u8>,
    began: bool,
    threads: HashSet<u64>,
    /// By member.
    levels: [u64; 4],
    in_cycle: bool,
}

impl<'a, W: Write> Writer<'a, W> {
    fn new(header: &'a Header, out: &'a mut W) -> Writer<'a, W> {
        let (bytes, threads) = (Vec::new(), HashSet::new());
        Writer { header, out, bytes, began: false, threads, levels: [0; 4], in_cycle: false }
    }

    fn packet(&mut self, at: Option<Nanos>, fill: impl FnOnce(&mut TracePacket)) -> io::Result<()> {
        // The first one clears what is known of names, the others need it.
        let sequence_flags = if self.began { 2 } else { 1 };
        self.began = true;
        let mut packet = TracePacket {
            timestamp: at.map(|at| at.0),
            timestamp_clock_id: at.map(|_| MONOTONIC),
            trusted_packet_sequence_id: 1,
            sequence_flags,
            ..TracePacket::default()
        };
        fill(&mut packet);
        self.bytes.clear();
        // Field 1 of a `Trace`, with its length before it.
        self.bytes.push(0x0a);
        packet.encode_length_delimited(&mut self.bytes).map_err(io::Error::other)?;
        self.out.write_all(&self.bytes)
    }

    fn track(&mut self, track: TrackDescriptor) -> io::Result<()> {
        self.packet(None, |packet| packet.track_descriptor = Some(track))
    }

    fn track_event(&mut self, at: Nanos, event: TrackEvent) -> io::Result<()> {
        self.packet(Some(at), |packet| packet.track_event = Some(event))
    }

    fn head(&mut self) -> io::Result<()> {
        let header = self.header;
        let clocks = CLOCKS.iter().map(|&clock_id| {
            let timestamp = if clock_id == 1 { header.clock_wall } else { header.clock_monotonic };
            Clock { clock_id, timestamp }
        });
        let snapshot = ClockSnapshot { clocks: clocks.collect(), primary_trace_clock: MONOTONIC as i32 };
        self.packet(Some(Nanos(header.clock_monotonic)), |packet| packet.clock_snapshot = Some(snapshot))?;
        let process = ProcessDescriptor {
            pid: id(header.tgid),
            cmdline: header.cmdline.clone(),
            process_name: header.comm.clone(),
        };
        self.track(TrackDescriptor { uuid: PROCESS, process: Some(process), ..TrackDescriptor::default() })?;
        let below = |uuid: u64, name: &str| TrackDescriptor {
            uuid,
            name: name.to_owned(),
            parent_uuid: Some(PROCESS),
            ..TrackDescriptor::default()
        };
        self.track(below(COLLECTOR, "GC"))?;
        let counter = |uuid: u64, name: &str| TrackDescriptor {
            counter: Some(CounterDescriptor { unit: SIZE_BYTES }),
            ..below(uuid, name)
        };
        self.track(counter(RSS, "RSS"))?;
        for member in Member::ALL {
            let name = if *member == Member::Swap { "swap".to_owned() } else { format!("RSS {}", member.word()) };
            self.track(counter(MEMBERS + u64::from(member.code()), &name))?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, before: &Before, replaced: &[Range]) -> io::Result<()> {
        match &event.body {
            Body::Frame { member, level, .. } | Body::Rss { member, level } => {
                self.level(event.ts, *member, level.bytes().0)
            }
            Body::Exit { .. } | Body::Exec { .. } | Body::Fork { .. } | Body::Lost { .. } => {
                self.act(event, PROCESS, kind(&event.body).to_owned(), None, before, replaced)
            }
            Body::Scan(scan) if scan.kind.is_collector() => self.collector(event.ts, *scan),
            Body::Scan(scan) => {
                let track = self.thread(event)?;
                self.act(event, track, scan.kind.word().to_owned(), scan.began, before, replaced)
            }
            body if body.layer() == Layer::Vma && !body.is_own() => {
                let track = self.thread(event)?;
                let (name, began) = match body {
                    Body::Map { call, began, .. } | Body::Unmap { call, began, .. } => (call.word(), Some(*began)),
                    Body::Advise { call, advice, began, .. } => {
                        let advice = crate::replay::calls::advice_name(*advice).unwrap_or("?");
                        let name = format!("{} {advice}", call.word());
                        return self.act(event, track, name, Some(*began), before, replaced);
                    }
                    Body::Remap { began, .. } => ("mremap", Some(*began)),
                    Body::Brk { .. } => ("brk", None),
                    Body::Failed { call, .. } => (call.word(), None),
                    _ => ("mprotect", None),
                };
                let failed = if matches!(body, Body::Failed { .. }) { " failed" } else { "" };
                self.act(event, track, format!("{name}{failed}"), began, before, replaced)
            }
            _ => Ok(()),
        }
    }

    /// A slice where it is known when it began, else an instant, with all values of the event.
    fn act(
        &mut self,
        event: &Event,
        track_uuid: u64,
        name: String,
        began: Option<Nanos>,
        before: &Before,
        replaced: &[Range],
    ) -> io::Result<()> {
        let mut debug_annotations = Vec::new();
        describe(event, &|file| before.path(file), replaced, &mut |key, value| {
            debug_annotations.push(annotation(key, value));
        });
        let categories = vec![event.body.layer().word().to_owned()];
        let began = began.filter(|began| began.0 > 0 && *began < event.ts);
        let kind = if began.is_some() { BEGIN } else { INSTANT };
        let start =
            TrackEvent { debug_annotations, r#type: kind, track_uuid, categories, name, ..TrackEvent::default() };
        self.track_event(began.unwrap_or(event.ts), start)?;
        if began.is_some() {
            self.track_event(event.ts, TrackEvent { r#type: END, track_uuid, ..TrackEvent::default() })?;
        }
        Ok(())
    }

    fn collector(&mut self, at: Nanos, scan: Scan) -> io::Result<()> {
        let event = |r#type: i32, name: &str| TrackEvent {
            r#type,
            track_uuid: COLLECTOR,
            name: name.to_owned(),
            ..TrackEvent::default()
        };
        match scan.kind {
            ScanKind::GcStart if !self.in_cycle => {
                self.in_cycle = true;
                self.track_event(at, event(BEGIN, "gc_mark"))
            }
            ScanKind::GcMarkEnd if self.in_cycle => {
                self.in_cycle = false;
                self.track_event(at, event(END, ""))
            }
            kind => self.track_event(at, event(INSTANT, kind.word())),
        }
    }

    fn level(&mut self, at: Nanos, member: Member, bytes: u64) -> io::Result<()> {
        let Some(level) = self.levels.get_mut(usize::from(member.code())) else { return Ok(()) };
        if *level == bytes && bytes > 0 {
            return Ok(());
        }
        *level = bytes;
        self.counter(at, MEMBERS + u64::from(member.code()), bytes)?;
        if member == Member::Swap {
            return Ok(());
        }
        let [file, anon, _, shmem] = self.levels;
        self.counter(at, RSS, file.saturating_add(anon).saturating_add(shmem))
    }

    fn counter(&mut self, at: Nanos, track_uuid: u64, value: u64) -> io::Result<()> {
        let counter_value = Some(i64::try_from(value).unwrap_or(i64::MAX));
        self.track_event(at, TrackEvent { r#type: COUNTER, track_uuid, counter_value, ..TrackEvent::default() })
    }

    /// The track of the thread that acted, which may be of another process.
    fn thread(&mut self, event: &Event) -> io::Result<u64> {
        let tgid = event.actor.map_or(self.header.tgid, |actor| actor.tgid.0);
        let uuid = (u64::from(tgid) + 1) << 32 | u64::from(event.tid.0);
        if self.threads.insert(uuid) {
            let thread_name = event.actor.map(|actor| actor.comm.to_text()).unwrap_or_default();
            let thread = ThreadDescriptor { pid: id(tgid), tid: i64::from(event.tid.0), thread_name };
            self.track(TrackDescriptor { uuid, thread: Some(thread), ..TrackDescriptor::default() })?;
        }
        Ok(uuid)
    }
}

fn id(id: u32) -> i32 {
    i32::try_from(id).unwrap_or(i32::MAX)
}

fn annotation(key: &str, value: Value<'_>) -> DebugAnnotation {
    let mut note = DebugAnnotation { name: key.to_owned(), ..DebugAnnotation::default() };
    match value {
        Value::Number(number) => note.uint_value = Some(number),
        Value::Signed(number) => note.int_value = Some(number),
        Value::Address(addr) => note.pointer_value = Some(addr),
        Value::Flag(flag) => note.bool_value = Some(flag),
        Value::Text(text) => note.string_value = Some(text.to_owned()),
        Value::Ranges(_) | Value::Functions(_) | Value::Actor(..) => note.string_value = Some(json_of(value)),
    }
    note
}
