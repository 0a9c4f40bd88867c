//! What events say of the recording itself: that a process ended, or that a reading is due.

use super::{REPAIR_PAUSE, SCAN_SUCCEED};
use crate::event::{Body, Member, Scan, ScanKind, Why};
use crate::live::target::Target;
use crate::units::Nanos;

/// Keeps what later decisions rest on: levels, ends, and whether pages came or went at places that no event tells.
pub(super) fn notice(target: &mut Target, ts: Nanos, owner: u32, body: &Body, by_other: bool) {
    let mut unplaced = false;
    match body {
        Body::Fault { addr, .. } if !by_other => target.heap.silence.touched(*addr),
        Body::Rss { member, level } | Body::Frame { member, level, .. } => {
            let placed = matches!(body, Body::Frame { .. });
            if let Some(last) = target.levels.get_mut(usize::from(member.code())) {
                if matches!(member, Member::Anon | Member::Shmem) {
                    target.balance -= i64::try_from(last.saturating_sub(level.0)).unwrap_or(0);
                }
                unplaced = !placed && *member != Member::Swap && (level.0 > *last || (by_other && level.0 < *last));
                *last = level.0;
            }
        }
        Body::Free { order, .. } => {
            // More frames gone than the counters fell by: moved elsewhere (migration), or held by nobody any more.
            target.balance += 1 << order.min(&30);
            unplaced = target.balance > 0;
        }
        Body::Scan(Scan { kind: ScanKind::Collapse, value: SCAN_SUCCEED, .. }) => unplaced = true,
        Body::Remap { .. } => {
            if let Some(reading) = &mut target.reading {
                reading.disturbed = true;
            }
        }
        Body::Exit { .. } => target.exited = Some(ts),
        Body::MmGone if owner == target.owner => target.mm_gone = true,
        _ => {}
    }
    if unplaced && target.due.is_none() {
        match &mut target.reading {
            Some(reading) => reading.disturbed = true,
            None => {
                let due = ts.0.saturating_add(REPAIR_PAUSE.0);
                target.due = Some((Why::Drift, Nanos(due).max(target.next_repair)));
            }
        }
    }
}
