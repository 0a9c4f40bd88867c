//! A program's file, read in pieces of bounded size and number.
//!
//! The file is read rather than mapped: one that is cut short meanwhile is an error, not a SIGBUS.
//!
//! Invariants: a piece is at most [`LONGEST_READ`] bytes; all pieces together are at most [`Image`]'s allowance, so
//! that no file, however it lies about its tables, keeps a reader busy for long.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use super::{FileOffset, SymbolError};

/// Bytes of the longest piece. The longest table that is read at once is 65,535 ELF section headers of 64 bytes.
const LONGEST_READ: u64 = 4 << 20;

/// Bytes of a piece of a table that is read from end to end.
const PIECE: u64 = 256 << 10;

/// Blocks of [`LEAST_COST`] bytes that are kept: 32 MiB.
const MOST_BLOCKS: usize = 8192;

/// What the allowance counts a short read as.
const LEAST_COST: u64 = 4096;

/// Every table of a sound file is read once or twice; this many times the whole file is only read for one that lies.
const TIMES: u64 = 16;

/// The largest allowance: a second or two of reading. A program of half of that is read without section headers too.
const MOST: u64 = 1 << 30;

/// A program's file.
pub struct Image {
    source: Source,
    len: u64,
    allowance: u64,
    left: Cell<u64>,
}

enum Source {
    File(File),
    Bytes(Vec<u8>),
}

/// A part of a file: `[start, end)`, within the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub end: u64,
}

impl Part {
    /// The bytes in it.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Image {
    /// Opens a file; a pipe or device is refused, neither opened nor, should it have come meanwhile, waited for.
    ///
    /// # Errors
    /// When it cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> Result<Image, SymbolError> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(SymbolError::NotAFile);
        }
        let flags = i32::try_from((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits());
        let file = OpenOptions::new().read(true).custom_flags(flags.unwrap_or_default()).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(SymbolError::NotAFile);
        }
        Ok(Image::new(Source::File(file), meta.len()))
    }

    /// The same of bytes in memory.
    #[must_use]
    pub fn of_bytes(bytes: Vec<u8>) -> Image {
        let len = bytes.len() as u64;
        Image::new(Source::Bytes(bytes), len)
    }

    fn new(source: Source, len: u64) -> Image {
        let allowance = len.saturating_mul(TIMES).saturating_add(PIECE * TIMES).min(MOST);
        Image { source, len, allowance, left: Cell::new(allowance) }
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What of `bytes` from `start` lies in the file.
    #[must_use]
    pub fn part(&self, start: FileOffset, bytes: u64) -> Part {
        let start = start.0.min(self.len);
        Part { start, end: start.saturating_add(bytes).min(self.len) }
    }

    /// Exactly `bytes` bytes from `offset`.
    ///
    /// # Errors
    /// When they do not lie in the file, are more than a piece, or the allowance is used up.
    pub fn read(&self, offset: FileOffset, bytes: u64) -> Result<Vec<u8>, SymbolError> {
        if self.part(offset, bytes).len() != bytes {
            return Err(SymbolError::Damaged("it ends inside of a table"));
        }
        if bytes > LONGEST_READ {
            return Err(SymbolError::Damaged("a table is too long"));
        }
        let left = self.left.get().checked_sub(bytes.max(LEAST_COST));
        self.left.set(left.ok_or(SymbolError::TooMuch(self.allowance))?);
        let too_long = |_| SymbolError::Damaged("a table is too long");
        let (from, count) = (usize::try_from(offset.0), usize::try_from(bytes).map_err(too_long)?);
        match &self.source {
            Source::File(file) => {
                let mut piece = vec![0; count];
                file.read_exact_at(&mut piece, offset.0)?;
                Ok(piece)
            }
            Source::Bytes(all) => {
                let from = from.map_err(too_long)?;
                let piece = all.get(from..from.saturating_add(count));
                piece.map(<[u8]>::to_vec).ok_or(SymbolError::Damaged("it ends inside of a table"))
            }
        }
    }

    /// Shows `visit` a part of the file in pieces, each with its place in the file. A piece ends with the first
    /// `overlap` bytes of the next one, for whatever stands across their border.
    ///
    /// # Errors
    /// As of [`Image::read`].
    pub fn pieces(
        &self,
        part: Part,
        overlap: u64,
        mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), SymbolError> {
        let mut at = part.start;
        while at < part.end {
            let bytes = PIECE.saturating_add(overlap).min(part.end - at);
            if visit(at, &self.read(FileOffset(at), bytes)?).is_break() {
                break;
            }
            at = at.saturating_add(PIECE);
        }
        Ok(())
    }

    /// Shows `visit` the entries of a table one by one; what is left at the end and is no whole entry is not shown.
    ///
    /// # Errors
    /// As of [`Image::read`].
    pub fn entries(
        &self,
        table: Part,
        entry_bytes: usize,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), SymbolError> {
        let whole = PIECE - PIECE.checked_rem(entry_bytes as u64).unwrap_or(0);
        let mut at = table.start;
        while at < table.end {
            let piece = self.read(FileOffset(at), whole.min(table.end - at))?;
            if piece.chunks_exact(entry_bytes.max(1)).try_for_each(&mut visit).is_break() {
                break;
            }
            at = at.saturating_add(whole);
        }
        Ok(())
    }
}

