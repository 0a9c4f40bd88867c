//! The table of frames' owners, as the recorder writes to it: what a reading finds resident gets an owner, so that
//! its going is seen.
//!
//! *Units.* One `u32` a frame: the owner's number; 0 for none, [`NOBODY_YET`] for one that a fault got.
//! *Bound.* At most [`WINDOW_BYTES`] of the table are mapped at a time: a mapped window is resident at once.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::MapData;
use pagetrace_common::control::{FRAMES_PER_ROW, NOBODY_YET};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of the table that are mapped at a time: the owners of 4 GiB of memory.
const WINDOW_BYTES: u64 = 4 << 20;
const WINDOW_FRAMES: u64 = WINDOW_BYTES / 4;

/// The kernel's table.
pub struct FrameTable {
    map: MapData,
    limit: u64,
}

impl FrameTable {
    /// `limit`: frames that the table reaches.
    pub fn new(map: MapData, limit: u64) -> FrameTable {
        let row = u64::from(FRAMES_PER_ROW);
        FrameTable { map, limit: limit / row * row }
    }

    /// Frames that the table reaches.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Notes `owner` for each of the frames that has none; how many are beyond the table. Sorts `frames`.
    pub fn claim(&self, frames: &mut [u64], owner: u32) -> std::io::Result<u64> {
        frames.sort_unstable();
        let mut rest = &frames[..];
        while let Some(&first) = rest.first() {
            if first >= self.limit {
                break;
            }
            let window = first / WINDOW_FRAMES;
            let end = rest.partition_point(|&pfn| pfn / WINDOW_FRAMES == window && pfn < self.limit);
            let (here, later) = rest.split_at(end);
            self.claim_in(window, here, owner)?;
            rest = later;
        }
        Ok(rest.len() as u64)
    }

    fn claim_in(&self, window: u64, frames: &[u64], owner: u32) -> std::io::Result<()> {
        let first = window * WINDOW_FRAMES;
        let count = WINDOW_FRAMES.min(self.limit - first);
        let bytes = (count * 4) as usize;
        // SAFETY: a fresh mapping of the map's own pages, chosen by the kernel; unmapped below.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                self.map.fd(),
                window * WINDOW_BYTES,
            )
        }?;
        for pfn in frames {
            let index = (pfn - first) as usize;
            if index < count as usize {
                // SAFETY: inside the mapping, aligned; the kernel's programs use the word too, hence atomic.
                let slot = unsafe { AtomicU32::from_ptr(base.cast::<u32>().add(index)) };
                for none in [0, NOBODY_YET] {
                    let _ = slot.compare_exchange(none, owner, Ordering::Relaxed, Ordering::Relaxed);
                }
            }
        }
        // SAFETY: the mapping made above, no longer used.
        unsafe { munmap(base, bytes) }?;
        Ok(())
    }
}
