//! What several processes hold together, such as those of a container: a frame that more of them map counts once.
//!
//! All traces are told as of their ends: those of one recording end at one moment. A process that had ended holds nothing.
//! *Limits.* A page whose frame is not known (the recorder could not read it, or a counter alone tells of it) counts as its
//! process's own.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io;

use hashbrown::HashMap;
use serde::Serialize;

use crate::event::Member;
use crate::format::{Outcome, Trace};
use crate::replay::{Class, fold};
use crate::report::{left, put, shown, signed, table};
use crate::units::{Bytes, PAGE_BYTES};

/// One process and its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    pub comm: String,
    pub tgid: u32,
    pub rss_bytes: u64,
    /// That no other of these processes maps.
    pub alone_bytes: u64,
}

/// What pages are for, in all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClassSum {
    pub class: &'static str,
    /// Added up over the processes, and each frame once.
    pub rss_bytes: u64,
    pub once_bytes: u64,
}

/// All processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Together {
    pub rss_bytes: u64,
    pub once_bytes: u64,
    /// Processes that had ended.
    pub ended: u64,
    /// Bytes that the counters say and no class holds, added up; records lost.
    pub unexplained_bytes: i64,
    pub lost: u64,
    pub classes: Vec<ClassSum>,
    /// Those that hold most first.
    pub processes: Vec<Process>,
}

/// A frame: in how many processes, the last of them, and the first class that one of them has it in.
#[derive(Clone, Copy)]
struct Shared {
    class: Class,
    mappers: u32,
    last: usize,
}

/// Adds up one process after the other.
#[derive(Default)]
pub struct Adding {
    frames: HashMap<u64, Shared>,
    classes: BTreeMap<Class, (u64, u64)>,
    processes: Vec<Process>,
    ended: u64,
    unexplained: i64,
    lost: u64,
}

impl Adding {
    /// Adds what is resident at the end of a trace.
    ///
    /// # Errors
    /// When the source cannot be read. Damage is not an error: it is in the outcome.
    pub fn add(&mut self, trace: &mut impl Trace) -> io::Result<Outcome> {
        let (state, outcome) = fold(trace)?;
        self.lost = self.lost.saturating_add(state.tally().lost);
        if state.ended() {
            self.ended = self.ended.saturating_add(1);
            return Ok(outcome);
        }
        let (index, ledger) = (self.processes.len(), state.ledger());
        let mut alone = 0_u64;
        state.each_page(|_, page, mapping| {
            let Some((class, _)) = state.classify(mapping, page) else { return };
            let (rss, once) = self.classes.entry(class).or_default();
            *rss = rss.saturating_add(PAGE_BYTES);
            let Some(pfn) = page.pfn else {
                *once = once.saturating_add(PAGE_BYTES);
                alone = alone.saturating_add(PAGE_BYTES);
                return;
            };
            let shared = self.frames.entry(pfn.0).or_insert(Shared { class, mappers: 0, last: usize::MAX });
            shared.class = shared.class.min(class);
            // A process may map a frame twice.
            if shared.last != index {
                (shared.mappers, shared.last) = (shared.mappers.saturating_add(1), index);
            }
        });
        for (member, class) in [(Member::File, Class::File), (Member::Shmem, Class::Shmem)] {
            let bytes = ledger.unplaced(member).bytes().0;
            let (rss, once) = self.classes.entry(class).or_default();
            (*rss, *once) = (rss.saturating_add(bytes), once.saturating_add(bytes));
            alone = alone.saturating_add(bytes);
        }
        self.unexplained = self.unexplained.saturating_add(ledger.unexplained());
        let header = trace.header();
        let (comm, _) = state.image().unwrap_or((&header.comm, &header.exe));
        let (comm, rss_bytes) = (comm.to_owned(), ledger.rss().bytes().0);
        self.processes.push(Process { comm, tgid: header.tgid, rss_bytes, alone_bytes: alone });
        Ok(outcome)
    }

    /// All that was added.
    #[must_use]
    pub fn finish(mut self) -> Together {
        for shared in self.frames.values() {
            let (_, once) = self.classes.entry(shared.class).or_default();
            *once = once.saturating_add(PAGE_BYTES);
            if let Some(process) = self.processes.get_mut(shared.last).filter(|_| shared.mappers == 1) {
                process.alone_bytes = process.alone_bytes.saturating_add(PAGE_BYTES);
            }
        }
        self.processes.sort_by(|a, b| (b.rss_bytes, a.tgid).cmp(&(a.rss_bytes, b.tgid)));
        let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
        Together {
            rss_bytes: sum(&mut self.processes.iter().map(|process| process.rss_bytes)),
            once_bytes: sum(&mut self.classes.values().map(|(_, once)| *once)),
            ended: self.ended,
            unexplained_bytes: self.unexplained,
            lost: self.lost,
            classes: Class::ALL
                .map(|class| {
                    let (rss_bytes, once_bytes) = self.classes.get(&class).copied().unwrap_or_default();
                    ClassSum { class: class.word(), rss_bytes, once_bytes }
                })
                .to_vec(),
            processes: self.processes,
        }
    }
}

impl Together {
    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The first `top` processes.
    #[must_use]
    pub fn text(&self, top: usize) -> String {
        let mut out = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = self.write(top, &mut out);
        out
    }

    fn write(&self, top: usize, out: &mut String) -> fmt::Result {
        let (count, rss, once) = (self.processes.len(), Bytes(self.rss_bytes), Bytes(self.once_bytes));
        writeln!(out, "{count} processes: RSS {rss} added up, {once} with each frame counted once")?;
        if self.ended > 0 {
            writeln!(out, "{} more had ended", self.ended)?;
        }
        let mut classes = table(&["class", "added up", "once"]);
        for line in &self.classes {
            classes.add_row([
                line.class.to_owned(),
                Bytes(line.rss_bytes).to_string(),
                Bytes(line.once_bytes).to_string(),
            ]);
        }
        put(out, &classes)?;
        writeln!(out, "  unexplained {}, lost {} records\n", signed(self.unexplained_bytes), self.lost)?;
        let mut processes = table(&["RSS", "alone", "shared here", "process"]);
        for process in self.processes.iter().take(top) {
            let shared = process.rss_bytes.saturating_sub(process.alone_bytes);
            let [rss, alone, shared] =
                [process.rss_bytes, process.alone_bytes, shared].map(|bytes| Bytes(bytes).to_string());
            processes.add_row([rss, alone, shared, format!("{} ({})", shown(&process.comm), process.tgid)]);
        }
        left(&mut processes, 3);
        put(out, &processes)?;
        let more = self.processes.len().saturating_sub(top);
        if more > 0 { writeln!(out, "  and {more} more (--top)") } else { Ok(()) }
    }
}
