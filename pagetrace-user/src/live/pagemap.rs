//! Which pages of a process are resident, and in which frames.
//!
//! *Format* (Documentation/admin-guide/mm/pagemap.rst): one `u64` a base page; bit 63 present, 62 swapped, 61 file
//! page or shared anonymous, 0..55 the frame, which needs CAP_SYS_ADMIN and is 0 without it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::ioctl::{Updater, ioctl, opcode};

use crate::units::{PAGE_BYTES, Pid, Range};

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE: u64 = 1 << 61;
/// A guard region (6.15), which looks like a swapped page.
const GUARD: u64 = 1 << 58;
const PFN: u64 = (1 << 55) - 1;

/// One page's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// Counted in the RSS or in swap (`zero` are frames of zeros that the kernel lends and does not count).
    pub fn is_counted(self, zero: &ZeroFrames) -> bool {
        self.is_swapped() || (self.0 & PRESENT != 0 && !zero.contains(self.pfn()))
    }

    pub fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    pub fn is_swapped(self) -> bool {
        self.0 & (PRESENT | GUARD) == 0 && self.0 & SWAPPED != 0
    }

    /// Page cache or shared anonymous.
    pub fn is_file(self) -> bool {
        self.0 & FILE != 0
    }

    /// 0: not readable, or not present.
    pub fn pfn(self) -> u64 {
        if self.0 & PRESENT == 0 { 0 } else { self.0 & PFN }
    }
}

/// Frames that hold only zeros and are lent to every reader.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZeroFrames {
    /// The base page's; 0 while unknown.
    pub base: u64,
    /// The first of the huge one's; 0 while unknown.
    pub huge: u64,
}

impl ZeroFrames {
    fn contains(self, pfn: u64) -> bool {
        pfn != 0 && (pfn == self.base || (self.huge != 0 && (self.huge..self.huge + 512).contains(&pfn)))
    }
}

/// A process's page map, open.
pub struct Pagemap {
    file: File,
}

impl Pagemap {
    /// *Errors.* The process is gone, or the right to read it is missing.
    pub fn open(pid: Pid) -> io::Result<Pagemap> {
        Ok(Pagemap { file: File::open(format!("/proc/{pid}/pagemap"))? })
    }

    /// Reads the entries of a range into `entries` (cleared first); fewer where the address space ends.
    pub fn read(&self, range: Range, entries: &mut Vec<Entry>) -> io::Result<()> {
        entries.clear();
        let mut bytes = vec![0; 64 << 10];
        let mut at = range.start / PAGE_BYTES * 8;
        let end = range.end / PAGE_BYTES * 8;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(bytes.len());
            let got = self.file.read_at(bytes.get_mut(..want).unwrap_or_default(), at)?;
            if got == 0 {
                break;
            }
            let (words, _) = bytes.get(..got).unwrap_or_default().as_chunks::<8>();
            entries.extend(words.iter().map(|word| Entry(u64::from_ne_bytes(*word))));
            at += got as u64;
        }
        Ok(())
    }
}

/// Where a scan came to.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Ranges of resident or swapped pages, in order.
    pub regions: Vec<Range>,
    /// Everything before this address was looked at.
    pub end: u64,
}

/// `struct pm_scan_arg` (include/uapi/linux/fs.h, 6.7).
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const CATEGORY_PRESENT: u64 = 1 << 3;
const CATEGORY_SWAPPED: u64 = 1 << 4;
const PAGEMAP_SCAN: rustix::ioctl::Opcode = opcode::read_write::<ScanArgument>(b'f', 16);

impl Pagemap {
    /// Finds at most `pages` resident or swapped pages from `range.start` on, without looking at what is empty: a
    /// reservation of terabytes costs nothing.
    ///
    /// *Errors.* `ENOTTY` on kernels before 6.7.
    pub fn scan(&self, range: Range, pages: u64) -> io::Result<Scanned> {
        let mut regions = vec![Region::default(); usize::try_from(pages).unwrap_or(1)];
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            flags: 0,
            start: range.start,
            end: range.end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            max_pages: pages,
            category_inverted: 0,
            category_mask: 0,
            category_anyof_mask: CATEGORY_PRESENT | CATEGORY_SWAPPED,
            return_mask: CATEGORY_PRESENT | CATEGORY_SWAPPED,
        };
        // SAFETY: the argument has the layout that the kernel documents, and `vec` points to `vec_len` regions that
        // live through the call. (The number of regions written shows in the first one left at zero.)
        unsafe { ioctl(&self.file, Updater::<PAGEMAP_SCAN, ScanArgument>::new(&mut argument)) }?;
        let found = regions.iter().take_while(|region| region.end != 0);
        let regions: Vec<Range> = found.map(|region| Range { start: region.start, end: region.end }).collect();
        let found_pages = regions.iter().map(|region| region.pages().0).fold(0, u64::saturating_add);
        // NOTE: where the kernel's own buffer of regions fills up on the way, `walk_end` says how far it had come then,
        // though the walk went on (fs/proc/task_mmu.c, 6.7 to 6.18). Only one that was cut short ends there.
        let last = regions.last().map_or(range.start, |region| region.end);
        let end = if found_pages >= pages { argument.walk_end.max(last) } else { range.end };
        Ok(Scanned { regions, end })
    }
}
