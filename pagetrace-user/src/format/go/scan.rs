//! The first pass over a file: where the buffers of each P are, and how far the bytes can be trusted.

use std::collections::BTreeMap;

use super::word::{self, Word};
use crate::format::Damage;
use crate::format::wire::Corrupt;
use crate::units::Nanos;

/// What the first pass found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// By P, the threads without one first (`None` sorts so).
    pub lanes: BTreeMap<Option<u32>, Lane>,
    /// The P of the last buffer.
    pub last: Option<Option<u32>>,
    pub damage: Option<Damage>,
    /// Bytes before the damage.
    pub valid: usize,
    /// Of all events, the earliest.
    pub first: Option<Nanos>,
    pub syncs: u64,
    pub buffers: u64,
    pub large: u64,
    pub events_without_p: u64,
}

/// What a P wrote.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Its buffers in order of the file: from the word after the P to the start of the next buffer.
    pub buffers: Vec<(usize, usize)>,
    /// Times that were before the time of the event before.
    pub went_back: u64,
    /// Buffers whose first word is not a time.
    pub without_sync: u64,
    base_ns: u64,
    last_ns: u64,
}

impl Lane {
    /// Bytes of the buffer that begins with the P at `start - 8`.
    pub fn length((start, end): (usize, usize)) -> usize {
        end.saturating_sub(start).saturating_add(8)
    }
}

pub(super) fn scan(bytes: &[u8]) -> Scanned {
    let mut found = Scanned::default();
    let mut at = 0;
    loop {
        match step(bytes, at, &mut found) {
            Ok(Some(next)) => at = next,
            Ok(None) => break,
            Err(Corrupt(why)) => {
                found.damage = Some(Damage { offset: at as u64, why: why.to_owned() });
                break;
            }
        }
        found.close_at(at);
        found.valid = at;
    }
    found
}

fn step(bytes: &[u8], at: usize, found: &mut Scanned) -> Result<Option<usize>, Corrupt> {
    let Some((word, next)) = word::at(bytes, at)? else { return Ok(None) };
    let current = found.last.and_then(|p| found.lanes.get(&p)?.buffers.last());
    let begins = current.is_some_and(|&(start, _)| start == at);
    if let Word::Buffer(p) = word {
        // Also what keeps the list of buffers shorter than the file.
        if begins {
            return Err(Corrupt("a buffer with nothing in it"));
        }
        found.last = Some(p);
        found.buffers = found.buffers.saturating_add(1);
        found.lanes.entry(p).or_default().buffers.push((next, next));
        return Ok(Some(next));
    }
    let first = found.last.and_then(|p| Some((p, found.lanes.get_mut(&p)?)));
    let Some((p, lane)) = first else { return Err(Corrupt("no P says whose words these are")) };
    match word {
        Word::Sync(ns) => {
            found.syncs = found.syncs.saturating_add(1);
            lane.base_ns = ns;
        }
        Word::Event(run) => {
            let ns = lane.base_ns.checked_add(run.delta_ns).ok_or(Corrupt("a time beyond 64 bits"))?;
            lane.went_back = lane.went_back.saturating_add(u64::from(ns < lane.last_ns));
            lane.without_sync = lane.without_sync.saturating_add(u64::from(begins));
            lane.last_ns = lane.last_ns.max(ns);
            found.large = found.large.saturating_add(u64::from(next.saturating_sub(at) > 8));
            found.events_without_p = found.events_without_p.saturating_add(u64::from(p.is_none()));
            found.first = Some(found.first.map_or(Nanos(ns), |first| first.min(Nanos(ns))));
        }
        Word::Buffer(_) => {}
    }
    Ok(Some(next))
}

impl Scanned {
    /// The current buffer reaches to `end` at least.
    fn close_at(&mut self, end: usize) {
        let lane = self.last.and_then(|p| self.lanes.get_mut(&p));
        if let Some(buffer) = lane.and_then(|lane| lane.buffers.last_mut()) {
            buffer.1 = end;
        }
    }
}
