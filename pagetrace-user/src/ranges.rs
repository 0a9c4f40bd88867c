//! Sets of addresses as ranges.
//!
//! *Units.* Bytes. *Bound.* At most [`MOST_RANGES`] separate ranges; what would be more is left out.

use std::collections::BTreeMap;

use crate::units::{Bytes, Range};

/// Separate ranges of a set.
const MOST_RANGES: usize = 1 << 22;

/// Ranges that do not overlap, by start; neighbours are one.
#[derive(Clone, Debug, Default)]
pub struct RangeSet {
    ends: BTreeMap<u64, u64>,
    total: Bytes,
}

impl RangeSet {
    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> Bytes {
        self.total
    }

    /// The ranges, by address.
    pub fn iter(&self) -> impl Iterator<Item = Range> {
        self.ends.iter().map(|(&start, &end)| Range { start, end })
    }

    /// Adds a range and gives the bytes of it that were there already; `None`: there is no room for one more.
    pub fn add(&mut self, range: Range) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes(0));
        }
        if self.ends.len() >= MOST_RANGES && !self.meets(range) {
            return None;
        }
        let before = self.remove(range);
        let mut whole = range;
        if let Some((&start, &end)) = self.ends.range(..range.start).next_back()
            && end == range.start
        {
            self.ends.remove(&start);
            whole.start = start;
        }
        if let Some(end) = self.ends.remove(&range.end) {
            whole.end = end;
        }
        self.ends.insert(whole.start, whole.end);
        self.total.0 = self.total.0.saturating_add(range.bytes().0);
        Some(before)
    }

    /// Takes a range out and gives the bytes of it that were there.
    pub fn remove(&mut self, range: Range) -> Bytes {
        let mut removed = 0_u64;
        while let Some(run) = self.last_meeting(range) {
            self.ends.remove(&run.start);
            if run.start < range.start {
                self.ends.insert(run.start, range.start);
            }
            if range.end < run.end {
                self.ends.insert(range.end, run.end);
            }
            removed = removed.saturating_add(run.meet(range).unwrap_or_default().bytes().0);
        }
        self.total.0 = self.total.0.saturating_sub(removed);
        Bytes(removed)
    }

    #[must_use]
    pub fn meets(&self, range: Range) -> bool {
        self.last_meeting(range).is_some()
    }

    fn last_meeting(&self, range: Range) -> Option<Range> {
        if range.is_empty() {
            return None;
        }
        let (&start, &end) = self.ends.range(..range.end).next_back()?;
        (end > range.start).then_some(Range { start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u64 = 48;

    /// The same with one flag for each page.
    struct Flags([bool; PAGES as usize]);

    impl Flags {
        fn set(&mut self, from: u64, to: u64, value: bool) -> u64 {
            let mut before = 0;
            for flag in self.0.iter_mut().take(to as usize).skip(from as usize) {
                before += u64::from(*flag);
                *flag = value;
            }
            before
        }
    }

    #[test]
    fn runs_are_what_a_flag_for_each_page_says() {
        let (mut runs, mut flags, mut dice) = (RangeSet::default(), Flags([false; PAGES as usize]), 0x9e37_79b9_u64);
        for _ in 0..20_000 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let from = dice % PAGES;
            let to = (from + dice / PAGES % 6).min(PAGES);
            let (range, adds) = (Range { start: from, end: to }, dice >> 40 & 1 == 1);
            let before = if adds { runs.add(range) } else { Some(runs.remove(range)) };
            assert_eq!(before, Some(Bytes(flags.set(from, to, adds))));
            assert_eq!(runs.total.0, flags.0.iter().filter(|&&flag| flag).count() as u64);
            let runs: Vec<Range> = runs.ends.iter().map(|(&start, &end)| Range { start, end }).collect();
            assert!(runs.iter().all(|run| !run.is_empty()), "{runs:?}");
            assert!(runs.windows(2).all(|two| two[0].end < two[1].start), "{runs:?}");
        }
    }
}
