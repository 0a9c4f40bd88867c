//! One event out of bytes: the reader's half of the event table in the module doc of [`super`].
//!
//! *Errors.* Whatever no writer makes is [`Corrupt`]. *Cost.* A constant number of steps an event, and memory
//! only for its text and, in a block, its new context.

use super::arena;
use super::heap;
use super::object;
use super::stack;
use super::state::{Block, Context, Tables, op};
use super::task::{self, comm};
use super::wire::{Corrupt, In};
use crate::event::{Access, Actor, Body, Call, Event, FileId, Layer, Member, Scan, ScanKind, Why};
use crate::units::{Bytes, Nanos, PAGE_BYTES, Pages, Pfn, Pid, Range, Tid};

/// All that the reader knows of what it read.
#[derive(Debug)]
pub(super) struct EventReader {
    block: Block,
    tables: Tables,
    /// The last one. It is written in place: to move one costs as much as to read it.
    event: Event,
}

impl EventReader {
    pub fn new() -> EventReader {
        let event = Event { ts: Nanos(0), cpu: 0, tid: Tid(0), actor: None, body: Body::MmGone };
        EventReader { block: Block::new(0), tables: Tables::new(), event }
    }

    /// A new block whose first event is at `first`.
    pub fn begin(&mut self, first: Nanos) {
        self.block = Block::new(first.0);
    }

    /// The event that was read last.
    pub fn event(&self) -> &Event {
        &self.event
    }

    pub fn read(&mut self, bytes: &mut In<'_>) -> Result<(), Corrupt> {
        let first = bytes.byte()?;
        if first & op::SWITCH != 0 {
            self.context(bytes)?;
        }
        let context = self.block.context().ok_or(Corrupt("a block's first event has no context"))?;
        (self.event.cpu, self.event.tid, self.event.actor) = (context.cpu, context.tid, context.actor);
        let opcode = first & !op::SWITCH;
        if !(op::PAGES..op::RSS).contains(&opcode) {
            let ts = self.block.ts.checked_add(bytes.varint()?);
            self.block.ts = ts.ok_or(Corrupt("a time beyond 64 bits"))?;
        }
        self.event.ts = Nanos(self.block.ts);
        let body = self.body(opcode, bytes)?;
        match std::mem::replace(&mut self.event.body, body) {
            // Most events own nothing: to find that out again for each costs as much as to apply some.
            plain @ (Body::Fault { .. } | Body::Frame { .. } | Body::Free { .. } | Body::Rss { .. }) => {
                std::mem::forget(plain);
            }
            other => drop(other),
        }
        Ok(())
    }

    fn context(&mut self, bytes: &mut In<'_>) -> Result<(), Corrupt> {
        let index: usize = bytes.narrow()?;
        if self.block.switch(index) {
            return Ok(());
        }
        if index != self.block.contexts() {
            return Err(Corrupt("a context that was not made known"));
        }
        let cpu = bytes.narrow()?;
        let tid = bytes.varint()?;
        let actor = if tid & 1 == 1 { Some(actor(bytes)?) } else { None };
        let tid = u32::try_from(tid >> 1).map_err(|_| Corrupt("a number beyond its field"))?;
        self.block.enter(Context { cpu, tid: Tid(tid), actor });
        Ok(())
    }

