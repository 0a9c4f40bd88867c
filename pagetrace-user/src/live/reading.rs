//! Readings: what /proc shows of a process, put between the events so that none is counted twice or missed.
//!
//! *How.* A step begins when the merge has given out every event before a time T and none after. Then a piece of the
//! page map is read, and its rows go into the file at T, before all later events. What happened between T and the
//! moment of reading is in the rows and comes again as an event: both say the same of an address (a frame came, or
//! went), so applying the event again changes nothing.
//! *Going.* Frames found are noted as the process's own (`frames`), and the piece is read again: a page that is still
//! there with the same frame cannot go unseen any more; one that changed is taken from the second reading.
//! *Bound.* A step holds [`PIECE_PAGES`] pages; the rings are drained between the steps.

use std::io;

use crate::event::{Body, Why};
use crate::live::clock;
use crate::live::file_pages::FilePagesCount;
use crate::live::frames::FrameTable;
use crate::live::maps::{self, Mapping, Name, USER_END};
use crate::live::pagemap::{Entry, Pagemap, Scanned, ZeroFrames};
use crate::live::process;
use crate::units::{Nanos, PAGE_BYTES, Pages, Pfn, Pid, Range};

/// Pages of one step.
const PIECE_PAGES: u64 = 32 << 10;
/// Readings of a piece until two agree; after that the last one stands, and the next repair has to mend it.
const MAX_AGAIN: u32 = 4;

/// A reading in progress.
pub struct Reading {
    pub why: Why,
    pub began: Nanos,
    pid: Pid,
    start_boottime: u64,
    pagemap: Option<Pagemap>,
    mappings: Vec<Mapping>,
    next: u64,
    /// Of the last reading of all.
    pub file_pages: Option<FilePagesCount>,
    /// Events about addresses came between the steps that a later one has to look at again.
    pub disturbed: bool,
}

/// What a step found.
pub enum Step {
    /// The mappings.
    Maps(Vec<Mapping>),
    /// The pages of a range, as rows.
    Pages(Range, Vec<Body>),
    Done,
    /// The process is gone, or its memory is.
    Gone,
}

impl Reading {
    #[must_use]
    pub fn new(pid: Pid, start_boottime: u64, why: Why) -> Reading {
        Reading {
            why,
            began: clock::now(),
            pid,
            start_boottime,
            pagemap: None,
            mappings: Vec::new(),
            next: 0,
            file_pages: if why == Why::End { FilePagesCount::begin().ok() } else { None },
            disturbed: false,
        }
    }

    /// Does the next step; see the module for when.
    pub fn step(&mut self, frames: &FrameTable, zero: ZeroFrames, owner: u32) -> Step {
        let Some(pagemap) = &self.pagemap else {
            let (Ok(mappings), Ok(pagemap)) = (maps::read(self.pid), Pagemap::open(self.pid)) else {
                return Step::Gone;
            };
            // Looked at after both are open: a number given to another process meanwhile shows.
            if mappings.is_empty() || !process::is_still(self.pid, self.start_boottime) {
                return Step::Gone;
            }
            self.mappings.clone_from(&mappings);
            self.pagemap = Some(pagemap);
            return Step::Maps(mappings);
        };
        if self.next >= USER_END {
            return Step::Done;
        }
        let Ok(scanned) = scan(pagemap, &self.mappings, self.next) else { return Step::Gone };
        let piece = Range { start: self.next, end: scanned.end.max(self.next + PAGE_BYTES) };
        let regions = self.counted(&scanned.regions);
        let Ok(rows) = read_piece(pagemap, &regions, frames, zero, owner) else { return Step::Gone };
        self.next = piece.end;
        if self.file_pages.as_mut().is_some_and(|count| count.add(&self.mappings, &rows).is_err()) {
            self.file_pages = None;
        }
        Step::Pages(piece, rows)
    }

