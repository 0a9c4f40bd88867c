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
    /// Bytes between two samples of allocations on average; 0: every one.
    pub const PERIOD: usize = 5;
    /// Nanoseconds between two stacks of a CPU on average, where there are many; 0: no stacks.
    pub const STACK_PAUSE: usize = 6;
    /// Bytes that a ring may hold unread for a stack to be put into it.
    pub const STACK_ROOM: usize = 7;
    /// Which code stacks are of: bits of [`super::stack_parts`].
    pub const STACK_PARTS: usize = 8;
    /// Words in all.
    pub const COUNT: usize = 9;
}

/// Words of the only row of the map `TALLIES`, which programs add to.
pub mod tally {
    /// Owner numbers given.
    pub const OWNERS: usize = 0;
    /// Owners, threads or processes that found their map full.
    pub const MAP_FULL: usize = 1;
    /// Frames beyond the table `FRAMES`.
    pub const FRAMES_BEYOND: usize = 2;
    /// Calls of allocators that no row of the map `CALLS` was left for.
    pub const CALLS_UNCOUNTED: usize = 3;
    /// Words in all.
    pub const COUNT: usize = 4;
}

/// Rows of the map `HEAP_LAYOUTS`.
pub const HEAP_LAYOUTS: u32 = 64;

/// Rows of each map of what was read once of a process's memory.
pub const KNOWN_ROWS: u32 = 1024;

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

/// The attach cookie of a uprobe on tcmalloc's page heap: what the point means, and where its arguments are.
///
/// ```text
/// bits 0..3 a HEAP_* of the record, 3..7 register of the span, 7..11 register of its pages ([`record::HEAP_ALLOC`])
/// or of what the kernel said ([`record::HEAP_SCAV`]), 11..15 register of the heap, 15..18 how much greater its pages are
/// than those of a record: by 2 to this power, 18..32 bytes of the function that makes the heap grow, 32..64 where that
/// begins, from the point on: signed
/// ```
///
/// Registers have the numbers of x86-64 instructions; [`NONE`](span_cookie::NONE) is that of the stack pointer.
pub mod span_cookie {
    use crate::record;

    /// No register.
    pub const NONE: u8 = 4;
    /// Bytes at most of the function that makes the heap grow.
    pub const MOST_GROWS: u64 = (1 << 14) - 1;
    /// The greatest power for the size of a page.
    pub const MOST_SHIFT: u8 = 7;

    /// A point of a page heap.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Point {
        pub verb: u8,
        pub span: u8,
        /// The pages, or the kernel's answer.
        pub told: u8,
        pub heap: u8,
        pub shift: u8,
        /// What makes the heap grow: where it begins, from the point on, and its bytes; 0: no matter who calls.
        pub grows_from: i32,
        pub grows_bytes: u16,
    }

    /// What is beyond its bits is cut.
    #[must_use]
    pub const fn of(point: Point) -> u64 {
        (point.verb & record::HEAP_VERB) as u64
            | (point.span as u64 & 15) << 3
            | (point.told as u64 & 15) << 7
            | (point.heap as u64 & 15) << 11
            | (point.shift as u64 & 7) << 15
            | (point.grows_bytes as u64 & MOST_GROWS) << 18
            | (point.grows_from as u32 as u64) << 32
    }

    /// What [`of`] made a cookie of.
    #[must_use]
    pub const fn point(cookie: u64) -> Point {
        Point {
            verb: cookie as u8 & record::HEAP_VERB,
            span: (cookie >> 3 & 15) as u8,
            told: (cookie >> 7 & 15) as u8,
            heap: (cookie >> 11 & 15) as u8,
            shift: (cookie >> 15 & 7) as u8,
            grows_from: (cookie >> 32) as u32 as i32,
            grows_bytes: (cookie >> 18 & MOST_GROWS) as u16,
        }
    }
}

/// The attach cookie of a uprobe on a function of an allocator: what it does, and where its arguments are at the point.
///
/// ```text
/// bits 0..6 call, 6..12 library, 12..16 register of the size, 16..20 of what it is multiplied by,
/// 20..24 of the memory taken back, 24..28 of the place for the result, 32..48 bytes of the function from the point on,
/// 48..56 bytes of it before the point, 56..64 flags
/// ```
///
/// Registers have the numbers of x86-64 instructions; [`NONE`](object_cookie::NONE) is that of the stack pointer.
pub mod object_cookie {
    /// No register: the call has no such argument.
    pub const NONE: u8 = 4;
    /// The point is an instruction that returns.
    pub const LEAVES: u64 = 1 << 56;
    /// The program is run again when the function returns: the return is taken over.
    pub const TAKES_RETURN: u64 = 1 << 57;
    /// It is, unless the program's own return value says no.
    pub const CHOOSES: u64 = 1 << 58;
    /// The function does nothing but hand on to another one that has a point.
    pub const FORWARDS: u64 = 1 << 59;
    /// Memory stays where it is: the function returns its size.
    pub const IN_PLACE: u64 = 1 << 60;
    /// What the function's own library calls straight is not counted.
    pub const NOT_OWN: u64 = 1 << 61;
    /// An exception may leave the function. What it calls to throw it is no part of its call.
    pub const THROWS: u64 = 1 << 62;
    const FLAGS: u64 = 0xff << 56;
    /// Calls and libraries that can be told apart.
    pub const CALLS: u8 = 64;
    pub const LIBRARIES: u8 = 64;