    fn body(&mut self, opcode: u8, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
        let ts = self.block.ts;
        Ok(match opcode {
            op::FRAME..op::FAULT => self.frame(opcode, bytes)?,
            op::STACK => stack::read(&mut self.block, bytes)?,
            op::OBJECT => Body::Object(object::read(&mut self.block, bytes)?),
            op::FAULT..op::FREE => self.fault(opcode - op::FAULT, bytes)?,
            op::FREE..op::PAGES => self.free(opcode - op::FREE, bytes)?,
            op::PAGES..op::RSS => self.baseline_run(opcode - op::PAGES, bytes)?,
            op::RSS..op::MAP => {
                let member = code::<Member>(opcode - op::RSS)?;
                let level = bytes.signed(self.block.level(member))?;
                self.block.set_level(member, level);
                Body::Rss { member, level: Pages(level) }
            }
            op::MAP => Body::Map {
                call: code::<Call>(bytes.byte()?)?,
                range: self.range(bytes)?,
                prot: bytes.narrow()?,
                flags: bytes.narrow()?,
                file: file_id(bytes)?,
                offset: Bytes(bytes.length()?),
                began: earlier(ts, bytes)?,
            },
            op::UNMAP => Body::Unmap {
                call: code::<Call>(bytes.byte()?)?,
                range: self.range(bytes)?,
                began: earlier(ts, bytes)?,
            },
            op::BRK => {
                let old = bytes.address(self.block.brk)?;
                let new = bytes.address(old)?;
                self.block.brk = new;
                Body::Brk { old, new }
            }
            op::REMAP => Body::Remap {
                old: self.range(bytes)?,
                new: self.range(bytes)?,
                flags: bytes.narrow()?,
                began: earlier(ts, bytes)?,
            },
            op::ADVISE => Body::Advise {
                call: code::<Call>(bytes.byte()?)?,
                range: self.range(bytes)?,
                advice: i32::try_from(bytes.signed(0)? as i64).map_err(|_| Corrupt("a number beyond its field"))?,
                began: earlier(ts, bytes)?,
            },
            op::PROTECT => Body::Protect { range: self.range(bytes)?, prot: bytes.narrow()? },
            op::FAILED => Body::Failed {
                call: code::<Call>(bytes.byte()?)?,
                addr: bytes.address(self.block.range_end)?,
                bytes: Bytes(bytes.length()?),
                errno: bytes.narrow()?,
            },
            op::SCAN => {
                let what = bytes.byte()?;
                Body::Scan(Scan {
                    kind: code::<ScanKind>(what >> 1)?,
                    value: bytes.varint()?,
                    began: if what & 1 == 1 { Some(earlier(ts, bytes)?) } else { None },
                })
            }
            op::BASELINE_MAP => {
                let range = self.range(bytes)?;
                let prot = bytes.varint()?;
                Body::BaselineMap {
                    range,
                    prot: u32::try_from(prot >> 1).map_err(|_| Corrupt("a number beyond its field"))?,
                    shared: prot & 1 == 1,
                    file: file_id(bytes)?,
                    offset: Bytes(bytes.length()?),
                    name: bytes.text()?,
                }
            }
            op::BASELINE_PAGES => {
                let flags = bytes.byte()?;
                if flags > 7 {
                    return Err(Corrupt("unknown flags of a baseline run"));
                }
                let addr = bytes.address(self.block.pages_end)?;
                let pages = bytes.varint()?;
                let pfn = if flags & 1 == 1 { Some(Pfn(bytes.signed(self.block.pages_pfn)?)) } else { None };
                self.ran(addr, pages, pfn);
                Body::BaselinePages { addr, pages: Pages(pages), pfn, file: flags & 2 != 0, swapped: flags & 4 != 0 }
            }
            op::HEAP => Body::Heap(heap::read_run(&mut self.block, bytes)?),
            op::RARE => self.rare(bytes)?,
            _ => return Err(Corrupt("an unknown kind of event")),
        })
    }

    fn rare(&mut self, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
        let ts = self.block.ts;
        Ok(match bytes.byte()? {
            op::rare::MAP_FILE => {
                let id = bytes.varint()?;
                Body::MapFile {
                    id: FileId(u32::try_from(id >> 1).map_err(|_| Corrupt("a number beyond its field"))?),
                    whole: id & 1 == 1,
                    path: bytes.text()?,
                    dev: bytes.varint()?,
                    ino: bytes.varint()?,
                }
            }
            kind @ op::rare::START..=op::rare::EXIT => task::read_rare(kind, bytes)?,
            op::rare::MM_GONE => Body::MmGone,
            op::rare::READING => {
                let what = bytes.byte()?;
                Body::Reading { why: code::<Why>(what >> 1)?, maps: what & 1 == 1, range: self.range(bytes)? }
            }
            op::rare::LOST => Body::Lost {
                layer: code::<Layer>(bytes.byte()?)?,
                from: earlier(ts, bytes)?,
                to: earlier(ts, bytes)?,
                count: bytes.varint()?,
            },
            op::rare::HEAP_SPAN => {
                let run = heap::read_run(&mut self.block, bytes)?;
                Body::Heap(heap::read_span(run, &mut self.block, bytes)?)
            }
            op::rare::HEAP_READING => Body::HeapReading { why: code::<Why>(bytes.byte()?)? },
            op::rare::BASELINE_HEAP => heap::read_row(&mut self.block, bytes)?,
            op::rare::ARENA_READING => arena::read_reading(bytes)?,
            op::rare::ARENA => arena::read_arena(bytes)?,
            op::rare::ARENA_PAGES => arena::read_pages(&mut self.block, bytes)?,
            op::rare::LIBRARY => object::read_library(bytes)?,
            op::rare::CALLS => object::read_count(bytes)?,
            op::rare::STACK_NODE => stack::read_node(bytes)?,
            op::rare::SYMBOL => stack::read_symbol(bytes)?,
            op::rare::BUILD_ID => stack::read_build_id(false, bytes)?,
            op::rare::BUILD_ID_LINKED => stack::read_build_id(true, bytes)?,
            op::rare::SPAN_USE => Body::SpanUse(heap::read_use(&mut self.block, bytes)?),
            _ => return Err(Corrupt("an unknown kind of event")),
        })
    }

