//! The input of the reading commands: a trace file, or a stream of one on stdin.
//!
//! *Errors.* What cannot be read as a trace at all is a [`Failure`] that says what it is instead, where that can be
//! told by its first bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::failure::{Code, Failure};
use crate::format::{FormatError, Reader};

/// A reader of a file or of stdin.
pub type Input = Reader<Box<dyn Read + Send>>;

/// Opens a trace; `-` is stdin.
pub fn open(path: &Path) -> Result<Input, Failure> {
    if path.as_os_str() == "-" {
        return read_from(Box::new(io::stdin()), "standard input");
    }
    let name = path.display().to_string();
    let cannot = |error: &io::Error| {
        let fix = match error.kind() {
            io::ErrorKind::NotFound => "name a file that pagetrace-user wrote: its path ends in .pgt",
            io::ErrorKind::PermissionDenied => "read it as its owner, or as root",
            io::ErrorKind::IsADirectory => "name a file in it: its path ends in .pgt",
            _ => "",
        };
        Failure::new(Code::Failed, format!("cannot open {name}"), error.to_string(), fix)
    };
    let file = File::open(path).map_err(|error| cannot(&error))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(cannot(&io::Error::from(rustix::io::Errno::ISDIR)));
    }
    read_from(Box::new(BufReader::with_capacity(1 << 16, file)), &name)
}

/// Reads preamble and header from `source`, called `name` in a failure.
pub fn read_from(source: Box<dyn Read + Send>, name: &str) -> Result<Input, Failure> {
    Reader::new(source).map_err(|error| {
        let (code, fix) = match &error {
            FormatError::Io(_) => (Code::Failed, String::new()),
            FormatError::Empty => (Code::Damaged, "record again: not even its header was written".to_owned()),
            FormatError::Newer { .. } => {
                (Code::Damaged, "read it with the pagetrace-user that recorded it, or a newer one".to_owned())
            }
            FormatError::Header { .. } => (Code::Damaged, "copy it again from where it was recorded".to_owned()),
            FormatError::Foreign { start } => match recognised(start) {
                Some((what, fix)) => {
                    return Failure::new(
                        Code::Damaged,
                        format!("cannot read {name}"),
                        format!("{error}: it looks like {what}"),
                        fix,
                    );
                }
                None => (Code::Damaged, "name a file that pagetrace-user wrote: its path ends in .pgt".to_owned()),
            },
        };
        Failure::new(code, format!("cannot read {name}"), error.to_string(), fix)
    })
}

/// What begins so, and what to do with it.
fn recognised(start: &[u8]) -> Option<(&'static str, &'static str)> {
    const KNOWN: [(&[u8], &str, &str); 8] = [
        (b"PERFILE2", "a recording of perf", "perf script -i FILE"),
        (b"\x7fELF", "a program or library (ELF)", "record it running: pagetrace-user -- PROGRAM"),
        (b"\x1f\x8b", "compressed with gzip", "gzip -dc FILE | pagetrace-user dump -"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc FILE | pagetrace-user dump -"),
        (b"\xfd7zXZ\0", "compressed with xz", "xz -dc FILE | pagetrace-user dump -"),
        (b"PK\x03\x04", "a zip archive", "unpack it first"),
        (b"\x89PGT\n", "a trace file whose line ends were converted", "copy it again, in binary mode"),
        (b"{", "JSON, perhaps of pagetrace-user dump --json", "name the .pgt file that it was made from"),
    ];
    if is_go_page_trace(start) {
        return Some(("a page trace of the Go runtime", "record the program with pagetrace-user instead: --pid N"));
    }
    KNOWN.iter().find(|(magic, ..)| start.starts_with(magic)).map(|&(_, what, fix)| (what, fix))
}

/// The Go runtime's page tracer has no magic. Its words are little-endian, the low 3 bits their kind, and a file
/// begins with the P's id (kind 4; -1 for none) and a time (kind 0).
fn is_go_page_trace(start: &[u8]) -> bool {
    let word = |at: usize| Some(i64::from_le_bytes(start.get(at..at + 8)?.try_into().ok()?));
    let (Some(first), Some(second)) = (word(0), word(8)) else { return false };
    first & 7 == 4 && (-1..1 << 16).contains(&(first >> 3)) && second & 7 == 0 && second > 0
}
