//! The pid file: says that a recorder works in the directory, and which.
//!
//! *Format.* The PID in decimal, and a newline. *Invariants.* It is locked (`flock`) as long as the recorder
//! lives, so that one left behind by a killed recorder is known for stale, and taken over.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Owner;
use super::directory::Directory;
use crate::failure::{Code, Failure};

#[derive(Debug)]
pub(super) struct PidFile {
    pub name: String,
    directory: Arc<OwnedFd>,
    /// Holds the lock.
    file: File,
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Removed while locked: nobody can have taken it over in between.
        if is_at(&self.directory, &self.name, &self.file).unwrap_or(false) {
            let _ = rustix::fs::unlinkat(&*self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Why a pid file cannot be had.
enum Refusal {
    /// A live recorder has it.
    Taken,
    Io(io::Error),
    Foreign(&'static str),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Refusal {
        Refusal::Io(error.into())
    }
}

impl PidFile {
    /// `trace.pid`, or where a live recorder has that, `trace.PID.pid`.
    pub fn take(directory: &Directory, owner: Option<Owner>) -> Result<PidFile, Failure> {
        let own_name = format!("trace.{}.pid", std::process::id());
        let mut name = "trace.pid".to_owned();
        let mut taken = lock(directory, &name, owner);
        if matches!(taken, Err(Refusal::Taken)) {
            name = own_name;
            taken = lock(directory, &name, owner);
        }
        sweep(directory, owner);
        let path = directory.path.join(&name);
        let file = taken.map_err(|refusal| {
            let (why, fix) = match refusal {
                Refusal::Taken => ("a live recorder has it".to_owned(), "choose another directory: -o DIR".to_owned()),
                Refusal::Foreign(why) => (why.to_owned(), format!("rm {}", path.display())),
                Refusal::Io(error) => (
                    error.to_string(),
                    "make room or get the right to write there, or choose another directory: -o DIR".to_owned(),
                ),
            };
            Failure::new(
                Code::Failed,
                format!("cannot make the pid file {}, so nothing is recorded", path.display()),
                why,
                fix,
            )
        })?;
        Ok(PidFile { name, directory: Arc::clone(&directory.fd), file })
    }
}

/// Removes the numbered pid files of recorders that were killed. What cannot be removed stays: it harms nobody.
fn sweep(directory: &Directory, owner: Option<Owner>) {
    let Ok(entries) = rustix::fs::Dir::read_from(&*directory.fd) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy();
        let pid = name.strip_prefix("trace.").and_then(|rest| rest.strip_suffix(".pid"));
        if pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()) || pid.parse::<u32>().is_err()) {
            continue;
        }
        if let Ok(held) = open_locked(directory, &name, OFlags::empty(), owner) {
            drop(PidFile { name: name.into_owned(), directory: Arc::clone(&directory.fd), file: held });
        }
    }
}

/// The locked file of this name with our PID in it.
fn lock(directory: &Directory, name: &str, owner: Option<Owner>) -> Result<File, Refusal> {
    // Another recorder may remove the file between our opening and our locking of it: then it is made again.
    for _ in 0..100 {
        let mut file = open_locked(directory, name, OFlags::CREATE, owner)?;
        if !is_at(&directory.fd, name, &file)? {
            continue;
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            let _ = rustix::fs::unlinkat(&*directory.fd, name, AtFlags::empty());
            return Err(Refusal::Io(error));
        }
        return Ok(file);
    }
    Err(Refusal::Io(io::Error::other("it is removed again and again")))
}

/// Opens, checks and locks what stands at `name`.
fn open_locked(directory: &Directory, name: &str, how: OFlags, owner: Option<Owner>) -> Result<File, Refusal> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | how;
    let fd = match rustix::fs::openat(&*directory.fd, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(fd) => fd,
        Err(Errno::LOOP) => return Err(Refusal::Foreign("a symbolic link stands there, which is not followed")),
        Err(Errno::ISDIR) => return Err(Refusal::Foreign("a directory stands there")),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&fd)?;
    let me = rustix::process::geteuid().as_raw();
    let ours = stat.st_uid == me || owner.is_some_and(|owner| owner.uid == stat.st_uid);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink > 1 || !ours {
        return Err(Refusal::Foreign("what stands there is not a pid file of ours"));
    }
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(fd.into()),
        Err(Errno::WOULDBLOCK) => Err(Refusal::Taken),
        Err(error) => Err(error.into()),
    }
}

/// Whether `file` is what stands at `name`.
fn is_at(directory: &OwnedFd, name: &str, file: &File) -> rustix::io::Result<bool> {
    let held = rustix::fs::fstat(file)?;
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
