//! Functions by address: their names, source files and lines, with what was inlined.

use super::lines::Lines;
use super::{Entry, Table};
use crate::event;
use crate::symbols::elf::Elf;
use crate::symbols::{Address, SymbolError};

impl Table {
    /// The functions at these addresses, the innermost first, for those that are in one. `inlined_at` is where the
    /// program's `moduledata` says what was inlined (`gofunc`), from its start; without it, that is not known.
    ///
    /// # Errors
    /// As of [`Table::lookup`]. A function whose lines cannot be read has its name alone.
    pub fn functions_at(
        &self,
        elf: &Elf,
        addresses: &[Address],
        inlined_at: Option<u32>,
    ) -> Result<Vec<(Address, Vec<event::Function>)>, SymbolError> {
        let mut sorted: Vec<Address> = addresses.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut found: Vec<(Address, Entry)> = Vec::new();
        self.functions(elf, |entry| {
            let from = sorted.partition_point(|address| *address < entry.function.entry);
            let inside = sorted.iter().skip(from).take_while(|address| **address < entry.function.end);
            // Tables that contradict themselves may have an address twice: a few thousand are asked for at most.
            if found.len() < 2 * sorted.len() {
                found.extend(inside.map(|address| (*address, entry)));
            }
        })?;
        let mut lines = Lines::new(self, elf, inlined_at, found.len());
        found.into_iter().map(|(address, entry)| Ok((address, lines.at(&entry, address)?))).collect()
    }
}
