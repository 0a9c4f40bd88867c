//! What the recorder tells the programs, and what they count.

use crate::record;

/// Rows of the per-CPU maps. A host with more CPUs is refused.
pub const MAX_CPUS: u32 = 512;
/// CPUs whose parts of a memory counter are added up at every change; on larger hosts levels are the kernel's
/// approximate ones between readings.
pub const MAX_EXACT_CPUS: u32 = 16;

/// Words of the only row of the map `CONTROL`, which the recorder sets.
pub mod word {
    /// 1: programs emit; 0: they return at once.
    pub const ON: usize = 0;
    /// 1: every process is wanted.
    pub const ALL: usize = 1;
    /// 1: children of a wanted process are wanted.
    pub const FOLLOW: usize = 2;
    /// Address of the kernel's `struct page` of frame 0; 0 while it is not known.
    pub const VMEMMAP: usize = 3;
    /// The recorder's own tgid: never wanted by `ALL`.
    pub const OWN_TGID: usize = 4;
    /// Words in all.
    pub const COUNT: usize = 5;
}

/// Words of the only row of the map `TALLIES`, which programs add to.
pub mod tally {
    /// Owner numbers given.
    pub const OWNERS: usize = 0;
    /// Owners, threads or processes that found their map full.
    pub const MAP_FULL: usize = 1;
    /// Frames beyond the table `FRAMES`.
    pub const FRAMES_BEYOND: usize = 2;
    /// Words in all.
    pub const COUNT: usize = 3;
}

/// Rows of the map `HEAP_LAYOUTS`.
pub const HEAP_LAYOUTS: u32 = 64;

/// Words of a row of the map `HEAP_LAYOUTS`: where fields lie in one version of the Go runtime, in bytes.
pub mod heap_layout {
    /// `g.m`. Never 0: a row that holds 0 here is not set.
    pub const G_M: usize = 0;
    pub const G_GOID: usize = 1;
    pub const M_CURG: usize = 2;
    pub const M_P: usize = 3;
    pub const P_ID: usize = 4;
    pub const SPAN_START: usize = 5;
    pub const SPAN_PAGES: usize = 6;
    pub const SPAN_CLASS: usize = 7;
    /// Words in all.
    pub const COUNT: usize = 8;
}

/// The attach cookie of a uprobe on a page heap: what the point means, and how to read it.
///
/// ```text
/// bits 0..3 a HEAP_* of the record, 3..7 which phase, 32..64 row of the map `HEAP_LAYOUTS`
/// ```
pub mod cookie {
    use crate::record;

    /// `verb` is a `HEAP_*`; `phase` below 16, and 0 for any verb but [`record::HEAP_PHASE`].
    #[must_use]
    pub const fn of(verb: u8, phase: u8, layout: u32) -> u64 {
        (verb & record::HEAP_VERB) as u64 | (phase as u64 & 15) << 3 | (layout as u64) << 32
    }

    /// The record's flags.
    #[must_use]
    pub const fn flags(cookie: u64) -> u8 {
        (cookie & 0x7f) as u8
    }

    /// The row of the layout.
    #[must_use]
    pub const fn layout(cookie: u64) -> u32 {
        (cookie >> 32) as u32
    }
}

/// Layers of counters: indices into a CPU's row.
pub const LAYER_VMA: usize = 0;
pub const LAYER_PAGE: usize = 1;
pub const LAYER_TASK: usize = 2;
pub const LAYER_HEAP: usize = 3;
pub const LAYERS: usize = 4;

/// Columns of a layer's counters. seen = emitted + filtered + dropped.
pub const SEEN: usize = 0;
pub const EMITTED: usize = 1;
pub const FILTERED: usize = 2;
pub const DROPPED: usize = 3;
pub const COLUMNS: usize = 4;

/// Words of a CPU's row of the map `COUNTERS`: layers times columns.
pub const COUNTER_WORDS: usize = LAYERS * COLUMNS;

/// Frames in one row of the map `FRAMES`.
pub const FRAMES_PER_ROW: u32 = 1024;

/// In place of an owner: a thread allocated the frame in a fault, and no counter has told yet whose it became.
pub const NOBODY_YET: u32 = u32::MAX;

/// The layer whose counters a record of this kind belongs to.
#[must_use]
pub const fn layer_of(kind: u8) -> usize {
    match kind {
        record::CALL | record::CALL_FILE => LAYER_VMA,
        record::HEAP => LAYER_HEAP,
        record::INTRO | record::FORK | record::EXIT | record::MM_GONE => LAYER_TASK,
        _ => LAYER_PAGE,
    }
}
