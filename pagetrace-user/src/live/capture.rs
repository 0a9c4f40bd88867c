//! The capture: one thread that drains the rings, merges, routes, and reads /proc between the events.
//!
//! *Pace.* Awake, it looks at the rings for the spin time; then it sleeps, for [`BUSY_PAUSE`] while records come, longer
//! and longer up to [`IDLE_PAUSE`] while none do. Programs never wake it: a ring of the default size holds what comes in
//! a pause many times over.
//! *End*, in this order: the arenas, levels and pages are read once more; the programs stop emitting; the rings are drained until
//! everything emitted is decoded; the merge is flushed; trailers; fsync and rename; detach.

mod arenas;
mod heaps;
mod objects;
mod readings;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pagetrace_common::control::{tally, word};

use crate::event::{Body, Layer, Trailer, Why};
use crate::failure::Failure;
use crate::live::clock;
use crate::live::command::Running;
use crate::live::control::{Control, Progress, Stop};
use crate::live::heap::Heaps;
use crate::live::load::Kernel;
use crate::live::loss::{self, Losses};
use crate::live::merge::Merge;
use crate::live::objects::Objects;
use crate::live::pagemap::ZeroFrames;
use crate::live::route::{REPAIR_PAUSE, Route};
use crate::live::tcmalloc::PageHeaps;
use crate::units::Nanos;

const BUSY_PAUSE: Duration = Duration::from_millis(2);
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// How long after a process came into view the pauses stay short.
const YOUTH: Nanos = Nanos(200_000_000);
/// How often files are made and blocks closed: a crash costs at most this and a pause.
const HOUSE_PERIOD: Nanos = Nanos(40_000_000);
/// How often counters are looked at.
const LOOK_PERIOD: Nanos = Nanos(50_000_000);
/// How often the progress is told.
const TELL_PERIOD: Nanos = Nanos(1_000_000_000);
/// How long the rings may take to give the last records that are being written while the programs stop.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// A repair reads for at most this part of the time.
const REPAIR_SHARE: u64 = 100;

/// How a capture ended.
pub enum End {
    /// Files have their trailers; this is the part that is common to all.
    Finished(Box<Trailer>),
    Aborted,
}

pub struct Capture {
    pub kernel: Kernel,
    pub merge: Merge,
    pub route: Route,
    pub heaps: Heaps,
    pub page_heaps: PageHeaps,
    pub objects: Objects,
    walks: arenas::Walks,
    /// Address spaces that are gone, whose samples may still be in the kernel's map; and when they were last forgotten.
    gone_owners: BTreeSet<u32>,
    forgot: Nanos,
    pub zero: ZeroFrames,
    pub spin: Duration,
    losses: Losses,
    lost: u64,
    /// A gap hid levels or whole processes: walk again not before this.
    walk_due: Option<Nanos>,
    /// Readings that repair have to wait until then, of whatever process.
    repair_at: Nanos,
    /// The process that had the last turn.
    turn: u32,
    looked: Nanos,
    housed: Nanos,
    told: Nanos,
    began: Nanos,
}

impl Capture {
    #[must_use]
    pub fn new(
        kernel: Kernel,
        merge: Merge,
        route: Route,
        (heaps, page_heaps, objects): (Heaps, PageHeaps, Objects),
        (zero, spin): (ZeroFrames, Duration),
    ) -> Capture {
        let now = clock::now();
        let losses = Losses::new(kernel.cpus, now);
        Capture {
            kernel,
            merge,
            route,
            heaps,
            page_heaps,
            objects,
            walks: arenas::Walks::default(),
            gone_owners: BTreeSet::new(),
            forgot: now,
            zero,
            spin,
            losses,
            lost: 0,
            walk_due: None,
            repair_at: Nanos(0),
            turn: 0,
            looked: now,
            housed: now,
            told: now,
            began: now,
        }
    }

