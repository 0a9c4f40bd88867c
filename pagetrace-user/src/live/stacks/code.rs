//! A program or library, as far as unwinding and naming need it.

use std::fs::File;
use std::ops::Range as Span;
use std::path::Path;
use std::sync::Arc;

use framehop::ExplicitModuleSectionInfo;

use crate::symbols::SymbolError;
use crate::symbols::elf::{Elf, Segment};
use crate::symbols::image::{Image, Part};
use crate::units::PAGE_BYTES;

/// Bytes of one section that are read; a browser's is 40 MiB.
const MOST_BYTES: u64 = 256 << 20;

/// A section: where it is linked to lie, and its bytes.
#[derive(Clone, Debug)]
struct Piece {
    address: u64,
    bytes: Arc<[u8]>,
}

impl Piece {
    fn span(&self) -> Span<u64> {
        self.address..self.address.saturating_add(self.bytes.len() as u64)
    }
}

/// One file, opened: what it says stays readable when it is replaced or its process is gone.
#[derive(Debug)]
pub struct CodeFile {
    /// For naming.
    pub file: File,
    pub build_id: Vec<u8>,
    segments: Vec<Segment>,
    text: Option<Span<u64>>,
    eh_frame: Option<Piece>,
    eh_frame_hdr: Option<Piece>,
    debug_frame: Option<Piece>,
}

impl CodeFile {
    /// Reads what unwinding needs.
    ///
    /// *Errors.* It is no x86-64 ELF file, or contradicts itself.
    pub fn open(path: &Path) -> Result<CodeFile, SymbolError> {
        let elf = Elf::parse(Image::open(path)?)?;
        let piece = |name: &str| {
            let section = elf.section(name)?;
            piece_of(&elf, section.address.0, section.file)
        };
        let mut code = CodeFile {
            file: File::open(path)?,
            build_id: elf.build_id().unwrap_or_default(),
            segments: elf.segments().to_vec(),
            text: elf.section(".text").map(|text| text.address.0..text.address.0.saturating_add(text.file.len())),
            eh_frame: piece(".eh_frame"),
            eh_frame_hdr: piece(".eh_frame_hdr"),
            debug_frame: None,
        };
        if code.eh_frame.is_none() {
            code.debug_frame = piece(".debug_frame");
        }
        Ok(code)
    }

    /// What to add to addresses of the file to get those of the process where bytes from `offset` on are mapped at `start`.
    #[must_use]
    pub fn bias(&self, start: u64, offset: u64) -> u64 {
        let page = |at: u64| at & !(PAGE_BYTES - 1);
        let of = |segment: &&Segment| page(segment.file.start) <= offset && offset < segment.file.end;
        let mapped = self.segments.iter().filter(|segment| segment.executable).find(of);
        let mapped = mapped.or_else(|| self.segments.iter().find(of));
        let linked =
            mapped.map_or(0, |segment| segment.address.0.wrapping_sub(segment.file.start).wrapping_add(offset));
        start.wrapping_sub(linked)
    }

    /// What to add to an offset of code in the file to get the address that it is linked for, modulo 2^64.
    #[must_use]
    pub fn linked(&self) -> Option<u64> {
        let code = self.segments.iter().find(|segment| segment.executable)?;
        Some(code.address.0.wrapping_sub(code.file.start))
    }

    /// As the unwinder takes it.
    #[must_use]
    pub fn sections(&self) -> ExplicitModuleSectionInfo<Arc<[u8]>> {
        let bytes = |piece: &Option<Piece>| piece.as_ref().map(|piece| Arc::clone(&piece.bytes));
        ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: self.text.clone(),
            eh_frame_svma: self.eh_frame.as_ref().map(Piece::span),
            eh_frame: bytes(&self.eh_frame),
            eh_frame_hdr_svma: self.eh_frame_hdr.as_ref().map(Piece::span),
            eh_frame_hdr: bytes(&self.eh_frame_hdr),
            debug_frame: bytes(&self.debug_frame),
            ..ExplicitModuleSectionInfo::default()
        }
    }
}

fn piece_of(elf: &Elf, address: u64, part: Part) -> Option<Piece> {
    if part.is_empty() || part.len() > MOST_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    // In pieces: the reader of hostile files bounds what is read at once.
    elf.image
        .pieces(part, 0, |_, piece| {
            bytes.extend_from_slice(piece);
            std::ops::ControlFlow::Continue(())
        })
        .ok()?;
    Some(Piece { address, bytes: bytes.into() })
}
