//! Odd things in a trace: counted by kind, the first of each kept as an example. They are not errors.

use crate::units::Nanos;

/// What is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oddity {
    TimeWentBack,
    OddRange,
    OddFrame,
    FrameTwice,
    UnknownFile,
    FileRenamed,
    RowWithoutReading,
    RowOutsideReading,
    RowsOverlap,
    ReadingCutShort,
    AfterTheEnd,
    SetFull,
    HeapOddRange,
    HeapAllocTwice,
    HeapFreeTwice,
    HeapScavInUse,
    HeapScavTwice,
    ObjectAllocTwice,
    ObjectFreeUnknown,
}

impl Oddity {
    /// Whether it is about what a page heap held before.
    #[must_use]
    pub fn is_of_heap(self) -> bool {
        matches!(self, Oddity::HeapAllocTwice | Oddity::HeapFreeTwice | Oddity::HeapScavInUse | Oddity::HeapScavTwice)
    }

    /// The stable word used in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Oddity::TimeWentBack => "time_went_back",
            Oddity::OddRange => "odd_range",
            Oddity::OddFrame => "odd_frame",
            Oddity::FrameTwice => "frame_twice",
            Oddity::UnknownFile => "unknown_file",
            Oddity::FileRenamed => "file_renamed",
            Oddity::RowWithoutReading => "row_without_reading",
            Oddity::RowOutsideReading => "row_outside_reading",
            Oddity::RowsOverlap => "rows_overlap",
            Oddity::ReadingCutShort => "reading_cut_short",
            Oddity::AfterTheEnd => "after_the_end",
            Oddity::SetFull => "set_full",
            Oddity::HeapOddRange => "heap_odd_range",
            Oddity::HeapAllocTwice => "heap_alloc_twice",
            Oddity::HeapFreeTwice => "heap_free_twice",
            Oddity::HeapScavInUse => "heap_scav_in_use",
            Oddity::HeapScavTwice => "heap_scav_twice",
            Oddity::ObjectAllocTwice => "object_alloc_twice",
            Oddity::ObjectFreeUnknown => "object_free_unknown",
        }
    }

    /// The sentence used in text.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Oddity::TimeWentBack => "events are not in time order",
            Oddity::OddRange => "a range ends before it starts",
            Oddity::OddFrame => "a frame has an impossible size or an address that does not fit its size",
            Oddity::FrameTwice => "a frame was given again while a page still held it (its free was not seen)",
            Oddity::UnknownFile => "a mapping names a file that the trace does not describe",
            Oddity::FileRenamed => "a file id stands for two paths",
            Oddity::RowWithoutReading => "a row of a reading stands outside of any reading",
            Oddity::RowOutsideReading => "a row is not in the range of its reading",
            Oddity::RowsOverlap => "two rows of one reading describe the same address",
            Oddity::ReadingCutShort => "the trace ends within a reading (it was left out)",
            Oddity::AfterTheEnd => "pages or mappings appear after the address space was torn down",
            Oddity::SetFull => "more pages than a reader holds (the rest was left out)",
            Oddity::HeapOddRange => "heap pages have an impossible address or number",
            Oddity::HeapAllocTwice => "heap pages were handed out that were in use (their free was not seen)",
            Oddity::HeapFreeTwice => "heap pages were freed that were not in use (their alloc was not seen)",
            Oddity::HeapScavInUse => "heap pages were given back to the kernel while in use (left out)",
            Oddity::ObjectAllocTwice => "memory was given that an object still had (its free was not seen)",
            Oddity::ObjectFreeUnknown => "a sampled object was freed that is not known (its alloc was not seen)",
            Oddity::HeapScavTwice => "heap pages were given back to the kernel twice (an alloc between was not seen)",
        }
    }
}

/// All odd things of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub what: Oddity,
    pub count: u64,
    /// When the first and the last were seen.
    pub first: Nanos,
    pub last: Nanos,
    /// The address or frame of the first, 0 where there is none.
    pub example: u64,
}

/// Adds one to the kind's entry.
pub(super) fn note(anomalies: &mut Vec<Anomaly>, what: Oddity, ts: Nanos, example: u64) {
    match anomalies.iter_mut().find(|anomaly| anomaly.what == what) {
        Some(anomaly) => {
            anomaly.count = anomaly.count.saturating_add(1);
            anomaly.last = ts;
        }
        None => {
            anomalies.push(Anomaly { what, count: 1, first: ts, last: ts, example });
            anomalies.sort_by_key(|anomaly| anomaly.what);
        }
    }
}
