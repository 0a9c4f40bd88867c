//! The only place where an event of ours may be lost, and it counts.
//!
//! *Invariant.* Per CPU and layer: seen = emitted + filtered + dropped. Every run of a program while the recorder
//! wants events ends in one or more calls of [`Hook::emit`] or in one of [`Hook::filter`].
//! *Time* is taken after the space is reserved: a reader that found a ring empty at a time T will see nothing
//! older than T in it.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns};
use pagetrace_common::{
    control::{COLUMNS, DROPPED, EMITTED, FILTERED, SEEN, layer_of, word},
    record::{self, PADDED_WORDS},
};

use crate::{
    layout,
    maps::{COUNTERS, RINGS, add, control},
};

/// One run of a program: its CPU and its counters.
#[derive(Clone, Copy)]
pub struct Hook {
    pub cpu: u32,
    row: *mut u64,
}

#[repr(C)]
struct Record<const PAYLOAD: usize> {
    head: [u64; record::HEAD_WORDS],
    payload: [u64; PAYLOAD],
}

#[repr(C)]
struct Filled<const PAYLOAD: usize, TAIL> {
    head: [u64; record::HEAD_WORDS],
    payload: [u64; PAYLOAD],
    tail: TAIL,
}

impl Hook {
    /// `None` while the recorder wants no events.
    #[inline(always)]
    pub fn enter() -> Option<Hook> {
        if control(word::ON) == 0 {
            return None;
        }
        // SAFETY: the helper has no conditions.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
        let row = COUNTERS.get_ptr_mut(cpu)?.cast::<u64>();
        Some(Hook { cpu, row })
    }

    #[inline(always)]
    fn count(self, layer: usize, column: usize) {
        // SAFETY: both indices are constants inside the row. An atomic add: an interrupt may run another program
        // of ours in the middle of this one, on the same counter.
        unsafe { add(self.row.add(layer * COLUMNS + column), 1) };
    }

    /// The event is not wanted.
    #[inline(always)]
    pub fn filter(self, layer: usize) {
        self.count(layer, SEEN);
        self.count(layer, FILTERED);
    }

    /// The event is lost before it is one: no row was left for what it needs.
    #[inline(always)]
    pub fn lose(self, layer: usize) {
        self.count(layer, SEEN);
        self.count(layer, DROPPED);
    }

    /// Emits a record of `kind`; the acting task is the running one. The record's time; `None` when it was dropped.
    #[inline(always)]
    pub fn emit<const PAYLOAD: usize>(self, kind: u8, flags: u8, owner: u32, payload: [u64; PAYLOAD]) -> Option<u64> {
        // The helper gives tgid << 32 | tid: the order of the record's word.
        self.emit_as(bpf_get_current_pid_tgid(), kind, flags, owner, payload)
    }

    /// The same for the acting task `acting` (tgid << 32 | tid).
    #[inline(always)]
    pub fn emit_as<const PAYLOAD: usize>(
        self,
        acting: u64,
        kind: u8,
        flags: u8,
        owner: u32,
        payload: [u64; PAYLOAD],
    ) -> Option<u64> {
        let head = [record::head(kind, flags, self.cpu, owner), acting];
        let is_padded = PAYLOAD < PADDED_WORDS && layout::LEAST_WORDS.load() == PADDED_WORDS as u64;
        let at = if is_padded {
            self.put::<PAYLOAD, PADDED_WORDS>(head, payload)
        } else {
            self.put::<PAYLOAD, PAYLOAD>(head, payload)
        };
        self.told(layer_of(kind), at.is_some());
        at
    }

    /// The same with a tail, which `fill` fills; what it gives is added to the payload's word that tells of the tail.
    #[inline(always)]
    pub fn emit_filled<const PAYLOAD: usize, TAIL: 'static>(
        self,
        acting: u64,
        (kind, flags): (u8, u8),
        owner: u32,
        mut payload: [u64; PAYLOAD],
        fill: impl FnOnce(*mut TAIL) -> u64,
    ) -> Option<u64> {
        let entry = match RINGS.get(self.cpu) {
            Some(ring) => ring.reserve_untyped::<Filled<PAYLOAD, TAIL>>(0),
            None => None,
        };
        let Some(mut entry) = entry else {
            self.told(layer_of(kind), false);
            return None;
        };
        let at = entry.as_mut_ptr();
        // SAFETY: the helper has no conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: the reserved space has the alignment and the size of the record.
        unsafe {
            (*at).head = [now, record::head(kind, flags, self.cpu, owner), acting];
            payload[PAYLOAD - 1] |= fill(&raw mut (*at).tail);
            (*at).payload = payload;
        }
        entry.submit(layout::SUBMIT_FLAGS.load());
        self.told(layer_of(kind), true);
        Some(now)
    }

    /// Words 1 and 2 of a record of the running task's.
    #[inline(always)]
    pub fn head(self, kind: u8, flags: u8, owner: u32) -> [u64; 2] {
        [record::head(kind, flags, self.cpu, owner), bpf_get_current_pid_tgid()]
    }

    /// Counts an event: its record is in the ring, or was dropped.
    #[inline(always)]
    pub fn told(self, layer: usize, is_in: bool) {
        self.count(layer, SEEN);
        self.count(layer, if is_in { EMITTED } else { DROPPED });
    }

    /// Puts a record into the CPU's ring, in a space for `SPACE` words of payload, `PAYLOAD` or more. `None`: it is full.
    #[inline(always)]
    fn put<const PAYLOAD: usize, const SPACE: usize>(self, head: [u64; 2], payload: [u64; PAYLOAD]) -> Option<u64> {
        let entry = match RINGS.get(self.cpu) {
            Some(ring) => ring.reserve_untyped::<Record<SPACE>>(0),
            None => None,
        };
        let mut entry = entry?;
        let at = entry.as_mut_ptr().cast::<Record<PAYLOAD>>();
        // SAFETY: the helper has no conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: the reserved space has the alignment and at least the size of the record.
        unsafe {
            (*at).head = [now, head[0], head[1]];
            (*at).payload = payload;
        }
        entry.submit(layout::SUBMIT_FLAGS.load());
        Some(now)
    }
}