    fn baseline_run(&mut self, bits: u8, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
        let addr = if bits & 1 == 1 { self.block.pages_end } else { bytes.address(self.block.pages_end)? };
        let pages = if bits & 2 == 2 { 1 } else { bytes.varint()? };
        let pfn = Some(Pfn(bytes.signed(self.block.pages_pfn)?));
        self.ran(addr, pages, pfn);
        Ok(Body::BaselinePages { addr, pages: Pages(pages), pfn, file: bits & 4 == 4, swapped: false })
    }

    fn ran(&mut self, addr: u64, pages: u64, pfn: Option<Pfn>) {
        self.block.ran(addr, pages, pfn);
        if let Some(pfn) = pfn {
            self.tables.frames.push(pfn.0);
        }
    }

    fn range(&mut self, bytes: &mut In<'_>) -> Result<Range, Corrupt> {
        let start = bytes.address(self.block.range_end)?;
        let end = start.checked_add(bytes.length()?).ok_or(Corrupt("a range beyond the address space"))?;
        self.block.range_end = end;
        Ok(Range { start, end })
    }

    fn fault(&mut self, bits: u8, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
        let lane = self.block.lane;
        let what = bits >> 3;
        let kernel = what == 3;
        let access = code::<Access>(if kernel { bytes.byte()? } else { what })?;
        let addr =
            if bits & 1 == 1 { lane.fault_addr.wrapping_add(PAGE_BYTES) } else { bytes.signed(lane.fault_addr)? };
        let ip = match bits >> 1 & 3 {
            0 => lane.fault_ip,
            1 => self.block.known_ip(bytes.byte()?),
            2 => bytes.signed(lane.fault_ip)?,
            _ => return Err(Corrupt("a fault of no known form")),
        };
        self.block.faulted(addr, ip);
        Ok(Body::Fault { addr, ip, access, kernel })
    }

    fn frame(&mut self, bits: u8, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
        let (order, member) = if bits & 1 == 1 {
            (0, Member::Anon)
        } else {
            let both = bytes.varint()?;
            let order = u8::try_from(both >> 2).map_err(|_| Corrupt("a number beyond its field"))?;
            (order, code::<Member>((both & 3) as u8)?)
        };
        let level = if bits & 2 == 2 {
            self.block.next_level(member, order)
        } else {
            bytes.signed(self.block.level(member))?
        };
        let freed = &mut self.tables.freed;
        let pfn = match bits >> 2 & 3 {
            0 => bytes.signed(self.block.lane.frame_next)?,
            3 => self.block.lane.frame_next,
            mode => {
                let expected = freed.cursor.wrapping_sub(1);
                freed.cursor = if mode == 1 { expected } else { bytes.signed(expected)? };
                freed.named(freed.cursor)?
            }
        };
        let addr = match bits >> 4 {
            0 => None,
            1 => Some(self.block.faulted_frame(order)),
            2 => Some(self.block.lane.frame_end),
            _ => Some(bytes.address(self.block.lane.frame_end)?),
        };
        self.block.framed(addr, pfn, order, member, level);
        self.tables.frames.push(pfn);
        Ok(Body::Frame { addr, pfn: Pfn(pfn), order, member, level: Pages(level) })
    }

    fn free(&mut self, bits: u8, bytes: &mut In<'_>) -> Result<Body, Corrupt> {
        let order = if bits & 1 == 1 { 0 } else { bytes.byte()? };
        let frames = &mut self.tables.frames;
        let pfn = match bits >> 1 {
            0 => bytes.signed(self.block.freed)?,
            3 => self.block.freed.wrapping_add(1),
            mode => {
                let at = if mode == 1 { frames.cursor } else { bytes.signed(frames.cursor)? };
                let pfn = frames.named(at)?;
                frames.cursor = at.wrapping_add(1);
                pfn
            }
        };
        self.block.freed = pfn;
        self.tables.push_freed(pfn);
        Ok(Body::Free { pfn: Pfn(pfn), order })
    }
}

/// An enumeration's value by its integer.
fn code<T: TryFrom<u8>>(code: u8) -> Result<T, Corrupt> {
    T::try_from(code).map_err(|_| Corrupt("an unknown value of an enumeration"))
}

/// A time written as the distance back from `ts`.
fn earlier(ts: u64, bytes: &mut In<'_>) -> Result<Nanos, Corrupt> {
    Ok(Nanos(ts.wrapping_sub(bytes.signed(0)?)))
}

fn actor(bytes: &mut In<'_>) -> Result<Actor, Corrupt> {
    let tgid = Pid(bytes.narrow()?);
    let used = bytes.byte()?;
    Ok(Actor { tgid, comm: comm(bytes, usize::from(used))? })
}

fn file_id(bytes: &mut In<'_>) -> Result<Option<FileId>, Corrupt> {
    match bytes.varint()? {
        0 => Ok(None),
        more => u32::try_from(more - 1).map(|id| Some(FileId(id))).map_err(|_| Corrupt("a number beyond its field")),
    }
}
