//! Go's own table of functions, `.gopclntab`: in every Go program, stripped or not, since the runtime needs it to
//! unwind stacks.
//!
//! *Format.* A header, then, at offsets that it gives, function names, and an index of functions with a structure for
//! each. Words are little-endian, eight bytes on x86-64.
//!
//! | magic | Go | header after `magic:u32 0 0 quantum:u8 8:u8` | index entry | in the function's structure |
//! |---|---|---|---|---|
//! | `0xfffffffb` | 1.2-1.15 | nfunc, then the index at once | pc, offset: u64 | name at +8, from the header |
//! | `0xfffffffa` | 1.16-1.17 | nfunc, nfiles, names, cu, files, pcs, index | pc, offset: u64 | name at +8 |
//! | `0xfffffff0` | 1.18-1.19 | nfunc, nfiles, text, names, cu, files, pcs, index | pc less text, offset: u32 | name at +4 |
//! | `0xfffffff1` | 1.20-1.27 | the same; text is 0 since 1.26 | the same | the same, and a line more |
//!
//! The index ends with one pc more: the end of the last function. A function's structure lies at its offset from the
//! index (from the header in the first form), its name (i32) counts from the names.
//!
//! *Invariants.* Tables are read from end to end, in pieces; what lies outside of the mapped piece of the file that
//! the header is in is not read.
//!
//! *Source.* `src/internal/abi/symtab.go` and `src/debug/gosym/pclntab.go` of each release.

mod lines;
mod locate;
mod names;

use super::elf::Elf;
use super::image::{Part, Window, u32_at, u64_at};
use super::{Address, FileOffset, SymbolError, strings};

/// More functions than any program has.
const MOST_FUNCTIONS: u64 = 1 << 24;

/// Bytes of the longest header.
const HEADER: u64 = 8 + 8 * 8;

/// A function: `[entry, end)`, padding behind it included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub entry: Address,
    pub end: Address,
}

/// The table of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    form: Form,
    /// Where the program's code begins: what entries of the index count from, or zero where they are addresses.
    text: Address,
    functions: u64,
    names: Part,
    index: Part,
    /// What offsets of structures count from.
    structures: u64,
    /// Where the header is mapped, and the names.
    address: Address,
    first_name: Address,
    /// Files by unit of compilation, their names, and what belongs to ranges of addresses; empty before Go 1.16.
    units: Part,
    files: Part,
    pcs: Part,
}

/// A function as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    function: Function,
    /// From the start of the names.
    name: u32,
    /// What follows the entry in its structure.
    fields: FileOffset,
}

/// A form of the table, as its magic says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Go1_2,
    Go1_16,
    Go1_18,
    Go1_20,
}

impl Form {
    fn of(magic: u32) -> Option<Form> {
        match magic {
            0xffff_fffb => Some(Form::Go1_2),
            0xffff_fffa => Some(Form::Go1_16),
            0xffff_fff0 => Some(Form::Go1_18),
            0xffff_fff1 => Some(Form::Go1_20),
            _ => None,
        }
    }

    /// Bytes of a number in the index.
    const fn number_bytes(self) -> usize {
        match self {
            Form::Go1_18 | Form::Go1_20 => 4,
            Form::Go1_2 | Form::Go1_16 => 8,
        }
    }
}

/// The header as it stands.
struct Header {
    form: Form,
    functions: u64,
    /// The address of the word that says where the code begins, in those forms that have it.
    text_word: Option<Address>,
    /// From the header: the names and what lies behind them, and the index.
    names: (u64, u64),
    index: u64,
    /// The same: units of compilation, files, pcs; where they are.
    lines: Option<[u64; 3]>,
}

impl Header {
    /// `None` when these bytes cannot be a header of a table of `room` bytes at this address.
    fn parse(bytes: &[u8], address: Address, room: u64) -> Option<Header> {
        let form = Form::of(u32_at(bytes, 0)?)?;
        if !matches!(bytes.get(4..8)?, [0, 0, 1 | 2 | 4, 8]) {
            return None;
        }
        let word = |number: usize| u64_at(bytes, 8 + 8 * number);
        let functions = word(0).filter(|count| (1..MOST_FUNCTIONS).contains(count))?;
        let (text_word, names, index, lines) = match form {
            Form::Go1_2 => (None, (0, room), 16, None),
            Form::Go1_16 => (None, (word(2)?, word(3)?), word(6)?, Some([word(3)?, word(4)?, word(5)?])),
            Form::Go1_18 | Form::Go1_20 => {
                (Some(address.plus(24)?), (word(3)?, word(4)?), word(7)?, Some([word(4)?, word(5)?, word(6)?]))
            }
        };
        let index_bytes = (2 * functions + 1).checked_mul(form.number_bytes() as u64)?;
        let fits = names.0 < names.1 && names.1 <= room && index.checked_add(index_bytes)? <= room;
        fits.then_some(Header { form, functions, text_word, names, index, lines })
    }
}

impl Table {
    /// The functions of these names, in the order of `names`; `None` for those that the program does not have.
    ///
    /// # Errors
    /// When the table cannot be read, or points out of itself.
    pub fn lookup(&self, elf: &Elf, names: &[&str]) -> Result<Vec<Option<Function>>, SymbolError> {
        let mut found = vec![None; names.len()];
        let places = strings::places(&elf.image, self.names, names)?;
        self.functions(elf, |entry| {
            if let Some(slot) = places.get(&u64::from(entry.name)).and_then(|index| found.get_mut(*index)) {
                slot.get_or_insert(entry.function);
            }
        })?;
        Ok(found)
    }

    /// Shows `visit` every function.
    ///
    /// # Errors
    /// As of [`Table::lookup`].
    fn functions(&self, elf: &Elf, mut visit: impl FnMut(Entry)) -> Result<(), SymbolError> {
        const OUTSIDE: SymbolError = SymbolError::Damaged("its table of functions points out of itself");
        let number = self.form.number_bytes();
        let (mut index, mut structures) = (Window::new(&elf.image), Window::new(&elf.image));
        for place in 0..self.functions {
            let at = self.index.start.saturating_add(place.saturating_mul(2 * number as u64));
            let entry = index.read(FileOffset(at), 3 * number)?;
            let numbers = [0, 1, 2].map(|which| match self.form {
                Form::Go1_18 | Form::Go1_20 => u32_at(entry, which * number).map(u64::from),
                Form::Go1_2 | Form::Go1_16 => u64_at(entry, which * number),
            });
            let [Some(start), Some(structure), Some(end)] = numbers else { return Err(OUTSIDE) };
            // The structure begins with its entry, in the form of a pc in the index; then comes the name.
            let fields = structure.checked_add(self.structures).and_then(|at| at.checked_add(number as u64));
            let fields = FileOffset(fields.ok_or(OUTSIDE)?);
            let name = u32_at(structures.read(fields, 4)?, 0).ok_or(OUTSIDE)?;
            let (Some(entry), Some(end)) = (self.text.plus(start), self.text.plus(end)) else { return Err(OUTSIDE) };
            visit(Entry { function: Function { entry, end: end.max(entry) }, name, fields });
        }
        Ok(())
    }
}
