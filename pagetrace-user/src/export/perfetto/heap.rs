//! What the stacks of a program asked for and gave back, as a heap profile of Perfetto.

use std::collections::{BTreeMap, HashMap};

use super::messages::{
    Callstack, Frame, HeapSample, InternedData, InternedString, Mapping, ProcessHeapSamples, ProfilePacket,
};
use crate::event::{Body, Event, Header, Layer, ObjectAct, StackId, StackOf};
use crate::export::waiting::{Act, Entry, Waiting};
use crate::replay::{Estimate, State};
use crate::stacks::frames_of;
use crate::units::{Bytes, Nanos, Tid};

/// Objects that are held at most, as in replay.
const MOST: usize = 1 << 26;

/// Of one stack: bytes, an estimate where objects are sampled, and recorded objects.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    allocated: u64,
    freed: u64,
    allocs: u64,
    frees: u64,
}

type Live = (Option<StackId>, u64);

#[derive(Default)]
pub(super) struct Heap {
    waiting: Waiting,
    period: u64,
    live: HashMap<u64, Live>,
    moving: HashMap<Tid, (u64, Live)>,
    sums: BTreeMap<Option<StackId>, Sum>,
    lost: bool,
}

impl Heap {
    pub fn new(header: &Header) -> Heap {
        Heap { period: header.object_period_bytes.unwrap_or(0), ..Heap::default() }
    }

    pub fn apply(&mut self, event: &Event) {
        let (ts, tid) = (event.ts, event.tid);
        match &event.body {
            Body::Object(object) => match object.act {
                ObjectAct::Alloc => self.waiting.given(ts, tid, object.addr, object.bytes),
                ObjectAct::Free => self.waiting.taken(ts, tid, object.addr, object.moves),
                ObjectAct::Kept => self.waiting.kept(ts, tid, object.addr, object.bytes),
            },
            Body::Stack { of: StackOf::Object, id } => self.waiting.stack(tid, *id),
            Body::Exec { .. } => self.waiting.push(ts, tid, Act::Gone),
            Body::Lost { layer: Layer::Object, .. } => self.lost = true,
            _ => {}
        }
        while let Some(entry) = self.waiting.next(ts) {
            self.entry(&entry);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        match entry.act {
            Act::Given { addr, bytes, stack } => self.give(addr, bytes, stack),
            Act::Taken { addr, moves } => {
                let taken = self.live.remove(&addr);
                self.moving.remove(&entry.tid);
                if let Some(live) = taken {
                    self.free(live);
                    if moves {
                        self.moving.insert(entry.tid, (addr, live));
                    }
                }
            }
            Act::Kept { addr, bytes } => match self.moving.remove(&entry.tid).filter(|(moved, _)| *moved == addr) {
                Some((_, live)) => self.put(addr, live),
                None if bytes.0 > 0 && !self.live.contains_key(&addr) => self.give(addr, bytes, None),
                None => {}
            },
            Act::Gone => {
                self.moving.clear();
                for (_, live) in std::mem::take(&mut self.live) {
                    self.free(live);
                }
            }
            Act::Attached | Act::Rss(_) => {}
        }
    }

    fn give(&mut self, addr: u64, bytes: Bytes, stack: Option<StackId>) {
        let mut estimate = Estimate::default();
        estimate.add(bytes, self.period);
        let weight = if estimate.bytes.is_finite() { estimate.bytes.round() as u64 } else { bytes.0 };
        self.put(addr, (stack, weight));
    }

    fn put(&mut self, addr: u64, live: Live) {
        if self.live.len() >= MOST && !self.live.contains_key(&addr) {
            self.lost = true;
            return;
        }
        if let Some(before) = self.live.insert(addr, live) {
            self.free(before);
        }
        let sum = self.sums.entry(live.0).or_default();
        sum.allocated = sum.allocated.saturating_add(live.1);
        sum.allocs = sum.allocs.saturating_add(1);
    }

    fn free(&mut self, (stack, bytes): Live) {
        let sum = self.sums.entry(stack).or_default();
        sum.freed = sum.freed.saturating_add(bytes);
        sum.frees = sum.frees.saturating_add(1);
    }

    /// The profile at the end, and what its numbers stand for; `None` without objects.
    pub fn finish(mut self, header: &Header, state: &State, at: Nanos) -> Option<(InternedData, ProfilePacket)> {
        while let Some(entry) = self.waiting.last() {
            self.entry(&entry);
        }
        if self.sums.is_empty() {
            return None;
        }
        let mut names = Names::default();
        let mut samples = Vec::with_capacity(self.sums.len());
        for (stack, sum) in &self.sums {
            samples.push(HeapSample {
                callstack_id: names.callstack(state, *stack),
                self_allocated: sum.allocated,
                self_freed: sum.freed,
                timestamp: at.0,
                alloc_count: sum.allocs,
                free_count: sum.frees,
            });
        }
        let dump = ProcessHeapSamples {
            pid: u64::from(header.tgid),
            samples,
            buffer_overran: self.lost,
            timestamp: at.0,
            heap_name: "malloc".to_owned(),
            sampling_interval_bytes: self.period.max(1),
        };
        Some((names.data, ProfilePacket { process_dumps: vec![dump], index: 0 }))
    }
}

/// What a profile names by numbers, from 1 on.
#[derive(Default)]
struct Names {
    data: InternedData,
    functions: HashMap<String, u64>,
    mappings: HashMap<String, u64>,
    frames: HashMap<(u64, u64, u64), u64>,
}

impl Names {
    fn callstack(&mut self, state: &State, stack: Option<StackId>) -> u64 {
        let frames = stack.map(|stack| frames_of(state, stack)).unwrap_or_default();
        let mut frame_ids: Vec<u64> =
            frames.iter().map(|frame| self.frame(&frame.name, &frame.image, frame.offset)).collect();
        if frame_ids.is_empty() {
            frame_ids.push(self.frame("[no stack was recorded]", "", 0));
        }
        let iid = self.data.callstacks.len() as u64 + 1;
        self.data.callstacks.push(Callstack { iid, frame_ids });
        iid
    }

    fn frame(&mut self, name: &str, image: &str, offset: u64) -> u64 {
        let function = intern(&mut self.functions, &mut self.data.function_names, name);
        let known = self.mappings.len();
        let mapping = intern(&mut self.mappings, &mut self.data.mapping_paths, image);
        if self.mappings.len() > known {
            self.data.mappings.push(Mapping { iid: mapping, path_string_ids: vec![mapping] });
        }
        let next = self.data.frames.len() as u64 + 1;
        let iid = *self.frames.entry((function, mapping, offset)).or_insert(next);
        if iid == next {
            self.data.frames.push(Frame { iid, function_name_id: function, mapping_id: mapping, rel_pc: offset });
        }
        iid
    }
}

fn intern(numbers: &mut HashMap<String, u64>, texts: &mut Vec<InternedString>, text: &str) -> u64 {
    if let Some(known) = numbers.get(text) {
        return *known;
    }
    let iid = texts.len() as u64 + 1;
    texts.push(InternedString { iid, str: text.as_bytes().to_vec() });
    numbers.insert(text.to_owned(), iid);
    iid
}