/// Short reads that mostly go forward: keeps the piece that the last one was in.
pub struct Window<'a> {
    image: &'a Image,
    start: u64,
    piece: Vec<u8>,
}

impl<'a> Window<'a> {
    /// Over this file, nothing read yet.
    #[must_use]
    pub fn new(image: &'a Image) -> Window<'a> {
        Window { image, start: 0, piece: Vec::new() }
    }

    /// Exactly `bytes` bytes from `offset`.
    ///
    /// # Errors
    /// As of [`Image::read`].
    pub fn read(&mut self, offset: FileOffset, bytes: usize) -> Result<&[u8], SymbolError> {
        if self.place(offset, bytes).is_none() {
            let len = self.image.part(offset, (PIECE / 4).max(bytes as u64)).len();
            self.piece = self.image.read(offset, len)?;
            self.start = offset.0;
        }
        let place = self.place(offset, bytes);
        place.and_then(|place| self.piece.get(place)).ok_or(SymbolError::Damaged("it ends inside of a table"))
    }

    /// Where in the piece they stand; `None` when not all of them do.
    fn place(&self, offset: FileOffset, bytes: usize) -> Option<std::ops::Range<usize>> {
        let from = usize::try_from(offset.0.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(bytes)?;
        (to <= self.piece.len()).then_some(from..to)
    }
}

/// Single bytes here and there: keeps the blocks that they were in.
pub struct Blocks<'a> {
    image: &'a Image,
    kept: HashMap<u64, Rc<[u8]>>,
    last: (u64, Rc<[u8]>),
}

impl<'a> Blocks<'a> {
    /// Over this file, nothing read yet.
    #[must_use]
    pub fn new(image: &'a Image) -> Blocks<'a> {
        Blocks { image, kept: HashMap::new(), last: (0, Rc::default()) }
    }

    /// The byte at `offset`.
    ///
    /// # Errors
    /// As of [`Image::read`].
    pub fn byte(&mut self, offset: FileOffset) -> Result<u8, SymbolError> {
        let (start, place) = (offset.0 & !(LEAST_COST - 1), (offset.0 & (LEAST_COST - 1)) as usize);
        if self.last.0 != start || self.last.1.is_empty() {
            let block = match self.kept.get(&start) {
                Some(block) => Rc::clone(block),
                None => self.read(start)?,
            };
            self.last = (start, block);
        }
        self.last.1.get(place).copied().ok_or(SymbolError::Damaged("it ends inside of a table"))
    }

    /// The four bytes from `offset`, little-endian.
    ///
    /// # Errors
    /// As of [`Image::read`].
    pub fn u32(&mut self, offset: FileOffset) -> Result<u32, SymbolError> {
        let mut bytes = [0; 4];
        for (at, byte) in (offset.0..).zip(&mut bytes) {
            *byte = self.byte(FileOffset(at))?;
        }
        Ok(u32::from_le_bytes(bytes))
    }

    fn read(&mut self, start: u64) -> Result<Rc<[u8]>, SymbolError> {
        if self.kept.len() >= MOST_BLOCKS {
            self.kept.clear();
        }
        let bytes = self.image.part(FileOffset(start), LEAST_COST).len();
        let block: Rc<[u8]> = self.image.read(FileOffset(start), bytes)?.into();
        self.kept.insert(start, Rc::clone(&block));
        Ok(block)
    }
}

/// The four bytes at `at`, little-endian.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The eight bytes at `at`, little-endian.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