    /// The regions without what is mapped but never counted.
    fn counted(&self, regions: &[Range]) -> Vec<Range> {
        let mut kept: Vec<Range> = regions.to_vec();
        for mapping in self.mappings.iter().filter(|mapping| mapping.is_uncounted()) {
            kept = kept
                .into_iter()
                .flat_map(|region| {
                    let before = Range { start: region.start, end: region.end.min(mapping.range.start) };
                    let after = Range { start: region.start.max(mapping.range.end), end: region.end };
                    [before, after]
                })
                .filter(|region| !region.is_empty())
                .collect();
        }
        kept
    }
}

/// Where pages are from `start` on. Kernels before 6.7 cannot tell: there it is every mapping in turn.
fn scan(pagemap: &Pagemap, mappings: &[Mapping], start: u64) -> io::Result<Scanned> {
    match pagemap.scan(Range { start, end: USER_END }, PIECE_PAGES) {
        Err(error) if error.raw_os_error() == Some(25) => {}
        other => return other,
    }
    let Some(mapping) = mappings.iter().find(|mapping| mapping.range.end > start) else {
        return Ok(Scanned { regions: Vec::new(), end: USER_END });
    };
    let from = mapping.range.start.max(start);
    let end = mapping.range.end.min(from + PIECE_PAGES * PAGE_BYTES);
    Ok(Scanned { regions: vec![Range { start: from, end }], end })
}

fn read_piece(
    pagemap: &Pagemap,
    regions: &[Range],
    frames: &FrameTable,
    zero: ZeroFrames,
    owner: u32,
) -> io::Result<Vec<Body>> {
    let mut before: Vec<(u64, Entry)> = Vec::new();
    for _ in 0..MAX_AGAIN {
        let now = read_regions(pagemap, regions, zero)?;
        if now == before {
            break;
        }
        let mut fresh: Vec<u64> =
            now.iter().filter(|(_, entry)| !entry.is_file()).map(|(_, entry)| entry.pfn()).collect();
        fresh.retain(|&pfn| pfn != 0);
        before = now;
        if fresh.is_empty() {
            break;
        }
        // A frame beyond the table has no owner; the header says how far it reaches.
        frames.claim(&mut fresh, owner)?;
    }
    Ok(rows(&before))
}

fn read_regions(pagemap: &Pagemap, regions: &[Range], zero: ZeroFrames) -> io::Result<Vec<(u64, Entry)>> {
    let mut found = Vec::new();
    let mut entries = Vec::new();
    for region in regions {
        pagemap.read(*region, &mut entries)?;
        let addresses = (region.start..region.end).step_by(PAGE_BYTES as usize);
        found.extend(addresses.zip(entries.iter().copied()).filter(|(_, entry)| entry.is_counted(&zero)));
    }
    Ok(found)
}

/// Joins pages that follow each other, in addresses and in frames.
fn rows(pages: &[(u64, Entry)]) -> Vec<Body> {
    let mut rows: Vec<Body> = Vec::new();
    for &(addr, entry) in pages {
        let pfn = entry.pfn();
        if let Some(Body::BaselinePages { addr: start, pages, pfn: first, file, swapped }) = rows.last_mut()
            && addr == start.saturating_add(pages.0 * PAGE_BYTES)
            && *file == entry.is_file()
            && *swapped == entry.is_swapped()
            && first.map_or(pfn == 0, |first| pfn == first.0 + pages.0)
        {
            pages.0 += 1;
            continue;
        }
        rows.push(Body::BaselinePages {
            addr,
            pages: Pages(1),
            pfn: (pfn != 0).then_some(Pfn(pfn)),
            file: entry.is_file(),
            swapped: entry.is_swapped(),
        });
    }
    rows
}

/// The name of a mapping that is no file's.
#[must_use]
pub fn word_of(name: &Name) -> String {
    match name {
        Name::Word(word) => word.clone(),
        Name::File { .. } => String::new(),
    }
}
