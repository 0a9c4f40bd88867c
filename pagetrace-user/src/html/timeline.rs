//! The RSS over time, in a bounded number of buckets, and what happened beside it.
//!
//! A bucket holds the levels at the moment of its highest RSS, its lowest RSS, and the levels at its end: a short peak is
//! not lost, however long the trace. A bucket in which nothing was told is left out: the levels at the end of the one
//! before it hold on.
//!
//! *Units.* Base pages and nanoseconds; the page heap in bytes.
//! *Bound.* [`MOST_BUCKETS`]; when a trace goes on beyond them, they are joined in pairs and each is twice as long.

use serde::Serialize;

use crate::event::{Body, Event, HeapAct, Member, Scan, ScanKind};
use crate::replay::{State, calls};
use crate::units::Nanos;

/// Buckets that a timeline has at most.
pub const MOST_BUCKETS: usize = 1000;
/// The length of a bucket at first.
const FIRST_WIDTH_NS: u64 = 1_000;
/// The kernel's status of a collapse that happened.
const COLLAPSED: u64 = 1;

/// What is marked beside the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Faults,
    GivenBack,
    Scavenged,
    Collector,
    Collapsed,
    Reclaimed,
    Lost,
    Read,
    Program,
}

impl Lane {
    /// All, from top to bottom: what they are, and what one of them is.
    const ALL: [(Lane, &'static str, &'static str); 9] = [
        (Lane::Faults, "page faults", "fault"),
        (Lane::GivenBack, "given back (madvise)", "call"),
        (Lane::Scavenged, "scavenged by the page heap", "run"),
        (Lane::Collector, "GC cycles", "start"),
        (Lane::Collapsed, "collapses to huge pages", "collapse"),
        (Lane::Reclaimed, "reclaim, OOM", "time"),
        (Lane::Lost, "records lost", "record"),
        (Lane::Read, "readings of /proc", "reading"),
        (Lane::Program, "fork, exec, exit", "event"),
    ];

    /// The lane that an event stands in, how many times, and with how many bytes.
    fn of(event: &Event) -> Option<(Lane, u64, u64)> {
        Some(match &event.body {
            Body::Fault { .. } => (Lane::Faults, 1, 0),
            Body::Advise { range, advice, .. } if calls::gives_back(*advice) => (Lane::GivenBack, 1, range.bytes().0),
            Body::Heap(run) if run.act == HeapAct::Scav => (Lane::Scavenged, 1, run.pages.bytes().0),
            Body::Scan(Scan { kind: ScanKind::GcStart, .. }) => (Lane::Collector, 1, 0),
            Body::Scan(Scan { kind: ScanKind::Collapse, value: COLLAPSED, .. }) => (Lane::Collapsed, 1, 0),
            Body::Scan(Scan {
                kind: ScanKind::DirectReclaim | ScanKind::MemcgReclaim | ScanKind::OomVictim, ..
            }) => (Lane::Reclaimed, 1, 0),
            Body::Lost { count, .. } => (Lane::Lost, *count, 0),
            // An empty one ends a reading.
            Body::Reading { range, maps, .. } if *maps || !range.is_empty() => (Lane::Read, 1, 0),
            Body::Fork { .. } | Body::Exec { .. } | Body::Exit { .. } => (Lane::Program, 1, 0),
            _ => return None,
        })
    }
}

