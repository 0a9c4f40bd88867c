//! Commands that write one file of one trace.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::reading::{NamesArgs, cannot_write, unreadable, warn};
use crate::failure::{Code, Failure};
use crate::format::Outcome;
use crate::input::Input;
use crate::naming::Named;
use crate::store::OutputFile;

/// Where a command writes to instead of stdout.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    pub path: &'a Path,
    /// Whether a file of the name is overwritten.
    pub force: bool,
    /// What it is called, with its article: "a page".
    pub what: &'static str,
}

impl Output<'_> {
    /// Writes what `make` makes of `files`, of which there is one.
    pub(super) fn write(
        self,
        files: &[PathBuf],
        names: &NamesArgs,
        make: impl FnOnce(&mut Named<Input>) -> io::Result<(Vec<u8>, Outcome)>,
    ) -> Result<Code, Failure> {
        let Output { path, force, what } = self;
        let [file] = files else {
            return Err(Failure::new(
                Code::Usage,
                format!("cannot write {} traces to {}", files.len(), path.display()),
                format!("{what} is of one trace"),
                "write one after the other, each with a name of its own",
            ));
        };
        let mut trace = names.open(file)?;
        let mut out = OutputFile::create(path, force).map_err(|error| cannot_write(path, &error))?;
        let (bytes, outcome) = make(&mut trace).map_err(|error| unreadable(file, &error))?;
        let written = out.write_all(&bytes).and_then(|()| out.finish());
        written.map_err(|error| cannot_write(path, &error))?;
        Ok(warn(file, &outcome))
    }
}
