//! Names of functions by address.

use super::Table;
use crate::symbols::elf::Elf;
use crate::symbols::image::Part;
use crate::symbols::{Address, FileOffset, SymbolError};

/// Bytes of a name that are read; generic functions have long ones.
const MOST_NAME_BYTES: u64 = 4096;

impl Table {
    /// The functions in which these addresses lie, for those that have one.
    ///
    /// # Errors
    /// As of [`Table::lookup`].
    pub fn names_at(&self, elf: &Elf, addresses: &[Address]) -> Result<Vec<(Address, String)>, SymbolError> {
        let mut sorted: Vec<Address> = addresses.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut found: Vec<(Address, u32)> = Vec::new();
        self.functions(elf, |name, function| {
            let from = sorted.partition_point(|address| *address < function.entry);
            let inside = sorted.iter().skip(from).take_while(|address| **address < function.end);
            // Tables that contradict themselves may have an address twice: a few thousand are asked for at most.
            if found.len() < 2 * sorted.len() {
                found.extend(inside.map(|address| (*address, name)));
            }
        })?;
        found.into_iter().map(|(address, name)| Ok((address, self.name(elf, name)?))).collect()
    }

    fn name(&self, elf: &Elf, at: u32) -> Result<String, SymbolError> {
        let start = self.names.start.saturating_add(u64::from(at)).min(self.names.end);
        let part = Part { start, end: start.saturating_add(MOST_NAME_BYTES).min(self.names.end) };
        let bytes = elf.image.read(FileOffset(part.start), part.len())?;
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }
}
