//! The words that the loader writes into a position-independent program: what a pointer in its data will be, less the
//! load bias.
//!
//! Only R_X86_64_RELATIVE entries of DT_RELA count, which is how linkers write a pointer into the program itself.
//! DT_RELR needs nothing: there the pointers stand in the data.

use std::ops::ControlFlow;

use object::elf::{self, Dyn64, Rela64};
use object::endian::LittleEndian as Little;

use super::elf::{Elf, one, table};
use super::image::{Part, u64_at};
use super::{Address, SymbolError};

/// Bytes of the longest dynamic section that is read: a few dozen entries of 16 bytes are usual.
const LONGEST_DYNAMIC: u64 = 64 << 10;

impl Elf {
    /// Shows `visit` every relocation by the load bias: the address of the word, and its value less the bias.
    ///
    /// # Errors
    /// When the file ends inside of the table, or the allowance is used up.
    pub fn relative_relocations(
        &self,
        mut visit: impl FnMut(Address, u64) -> ControlFlow<()>,
    ) -> Result<(), SymbolError> {
        let Some(part) = self.relocation_table()? else { return Ok(()) };
        self.image.entries(part, size_of::<Rela64<Little>>(), |bytes| match one::<Rela64<Little>>(bytes) {
            // The low half of r_info is the type.
            Ok(entry) if entry.r_info.get(Little) & 0xffff_ffff == u64::from(elf::R_X86_64_RELATIVE.0) => {
                visit(Address(entry.r_offset.get(Little)), entry.r_addend.get(Little).cast_unsigned())
            }
            _ => ControlFlow::Continue(()),
        })
    }

    /// The eight-byte words at these addresses as they will be in memory, less the load bias; `None` where no bytes
    /// of the file are.
    ///
    /// # Errors
    /// As of [`Elf::relative_relocations`].
    pub fn words(&self, addresses: &[Address]) -> Result<Vec<Option<u64>>, SymbolError> {
        let mut words = Vec::with_capacity(addresses.len());
        for address in addresses {
            let part = self.file_offset(*address).map(|offset| (offset, self.image.part(offset, 8)));
            words.push(match part {
                Some((offset, part)) if part.len() == 8 => u64_at(&self.image.read(offset, 8)?, 0),
                _ => None,
            });
        }
        if self.is_position_independent() {
            self.relative_relocations(|address, value| {
                for (wanted, word) in addresses.iter().zip(&mut words) {
                    if *wanted == address {
                        *word = Some(value);
                    }
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(words)
    }

    /// Where DT_RELA's table lies in the file.
    fn relocation_table(&self) -> Result<Option<Part>, SymbolError> {
        let [address, bytes] = self.dynamic_values([elf::DT_RELA, elf::DT_RELASZ])?;
        let (Some(address), Some(bytes)) = (address, bytes) else { return Ok(None) };
        Ok(self.file_offset(Address(address)).map(|offset| self.image.part(offset, bytes)))
    }

    /// Whether it is a library that others name (DT_SONAME).
    ///
    /// # Errors
    /// When the dynamic section cannot be read.
    pub fn is_library(&self) -> Result<bool, SymbolError> {
        Ok(self.dynamic_values([elf::DT_SONAME])? != [None])
    }

    /// The values of entries of the dynamic section.
    fn dynamic_values<const COUNT: usize>(
        &self,
        tags: [elf::DynamicTag; COUNT],
    ) -> Result<[Option<u64>; COUNT], SymbolError> {
        let Some(dynamic) = self.dynamic else { return Ok([None; COUNT]) };
        let entries: Vec<Dyn64<Little>> =
            table(&self.image, dynamic.start, dynamic.len().min(LONGEST_DYNAMIC) / size_of::<Dyn64<Little>>() as u64)?;
        Ok(tags.map(|tag| {
            let mut entries = entries.iter().take_while(|entry| entry.d_tag.get(Little) != elf::DT_NULL);
            entries.find(|entry| entry.d_tag.get(Little) == tag).map(|entry| entry.d_val.get(Little))
        }))
    }
}
