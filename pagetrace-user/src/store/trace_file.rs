//! One file of a recording: appended to, made durable, renamed when it is whole.
//!
//! *Invariants.* It holds whole appends only, from the first on without a gap: what cannot be appended whole is
//! taken back. A `.part` that is left (a crash, a full disk) is thus readable as far as it goes. Written with
//! `write(2)`: stores into a mapping would end in SIGBUS on a full disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::directory::Directory;
use super::{NUMBERS, numbered};
use crate::failure::{Code, Failure};

/// A file being recorded. Dropped, it stays as it is: a `.part`.
#[derive(Debug)]
pub struct TraceFile {
    file: File,
    directory: Arc<OwnedFd>,
    directory_path: PathBuf,
    /// Its name without number and extension.
    stem: String,
    number: u32,
    part: String,
    /// Whether a finished file of the same name may be replaced.
    replace: bool,
    /// Bytes of whole appends.
    length: u64,
    /// An append failed: what comes later would leave a gap.
    broken: bool,
}

impl TraceFile {
    pub(super) fn new(file: File, directory: &Directory, stem: String, number: u32, replace: bool) -> TraceFile {
        let part = format!("{}.part", numbered(&stem, number));
        let (fd, path) = (Arc::clone(&directory.fd), directory.path.clone());
        TraceFile { file, directory: fd, directory_path: path, stem, number, part, replace, length: 0, broken: false }
    }

    /// Appends all of `bytes`, or nothing. After an error nothing can be appended any more: the next bytes would
    /// not be read behind a gap.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.broken = true;
                // Should this fail too, a reader still stops before the torn block.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// Bytes in the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes durable what was appended.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Where it lies now.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory_path.join(&self.part)
    }

    /// Makes it durable and gives it its final name, which is returned. When that fails the `.part` stays.
    pub fn finish(self) -> Result<PathBuf, Failure> {
        let name = self.settle().map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("cannot finish {}", self.path().display()),
                error.to_string(),
                format!("what was recorded is readable: pagetrace-user report {}", self.path().display()),
            )
        })?;
        Ok(self.directory_path.join(name))
    }

    /// Leaves it as a `.part`: it is not whole, but readable. One in which there is nothing is removed.
    pub fn keep_part(self) {
        if self.length == 0 {
            return self.discard();
        }
        // What cannot be made durable now may still be read.
        let _ = self.file.sync_all();
    }

    /// Removes it.
    pub fn discard(self) {
        let _ = rustix::fs::unlinkat(&*self.directory, &self.part, AtFlags::empty());
    }

    fn settle(&self) -> io::Result<String> {
        self.file.sync_all()?;
        let name = self.rename()?;
        match rustix::fs::fsync(&*self.directory) {
            // Some file systems cannot sync a directory, and need not.
            Ok(()) | Err(Errno::INVAL) => Ok(name),
            Err(error) => Err(error.into()),
        }
    }

    /// The name was free when the file was made. Whoever took it since keeps it.
    fn rename(&self) -> io::Result<String> {
        let directory = &*self.directory;
        for number in self.number..=NUMBERS {
            let name = numbered(&self.stem, number);
            if self.replace {
                rustix::fs::renameat(directory, &self.part, directory, &name)?;
                return Ok(name);
            }
            match rename_to_free(directory, self.part.as_str(), name.as_str()) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }
}

/// Fails with `EXIST` when `to` is there already.
pub(super) fn rename_to_free<P: Arg + Copy>(directory: impl AsFd, from: P, to: P) -> rustix::io::Result<()> {
    let directory = directory.as_fd();
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // NOTE: not every file system knows the flag (NFS does not); a second name is refused there as well when
        // it is taken.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
            rustix::fs::unlinkat(directory, from, AtFlags::empty())
        }
        done => done,
    }
}
