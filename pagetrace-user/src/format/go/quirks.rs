//! What is odd about a file as a whole, told from its buffers.

use super::scan::{Lane, Scanned};
use super::{BUFFER_BYTES, GoFile, Quirk};

/// Ps that a sentence names one by one.
const NAMED: usize = 8;

pub(super) fn judge(found: &Scanned) -> GoFile {
    let full = |buffer: &(usize, usize)| is_full(Lane::length(*buffer));
    let cut: Vec<Option<u32>> =
        (found.lanes.iter()).filter(|(_, lane)| lane.buffers.last().is_some_and(full)).map(|(p, _)| *p).collect();
    // A program that ends by itself writes the buffer of no P last of all; that it is exactly full is a chance of
    // 1 in 4096.
    let ended = found.damage.is_none() && found.last == Some(None) && !cut.contains(&None);
    let mut quirks = Vec::new();
    let mut add = |kind, count: u64, text: String| {
        if count > 0 {
            quirks.push(Quirk { kind, count, text });
        }
    };
    if !ended {
        let text = "the last buffers were never written, and with them up to 4094 events of each P and all of threads \
                    without a P: the program was killed or panicked, or still runs, or the file is cut";
        add("go_not_ended", 1, text.to_owned());
    } else if !cut.is_empty() {
        let text = format!(
            "the last buffer of {} is full: up to 4094 events after it were never written (GOMAXPROCS was lowered)",
            names(&cut)
        );
        add("go_buffer_lost", cut.len() as u64, text);
    }
    let sum = |of: fn(&Lane) -> u64| found.lanes.values().map(of).fold(0, u64::saturating_add);
    let text = "events are earlier than the one before of the same P (shown with the time of that one)";
    add("go_time_went_back", sum(|lane| lane.went_back), text.to_owned());
    let text = "buffers do not begin with a time: that of the buffer before, or of the boot, was taken";
    add("go_no_sync", sum(|lane| lane.without_sync), text.to_owned());
    let text = "buffers before the last of their P are not full: words are missing, or the file was put together";
    add("go_short_buffer", sum(odd_lengths), text.to_owned());
    let text = "events of threads without a P: their place among those of other threads is known by time only";
    add("go_no_p", found.events_without_p, text.to_owned());
    GoFile {
        ended,
        syncs: found.syncs,
        buffers: found.buffers,
        large: found.large,
        ps: found.lanes.keys().flatten().count() as u64,
        events_without_p: found.events_without_p,
        quirks,
    }
}

/// A buffer is written when the next event, of one or two words, does not fit.
fn is_full(length: usize) -> bool {
    (BUFFER_BYTES - 8..=BUFFER_BYTES).contains(&length)
}

/// Buffers that no runtime writes: not the last one and not full, or longer than a buffer is.
fn odd_lengths(lane: &Lane) -> u64 {
    let last = lane.buffers.len().saturating_sub(1);
    let odd = |(at, &buffer): (usize, &(usize, usize))| {
        let length = Lane::length(buffer);
        length > BUFFER_BYTES || (at < last && !is_full(length))
    };
    lane.buffers.iter().enumerate().filter(|&buffer| odd(buffer)).count() as u64
}

fn names(ps: &[Option<u32>]) -> String {
    let mut names: Vec<String> =
        ps.iter().take(NAMED).map(|p| p.map_or("no P".to_owned(), |p| format!("P {p}"))).collect();
    if ps.len() > NAMED {
        names.push(format!("{} more", ps.len() - NAMED));
    }
    names.join(", ")
}
