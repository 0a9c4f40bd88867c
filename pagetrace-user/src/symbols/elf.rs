//! A program's ELF file: where its segments lie, and what its symbol tables say.
//!
//! Only segments are needed for a sound answer; sections are a help where they exist, and a file whose section headers
//! are missing, cut or false has none here.
//!
//! *Source.* The ELF and x86-64 psABI structures as the `object` crate has them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use object::elf;
use object::endian::LittleEndian as Little;
use object::pod::{self, Pod};

use super::image::{Image, Part};
use super::{Address, FileOffset, SymbolError, strings};

/// Mapped pieces of a file that are believed; linkers make two to a dozen. Every lookup of an address goes through them.
const MOST_SEGMENTS: usize = 128;

/// Bytes of notes that are read.
const MOST_NOTE_BYTES: u64 = 1024;
/// The type of a note that holds a build id (`NT_GNU_BUILD_ID`), and its name.
const BUILD_ID_TYPE: u32 = 3;
const BUILD_ID_NAME: &[u8] = b"GNU\0";

/// A piece of the file that is mapped (PT_LOAD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub address: Address,
    pub file: Part,
    pub executable: bool,
    pub writable: bool,
}

impl Segment {
    /// The address of the byte behind the last that comes from the file.
    fn end(&self) -> u64 {
        self.address.0.saturating_add(self.file.len())
    }
}

/// A section that has bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub address: Address,
    pub file: Part,
    kind: elf::SectionType,
    link: u32,
}

/// A function by its symbol: `[entry, end)`; the end is the entry where the table does not tell the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub entry: Address,
    pub end: Address,
}

/// An x86-64 ELF program or library.
pub struct Elf {
    pub image: Image,
    /// Where the program begins.
    pub entry: Address,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    position_independent: bool,
    /// Where PT_DYNAMIC lies.
    pub(super) dynamic: Option<Part>,
    /// Where PT_INTERP lies.
    interpreter: Option<Part>,
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    /// When it is not a little-endian 64-bit x86 ELF file, or its program headers cannot be read.
    pub fn parse(image: Image) -> Result<Elf, SymbolError> {
        let ident = image.read(FileOffset(0), image.len().min(20))?;
        if !ident.starts_with(&elf::ELFMAG) || ident.len() < 20 {
            return Err(SymbolError::NotElf);
        }
        let header = image.read(FileOffset(0), image.len().min(64))?;
        let machine = u16::from_le_bytes(*header.get(18..).and_then(<[u8]>::first_chunk).ok_or(SymbolError::NotElf)?);
        let class = header.get(4).copied().unwrap_or(0);
        // Byte 5 is the byte order: 1 is little-endian.
        if machine != elf::EM_X86_64.0 || class != 2 || header.get(5) != Some(&1) {
            return Err(SymbolError::Machine { machine, class });
        }
        let header: elf::FileHeader64<Little> = one(&header)?;
        if usize::from(header.e_phentsize.get(Little)) != size_of::<elf::ProgramHeader64<Little>>() {
            return Err(SymbolError::Damaged("its program headers have no known size"));
        }
        let programs: Vec<elf::ProgramHeader64<Little>> =
            table(&image, header.e_phoff.get(Little), header.e_phnum.get(Little).into())?;
        let part = |program: &elf::ProgramHeader64<Little>| {
            image.part(FileOffset(program.p_offset.get(Little)), program.p_filesz.get(Little))
        };
        let segments: Vec<Segment> = programs
            .iter()
            .filter(|program| program.p_type.get(Little) == elf::PT_LOAD)
            .map(|program| Segment {
                address: Address(program.p_vaddr.get(Little)),
                file: part(program),
                executable: program.p_flags.get(Little).contains(elf::PF_X),
                writable: program.p_flags.get(Little).contains(elf::PF_W),
            })
            .collect();
        if segments.len() > MOST_SEGMENTS {
            return Err(SymbolError::Damaged("it has too many segments"));
        }
        let dynamic = programs.iter().find(|program| program.p_type.get(Little) == elf::PT_DYNAMIC).map(part);
        let interpreter = programs.iter().find(|program| program.p_type.get(Little) == elf::PT_INTERP).map(part);
        let sections = sections(&image, &header).unwrap_or_default();
        let position_independent = header.e_type.get(Little) == elf::ET_DYN;
        let entry = Address(header.e_entry.get(Little));
        Ok(Elf { image, entry, segments, sections, position_independent, dynamic, interpreter })
    }

    /// The mapped pieces, in the file's order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Where the sections of a kind lie, each with the section that it is linked to.
    pub(super) fn sections_of(&self, kind: elf::SectionType) -> Vec<(Part, Option<Part>)> {
        let of_kind = self.sections.iter().filter(|section| section.kind == kind);
        let linked =
            |section: &Section| self.sections.get(usize::try_from(section.link).ok()?).map(|linked| linked.file);
        of_kind.map(|section| (section.file, linked(section))).collect()
    }

    /// Whether the kernel loads it where it likes (ET_DYN).
    #[must_use]
    pub fn is_position_independent(&self) -> bool {
        self.position_independent
    }

