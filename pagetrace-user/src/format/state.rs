//! What an event is written against: the state that writer and reader keep alike.
//!
//! *Invariants.* [`Block`] begins anew in every block; [`Tables`] live as long as the file. Both change only by
//! the methods here, called for the same events in the same order on both sides. Memory: a block's contexts are
//! bounded by the bytes of the block, the tables by their capacity.

use super::recent::Recent;
use super::{FRAMES_KEPT, FREED_KEPT};
use crate::event::{Actor, Member};
use crate::units::{PAGE_BYTES, Pfn, Tid};

/// Opcodes: the low 7 bits of an event's first byte. The module doc of [`super`] explains their low bits.
pub(super) mod op {
    pub const FRAME: u8 = 0;
    pub const FAULT: u8 = 64;
    /// A form of [`FAULT`] that no fault has.
    pub const OBJECT: u8 = 70;
    /// Another one.
    pub const STACK: u8 = 71;
    pub const FREE: u8 = 96;
    pub const PAGES: u8 = 104;
    pub const RSS: u8 = 112;
    pub const MAP: u8 = 116;
    pub const UNMAP: u8 = 117;
    pub const BRK: u8 = 118;
    pub const REMAP: u8 = 119;
    pub const ADVISE: u8 = 120;
    pub const PROTECT: u8 = 121;
    pub const FAILED: u8 = 122;
    pub const SCAN: u8 = 123;
    pub const BASELINE_MAP: u8 = 124;
    pub const BASELINE_PAGES: u8 = 125;
    pub const HEAP: u8 = 126;
    pub const RARE: u8 = 127;

    /// Set in the first byte when a context follows.
    pub const SWITCH: u8 = 0x80;

    /// The byte after [`RARE`].
    pub mod rare {
        pub const MAP_FILE: u8 = 0;
        pub const START: u8 = 1;
        pub const FORK: u8 = 2;
        pub const EXEC: u8 = 3;
        pub const EXIT: u8 = 4;
        pub const MM_GONE: u8 = 5;
        pub const READING: u8 = 6;
        pub const LOST: u8 = 7;
        pub const HEAP_SPAN: u8 = 8;
        pub const HEAP_READING: u8 = 9;
        pub const BASELINE_HEAP: u8 = 10;
        pub const LIBRARY: u8 = 11;
        pub const CALLS: u8 = 12;
        pub const STACK_NODE: u8 = 13;
        pub const SYMBOL: u8 = 14;
        pub const BUILD_ID: u8 = 15;
        pub const SPAN_USE: u8 = 16;
        pub const BUILD_ID_LINKED: u8 = 17;
        pub const ARENA_READING: u8 = 20;
        pub const ARENA: u8 = 21;
        pub const ARENA_PAGES: u8 = 22;
    }
}

/// Who acted where: what most events share with the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Context {
    pub cpu: u16,
    pub tid: Tid,
    pub actor: Option<Actor>,
}

/// The last values of one context.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    pub context: Context,
    /// Of the last fault.
    pub fault_addr: u64,
    pub fault_ip: u64,
    /// End of the pages of the last frame that had an address.
    pub frame_end: u64,
    /// The frame after the last one.
    pub frame_next: u64,
}

/// State that begins anew in every block.
#[derive(Debug)]
pub(super) struct Block {
    /// Time of the last event.
    pub ts: u64,
    lanes: Vec<Lane>,
    /// Which of `lanes` is current; `lane` is its live copy.
    current: Option<usize>,
    pub lane: Lane,
    /// Instruction addresses by [`ip_slot`].
    ips: [u64; 256],
    levels: [u64; 4],
    /// End of the last range of the vma layer.
    pub range_end: u64,
    pub brk: u64,
    pub freed: u64,
    /// Where the last baseline run ended, and the frame after its last.
    pub pages_end: u64,
    pub pages_pfn: u64,
    /// Of the last event of the heap layer: the end of its pages, its P, and its goroutine if it has one.
    pub heap_end: u64,
    pub heap_p: Option<u32>,
    pub heap_goid: u64,
    /// Of the last object.
    pub object_addr: u64,
    /// The last stack.
    pub stack: u64,
    /// End of the last pages of an arena.
    pub arena_end: u64,
}

