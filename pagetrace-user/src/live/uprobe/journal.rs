//! The journal of a set of uprobes: says which instructions are about to be changed, before they are.
//!
//! *Format.* One JSON object a file, `PID.N.uprobes` in the state directory. *Invariants.* It appears as a whole and
//! synced (it has no name before), it is locked (`flock`) as long as its recorder lives, and it goes after the detach.
//! So one that can be locked belongs to a recorder that was killed: [`super::sweep`].
//! *Where.* `/run` does not survive a boot, and no more do the breakpoints.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Point;
use super::file::{Identity, path_of};
use crate::failure::{Code, Failure};

/// Ends every journal's name.
pub const SUFFIX: &str = ".uprobes";
/// Names tried for a journal: those of dead recorders with our number may be there.
const NAMES: u32 = 10_000;

/// What a journal says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub boot_id: String,
    /// As it was attached to, and as the kernel calls that.
    pub path: PathBuf,
    pub name: PathBuf,
    pub file: Identity,
    pub offsets: Vec<u64>,
}

/// Where the journals lie. It belongs to us alone.
#[derive(Clone, Debug)]
pub struct StateDirectory(PathBuf);

impl Default for StateDirectory {
    fn default() -> StateDirectory {
        StateDirectory(PathBuf::from("/run/pagetrace"))
    }
}

/// A journal that is in force.
pub struct Journal {
    directory: OwnedFd,
    name: String,
    /// Holds the lock.
    _file: File,
}

impl Journal {
    /// Everything it names is detached.
    pub fn remove(self) {
        // Left behind, it costs the next start a needless look.
        let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

impl StateDirectory {
    /// Another one than `/run/pagetrace`; its parent must be there.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> StateDirectory {
        StateDirectory(path.into())
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a journal, durable on return.
    pub(super) fn write(&self, path: &Path, file: &Identity, points: &[Point]) -> Result<Journal, Failure> {
        let entry = Entry {
            boot_id: boot_id(),
            path: path.to_owned(),
            name: std::fs::read_link(path).unwrap_or_default(),
            file: *file,
            offsets: points.iter().map(|point| point.offset).collect(),
        };
        self.try_write(&entry).map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("cannot write down in {} what is attached, so nothing is", self.0.display()),
                error.to_string(),
                format!("make {} a directory of root's own on a tmpfs: mount -t tmpfs tmpfs /run", self.0.display()),
            )
        })
    }

    fn try_write(&self, entry: &Entry) -> io::Result<Journal> {
        match rustix::fs::mkdir(&self.0, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = self.open()?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&directory, ".", flags, Mode::RUSR | Mode::WUSR)?);
        file.lock()?;
        serde_json::to_writer(&mut file, entry)?;
        file.flush()?;
        file.sync_all()?;
        let name = give_name(&directory, &file)?;
        let journal = Journal { directory, name, _file: file };
        // The file's name is as durable as its content only after this.
        match rustix::fs::fsync(&journal.directory) {
            Ok(()) => Ok(journal),
            Err(error) => {
                journal.remove();
                Err(error.into())
            }
        }
    }

    /// The directory, if it is what it has to be. Nothing is followed, nobody else may write or read there.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.0, flags, Mode::empty())?;
        let directory = File::from(directory);
        let metadata = directory.metadata()?;
        if std::os::unix::fs::MetadataExt::uid(&metadata) != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to somebody else"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            directory.set_permissions(Permissions::from_mode(0o700))?;
        }
        Ok(directory.into())
    }
}

/// Gives a file without a name one that is free.
fn give_name(directory: &OwnedFd, file: &File) -> io::Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..NAMES {
        let name = format!("{}.{}{SUFFIX}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match rustix::fs::linkat(rustix::fs::CWD, path_of(file), directory, &name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("every name is taken"))
}

/// A journal whose recorder is gone, locked by us; `None` when the recorder lives, or somebody else was faster.
pub(super) fn take_over(directory: &OwnedFd, name: &str) -> io::Result<Option<(Journal, File)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0 {
        return Ok(None);
    }
    let directory = directory.as_fd().try_clone_to_owned()?;
    let text = file.try_clone()?;
    Ok(Some((Journal { directory, name: name.to_owned(), _file: file }, text)))
}

/// Which boot of the host this is.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