    /// A call's arguments: registers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Arguments {
        pub size: u8,
        pub count: u8,
        pub old: u8,
        pub out: u8,
    }

    /// `before` beyond 8 bits and `after` beyond 16 are cut.
    #[must_use]
    pub const fn of(call: u8, library: u8, arguments: Arguments, flags: u64, before: u64, after: u64) -> u64 {
        let Arguments { size, count, old, out } = arguments;
        pack(call, library) as u64
            | (size as u64 & 15) << 12
            | (count as u64 & 15) << 16
            | (old as u64 & 15) << 20
            | (out as u64 & 15) << 24
            | flags & FLAGS
            | cut(after, 0xffff) << 32
            | cut(before, 0xff) << 48
    }

    const fn cut(bytes: u64, most: u64) -> u64 {
        if bytes > most { most } else { bytes }
    }

    /// Call and library in one number, as records and the map `CALLS` have them: bits 0..6 and 6..12.
    #[must_use]
    pub const fn pack(call: u8, library: u8) -> u32 {
        (call & 63) as u32 | (library as u32 & 63) << 6
    }

    /// The call and the library that [`pack`] made one number of.
    #[must_use]
    pub const fn unpack(who: u64) -> (u8, u8) {
        ((who & 63) as u8, (who >> 6 & 63) as u8)
    }

    /// Call and library, as [`pack`] has them.
    #[must_use]
    pub const fn who(cookie: u64) -> u32 {
        (cookie & 0xfff) as u32
    }

    /// The registers.
    #[must_use]
    pub const fn arguments(cookie: u64) -> Arguments {
        Arguments {
            size: (cookie >> 12 & 15) as u8,
            count: (cookie >> 16 & 15) as u8,
            old: (cookie >> 20 & 15) as u8,
            out: (cookie >> 24 & 15) as u8,
        }
    }

    /// Bytes of the function before the point.
    #[must_use]
    pub const fn before(cookie: u64) -> u64 {
        cookie >> 48 & 0xff
    }

    /// Bytes of the function from the point on.
    #[must_use]
    pub const fn after(cookie: u64) -> u64 {
        cookie >> 32 & 0xffff
    }
}

/// Words of a row of the map `CALLS`, by owner and [`object_cookie::who`].
pub mod call_count {
    /// Calls that no other of the allocator's functions made.
    pub const CALLS: usize = 0;
    /// Bytes that they asked for.
    pub const BYTES: usize = 1;
    /// Calls made by another of them.
    pub const NESTED: usize = 2;
    /// Calls that gave nothing; only those are seen whose return is.
    pub const FAILED: usize = 3;
    /// Words in all.
    pub const COUNT: usize = 4;
}

/// Layers of counters: indices into a CPU's row.
pub const LAYER_VMA: usize = 0;
pub const LAYER_PAGE: usize = 1;
pub const LAYER_TASK: usize = 2;
pub const LAYER_HEAP: usize = 3;
pub const LAYER_OBJECT: usize = 4;
/// Stacks of events of the other layers: filtered are those that the bound on their rate refused.
pub const LAYER_STACK: usize = 5;
pub const LAYERS: usize = 6;

/// Columns of a layer's counters. seen = emitted + filtered + dropped.
pub const SEEN: usize = 0;
pub const EMITTED: usize = 1;
pub const FILTERED: usize = 2;
pub const DROPPED: usize = 3;
pub const COLUMNS: usize = 4;

/// Words of a CPU's row of the map `COUNTERS`: layers times columns.
pub const COUNTER_WORDS: usize = LAYERS * COLUMNS;

/// How the stacks of a process's threads are told: its row in the map `WAYS`.
pub mod stack_way {
    /// The memory of the stack is copied, and unwound by the recorder. So it is where there is no row.
    pub const COPY: u32 = 0;
    /// In the program's own code the kernel follows the frame pointers; elsewhere it is as above.
    pub const FRAME_POINTERS: u32 = 1;
}

/// Whose code stacks tell.
pub mod stack_parts {
    /// The process's own.
    pub const USER: u64 = 1;
    /// The kernel's, of events that happen in it: faults and memory calls.
    pub const KERNEL: u64 = 2;
}

/// Nanoseconds in which stacks of one kind and CPU may come at once that were not taken before.
pub const STACK_BURST: u64 = 1_000_000_000;

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
        record::OBJECT => LAYER_OBJECT,
        record::STACK => LAYER_STACK,
        record::INTRO | record::FORK | record::EXIT | record::MM_GONE => LAYER_TASK,
        _ => LAYER_PAGE,
    }
}