/// Levels of file, anon, shmem and swap.
type Levels = [u64; 4];

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    count: u64,
    bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    /// `None`: no level was known yet.
    levels: Option<Course>,
    heap: Option<HeapCourse>,
    marks: [Mark; Lane::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Course {
    highest: Levels,
    lowest: u64,
    last: Levels,
}

/// Most in use, and what was in use and given back at the end.
#[derive(Clone, Copy, Debug)]
struct HeapCourse {
    most: u64,
    last: u64,
    given_back: u64,
}

impl Bucket {
    /// `later` follows at once.
    fn join(&mut self, later: &Bucket) {
        self.levels = match (self.levels, later.levels) {
            (Some(a), Some(b)) => Some(Course {
                highest: if rss(&b.highest) > rss(&a.highest) { b.highest } else { a.highest },
                lowest: a.lowest.min(b.lowest),
                last: b.last,
            }),
            (a, b) => b.or(a),
        };
        self.heap = match (self.heap, later.heap) {
            (Some(a), Some(b)) => Some(HeapCourse { most: a.most.max(b.most), ..b }),
            (a, b) => b.or(a),
        };
        for (mark, more) in self.marks.iter_mut().zip(&later.marks) {
            mark.add(more.count, more.bytes);
        }
    }
}

impl Mark {
    fn add(&mut self, count: u64, bytes: u64) {
        self.count = self.count.saturating_add(count);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

fn rss(levels: &Levels) -> u64 {
    let [file, anon, shmem, _swap] = *levels;
    file.saturating_add(anon).saturating_add(shmem)
}

/// A timeline that grows.
#[derive(Clone, Debug)]
pub struct Growing {
    from: Option<Nanos>,
    width: u64,
    buckets: Vec<Bucket>,
    /// The levels as they were told last, and the page heap's bytes in use.
    levels: Option<Levels>,
    heap: Option<u64>,
}

impl Default for Growing {
    fn default() -> Growing {
        Growing { from: None, width: FIRST_WIDTH_NS, buckets: Vec::new(), levels: None, heap: None }
    }
}

impl Growing {
    /// `event` led to `state`.
    pub fn after(&mut self, state: &State, event: &Event) {
        let from = *self.from.get_or_insert(event.ts);
        let ns = event.ts.since(from).0;
        let (levels_before, heap_before) = (self.levels, self.heap);
        let levels = levels_of(state);
        let heap = matches!(event.body, Body::Heap(_) | Body::BaselineHeap { .. }).then(|| state.heap().in_use().0);
        let lane = Lane::of(event);
        if levels == self.levels && heap.is_none() && lane.is_none() {
            return;
        }
        let Some(bucket) = self.bucket(ns) else { return };
        if let Some(levels) = levels {
            let rss = rss(&levels);
            let before = levels_before.unwrap_or(levels);
            let course =
                bucket.levels.get_or_insert(Course { highest: before, lowest: self::rss(&before), last: before });
            if rss >= self::rss(&course.highest) {
                course.highest = levels;
            }
            course.lowest = course.lowest.min(rss);
            course.last = levels;
        }
        if let Some(in_use) = heap {
            let before = heap_before.unwrap_or(in_use);
            let course = bucket.heap.get_or_insert(HeapCourse { most: before, last: before, given_back: 0 });
            course.most = course.most.max(in_use);
            (course.last, course.given_back) = (in_use, state.heap().given_back().0);
        }
        if let Some((lane, count, bytes)) = lane
            && let Some(mark) = bucket.marks.get_mut(lane as usize)
        {
            mark.add(count, bytes);
        }
        self.levels = levels;
        self.heap = heap.or(self.heap);
    }

    /// The bucket of a moment; there are never more than [`MOST_BUCKETS`].
    fn bucket(&mut self, ns: u64) -> Option<&mut Bucket> {
        let mut at = ns / self.width;
        while at >= MOST_BUCKETS as u64 {
            let mut joined: Vec<Bucket> = Vec::with_capacity(MOST_BUCKETS);
            for pair in self.buckets.chunks(2) {
                let mut both = pair.first().cloned().unwrap_or_default();
                pair.iter().skip(1).for_each(|later| both.join(later));
                joined.push(both);
            }
            self.buckets = joined;
            self.width = self.width.saturating_mul(2);
            at = ns / self.width;
        }
        let at = usize::try_from(at).ok()?;
        if self.buckets.len() <= at {
            self.buckets.resize_with(at.saturating_add(1), Bucket::default);
        }
        self.buckets.get_mut(at)
    }

    /// The timeline of all that was told.
    #[must_use]
    pub fn finish(self) -> Timeline {
        let told = || self.buckets.iter().enumerate();
        let levels = told().filter_map(|(at, bucket)| Some((at, bucket.levels?))).map(|(at, course)| {
            let mut row = vec![at as u64];
            row.extend(course.highest);
            row.push(course.lowest);
            if course.last != course.highest {
                row.extend(course.last);
            }
            row
        });
        let heap = told().filter_map(|(at, bucket)| Some((at, bucket.heap?)));
        let lanes = Lane::ALL.iter().enumerate().map(|(lane, &(_, title, one))| {
            let marks = told().filter_map(|(at, bucket)| Some((at, bucket.marks.get(lane)?)));
            let marks = marks.filter(|(_, mark)| mark.count > 0);
            LaneRows { title, one, marks: marks.map(|(at, mark)| [at as u64, mark.count, mark.bytes]).collect() }
        });
        Timeline {
            width_ns: self.width,
            levels: levels.collect(),
            heap: heap.map(|(at, course)| [at as u64, course.most, course.last, course.given_back]).collect(),
            lanes: lanes.filter(|lane| !lane.marks.is_empty()).collect(),
        }
    }
}

fn levels_of(state: &State) -> Option<Levels> {
    const MEMBERS: [Member; 4] = [Member::File, Member::Anon, Member::Shmem, Member::Swap];
    let told = MEMBERS.map(|member| state.levels().of(member));
    told.iter().any(Option::is_some).then(|| told.map(|level| level.unwrap_or_default().0))
}

/// A timeline, as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// The length of a bucket; the first begins with the recording.
    pub width_ns: u64,
    /// By rising bucket: its number; file, anon, shmem and swap at its highest RSS; its lowest RSS; and, where they
    /// differ, file, anon, shmem and swap at its end.
    pub levels: Vec<Vec<u64>>,
    /// By rising bucket: its number, the most bytes in use, those in use at its end, and those given back then.
    pub heap: Vec<[u64; 4]>,
    pub lanes: Vec<LaneRows>,
}

/// One kind of mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaneRows {
    pub title: &'static str,
    /// What one of them is called.
    pub one: &'static str,
    /// By rising bucket: its number, how many, and their bytes where they have any.
    pub marks: Vec<[u64; 3]>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::units::{Pages, Tid};

    fn at(ts: u64, anon: u64) -> Event {
        let body = Body::Rss { member: Member::Anon, level: Pages(anon) };
        Event { ts: Nanos(ts), cpu: 0, tid: Tid(1), actor: None, body }
    }

    fn grown(events: &[Event]) -> (Growing, Timeline) {
        let (mut state, mut growing) = (State::new(), Growing::default());
        for event in events {
            state.apply(event);
            growing.after(&state, event);
        }
        (growing.clone(), growing.finish())
    }

    #[test]
    fn a_trace_of_any_length_keeps_its_peak_in_a_bounded_number_of_buckets() {
        for step in [1, 999, 1_000_000, 1 << 40, u64::MAX / 3_000] {
            let mut events: Vec<Event> = (0..3_000_u64).map(|n| at(n * step, n % 7)).collect();
            events[1_234] = at(1_234 * step, 1 << 20);
            let (growing, timeline) = grown(&events);
            assert!(growing.buckets.len() <= MOST_BUCKETS, "{}", growing.buckets.len());
            // It may last into the next bucket.
            let highest = timeline.levels.iter().rev().max_by_key(|row| row[2]).unwrap();
            assert_eq!(highest[2], 1 << 20);
            assert_eq!(highest[0], 1_234 * step / timeline.width_ns);
            let last = timeline.levels.last().unwrap();
            assert_eq!(last.get(7).or(last.get(2)), Some(&(2_999 % 7)), "the level at the end");
        }
    }

    #[test]
    fn time_without_events_costs_no_rows_and_its_level_holds_on() {
        let (_, timeline) = grown(&[at(0, 5), at(900_000_000, 9), at(900_000_001, 2)]);
        assert_eq!(timeline.levels.len(), 2);
        assert_eq!(timeline.levels[0], [0, 0, 5, 0, 0, 5]);
        // It begins with what was, rises to 9 and ends with 2.
        assert_eq!(timeline.levels[1][1..], [0, 9, 0, 0, 2, 0, 2, 0, 0]);
    }
}
