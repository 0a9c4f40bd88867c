//! What happened how often: the counts of a recording that need no state.

use std::collections::BTreeMap;

use crate::event::{Access, Body, Call, Event, Layer, Scan};
use crate::units::{Bytes, Nanos, Pages};

/// Gaps that are kept one by one; beyond them only the counts go on.
pub const MAX_GAPS: usize = 1000;

/// Times and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub count: u64,
    pub bytes: Bytes,
}

impl Volume {
    pub(super) fn add(&mut self, bytes: Bytes) {
        self.count = self.count.saturating_add(1);
        self.bytes.0 = self.bytes.0.saturating_add(bytes.0);
    }
}

/// Records that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub cpu: u16,
    pub layer: Layer,
    pub from: Nanos,
    pub to: Nanos,
    pub count: u64,
}

/// The counts.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub first: Option<Nanos>,
    pub last: Nanos,
    /// User faults and kernel faults, by what they wanted: see [`Tally::faults`].
    pub(super) faults: [[u64; 2]; Access::ALL.len()],
    /// Frames that became resident, as base pages.
    pub frames: Pages,
    /// Of those, frames whose address no event tells.
    pub frames_without_address: Pages,
    pub frees: Pages,
    pub calls: BTreeMap<Call, Volume>,
    pub advice: BTreeMap<i32, Volume>,
    pub failed: BTreeMap<(Call, u32), u64>,
    pub scans: BTreeMap<u8, Volume>,
    pub gaps: Vec<Gap>,
    /// Of all gaps, kept or not.
    pub gap_count: u64,
    pub lost: u64,
    pub forks: u64,
    pub execs: u64,
}

impl Tally {
    /// How many faults of each kind there were, if any: what they wanted, whether the kernel ran, and the number.
    pub fn faults(&self) -> impl Iterator<Item = (Access, bool, u64)> {
        let each = Access::ALL.iter().zip(self.faults);
        each.flat_map(|(access, [user, in_kernel])| [(*access, false, user), (*access, true, in_kernel)])
            .filter(|(_, _, count)| *count > 0)
    }

    pub(super) fn add(&mut self, event: &Event) {
        self.events = self.events.saturating_add(1);
        self.first.get_or_insert(event.ts);
        self.last = self.last.max(event.ts);
        match &event.body {
            Body::Map { range, call, .. } | Body::Unmap { range, call, .. } => self.call(*call, range.bytes()),
            Body::Brk { old, new } => self.call(Call::Brk, Bytes(old.abs_diff(*new))),
            Body::Remap { new, .. } => self.call(Call::Mremap, new.bytes()),
            Body::Protect { range, .. } => self.call(Call::Mprotect, range.bytes()),
            Body::Advise { range, advice, call, .. } => {
                self.call(*call, range.bytes());
                self.advice.entry(*advice).or_default().add(range.bytes());
            }
            Body::Failed { call, errno, .. } => count(self.failed.entry((*call, *errno)).or_default(), 1),
            Body::Fault { access, kernel, .. } => {
                if let Some(kinds) = self.faults.get_mut(usize::from(access.code())) {
                    let [user, in_kernel] = kinds;
                    count(if *kernel { in_kernel } else { user }, 1);
                }
            }
            Body::Frame { addr, order, .. } => {
                count(&mut self.frames.0, base_pages(*order));
                if addr.is_none() {
                    count(&mut self.frames_without_address.0, base_pages(*order));
                }
            }
            Body::Free { order, .. } => count(&mut self.frees.0, base_pages(*order)),
            Body::Scan(Scan { kind, value, .. }) => {
                let volume = self.scans.entry(kind.code()).or_default();
                volume.add(Bytes(0));
                count(&mut volume.bytes.0, *value);
            }
            Body::Fork { .. } => count(&mut self.forks, 1),
            Body::Exec { .. } => count(&mut self.execs, 1),
            Body::Lost { layer, from, to, count: lost } => {
                count(&mut self.lost, *lost);
                count(&mut self.gap_count, 1);
                if self.gaps.len() < MAX_GAPS {
                    self.gaps.push(Gap { cpu: event.cpu, layer: *layer, from: *from, to: *to, count: *lost });
                }
            }
            Body::MapFile { .. }
            | Body::Rss { .. }
            | Body::Start { .. }
            | Body::Exit { .. }
            | Body::MmGone
            | Body::Reading { .. }
            | Body::BaselineMap { .. }
            | Body::BaselinePages { .. }
            | Body::Heap(_)
            | Body::HeapReading { .. }
            | Body::BaselineHeap { .. }
            | Body::SpanUse(_)
            | Body::ArenaReading { .. }
            | Body::Arena(_)
            | Body::ArenaPages(_)
            | Body::Object(_)
            | Body::Library { .. }
            | Body::Calls { .. }
            | Body::Stack { .. }
            | Body::StackNode { .. }
            | Body::Symbol { .. }
            | Body::BuildId { .. } => {}
        }
    }

    fn call(&mut self, call: Call, bytes: Bytes) {
        self.calls.entry(call).or_default().add(bytes);
    }
}

/// Base pages of a frame of this order; 1 for an order no kernel has.
#[must_use]
pub fn base_pages(order: u8) -> u64 {
    if order <= MAX_ORDER { 1_u64.checked_shl(u32::from(order)).unwrap_or(1) } else { 1 }
}

/// The largest frame any kernel knows: 1 GiB of 4 KiB pages.
pub const MAX_ORDER: u8 = 18;

fn count(into: &mut u64, more: u64) {
    *into = into.saturating_add(more);
}
