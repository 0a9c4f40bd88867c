//! What the go command left in a program about its making: the version of Go, and the settings.
//!
//! *Format* (since Go 1.18). At an address that is a multiple of 16: 14 bytes of magic, the size of a pointer, flags
//! of which bit 1 says that the strings follow, up to 32 bytes; then the version and the module's description, each a
//! varint length and that many bytes. Earlier programs have pointers there; their version is not read.
//!
//! *Source.* `src/debug/buildinfo/buildinfo.go`.

use std::ops::ControlFlow;

use memchr::memmem::Finder;

use crate::symbols::elf::{Elf, Segment};
use crate::symbols::image::{Image, Part};
use crate::symbols::{FileOffset, SymbolError};

/// In two pieces, so that this program does not look like one of Go itself.
const MAGIC: [&[u8]; 2] = [b"\xff Go ", b"buildinf:"];

/// Where the strings begin.
const HEADER: u64 = 32;

/// Bytes of the longest version that is believed.
const LONGEST_VERSION: u64 = 256;

/// Bytes of the longest description that is searched for settings, which stand at its end.
const LONGEST_DESCRIPTION: u64 = 1 << 20;

/// The places that look like it and are looked at.
const MOST_CANDIDATES: usize = 64;

/// What a program says about its making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// `go1.22.10`, with ` X:` (`-X:` since Go 1.26) and experiments behind it if there were any; empty before Go 1.18.
    pub version: String,
    /// Whether the race detector is built in.
    pub race: bool,
}

impl BuildInfo {
    /// Finds it by its section, else by its magic in the data that the program may write to, else in other data.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn find(elf: &Elf) -> Result<Option<BuildInfo>, SymbolError> {
        if let Some(section) = elf.section(".go.buildinfo")
            && let Some(found) = first_in(elf, section.file)?
        {
            return Ok(Some(found));
        }
        let data: Vec<&Segment> = elf.segments().iter().filter(|segment| !segment.executable).collect();
        let (writable, constant): (Vec<&Segment>, Vec<&Segment>) = data.iter().partition(|segment| segment.writable);
        for segment in writable.into_iter().chain(constant) {
            if let Some(found) = first_in(elf, segment.file)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What begins at this place of the file; `None` when it only looked like it.
    fn at(image: &Image, start: u64) -> Result<Option<BuildInfo>, SymbolError> {
        let header = image.part(FileOffset(start), HEADER);
        let header = image.read(FileOffset(start), header.len())?;
        let (Some(pointer_bytes), Some(flags)) = (header.get(14), header.get(15)) else { return Ok(None) };
        if flags & 2 == 0 {
            // Bit 0 is the byte order, and this machine's is little.
            return Ok((*pointer_bytes == 8 && *flags == 0).then(BuildInfo::default));
        }
        let Some(version) = string(image, start.saturating_add(HEADER))? else { return Ok(None) };
        if version.len() > LONGEST_VERSION {
            return Ok(None);
        }
        let text = String::from_utf8(image.read(FileOffset(version.start), version.len())?).unwrap_or_default();
        if !["go", "devel", "unknown"].iter().any(|head| text.starts_with(head)) {
            return Ok(None);
        }
        let race = match string(image, version.end)? {
            Some(description) if description.len() <= LONGEST_DESCRIPTION => {
                let description = image.read(FileOffset(description.start), description.len())?;
                Finder::new("\nbuild\t-race=true\n").find(&description).is_some()
            }
            _ => false,
        };
        Ok(Some(BuildInfo { version: text, race }))
    }
}

/// The first that is one in a part of the file.
fn first_in(elf: &Elf, part: Part) -> Result<Option<BuildInfo>, SymbolError> {
    let magic = MAGIC.concat();
    let finder = Finder::new(&magic);
    let mut candidates = Vec::new();
    elf.image.pieces(part, magic.len() as u64, |at, piece| {
        let hits = finder.find_iter(piece).take(MOST_CANDIDATES).map(|hit| at.saturating_add(hit as u64));
        let aligned = |hit: &u64| elf.address(FileOffset(*hit)).is_some_and(|address| address.0.is_multiple_of(16));
        candidates.extend(hits.filter(aligned));
        if candidates.len() < MOST_CANDIDATES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for start in candidates.into_iter().take(MOST_CANDIDATES) {
        if let Some(found) = BuildInfo::at(&elf.image, start)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Where the bytes of the string lie whose length begins at `start`; `None` when they do not fit into the file.
fn string(image: &Image, start: u64) -> Result<Option<Part>, SymbolError> {
    let varint = image.part(FileOffset(start), 10);
    let varint = image.read(FileOffset(start), varint.len())?;
    let mut len = 0_u64;
    for (place, byte) in varint.iter().enumerate().take(9) {
        len |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let part = image.part(FileOffset(start.saturating_add(place as u64 + 1)), len);
            return Ok((part.len() == len).then_some(part));
        }
    }
    Ok(None)
}
