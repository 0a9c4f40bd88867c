//! Finding the table in a file, by a section's name or by its looks, and the address that its entries count from.
//!
//! Where no section says so, the table is what looks like a header in a mapped piece of the file: external linkers
//! merge it into `.data.rel.ro`, and section headers may be gone.
//!
//! Since Go 1.26 the header does not tell where the code begins. The runtime's `moduledata` does: it begins with the
//! address of the table, followed by the slices of the table's parts, the first of which are the names.

use std::ops::ControlFlow;

use memchr::memmem::Finder;

use super::{HEADER, Header, Table};
use crate::symbols::elf::Elf;
use crate::symbols::image::Part;
use crate::symbols::{Address, FileOffset, SymbolError};

/// The sections that the table has to itself; the second one in position-independent programs up to Go 1.25.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// The end of each magic, and what follows it on x86-64.
const LOOKS: &[u8] = b"\xff\xff\xff\x00\x00\x01\x08";

/// Where `text` lies in `moduledata`: behind the table's address, six slices, a pointer, and the first and last pc.
const TEXT_IN_MODULEDATA: u64 = 8 + 6 * 24 + 8 + 2 * 8;

/// The places that may be a table, or a `moduledata`, that are looked at.
const MOST_CANDIDATES: usize = 64;

impl Table {
    /// Whether a section says that there is one.
    #[must_use]
    pub fn has_section(elf: &Elf) -> bool {
        SECTIONS.iter().any(|name| elf.section(name).is_some())
    }

    /// Finds it; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or does not tell where its code begins.
    pub fn find(elf: &Elf) -> Result<Option<Table>, SymbolError> {
        let mut candidates: Vec<u64> =
            SECTIONS.iter().filter_map(|name| elf.section(name)).map(|section| section.file.start).collect();
        let mut headless = false;
        for scanned in [false, true] {
            if scanned {
                candidates = look_alikes(elf)?;
            }
            for start in &candidates {
                let Some((header, address, room)) = header_at(elf, FileOffset(*start))? else { continue };
                match text_of(elf, &header, address)? {
                    Some(text) => return Ok(Some(table(&header, address, text, *start, room))),
                    None => headless = true,
                }
            }
        }
        if headless {
            return Err(SymbolError::Damaged("its table of functions does not tell where the code begins"));
        }
        Ok(None)
    }
}

/// The header at a place of the file, its address, and the part of the file from there to the end of its segment.
fn header_at(elf: &Elf, start: FileOffset) -> Result<Option<(Header, Address, Part)>, SymbolError> {
    let Some(address) = elf.address(start) else { return Ok(None) };
    let Some(segment) = elf.segment_of(address) else { return Ok(None) };
    let room = Part { start: start.0, end: segment.file.end };
    let bytes = elf.image.read(start, HEADER.min(room.len()))?;
    Ok(Header::parse(&bytes, address, room.len()).map(|header| (header, address, room)))
}

/// The table that a header stands for. The header's own check has made sure that nothing here overflows.
fn table(header: &Header, address: Address, text: Address, start: u64, room: Part) -> Table {
    let from_start = |bytes: u64| start.saturating_add(bytes).min(room.end);
    let index = from_start(header.index);
    // Each ends where the next one begins.
    let [units, files, pcs] = header.lines.unwrap_or([header.index; 3]).map(from_start);
    Table {
        form: header.form,
        text,
        functions: header.functions,
        names: Part { start: from_start(header.names.0), end: from_start(header.names.1) },
        index: Part { start: index, end: room.end },
        structures: if header.form == super::Form::Go1_2 { start } else { index },
        address,
        first_name: Address(address.0.saturating_add(header.names.0)),
        units: Part { start: units, end: files },
        files: Part { start: files, end: pcs },
        pcs: Part { start: pcs, end: index },
    }
}

/// Where in the mapped file something looks like a header.
fn look_alikes(elf: &Elf) -> Result<Vec<u64>, SymbolError> {
    let finder = Finder::new(LOOKS);
    let mut found = Vec::new();
    for segment in elf.segments() {
        elf.image.pieces(segment.file, LOOKS.len() as u64, |at, piece| {
            for hit in finder.find_iter(piece).take(MOST_CANDIDATES) {
                // Before it stands the magic's first byte; the whole is aligned.
                let start = at.saturating_add(hit as u64).saturating_sub(1);
                if start.is_multiple_of(8) && !found.contains(&start) {
                    found.push(start);
                }
            }
            if found.len() < MOST_CANDIDATES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(found)
}

/// What the index counts from; `None` when the file does not tell, and the header is none.
fn text_of(elf: &Elf, header: &Header, address: Address) -> Result<Option<Address>, SymbolError> {
    let Some(word) = header.text_word else { return Ok(Some(Address(0))) };
    let is_code = |text: &Address| elf.segment_of(*text).is_some_and(|segment| segment.executable);
    if let [Some(text)] = elf.words(&[word])?[..]
        && is_code(&Address(text))
    {
        return Ok(Some(Address(text)));
    }
    let Some(names) = address.plus(header.names.0) else { return Ok(None) };
    Ok(module(elf, address, names, is_code)?.map(|(_, text)| text))
}

/// The `moduledata` of the table at this address with these names, and the address that it has for the code, which has to
/// be one of code.
pub(super) fn module(
    elf: &Elf,
    table: Address,
    names: Address,
    is_code: impl Fn(&Address) -> bool,
) -> Result<Option<(Address, Address)>, SymbolError> {
    for candidates in [pointers_in_relocations(elf, table)?, pointers_in_data(elf, table, names)?] {
        let at = |bytes| candidates.iter().map(move |start: &Address| Address(start.0.saturating_add(bytes)));
        let wanted: Vec<Address> = at(0).chain(at(8)).chain(at(TEXT_IN_MODULEDATA)).collect();
        let words = elf.words(&wanted)?;
        let column = |number: usize| words.iter().skip(number * candidates.len()).take(candidates.len());
        for (((start, first), second), text) in candidates.iter().zip(column(0)).zip(column(1)).zip(column(2)) {
            if let Some(text) = text.map(Address).filter(&is_code)
                && (*first, *second) == (Some(table.0), Some(names.0))
            {
                return Ok(Some((*start, text)));
            }
        }
    }
    Ok(None)
}

/// The words that the loader makes point to the table.
fn pointers_in_relocations(elf: &Elf, table: Address) -> Result<Vec<Address>, SymbolError> {
    let mut found = Vec::new();
    if elf.is_position_independent() {
        elf.relative_relocations(|address, value| {
            if value == table.0 {
                found.push(address);
            }
            if found.len() < MOST_CANDIDATES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(found)
}

/// The words that point to the table in the file itself, with a pointer to its names behind them.
fn pointers_in_data(elf: &Elf, table: Address, names: Address) -> Result<Vec<Address>, SymbolError> {
    let needle = [table.0.to_le_bytes(), names.0.to_le_bytes()].concat();
    let finder = Finder::new(&needle);
    let mut found = Vec::new();
    for segment in elf.segments().iter().filter(|segment| !segment.executable) {
        elf.image.pieces(segment.file, needle.len() as u64, |at, piece| {
            let hits =
                finder.find_iter(piece).take(MOST_CANDIDATES).map(|hit| FileOffset(at.saturating_add(hit as u64)));
            found.extend(hits.filter_map(|hit| elf.address(hit)));
            if found.len() < MOST_CANDIDATES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    found.truncate(MOST_CANDIDATES);
    Ok(found)
}
