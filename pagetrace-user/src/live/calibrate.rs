//! What no file tells: where the kernel keeps `struct page` of frame 0, and which frames are the lent zeros.
//!
//! The recorder traces itself for a moment with the base unknown (0): a touched page's record then holds
//! `struct page / 64`, and its page map holds the true frame. The difference is the base, and must be the same for
//! every page touched.

use std::ptr;

use pagetrace_common::control::word;
use pagetrace_common::record;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::failure::{Code, Failure};
use crate::live::load::{Kernel, Ring};
use crate::live::merge::word_of;
use crate::live::pagemap::{Entry, Pagemap, ZeroFrames};
use crate::units::{PAGE_BYTES, Pid, Range};

/// Pages touched.
const PAGES: usize = 16;
const HUGE_BYTES: usize = 2 << 20;

/// Finds the base and sets it; gives the number of records that the programs emitted meanwhile, read here.
pub fn vmemmap(kernel: &mut Kernel, rings: &mut [Ring]) -> Result<u64, Failure> {
    let own = Pid(std::process::id());
    kernel.want(own)?;
    kernel.set(word::ON, 1)?;
    kernel.walk()?;
    let area = Area::new(PAGES * PAGE_BYTES as usize)?;
    // One frame a page, whatever the host's policy for larger ones is.
    // SAFETY: the area's own mapping. A kernel without huge pages has nothing to refuse.
    let _ = unsafe { madvise(area.base.cast(), area.bytes, Advice::LinuxNoHugepage) };
    area.touch();
    kernel.set(word::ON, 0)?;

    let mut entries = Vec::new();
    let read = Pagemap::open(own).and_then(|map| map.read(area.range(), &mut entries));
    read.map_err(|error| failed(&format!("/proc/self/pagemap: {error}")))?;
    let mut bases = Vec::new();
    let mut records = 0;
    for ring in rings {
        while let Some(item) = ring.next() {
            records += 1;
            let word = |index| word_of(&item, index);
            if word(1) & 0xff != u64::from(record::FRAME) || (word(1) >> 8) & 15 != 0 {
                continue;
            }
            let index = word(3).wrapping_sub(area.range().start) / PAGE_BYTES;
            if let Some(entry) = usize::try_from(index).ok().and_then(|index| entries.get(index))
                && entry.pfn() != 0
            {
                bases.push(word(4).wrapping_sub(entry.pfn()).wrapping_mul(64));
            }
        }
    }
    kernel.forget_all()?;
    match bases.first() {
        Some(&base) if bases.iter().all(|&other| other == base) && base >> 63 == 1 => {
            kernel.set(word::VMEMMAP, base)?;
            Ok(records)
        }
        Some(_) => Err(failed("the pages touched for it do not agree")),
        None => {
            Err(failed("no page touched for it was seen: the frame numbers in /proc/self/pagemap need CAP_SYS_ADMIN"))
        }
    }
}

/// Finds the lent frames of zeros, as far as the kernel lends any.
pub fn zero_frames() -> ZeroFrames {
    let mut frames = ZeroFrames::default();
    if let Ok(area) = Area::new(PAGE_BYTES as usize) {
        area.read(0);
        frames.base = area.pfn(0);
    }
    if let Ok(area) = Area::new(2 * HUGE_BYTES) {
        let offset = area.base.align_offset(HUGE_BYTES);
        // SAFETY: the middle of the area's own two huge pages.
        let advised = unsafe { madvise(area.base.wrapping_add(offset).cast(), HUGE_BYTES, Advice::LinuxHugepage) };
        area.read(offset);
        let (first, second) = (area.pfn(offset), area.pfn(offset + PAGE_BYTES as usize));
        if advised.is_ok() && first != 0 && first % 512 == 0 && second == first + 1 {
            frames.huge = first;
        }
    }
    frames
}

fn failed(why: &str) -> Failure {
    Failure::new(
        Code::Kernel,
        "cannot tell the frames of pages",
        why,
        "run as root, outside a container that takes CAP_SYS_ADMIN away",
    )
}

/// Fresh private memory of our own.
struct Area {
    base: *mut u8,
    bytes: usize,
}

impl Area {
    fn new(bytes: usize) -> Result<Area, Failure> {
        // SAFETY: a fresh mapping, at a place that the kernel chooses.
        let base =
            unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
        match base {
            Ok(base) => Ok(Area { base: base.cast(), bytes }),
            Err(error) => Err(failed(&error.to_string())),
        }
    }

    fn range(&self) -> Range {
        Range::of(self.base as u64, self.bytes as u64)
    }

    fn touch(&self) {
        for offset in (0..self.bytes).step_by(PAGE_BYTES as usize) {
            // SAFETY: inside the area.
            unsafe { self.base.add(offset).write_volatile(1) };
        }
    }

    fn read(&self, offset: usize) {
        if offset < self.bytes {
            // SAFETY: inside the area.
            let _ = unsafe { self.base.add(offset).read_volatile() };
        }
    }

    fn pfn(&self, offset: usize) -> u64 {
        let mut entries: Vec<Entry> = Vec::new();
        let range = Range::of(self.base as u64 + offset as u64, PAGE_BYTES);
        let read = Pagemap::open(Pid(std::process::id())).and_then(|map| map.read(range, &mut entries));
        match (read, entries.first()) {
            (Ok(()), Some(entry)) => entry.pfn(),
            _ => 0,
        }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the area's own mapping; nothing points into it any more.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}
