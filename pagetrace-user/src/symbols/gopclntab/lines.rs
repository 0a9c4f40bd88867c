//! From a function's structure to source files, lines, and what was inlined.
//!
//! *Format.* In the structure, from behind the entry, are words of 4 bytes: name, two of no interest, three places in the
//! pcs (stack, file, line), number of places, unit; since Go 1.20 the function's first line; then three bytes of no
//! interest and one with the number of tables. As many places in the pcs follow, then as many tables, from `gofunc` on.
//!
//! The pcs at such a place are pairs of varints, from the value -1 and the function's entry on: what to add to the value
//! (zigzag), and the bytes for which it holds. A first varint of 0 behind the first pair is their end.
//!
//! The file of a value is word (unit + value) of the units, which is a place among the files' names. Place 2 leads to the
//! number of a call in table 3, or -1 where the function's own code is:
//!
//! | Go | bytes of a call | name at | the place of the call, in bytes from the entry, at |
//! |---|---|---|---|
//! | 1.18-1.19 | 20 | 12 | 16 |
//! | 1.20-1.27 | 16 | 4 | 8 |
//!
//! That place has a file, a line and perhaps a call of its own: so outward.
//!
//! *Bound.* A file that lies is read in [`MOST_BYTES`] at most, each block of it mostly once.
//! *Source.* `src/runtime/symtab.go` and `symtabinl.go` of each release (`pcvalue`, `funcline1`, `inlineUnwinder`).

use super::{Entry, Form, Table, locate};
use crate::event::Function;
use crate::symbols::elf::Elf;
use crate::symbols::image::{Blocks, Part};
use crate::symbols::{Address, FileOffset, SymbolError};

/// Bytes of a name that are read; generic functions have long ones.
const MOST_NAME_BYTES: u64 = 4096;
/// Calls inlined into each other that are followed; compilers stop earlier.
const MOST_INLINED: usize = 64;
/// Bytes of tables that are decoded at all, and more for each address: what real programs need is a tenth.
const MOST_BYTES: u64 = 1 << 25;
const MOST_BYTES_EACH: u64 = 4096;
/// Where words are, from behind the entry.
const FILE: u64 = 16;
const LINE: u64 = 20;
const PLACES: u64 = 24;
const UNIT: u64 = 28;
/// Numbers of the place and of the table that tell of calls inlined.
const INLINED_PLACE: u32 = 2;
const INLINED_TABLE: u32 = 3;
/// More calls are inlined into no function.
const MOST_CALLS: u32 = 1 << 20;

const OUTSIDE: SymbolError = SymbolError::Damaged("its table of lines points out of itself");

/// How calls that were inlined are told.
#[derive(Clone, Copy)]
struct Calls {
    /// What the tables count from.
    base: Address,
    bytes: u64,
    name: u64,
    parent: u64,
}

/// A call that was inlined: the name of the called function, and where the call is, from the entry.
struct Call {
    name: u32,
    parent: u64,
}

/// Reads the lines of one table.
pub(super) struct Lines<'a> {
    table: &'a Table,
    elf: &'a Elf,
    blocks: Blocks<'a>,
    calls: Option<Calls>,
    bytes_left: u64,
}