    /// The path of the program that loads its libraries, if it names one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn interpreter(&self) -> Result<Option<String>, SymbolError> {
        let Some(part) = self.interpreter else { return Ok(None) };
        let bytes = self.image.read(FileOffset(part.start), part.len())?;
        Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()))
    }

    /// What a linker identified this build by.
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let notes = self.section(".note.gnu.build-id")?.file;
        build_id_of(&self.image.read(FileOffset(notes.start), notes.len().min(MOST_NOTE_BYTES)).ok()?)
    }

    /// Where the byte at an address lies in the file; `None` when it does not come from the file.
    #[must_use]
    pub fn file_offset(&self, address: Address) -> Option<FileOffset> {
        let segment = self.segment_of(address)?;
        Some(FileOffset(segment.file.start.checked_add(address.0.checked_sub(segment.address.0)?)?))
    }

    /// The address at which a byte of the file is mapped; the first one when there are several.
    #[must_use]
    pub fn address(&self, offset: FileOffset) -> Option<Address> {
        let segment =
            self.segments.iter().find(|segment| (segment.file.start..segment.file.end).contains(&offset.0))?;
        segment.address.plus(offset.0.checked_sub(segment.file.start)?)
    }

    /// The mapped piece from which the byte at an address comes.
    #[must_use]
    pub fn segment_of(&self, address: Address) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.address <= address && address.0 < segment.end())
    }

    /// Up to `bytes` bytes of code from an address: fewer at the end of the segment, none outside of executable ones.
    ///
    /// # Errors
    /// As of [`Image::read`].
    pub fn code(&self, address: Address, bytes: u64) -> Result<Vec<u8>, SymbolError> {
        match (self.segment_of(address), self.file_offset(address)) {
            (Some(segment), Some(offset)) if segment.executable => {
                self.image.read(offset, bytes.min(segment.file.end.saturating_sub(offset.0)))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The functions of these names in .symtab, else in .dynsym, in the order of `names`; `None` for those that the
    /// file does not define.
    ///
    /// # Errors
    /// When a symbol table cannot be read.
    pub fn functions(&self, names: &[&str]) -> Result<Vec<Option<Symbol>>, SymbolError> {
        let mut found = vec![None; names.len()];
        for kind in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
            for (table, texts) in self.sections_of(kind) {
                let Some(texts) = texts else { continue };
                let places = strings::places(&self.image, texts, names)?;
                self.search(table, &places, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Fills what is still empty in `found` from one symbol table.
    fn search(
        &self,
        table: Part,
        places: &HashMap<u64, usize>,
        found: &mut [Option<Symbol>],
    ) -> Result<(), SymbolError> {
        self.image.entries(table, size_of::<elf::Sym64<Little>>(), |bytes| {
            let Ok(symbol) = one::<elf::Sym64<Little>>(bytes) else { return ControlFlow::Continue(()) };
            let Some(index) = places.get(&u64::from(symbol.st_name.get(Little))) else {
                return ControlFlow::Continue(());
            };
            let is_function = symbol.st_info.st_type() == elf::STT_FUNC;
            let defined = symbol.st_shndx.get(Little) != elf::SHN_UNDEF;
            if let Some(slot) = found.get_mut(*index).filter(|slot| slot.is_none() && is_function && defined) {
                let entry = symbol.st_value.get(Little);
                let end = entry.saturating_add(symbol.st_size.get(Little));
                *slot = Some(Symbol { entry: Address(entry), end: Address(end) });
            }
            ControlFlow::Continue(())
        })
    }
}

/// The sections, with their own numbers: those without bytes in the file are empty.
fn sections(image: &Image, header: &elf::FileHeader64<Little>) -> Result<Vec<Section>, SymbolError> {
    let (offset, count) = (header.e_shoff.get(Little), header.e_shnum.get(Little));
    if offset == 0 || usize::from(header.e_shentsize.get(Little)) != size_of::<elf::SectionHeader64<Little>>() {
        return Ok(Vec::new());
    }
    let headers: Vec<elf::SectionHeader64<Little>> = table(image, offset, count.into())?;
    let names = headers.get(usize::from(header.e_shstrndx.get(Little).0)).map(|names| part_of(image, names));
    let names = names.map(|part| image.read(FileOffset(part.start), part.len())).transpose()?.unwrap_or_default();
    let name_at = |at: u32| {
        let rest = usize::try_from(at).ok().and_then(|at| names.get(at..)).unwrap_or_default();
        // The longest that anybody looks for is shorter.
        let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned()
    };
    Ok(headers
        .iter()
        .map(|section| Section {
            name: name_at(section.sh_name.get(Little)),
            address: Address(section.sh_addr.get(Little)),
            file: part_of(image, section),
            kind: section.sh_type.get(Little),
            link: section.sh_link.get(Little),
        })
        .collect())
}

fn part_of(image: &Image, section: &elf::SectionHeader64<Little>) -> Part {
    let has_bytes = section.sh_type.get(Little) != elf::SHT_NOBITS;
    image.part(FileOffset(section.sh_offset.get(Little)), if has_bytes { section.sh_size.get(Little) } else { 0 })
}

/// A table of `count` structures.
pub(super) fn table<T: Pod>(image: &Image, offset: u64, count: u64) -> Result<Vec<T>, SymbolError> {
    let size = size_of::<T>();
    let bytes = image.read(FileOffset(offset), count.saturating_mul(size as u64))?;
    bytes.chunks_exact(size).map(one).collect()
}

/// The structure that these bytes begin with.
pub(super) fn one<T: Pod>(bytes: &[u8]) -> Result<T, SymbolError> {
    pod::from_bytes(bytes).map(|(value, _)| *value).map_err(|()| SymbolError::Damaged("it ends inside of a header"))
}

/// The build id in a section of notes.
fn build_id_of(notes: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(*notes.get(at..)?.first_chunk()?));
    let (name, bytes, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
    let from = 12 + name.checked_next_multiple_of(4)?;
    let is_it = kind == BUILD_ID_TYPE && notes.get(12..12 + name)? == BUILD_ID_NAME;
    is_it.then(|| notes.get(from..from.checked_add(bytes)?).map(<[u8]>::to_vec))?
}
