//! The words through which a program reaches functions that another file may define: the loader fills them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use object::elf::{self, Rela64, Sym64};
use object::endian::LittleEndian as Little;

use super::elf::{Elf, one};
use super::{Address, SymbolError, strings};

/// The words of a file, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Those of functions of the names that were asked for, wherever they are defined.
    pub named: BTreeSet<Address>,
    /// Where the file itself defines the function of a word; another file may take its place.
    pub own: BTreeMap<Address, Address>,
}

impl Slots {
    /// Those of a file, of which `names` are asked for.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn of(elf: &Elf, names: &[&str]) -> Result<Slots, SymbolError> {
        let mut slots = Slots::default();
        let (image, tables) = (&elf.image, elf.sections_of(elf::SHT_DYNSYM));
        for (symbols, texts) in tables {
            let Some(texts) = texts else { continue };
            let places = strings::places(image, texts, names)?;
            let (mut wanted, mut defined, mut index) = (BTreeSet::new(), BTreeMap::new(), 0_u64);
            image.entries(symbols, size_of::<Sym64<Little>>(), |bytes| {
                if let Ok(symbol) = one::<Sym64<Little>>(bytes) {
                    if places.contains_key(&u64::from(symbol.st_name.get(Little))) {
                        wanted.insert(index);
                    }
                    if symbol.st_shndx.get(Little) != elf::SHN_UNDEF {
                        defined.insert(index, Address(symbol.st_value.get(Little)));
                    }
                }
                index = index.saturating_add(1);
                ControlFlow::Continue(())
            })?;
            for (relocations, _) in elf.sections_of(elf::SHT_RELA) {
                image.entries(relocations, size_of::<Rela64<Little>>(), |bytes| {
                    let Ok(entry) = one::<Rela64<Little>>(bytes) else { return ControlFlow::Continue(()) };
                    // The upper half of r_info is the symbol's number.
                    let (symbol, slot) = (entry.r_info.get(Little) >> 32, Address(entry.r_offset.get(Little)));
                    if wanted.contains(&symbol) {
                        slots.named.insert(slot);
                    }
                    if let Some(address) = defined.get(&symbol) {
                        slots.own.insert(slot, *address);
                    }
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(slots)
    }
}
