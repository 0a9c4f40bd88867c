//! What was given back, for people.

use std::fmt::{self, Write};

use super::{DELAYS, Given, Scav, Site};
use crate::report::{many, put, shown, table};
use crate::stacks::write_frames;
use crate::units::{Bytes, Nanos};

impl Scav {
    /// The first `top` stacks.
    #[must_use]
    pub fn text(&self, top: usize) -> String {
        let mut out = String::new();
        // SANITY: writing to a String cannot fail.
        let _ = self.write(top, &mut out);
        out
    }

    fn write(&self, top: usize, out: &mut String) -> fmt::Result {
        let all = &self.all;
        if all.calls == 0 {
            return writeln!(out, "nothing was given back to the kernel");
        }
        let (given, calls) = (Bytes(all.given_bytes), many(all.calls, "call"));
        writeln!(out, "Given back to the kernel: {given} in {calls}, which asked for {}", Bytes(all.asked_bytes))?;
        writeln!(out, "Came back: {}", self.returned(all))?;
        if all.came_back_bytes > 0 {
            let mut table = table(&["within", "came back", "of it"]);
            for (delay, bytes) in &all.after {
                let word = DELAYS.get(*delay).map_or("", |(_, word)| word);
                table.add_row([word.to_owned(), Bytes(*bytes).to_string(), share(*bytes, all.came_back_bytes)]);
            }
            put(out, &table)?;
        }
        for site in self.sites.iter().take(top) {
            self.site(site, out)?;
        }
        if self.sites.len() > top {
            writeln!(out, "\nand {} more stacks (--top)", self.sites.len() - top)?;
        }
        Ok(())
    }

    fn site(&self, site: &Site, out: &mut String) -> fmt::Result {
        let given = &site.given;
        writeln!(out, "\n{} given back in {}", Bytes(given.given_bytes), many(given.calls, "call"))?;
        writeln!(out, "  came back: {}", self.returned(given))?;
        if site.frames.is_empty() {
            writeln!(out, "    [no stack was recorded]")?;
        }
        write_frames(out, site.frames.iter())
    }

    fn returned(&self, given: &Given) -> String {
        if given.came_back_bytes == 0 {
            return "nothing".to_owned();
        }
        let by: Vec<String> =
            given.by.iter().map(|(who, bytes)| format!("{} by {}", Bytes(*bytes), shown(who))).collect();
        format!(
            "{} ({}), {} within {:.3} s, for {}; {}",
            Bytes(given.came_back_bytes),
            share(given.came_back_bytes, given.given_bytes),
            Bytes(given.soon_bytes),
            Nanos(self.within_ns).as_secs_f64(),
            many(given.faults, "fault"),
            by.join(", ")
        )
    }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "0 %".to_owned() } else { format!("{:.0} %", part as f64 * 100.0 / whole as f64) }
}
