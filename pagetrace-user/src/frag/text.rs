//! What objects keep, for people.

use std::fmt::{self, Write};

use super::{Allocator, Frag, Site, Size};
use crate::stacks::{Unit, write_frames};
use crate::units::{Bytes, Nanos};

impl Frag {
    /// The first `top` sites.
    #[must_use]
    pub fn text(&self, top: usize) -> String {
        let mut out = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = self.write(top, &mut out);
        out
    }

    fn write(&self, top: usize, out: &mut String) -> fmt::Result {
        match self.unit {
            Unit::Run => self.runs(top, out)?,
            Unit::Object => match self.period_bytes {
                Some(period) => self.objects(period, out)?,
                None => {
                    return writeln!(out, "no objects were recorded: pagetrace-user --objects --sample 0 records them");
                }
            },
        }
        let sites: Vec<&Site> = self.sites.iter().filter(|site| site.empty_bytes > 0).collect();
        if let Some((count, bytes)) = self.foremost() {
            let stacks = if count == 1 { "first stack keeps".to_owned() } else { format!("first {count} stacks keep") };
            writeln!(out, "\nThe {stacks} {} of the {} that are empty", Bytes(bytes), Bytes(self.empty_bytes))?;
        }
        if self.young_bytes > 0 {
            writeln!(out, "{} of it are too young to be charged", Bytes(self.young_bytes))?;
        }
        sites.iter().take(top).try_for_each(|site| self.site(site, out))?;
        if sites.len() > top {
            writeln!(out, "\nand {} more stacks (--top)", sites.len() - top)?;
        }
        Ok(())
    }

    fn objects(&self, period: u64, out: &mut String) -> fmt::Result {
        if period == 0 {
            let [pages, live, beside, empty] =
                [self.page_bytes, self.live_bytes, self.beside_bytes, self.empty_bytes].map(Bytes);
            writeln!(out, "Resident pages that hold live objects: {pages}")?;
            writeln!(out, "of that objects {live}, beside them headers and rounding {beside}, empty {empty}")?;
        } else {
            writeln!(
                out,
                "Objects were sampled, one every {}: what else lies on a page is not known, so no stack is charged; recorded \
                 with --sample 0, it is",
                Bytes(period)
            )?;
        }
        if let Some(since) = self.since_ns {
            let since = Nanos(since).as_secs_f64();
            writeln!(
                out,
                "objects that were given before +{since:.3} s are not known: where they lie counts as empty"
            )?;
        }
        if self.uncertain > 0 {
            writeln!(out, "{} of {} objects may have been taken back in a gap", self.uncertain, self.objects)?;
        }
        self.allocators.iter().try_for_each(|allocator| self.allocator(allocator, out))
    }

    fn runs(&self, top: usize, out: &mut String) -> fmt::Result {
        if self.sizes.is_empty() {
            return writeln!(
                out,
                "what the runs of the page heap hold is not known: of a Go program it is read when the recording ends, while the \
                 program is there still"
            );
        }
        let [runs, live, empty] = [self.page_bytes, self.live_bytes, self.empty_bytes].map(Bytes);
        writeln!(out, "Runs of the page heap that hold objects: {runs}")?;
        writeln!(out, "of that {live} in {} objects, empty {empty}", self.objects)?;
        writeln!(out, "small objects of one size share a run: its stack is that of who needed a new one")?;
        for size in self.sizes.iter().filter(|size| size.empty_bytes > 0).take(top) {
            let [run, empty] = [size.run_bytes, size.empty_bytes].map(Bytes);
            let Size { object_bytes, objects, room, runs, .. } = *size;
            writeln!(
                out,
                "objects of {object_bytes} B: {objects} where there is room for {room}, {empty} empty of {run} in {runs} runs"
            )?;
        }
        Ok(())
    }

    /// How few stacks keep half of what is empty, and how much.
    fn foremost(&self) -> Option<(usize, u64)> {
        let mut bytes = 0_u64;
        for (index, site) in self.sites.iter().enumerate() {
            bytes = bytes.saturating_add(site.empty_bytes);
            if bytes > 0 && bytes >= self.empty_bytes.saturating_sub(self.young_bytes) / 2 {
                return Some((index + 1, bytes));
            }
        }
        None
    }

    fn allocator(&self, allocator: &Allocator, out: &mut String) -> fmt::Result {
        let (name, objects) = (allocator.name.escape_debug(), allocator.objects);
        let live = match allocator.error_bytes {
            0 => Bytes(allocator.live_bytes).to_string(),
            error => format!("{} ± {}", Bytes(allocator.live_bytes), Bytes(error)),
        };
        let resident = Bytes(allocator.resident_bytes);
        write!(out, "{name}: {live} asked for in {objects} objects; {resident} resident in the ranges where they lie")?;
        if self.period_bytes != Some(0) {
            return writeln!(out);
        }
        let without = Bytes(allocator.resident_bytes.saturating_sub(allocator.page_bytes));
        writeln!(out, ", of that {} empty beside objects, {without} on pages without any", Bytes(allocator.empty_bytes))
    }

    fn site(&self, site: &Site, out: &mut String) -> fmt::Result {
        let [empty, pages, alone, bytes] = [site.empty_bytes, site.page_bytes, site.alone_bytes, site.bytes].map(Bytes);
        let [first, last] = [site.first_ns, site.last_ns].map(|ns| Nanos(ns).as_secs_f64());
        let (objects, call) = (site.objects, site.call);
        write!(out, "\n{empty} empty in {pages} that {bytes} in {objects} ")?;
        match self.unit {
            Unit::Run => writeln!(out, "{call} keep, handed out from +{first:.3} s to +{last:.3} s")?,
            Unit::Object => {
                writeln!(out, "objects of {call} keep, {alone} of it alone, given from +{first:.3} s to +{last:.3} s")?
            }
        }
        if site.frames.is_empty() {
            let why = match self.unit {
                Unit::Run => "handed out before the recording, or no stack was recorded",
                Unit::Object => "no stack was recorded: --stack-rate bounds how many are",
            };
            writeln!(out, "    [{why}]")?;
        }
        write_frames(out, site.frames.iter())
    }
}