    /// Reads what already runs: on return every process found has its baseline in its file.
    pub fn baseline(&mut self, control: &Control) -> Result<(), Failure> {
        self.kernel.walk()?;
        self.settle();
        // The headers of those that run already tell what was attached in them.
        self.attend();
        self.route.open_all();
        // Those that come meanwhile have their turn later.
        let found: BTreeSet<u32> = self.route.targets.keys().copied().collect();
        while !control.is_aborted()
            && control.stopped().is_none()
            && self.read_step(clock::now(), &|index, why| why == Why::Start && found.contains(&index))
        {
            self.tend(clock::now(), &mut |_| {})?;
        }
        self.ask_for_arenas(&found.into_iter().collect::<Vec<_>>(), Why::Start);
        Ok(())
    }

    /// Records until something ends it. `tell` gets the progress about once a second.
    pub fn run(
        &mut self,
        control: &Control,
        command: &mut Option<Running>,
        ends_by_itself: bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<End, Failure> {
        let mut pause = BUSY_PAUSE;
        let mut woke = Instant::now();
        let mut any = false;
        let why = loop {
            if control.is_aborted() {
                return Ok(self.abort());
            }
            if let Some(failure) = self.failure() {
                return self.fail(failure);
            }
            if let Some(why) = control.stopped() {
                break why;
            }
            let round = self.round();
            let now = clock::now();
            // Before anything ends: who came may be gone already.
            self.attend();
            self.tend(now, tell)?;
            let read = self.read_step(now, &|_, _| true) | self.read_heap();
            self.walk_arenas();
            if let Some(running) = command {
                running.collect();
            }
            let over = self.route.alive() == 0 && self.walk_due.is_none();
            if ends_by_itself && over && command.as_ref().is_none_or(|running| !running.is_running()) {
                break Stop::Exited;
            }
            any |= round > 0;
            if read || round > RUSH_RECORDS {
                // There is more to do at once.
                woke = Instant::now();
                continue;
            }
            if woke.elapsed() < self.spin {
                std::hint::spin_loop();
                continue;
            }
            // Reading a ring while it is written costs the writer too: better seldom and much than often and little.
            // Who came just now may be gone soon, and then nobody can tell any more what its code was.
            let is_young = now.since(self.route.last_came) < YOUTH;
            pause = if any || is_young { BUSY_PAUSE } else { (pause * 2).min(IDLE_PAUSE) };
            std::thread::sleep(pause);
            any = false;
            woke = Instant::now();
        };
        self.finish(control, why)
    }

    /// Closes the books: see the module for the order.
    fn finish(&mut self, control: &Control, why: Stop) -> Result<End, Failure> {
        self.settle();
        self.kernel.walk()?;
        self.settle();
        self.attend();
        self.look();
        self.count_calls(false);
        self.route.keep_house(clock::now());
        self.route.open_all();
        // Who came last has a baseline too.
        if let Some(end) = self.read_all(control, Why::Start)? {
            return Ok(end);
        }
        if let Some(end) = self.read_arenas(control)? {
            return Ok(end);
        }
        for target in self.route.targets.values_mut().filter(|target| !target.has_ended()) {
            target.reading = None;
            target.due = (target.exited.is_none()).then_some((Why::End, Nanos(0)));
        }
        if let Some(end) = self.read_all(control, Why::End)? {
            return Ok(end);
        }
        self.read_uses();
        self.kernel.set(word::ON, 0)?;
        let until = Instant::now() + DRAIN_PATIENCE;
        loop {
            self.settle();
            // A program that was running while the switch was turned may still be writing its record.
            if self.merge.decoded >= loss::emitted(&self.kernel) || Instant::now() > until {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.look();
        self.route.open_all();
        self.count_calls(true);
        if let Some(failure) = self.failure() {
            return self.fail(failure);
        }
        let trailer = self.trailer(why.word());
        self.route.finish_all(&trailer);
        Ok(End::Finished(Box::new(trailer)))
    }

    /// Does every reading that is due for this reason; an end when an abort comes between.
    fn read_all(&mut self, control: &Control, why: Why) -> Result<Option<End>, Failure> {
        while self.read_step(clock::now(), &|_, due| due == why) {
            self.tend(clock::now(), &mut |_| {})?;
            if control.is_aborted() {
                return Ok(Some(self.abort()));
            }
        }
        Ok(None)
    }

    fn abort(&mut self) -> End {
        // Nothing that was captured is thrown away: what is whole stays in the unfinished files.
        if self.kernel.set(word::ON, 0).is_ok() {
            self.settle();
        }
        self.route.keep_all();
        End::Aborted
    }

    fn fail(&mut self, failure: Failure) -> Result<End, Failure> {
        self.route.keep_all();
        Err(failure)
    }

    fn failure(&self) -> Option<Failure> {
        self.route.failure.clone().or_else(|| self.route.writer.failure())
    }

    fn trailer(&self, reason: &str) -> Trailer {
        Trailer {
            end: clock::now().0,
            reason: reason.to_owned(),
            counters: loss::rows(&self.kernel),
            decoded: self.merge.decoded,
            written: self.route.written,
            skipped: self.route.skipped + self.merge.unknown,
            late: self.merge.late,
            recursion_misses: self.kernel.recursion_misses(),
            frames_unjoined: self.kernel.tally(tally::FRAMES_BEYOND) + self.kernel.tally(tally::MAP_FULL),
            ..Trailer::default()
        }
    }

    /// One round of the merge; the number of records.
    fn round(&mut self) -> usize {
        let route = &mut self.route;
        let records = self.merge.round(&mut |ts, words, tail| route.take(ts, words, tail)).records;
        self.mute();
        records
    }

    fn settle(&mut self) -> Nanos {
        let route = &mut self.route;
        let at = self.merge.settle(&mut |ts, words, tail| route.take(ts, words, tail));
        self.mute();
        at
    }

    fn mute(&mut self) {
        for (mm, owner) in self.route.to_mute.drain(..) {
            self.kernel.mute(mm, owner);
        }
    }

    /// What has to be done now and then.
    fn tend(&mut self, now: Nanos, tell: &mut dyn FnMut(Progress)) -> Result<(), Failure> {
        if now.since(self.looked) >= LOOK_PERIOD {
            self.look();
        }
        if now.since(self.housed) >= HOUSE_PERIOD {
            self.housed = now;
            // A gap belongs into the files of those too whose end is noticed now.
            self.look();
            self.count_calls(false);
            self.route.keep_house(now);
        }
        if self.walk_due.is_some_and(|due| due <= now) {
            self.walk_due = None;
            self.kernel.walk()?;
        }
        if now.since(self.told) >= TELL_PERIOD {
            self.told = now;
            let (events, processes) = (self.route.written, self.route.alive());
            let warnings = std::mem::take(&mut self.route.warnings);
            tell(Progress { since: self.began, events, processes, lost: self.lost, warnings });
        }
        Ok(())
    }

    /// Puts gaps into every file that is open, and has what they hid read again.
    fn look(&mut self) {
        let now = clock::now();
        self.looked = now;
        let gaps = self.losses.look(&self.kernel, now);
        if gaps.is_empty() {
            return;
        }
        let ts = self.merge.last();
        let repairs = gaps.iter().any(|(_, body)| body.layer() != Layer::Stack);
        for (cpu, body) in gaps {
            if let Body::Lost { count, .. } = body {
                self.lost += count;
            }
            for target in self.route.targets.values_mut().filter(|target| !target.has_ended()) {
                target.push_own(ts, cpu, body.clone(), &self.route.writer);
            }
        }
        // A stack that is missing hides nothing else.
        if !repairs {
            return;
        }
        let due = Nanos(now.0.saturating_add(REPAIR_PAUSE.0));
        self.walk_due.get_or_insert(due);
        for target in self.route.targets.values_mut().filter(|target| !target.has_ended()) {
            match &mut target.due {
                Some((Why::Drift, at)) => target.due = Some((Why::Lost, (*at).min(due))),
                Some(_) => {}
                none => *none = Some((Why::Lost, due)),
            }
            target.heap.due.get_or_insert(Why::Lost);
            target.heap.silence.forget();
        }
    }
}

/// Records of a round above which the next one begins at once.
const RUSH_RECORDS: usize = 16 << 10;
