//! One event into bytes: the writer's half of the event table in the module doc of [`super`].

use std::collections::HashMap;

use super::MAX_TEXT_BYTES;
use super::arena;
use super::heap;
use super::object;
use super::recent::Finder;
use super::stack;
use super::state::{Block, Context, Tables, ip_slot, op};
use super::task;
use super::wire::{Out, signed_len};
use crate::event::{Access, Body, Event, FileId, Member};
use crate::units::{Nanos, Pfn, Range};

/// All that the writer knows of what it wrote.
#[derive(Debug)]
pub(super) struct EventWriter {
    block: Block,
    tables: Tables,
    contexts: HashMap<Context, usize>,
    find_frame: Finder,
    find_freed: Finder,
}

impl EventWriter {
    pub fn new() -> EventWriter {
        EventWriter {
            block: Block::new(0),
            tables: Tables::new(),
            contexts: HashMap::new(),
            find_frame: Finder::default(),
            find_freed: Finder::default(),
        }
    }

    /// A new block whose first event is at `first`.
    pub fn begin(&mut self, first: Nanos) {
        self.block = Block::new(first.0);
        self.contexts.clear();
    }

    /// Writes `event` at `ts`, which must not be before the event before it.
    pub fn write(&mut self, event: &Event, ts: Nanos, out: &mut Out) {
        let first_byte = out.bytes.len();
        out.byte(0);
        let switch = self.context(event, out);
        let opcode = match self.baseline_run(event, ts, out) {
            Some(opcode) => opcode,
            None => {
                out.varint(ts.0.wrapping_sub(self.block.ts));
                self.block.ts = ts.0;
                self.body(event, out)
            }
        };
        if let Some(byte) = out.bytes.get_mut(first_byte) {
            *byte = opcode | switch;
        }
    }

    fn context(&mut self, event: &Event, out: &mut Out) -> u8 {
        let context = Context { cpu: event.cpu, tid: event.tid, actor: event.actor };
        if self.block.context() == Some(context) {
            return 0;
        }
        if let Some(&index) = self.contexts.get(&context) {
            out.varint(index as u64);
            self.block.switch(index);
            return op::SWITCH;
        }
        let index = self.block.contexts();
        out.varint(index as u64);
        out.varint(u64::from(context.cpu));
        out.varint(u64::from(context.tid.0) << 1 | u64::from(context.actor.is_some()));
        if let Some(actor) = context.actor {
            out.varint(u64::from(actor.tgid.0));
            let used = actor.comm.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            out.byte(used as u8);
            out.bytes.extend(actor.comm.0.iter().take(used));
        }
        self.contexts.insert(context, index);
        self.block.enter(context);
        op::SWITCH
    }

    /// The short form of a run of a baseline: it has no time of its own.
    fn baseline_run(&mut self, event: &Event, ts: Nanos, out: &mut Out) -> Option<u8> {
        let Body::BaselinePages { addr, pages, pfn: Some(pfn), file, swapped: false } = event.body else { return None };
        if ts.0 != self.block.ts {
            return None;
        }
        let mut opcode = op::PAGES | u8::from(file) << 2;
        if addr == self.block.pages_end {
            opcode |= 1;
        } else {
            out.address(self.block.pages_end, addr);
        }
        if pages.0 == 1 {
            opcode |= 2;
        } else {
            out.varint(pages.0);
        }
        out.signed(self.block.pages_pfn, pfn.0);
        self.ran(addr, pages.0, Some(pfn));
        Some(opcode)
    }

    /// After either form of a run.
    fn ran(&mut self, addr: u64, pages: u64, pfn: Option<Pfn>) {
        self.block.ran(addr, pages, pfn);
        if let Some(pfn) = pfn {
            self.keep_frame(pfn);
        }
    }

    fn keep_frame(&mut self, pfn: Pfn) {
        self.tables.frames.push(pfn.0);
        self.find_frame.note_newest(&self.tables.frames);
    }

