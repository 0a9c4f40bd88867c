//! One file that a reading command makes: under its own name only once it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use super::Owner;
use super::trace_file::rename_to_free;

/// A file being written, as `NAME.part`. Dropped before [`OutputFile::finish`], it is removed.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    part: PathBuf,
    replace: bool,
    is_whole: bool,
}

impl OutputFile {
    /// Makes it, for its owner only (under sudo, for the user who called it). With `replace` a file of the name is
    /// replaced at the end, and a `.part` that was left behind now.
    ///
    /// # Errors
    /// When it cannot be made; `AlreadyExists` when the name is taken and `replace` is not set.
    pub fn create(path: &Path, replace: bool) -> io::Result<OutputFile> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        if replace {
            match std::fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else if std::fs::symlink_metadata(path).is_ok() {
            return Err(Errno::EXIST.into());
        }
        let no_link = OFlags::NOFOLLOW.bits() as i32;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(no_link).open(&part)?;
        let output = OutputFile { file, path: path.to_owned(), part, replace, is_whole: false };
        if let Some(owner) = Owner::of_sudo() {
            owner.give(&output.file)?;
        }
        Ok(output)
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// When that fails, or another file has taken the name since and may not be replaced.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.replace {
            std::fs::rename(&self.part, &self.path)?;
        } else {
            rename_to_free(CWD, self.part.as_path(), self.path.as_path())?;
        }
        self.is_whole = true;
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}