impl<'a> Lines<'a> {
    /// For this many addresses.
    pub fn new(table: &'a Table, elf: &'a Elf, inlined_at: Option<u32>, addresses: usize) -> Lines<'a> {
        // Whoever took it away left the lines.
        let calls = inlined_at.filter(|_| addresses > 0).and_then(|at| calls(table, elf, at).ok()?);
        let bytes_left = MOST_BYTES.saturating_add(MOST_BYTES_EACH.saturating_mul(addresses as u64));
        Lines { table, elf, blocks: Blocks::new(&elf.image), calls, bytes_left }
    }

    /// The functions at an address in a function, the innermost first.
    ///
    /// # Errors
    /// When not even the name can be read.
    pub fn at(&mut self, entry: &Entry, address: Address) -> Result<Vec<Function>, SymbolError> {
        let name = self.name(entry.name)?;
        let bytes = address.0.saturating_sub(entry.function.entry.0);
        Ok(self.chain(entry, bytes, &name).unwrap_or_else(|_| vec![Function { name, file: String::new(), line: 0 }]))
    }

    fn chain(&mut self, entry: &Entry, bytes: u64, name: &str) -> Result<Vec<Function>, SymbolError> {
        let mut functions = Vec::new();
        let mut at = bytes;
        while functions.len() < MOST_INLINED {
            let (file, line) = self.line(entry, at)?;
            let Some(call) = self.call(entry, at)? else {
                functions.push(Function { name: name.to_owned(), file, line });
                return Ok(functions);
            };
            functions.push(Function { name: self.name(call.name)?, file, line });
            at = call.parent;
        }
        Err(SymbolError::Damaged("its table of calls goes round"))
    }

    /// The source file and line this many bytes into a function; empty and 0 where the compiler tells none.
    fn line(&mut self, entry: &Entry, bytes: u64) -> Result<(String, u32), SymbolError> {
        const NONE: (String, u32) = (String::new(), 0);
        if self.table.pcs.is_empty() {
            return Ok(NONE);
        }
        let [file, line] = [self.word(entry, FILE)?, self.word(entry, LINE)?];
        let [file, line] = [self.value(file, bytes)?, self.value(line, bytes)?];
        let (Ok(file), Ok(line)) = (u64::try_from(file), u32::try_from(line)) else { return Ok(NONE) };
        let unit = u64::from(self.word(entry, UNIT)?).saturating_add(file).saturating_mul(4);
        let place = self.blocks.u32(within(self.table.units, unit, 4)?)?;
        if place == u32::MAX {
            return Ok(NONE);
        }
        Ok((self.text(self.table.files, place)?, line))
    }

    /// The innermost call that was inlined there.
    fn call(&mut self, entry: &Entry, bytes: u64) -> Result<Option<Call>, SymbolError> {
        let Some(calls) = self.calls else { return Ok(None) };
        let head = if self.table.form == Form::Go1_20 { UNIT + 8 } else { UNIT + 4 };
        let places = self.word(entry, PLACES)?;
        // The number of tables is the last of four bytes.
        let tables = self.word(entry, head)? >> 24;
        if places <= INLINED_PLACE || tables <= INLINED_TABLE {
            return Ok(None);
        }
        let first = head + 4;
        let table = self.word(entry, first + 4 * (u64::from(places) + u64::from(INLINED_TABLE)))?;
        let place = self.word(entry, first + 4 * u64::from(INLINED_PLACE))?;
        let Ok(number) = u32::try_from(self.value(place, bytes)?) else { return Ok(None) };
        if table == u32::MAX || number >= MOST_CALLS {
            return Ok(None);
        }
        let at = calls.base.plus(u64::from(table) + u64::from(number) * calls.bytes).ok_or(OUTSIDE)?;
        let at = self.elf.file_offset(at).ok_or(OUTSIDE)?;
        let mut word = |bytes: u64| self.blocks.u32(FileOffset(at.0.saturating_add(bytes)));
        Ok(Some(Call { name: word(calls.name)?, parent: u64::from(word(calls.parent)?) }))
    }

    /// What the pcs from a place on say of the byte this far into a function; -1 where they do not.
    fn value(&mut self, place: u32, bytes: u64) -> Result<i32, SymbolError> {
        if place == 0 {
            return Ok(-1);
        }
        let mut at = u64::from(place);
        let (mut value, mut end) = (-1_i32, 0_u64);
        loop {
            let delta = self.varint(&mut at)?;
            if delta == 0 && end != 0 {
                return Ok(-1);
            }
            value = value.wrapping_add((delta >> 1).cast_signed() ^ -(delta & 1).cast_signed());
            end = end.saturating_add(u64::from(self.varint(&mut at)?));
            if bytes < end {
                return Ok(value);
            }
        }
    }

    fn varint(&mut self, at: &mut u64) -> Result<u32, SymbolError> {
        let mut value = 0_u32;
        for shift in (0..32).step_by(7) {
            self.bytes_left = self.bytes_left.checked_sub(1).ok_or(SymbolError::TooMuch(MOST_BYTES))?;
            let byte = self.blocks.byte(within(self.table.pcs, *at, 1)?)?;
            *at = at.saturating_add(1);
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(SymbolError::Damaged("a number in its table of lines is too long"))
    }

    /// A word of a function's structure.
    fn word(&mut self, entry: &Entry, bytes: u64) -> Result<u32, SymbolError> {
        let fields = entry.fields.0.saturating_add(bytes);
        if fields >= self.table.index.end {
            return Err(OUTSIDE);
        }
        self.blocks.u32(FileOffset(fields))
    }

    fn name(&mut self, place: u32) -> Result<String, SymbolError> {
        self.text(self.table.names, place)
    }

    /// The text at a place in a part of the file, up to the byte 0.
    fn text(&mut self, part: Part, place: u32) -> Result<String, SymbolError> {
        let mut bytes = Vec::new();
        for at in u64::from(place)..u64::from(place) + MOST_NAME_BYTES {
            let Ok(at) = within(part, at, 1) else { break };
            match self.blocks.byte(at)? {
                0 => break,
                byte => bytes.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The place this far into a part of the file, where there is room for as many bytes.
fn within(part: Part, at: u64, bytes: u64) -> Result<FileOffset, SymbolError> {
    let start = part.start.saturating_add(at);
    if start.saturating_add(bytes) <= part.end { Ok(FileOffset(start)) } else { Err(OUTSIDE) }
}

/// Where calls that were inlined are told, and how; `None` where the program does not say.
fn calls(table: &Table, elf: &Elf, inlined_at: u32) -> Result<Option<Calls>, SymbolError> {
    let (bytes, name, parent) = match table.form {
        Form::Go1_2 | Form::Go1_16 => return Ok(None),
        Form::Go1_18 => (20, 12, 16),
        Form::Go1_20 => (16, 4, 8),
    };
    let is_text = |text: &Address| *text == table.text;
    let Some((module, _)) = locate::module(elf, table.address, table.first_name, is_text)? else { return Ok(None) };
    let Some(word) = module.plus(inlined_at.into()) else { return Ok(None) };
    Ok(elf.words(&[word])?.first().copied().flatten().map(|base| Calls { base: Address(base), bytes, name, parent }))
}