    fn body(&mut self, event: &Event, out: &mut Out) -> u8 {
        let ts = self.block.ts;
        match &event.body {
            &Body::Fault { addr, ip, access, kernel } => self.fault(addr, ip, access, kernel, out),
            &Body::Frame { addr, pfn, order, member, level } => self.frame(addr, pfn, order, member, level.0, out),
            &Body::Free { pfn, order } => self.free(pfn, order, out),
            &Body::Rss { member, level } => {
                out.signed(self.block.level(member), level.0);
                self.block.set_level(member, level.0);
                op::RSS | member.code()
            }
            &Body::Map { range, prot, flags, file, offset, call, began } => {
                out.byte(call.code());
                self.range(range, out);
                out.varint(u64::from(prot));
                out.varint(u64::from(flags));
                file_id(file, out);
                out.length(offset.0);
                out.signed(began.0, ts);
                op::MAP
            }
            &Body::Unmap { range, call, began } => {
                out.byte(call.code());
                self.range(range, out);
                out.signed(began.0, ts);
                op::UNMAP
            }
            &Body::Brk { old, new } => {
                out.address(self.block.brk, old);
                out.address(old, new);
                self.block.brk = new;
                op::BRK
            }
            &Body::Remap { old, new, flags, began } => {
                self.range(old, out);
                self.range(new, out);
                out.varint(u64::from(flags));
                out.signed(began.0, ts);
                op::REMAP
            }
            &Body::Advise { range, advice, call, began } => {
                out.byte(call.code());
                self.range(range, out);
                out.signed(0, i64::from(advice) as u64);
                out.signed(began.0, ts);
                op::ADVISE
            }
            &Body::Protect { range, prot } => {
                self.range(range, out);
                out.varint(u64::from(prot));
                op::PROTECT
            }
            &Body::Failed { call, addr, bytes, errno } => {
                out.byte(call.code());
                out.address(self.block.range_end, addr);
                out.length(bytes.0);
                out.varint(u64::from(errno));
                op::FAILED
            }
            Body::Scan(scan) => {
                out.byte(scan.kind.code() << 1 | u8::from(scan.began.is_some()));
                out.varint(scan.value);
                if let Some(began) = scan.began {
                    out.signed(began.0, ts);
                }
                op::SCAN
            }
            Body::BaselineMap { range, prot, shared, file, offset, name } => {
                self.range(*range, out);
                out.varint(u64::from(*prot) << 1 | u64::from(*shared));
                file_id(*file, out);
                out.length(offset.0);
                out.text(name);
                op::BASELINE_MAP
            }
            &Body::BaselinePages { addr, pages, pfn, file, swapped } => {
                out.byte(u8::from(pfn.is_some()) | u8::from(file) << 1 | u8::from(swapped) << 2);
                out.address(self.block.pages_end, addr);
                out.varint(pages.0);
                if let Some(pfn) = pfn {
                    out.signed(self.block.pages_pfn, pfn.0);
                }
                self.ran(addr, pages.0, pfn);
                op::BASELINE_PAGES
            }
            Body::Heap(run) if heap::is_short(run) => {
                heap::write_run(run, &mut self.block, out);
                op::HEAP
            }
            Body::Object(object) => {
                object::write(object, &mut self.block, out);
                op::OBJECT
            }
            &Body::Stack { of, id } => {
                stack::write(of, id, &mut self.block, out);
                op::STACK
            }
            rare => {
                self.rare(rare, ts, out);
                op::RARE
            }
        }
    }

    fn rare(&mut self, body: &Body, ts: u64, out: &mut Out) {
        match body {
            Body::MapFile { id, path, whole, dev, ino } => {
                out.byte(op::rare::MAP_FILE);
                out.varint(u64::from(id.0) << 1 | u64::from(*whole));
                out.text(path);
                out.varint(*dev);
                out.varint(*ino);
            }
            Body::Start { .. } | Body::Fork { .. } | Body::Exec { .. } | Body::Exit { .. } => {
                task::write_rare(body, out)
            }
            Body::Reading { why, range, maps } => {
                out.byte(op::rare::READING);
                out.byte(why.code() << 1 | u8::from(*maps));
                self.range(*range, out);
            }
            Body::Lost { layer, from, to, count } => {
                out.byte(op::rare::LOST);
                out.byte(layer.code());
                out.signed(from.0, ts);
                out.signed(to.0, ts);
                out.varint(*count);
            }
            Body::Heap(run) => {
                out.byte(op::rare::HEAP_SPAN);
                heap::write_run(run, &mut self.block, out);
                heap::write_span(run, &mut self.block, out);
            }
            Body::HeapReading { why } => out.bytes.extend_from_slice(&[op::rare::HEAP_READING, why.code()]),
            &Body::BaselineHeap { addr, pages, state } => heap::write_row(addr, pages, state, &mut self.block, out),
            Body::SpanUse(used) => heap::write_use(used, &mut self.block, out),
            Body::ArenaReading { .. } | Body::Arena(_) | Body::ArenaPages(_) => {
                arena::write(body, &mut self.block, out)
            }
            Body::Library { .. } | Body::Calls { .. } => object::write_rare(body, out),
            Body::StackNode { .. } | Body::Symbol { .. } | Body::BuildId { .. } => stack::write_rare(body, out),
            // Any other has an opcode of its own.
            _ => out.byte(op::rare::MM_GONE),
        }
    }

