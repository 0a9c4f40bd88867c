//! Quantities with their units: what crosses a module edge is never a bare integer.
//!
//! Units: `Nanos` is the kernel's `CLOCK_MONOTONIC`; a page here is always the base page (4 KiB on x86-64), except
//! where its name says `Heap`.

use std::fmt;

/// Bytes in a base page. The only page size of the `vma` and `page` layers.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes in a page of a Go heap, on every platform (`_PageShift` is 13): the page size of the `heap` layer.
pub const HEAP_PAGE_BYTES: u64 = 8192;

/// A point on, or a length of, the kernel's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The length from `earlier` to this point; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The length in seconds, for text.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    /// Binary units with one decimal place: `1.5 MiB`; plain bytes below 1 KiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = "KiB";
        for next in &UNITS[1..] {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        f.pad(&format!("{value:.1} {unit}"))
    }
}

/// A number of base pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pages(pub u64);

impl Pages {
    /// The same quantity in bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(PAGE_BYTES))
    }
}

/// A number of pages of a Go heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeapPages(pub u64);

impl HeapPages {
    /// The same quantity in bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(HEAP_PAGE_BYTES))
    }
}

/// A process (the kernel's `tgid`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A thread (the kernel's `pid`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub u32);

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page frame number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u64);

/// A half-open range of addresses `[start, end)`, in bytes. `start <= end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

impl Range {
    /// `bytes` from `start`; cut at the end of the address space.
    #[must_use]
    pub fn of(start: u64, bytes: u64) -> Range {
        Range { start, end: start.saturating_add(bytes) }
    }

    /// As a caller of the kernel means it: `start` rounded down to a page and `bytes` rounded up, cut at the
    /// end of the address space.
    #[must_use]
    pub fn of_pages(start: u64, bytes: u64) -> Range {
        let end = start.saturating_add(bytes);
        let end = end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(!(PAGE_BYTES - 1));
        Range { start: start & !(PAGE_BYTES - 1), end }
    }

    /// Length in bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes(self.end.saturating_sub(self.start))
    }

    /// Length in base pages, a part of a page counted whole.
    #[must_use]
    pub fn pages(self) -> Pages {
        Pages(self.bytes().0.div_ceil(PAGE_BYTES))
    }

    /// Whether nothing is inside.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether `addr` is inside.
    #[must_use]
    pub fn contains(self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// What both ranges hold; `None` when they do not meet.
    #[must_use]
    pub fn meet(self, other: Range) -> Option<Range> {
        let both = Range { start: self.start.max(other.start), end: self.end.min(other.end) };
        (!both.is_empty()).then_some(both)
    }
}

/// The kernel's short name of a task: up to 15 bytes, zero-padded, any bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The first 15 bytes of `name`.
    #[must_use]
    pub fn of(name: &str) -> Comm {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        Comm(bytes)
    }

    /// As text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn to_text(self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(self.0.get(..end).unwrap_or_default()).into_owned()
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_text())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}
