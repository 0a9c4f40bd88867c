//! When which process is read, and how what was read is put into its file.
//!
//! *Bound.* Readings that repair take at most one part in [`REPAIR_SHARE`] of the time, of all processes together, and of
//! each one too.

use std::ops::Bound;

use crate::event::{Body, Why};
use crate::live::capture::{Capture, REPAIR_SHARE};
use crate::live::clock;
use crate::live::file_pages::FilePagesCount;
use crate::live::maps::USER_END;
use crate::live::process;
use crate::live::reading::{Reading, Step};
use crate::live::route::REPAIR_PAUSE;
use crate::live::target::Target;
use crate::units::{Nanos, Range};

impl Capture {
    /// Does one step of one reading that is due and `wanted`; `false` when there is none. Processes take turns.
    pub(super) fn read_step(&mut self, now: Nanos, wanted: &dyn Fn(u32, Why) -> bool) -> bool {
        let may_repair = self.repair_at <= now;
        let is_next = |(index, target): &(&u32, &mut Target)| {
            !target.has_ended()
                && match (&target.reading, target.due) {
                    (Some(reading), _) => wanted(**index, reading.why),
                    (None, Some((why, at))) => {
                        let repairs = matches!(why, Why::Drift | Why::Lost);
                        at <= now && wanted(**index, why) && (may_repair || !repairs)
                    }
                    (None, None) => false,
                }
        };
        let after = (Bound::Excluded(self.turn), Bound::Unbounded);
        let index = match self.route.targets.range_mut(after).find(is_next) {
            Some((&index, _)) => index,
            None => match self.route.targets.iter_mut().find(is_next) {
                Some((&index, _)) => index,
                None => return false,
            },
        };
        if let Some(target) = self.route.targets.get_mut(&index)
            && target.reading.is_none()
            && let Some((why, _)) = target.due.take()
        {
            target.reading = Some(Reading::new(target.identity.pid, target.identity.start_boottime, why));
        }
        self.step(index);
        // A reading once begun is finished before another process has its turn.
        let begun = self.route.targets.get(&index).is_some_and(|target| target.reading.is_some());
        self.turn = if begun { index.saturating_sub(1) } else { index };
        true
    }

    fn step(&mut self, index: u32) {
        let at = self.settle();
        let writer = &self.route.writer;
        let Some(target) = self.route.targets.get_mut(&index) else { return };
        // The merge may have brought an exec: then another reading is due, of another address space.
        let Some(mut reading) = target.reading.take() else { return };
        let why = reading.why;
        let owner = target.owner;
        match reading.step(&self.kernel.frames, self.zero, owner) {
            Step::Maps(mappings) => {
                target.mappings(at, why, mappings, writer);
                target.reading = Some(reading);
            }
            Step::Pages(range, rows) => {
                let mut full = target.push_own(at, 0, Body::Reading { why, range, maps: false }, writer);
                for row in rows {
                    full |= target.push_own(at, 0, row, writer);
                }
                target.reading = Some(reading);
                if full {
                    self.route.open(index);
                }
            }
            Step::Done => {
                // Nothing is missing, should the recorder end here: the rows before it were all.
                let end = Range { start: USER_END, end: USER_END };
                target.push_own(at, 0, Body::Reading { why, range: end, maps: false }, writer);
                target.file_pages = reading.file_pages.take().map(FilePagesCount::end);
                let took = clock::now().since(reading.began);
                let pause = REPAIR_PAUSE.0.max(took.0.saturating_mul(REPAIR_SHARE));
                if reading.disturbed && why != Why::End {
                    target.due.get_or_insert((Why::Drift, Nanos(0)));
                }
                let earliest = Nanos(clock::now().0.saturating_add(pause));
                if matches!(why, Why::Drift | Why::Lost) {
                    self.repair_at = Nanos(clock::now().0.saturating_add(took.0.saturating_mul(REPAIR_SHARE)));
                }
                target.balance = 0;
                if let Some((Why::Drift | Why::Lost, due)) = &mut target.due {
                    *due = (*due).max(earliest);
                }
                target.next_repair = earliest;
            }
            // Its end may be among what was lost. (An exec ends a reading too: another is due then.)
            Step::Gone if !process::is_alive(target.identity.pid, target.identity.start_boottime) => {
                target.exited.get_or_insert(at);
                target.mm_gone = true;
            }
            Step::Gone => {}
        }
    }
}
