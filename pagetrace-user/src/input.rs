//! The input of the reading commands: a trace file, or a stream of one on stdin; its form is told by its first bytes.
//!
//! *Format.* A file that pagetrace-user wrote begins with a magic. A page trace of the Go runtime has none: it is one if
//! its first two words can be nothing else, or if the first can and the file's name ends in `.pt`.
//!
//! *Errors.* What cannot be read as a trace at all is a [`Failure`] that says what it is instead, where that can be
//! told by its first bytes.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use crate::event::{Event, Header};
use crate::failure::{Code, Failure};
use crate::format::go::{self, GoReader};
use crate::format::{FormatError, Outcome, Reader, Trace};

/// As much of a file as tells its form.
const START_BYTES: u64 = 16;

/// A reader of a file or of stdin.
pub enum Input {
    /// What pagetrace-user wrote.
    Pagetrace(Box<Reader<Source>>),
    /// What a Go runtime wrote.
    Go(Box<GoReader>),
}

type Stream = Box<dyn Read + Send>;
/// The bytes that told the form, and the rest.
type Source = io::Chain<Cursor<Vec<u8>>, Stream>;

impl Input {
    /// Goes on where the reading ended, in a file that has grown since; false where it cannot.
    pub fn resume(&mut self) -> bool {
        match self {
            Input::Pagetrace(reader) => reader.resume(),
            Input::Go(_) => false,
        }
    }
}

impl Trace for Input {
    fn header(&self) -> &Header {
        match self {
            Input::Pagetrace(reader) => reader.header(),
            Input::Go(reader) => reader.header(),
        }
    }

    fn next_event(&mut self) -> io::Result<Option<&Event>> {
        match self {
            Input::Pagetrace(reader) => reader.next_event(),
            Input::Go(reader) => reader.next_event(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Input::Pagetrace(reader) => reader.outcome(),
            Input::Go(reader) => reader.outcome(),
        }
    }
}

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

/// Reads what stands before the first event from `source`, called `name` in a failure.
pub fn read_from(source: Stream, name: &str) -> Result<Input, Failure> {
    read_start(source, name).map_err(|error| cannot_read(&error, name))
}

fn read_start(mut source: Stream, name: &str) -> Result<Input, FormatError> {
    let mut start = Vec::new();
    source.by_ref().take(START_BYTES).read_to_end(&mut start)?;
    let is_go = go::begins(&start) || (name.ends_with(".pt") && go::begins_perhaps(&start));
    let whole = Cursor::new(start).chain(source);
    Ok(if is_go { Input::Go(Box::new(GoReader::new(whole)?)) } else { Input::Pagetrace(Box::new(Reader::new(whole)?)) })
}

fn cannot_read(error: &FormatError, name: &str) -> Failure {
    let (code, fix) = match error {
        FormatError::Io(_) => (Code::Failed, String::new()),
        FormatError::Empty => (Code::Damaged, "record again: not even its header was written".to_owned()),
        FormatError::Newer { .. } => {
            (Code::Damaged, "read it with the pagetrace-user that recorded it, or a newer one".to_owned())
        }
        FormatError::Header { .. } => (Code::Damaged, "copy it again from where it was recorded".to_owned()),
        FormatError::Foreign { start } => match recognised(start) {
            Some((what, fix)) => {
                let why = format!("{error}: it looks like {what}");
                return Failure::new(Code::Damaged, format!("cannot read {name}"), why, fix);
            }
            None => (Code::Damaged, "name a file that pagetrace-user wrote: its path ends in .pgt".to_owned()),
        },
    };
    Failure::new(code, format!("cannot read {name}"), error.to_string(), fix)
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
    KNOWN.iter().find(|(magic, ..)| start.starts_with(magic)).map(|&(_, what, fix)| (what, fix))
}