impl Block {
    pub fn new(first: u64) -> Block {
        Block {
            ts: first,
            lanes: Vec::new(),
            current: None,
            lane: Lane::default(),
            ips: [0; 256],
            levels: [0; 4],
            range_end: 0,
            brk: 0,
            freed: 0,
            pages_end: 0,
            pages_pfn: 0,
            heap_end: 0,
            heap_p: None,
            heap_goid: 0,
            object_addr: 0,
            stack: 0,
            arena_end: 0,
        }
    }

    /// The context of the last event; `None` before the first.
    pub fn context(&self) -> Option<Context> {
        self.current.map(|_| self.lane.context)
    }

    /// Contexts known so far.
    pub fn contexts(&self) -> usize {
        self.lanes.len()
    }

    /// Makes context number `index` the current one; false when there is none.
    pub fn switch(&mut self, index: usize) -> bool {
        self.park();
        let Some(&lane) = self.lanes.get(index) else { return false };
        self.lane = lane;
        self.current = Some(index);
        true
    }

    /// A new context, now current: it begins with the last values of the one before it.
    pub fn enter(&mut self, context: Context) {
        self.park();
        self.lane.context = context;
        self.current = Some(self.lanes.len());
        self.lanes.push(self.lane);
    }

    fn park(&mut self) {
        if let Some(slot) = self.current.and_then(|current| self.lanes.get_mut(current)) {
            *slot = self.lane;
        }
    }

    pub fn known_ip(&self, slot: u8) -> u64 {
        self.ips.get(usize::from(slot)).copied().unwrap_or(0)
    }

    pub fn faulted(&mut self, addr: u64, ip: u64) {
        self.lane.fault_addr = addr;
        self.lane.fault_ip = ip;
        if let Some(slot) = self.ips.get_mut(usize::from(ip_slot(ip))) {
            *slot = ip;
        }
    }

    pub fn level(&self, member: Member) -> u64 {
        self.levels.get(usize::from(member.code())).copied().unwrap_or(0)
    }

    pub fn set_level(&mut self, member: Member, level: u64) {
        if let Some(slot) = self.levels.get_mut(usize::from(member.code())) {
            *slot = level;
        }
    }

    /// The level that a frame of 2^`order` pages most likely led to.
    pub fn next_level(&self, member: Member, order: u8) -> u64 {
        self.level(member).wrapping_add(order_pages(order))
    }

    /// The start of the frame-sized, frame-aligned pages in which the last fault was.
    pub fn faulted_frame(&self, order: u8) -> u64 {
        self.lane.fault_addr & frame_bytes(order).wrapping_neg()
    }

    pub fn framed(&mut self, addr: Option<u64>, pfn: u64, order: u8, member: Member, level: u64) {
        if let Some(addr) = addr {
            self.lane.frame_end = addr.wrapping_add(frame_bytes(order));
        }
        self.lane.frame_next = pfn.wrapping_add(order_pages(order));
        self.set_level(member, level);
    }

    /// After a run of a baseline.
    pub fn ran(&mut self, addr: u64, pages: u64, pfn: Option<Pfn>) {
        self.pages_end = addr.wrapping_add(pages.wrapping_mul(PAGE_BYTES));
        if let Some(pfn) = pfn {
            self.pages_pfn = pfn.0.wrapping_add(pages);
        }
    }
}

/// State that lives as long as the file.
#[derive(Debug)]
pub(super) struct Tables {
    /// Frames that became resident; the cursor is the one most likely given back next.
    pub frames: Recent<FRAMES_KEPT>,
    /// Frames that were given back; the cursor is after the one most likely handed out next.
    pub freed: Recent<FREED_KEPT>,
}

impl Tables {
    pub fn new() -> Tables {
        Tables { frames: Recent::new(), freed: Recent::new() }
    }

    pub fn push_freed(&mut self, pfn: u64) {
        self.freed.push(pfn);
        self.freed.cursor = self.freed.end();
    }
}

/// Where an instruction address is kept in a block.
pub(super) fn ip_slot(ip: u64) -> u8 {
    (ip.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Base pages of a frame; 0 for an order that no 64-bit address space has.
fn order_pages(order: u8) -> u64 {
    1u64.checked_shl(u32::from(order)).unwrap_or(0)
}

fn frame_bytes(order: u8) -> u64 {
    order_pages(order).wrapping_mul(PAGE_BYTES)
}