    fn range(&mut self, range: Range, out: &mut Out) {
        out.address(self.block.range_end, range.start);
        out.length(range.bytes().0);
        self.block.range_end = range.start.max(range.end);
    }

    fn fault(&mut self, addr: u64, ip: u64, access: Access, kernel: bool, out: &mut Out) -> u8 {
        let lane = self.block.lane;
        let mut opcode = op::FAULT;
        let what = if kernel { 3 } else { access.code() };
        opcode |= what << 3;
        if kernel {
            out.byte(access.code());
        }
        if addr == lane.fault_addr.wrapping_add(crate::units::PAGE_BYTES) {
            opcode |= 1;
        } else {
            out.signed(lane.fault_addr, addr);
        }
        let slot = ip_slot(ip);
        if ip == lane.fault_ip {
            // Nothing to write.
        } else if self.block.known_ip(slot) == ip {
            opcode |= 1 << 1;
            out.byte(slot);
        } else {
            opcode |= 2 << 1;
            out.signed(lane.fault_ip, ip);
        }
        self.block.faulted(addr, ip);
        opcode
    }

    fn frame(&mut self, addr: Option<u64>, pfn: Pfn, order: u8, member: Member, level: u64, out: &mut Out) -> u8 {
        let mut opcode = op::FRAME;
        if order == 0 && member == Member::Anon {
            opcode |= 1;
        } else {
            out.varint(u64::from(order) << 2 | u64::from(member.code()));
        }
        if level == self.block.next_level(member, order) {
            opcode |= 2;
        } else {
            out.signed(self.block.level(member), level);
        }
        let freed = &self.tables.freed;
        let expected = freed.cursor.wrapping_sub(1);
        let mode = if freed.get(expected) == Some(pfn.0) {
            self.tables.freed.cursor = expected;
            1
        } else if pfn.0 == self.block.lane.frame_next {
            3
        } else {
            let plain = signed_len(self.block.lane.frame_next, pfn.0);
            match self.find_freed.find(freed, pfn.0) {
                Some(at) if signed_len(expected, at) < plain => {
                    out.signed(expected, at);
                    self.tables.freed.cursor = at;
                    2
                }
                _ => {
                    out.signed(self.block.lane.frame_next, pfn.0);
                    0
                }
            }
        };
        opcode |= mode << 2;
        opcode |= match addr {
            None => 0,
            Some(addr) if addr == self.block.faulted_frame(order) => 1,
            Some(addr) if addr == self.block.lane.frame_end => 2,
            Some(addr) => {
                out.address(self.block.lane.frame_end, addr);
                3
            }
        } << 4;
        self.block.framed(addr, pfn.0, order, member, level);
        self.keep_frame(pfn);
        opcode
    }

    fn free(&mut self, pfn: Pfn, order: u8, out: &mut Out) -> u8 {
        let mut opcode = op::FREE;
        if order == 0 {
            opcode |= 1;
        } else {
            out.byte(order);
        }
        let frames = &self.tables.frames;
        let expected = frames.cursor;
        let mode = if frames.get(expected) == Some(pfn.0) {
            self.tables.frames.cursor = expected.wrapping_add(1);
            1
        } else if pfn.0 == self.block.freed.wrapping_add(1) {
            3
        } else {
            let plain = signed_len(self.block.freed, pfn.0);
            match self.find_frame.find(frames, pfn.0) {
                Some(at) if signed_len(expected, at) <= plain => {
                    out.signed(expected, at);
                    self.tables.frames.cursor = at.wrapping_add(1);
                    2
                }
                _ => {
                    out.signed(self.block.freed, pfn.0);
                    0
                }
            }
        };
        self.block.freed = pfn.0;
        self.tables.push_freed(pfn.0);
        self.find_freed.note_newest(&self.tables.freed);
        opcode | mode << 1
    }
}

/// No event takes more bytes than this, whatever came before it.
pub(super) fn bound(event: &Event) -> usize {
    const WITHOUT_TEXT: usize = 192;
    let texts = match &event.body {
        Body::Library { name, path, .. } | Body::ArenaReading { name, path, .. } => [name.len(), path.len()],
        Body::MapFile { path: text, .. } | Body::Exec { exe: text, .. } => [text.len(), 0],
        Body::BaselineMap { name, .. } => [name.len(), 0],
        Body::Symbol { functions, .. } => return WITHOUT_TEXT + stack::bound(functions),
        Body::BuildId { id, .. } => [id.len(), 0],
        _ => [0, 0],
    };
    WITHOUT_TEXT + texts.iter().map(|text| text.min(&MAX_TEXT_BYTES)).sum::<usize>()
}

fn file_id(file: Option<FileId>, out: &mut Out) {
    out.varint(file.map_or(0, |id| u64::from(id.0) + 1));
}
