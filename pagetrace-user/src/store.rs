//! Where recordings lie: a directory, its pid file, and one file for each process.
//!
//! *Names.* `[PREFIX.]COMM.PID.YYYYMMDDTHHMMSSZ[.N].pgt`, the time in UTC, and `.part` behind it until the recording
//! is finished. COMM has its letters, digits, `.`, `_`, `+` and `-`, anything else is `_`. `N` counts from 1 where
//! the name is taken.
//!
//! *Invariants.* Nothing is overwritten (except, with force, a finished file of the very name), no link is
//! followed, and every file is made anew, readable and writable for its owner only. While a [`Store`] lives, a pid
//! file lies in the directory, locked: `trace.pid`, or `trace.PID.pid` where another recorder is at work. Whatever
//! the store made and nobody needs is removed with it: the pid file, and an empty directory.
//!
//! *Owner.* Under sudo the files, and a directory made for them, are given to the user who called sudo: reading a
//! trace needs no root.

mod directory;
mod output_file;
mod pid_file;
mod trace_file;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags};
use time::OffsetDateTime;

use crate::failure::{Code, Failure};
use crate::units::{Comm, Pid};

use directory::Directory;
pub use output_file::OutputFile;
use pid_file::PidFile;
pub use trace_file::TraceFile;

/// Numbers that are tried for a name that is taken.
const NUMBERS: u32 = 9999;

/// The user to whom everything that is made is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// Who called sudo, when this is root by way of it.
    #[must_use]
    pub fn of_sudo() -> Option<Owner> {
        let id = |name| std::env::var(name).ok()?.parse().ok();
        let uid = id("SUDO_UID").filter(|&uid| uid != 0)?;
        let gid = id("SUDO_GID")?;
        rustix::process::geteuid().is_root().then_some(Owner { uid, gid })
    }

    fn give(self, file: impl rustix::fd::AsFd) -> io::Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(self.uid), rustix::fs::Gid::from_raw(self.gid));
        Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
    }
}

/// A directory in which this process records.
#[derive(Debug)]
pub struct Store {
    // Dropped in this order: the directory can go only when the pid file has gone.
    pid_file: PidFile,
    directory: Directory,
    prefix: Option<String>,
    force: bool,
    owner: Option<Owner>,
    /// With force, the names that this store gave out: its own files it never replaces.
    given: Mutex<HashSet<String>>,
}

impl Store {
    /// Makes `directory` if absent and takes it into use. `prefix` is put before every file's name, with a dot.
    /// `force` allows a file of the same name to be replaced.
    pub fn open(directory: &Path, prefix: Option<&str>, force: bool) -> Result<Store, Failure> {
        Store::open_for(Owner::of_sudo(), directory, prefix, force)
    }

    /// As [`Store::open`], for this owner.
    pub fn open_for(
        owner: Option<Owner>,
        directory: &Path,
        prefix: Option<&str>,
        force: bool,
    ) -> Result<Store, Failure> {
        let prefix = prefix.map(checked_prefix).transpose()?;
        let directory = Directory::open(directory, owner)?;
        let pid_file = PidFile::take(&directory, owner)?;
        Ok(Store { pid_file, directory, prefix, force, owner, given: Mutex::default() })
    }

    /// A new file for the recording of a process; `wall_secs` is its time, in seconds since the Unix epoch.
    pub fn create(&self, comm: Comm, pid: Pid, wall_secs: u64) -> Result<TraceFile, Failure> {
        let stem = stem(self.prefix.as_deref(), comm, pid, wall_secs);
        let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for number in 0..=NUMBERS {
            let name = numbered(&stem, number);
            let replaceable = self.force && !given.contains(&name);
            if !replaceable && self.directory.has(&name) {
                continue;
            }
            let part = format!("{name}.part");
            match self.make(&part) {
                Ok(file) => {
                    if self.force {
                        given.insert(name);
                    }
                    return Ok(TraceFile::new(file, &self.directory, stem, number, replaceable));
                }
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => {
                    return Err(Failure::new(
                        Code::Failed,
                        format!("cannot make {}", self.directory.path.join(part).display()),
                        io::Error::from(error).to_string(),
                        if error == rustix::io::Errno::MFILE {
                            "allow more open files: ulimit -n 65536"
                        } else {
                            "make room or get the right to write there, or choose another directory with -o DIR"
                        },
                    ));
                }
            }
        }
        Err(Failure::new(
            Code::Failed,
            format!("cannot make {}", self.directory.path.join(numbered(&stem, 0)).display()),
            format!("this name and {NUMBERS} numbered ones are taken"),
            "choose another directory with -o DIR, or replace the file with --force",
        ))
    }

    /// The directory, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// The pid file.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.directory.path.join(&self.pid_file.name)
    }

    /// Ends the use: the pid file goes, and the directory if it was made by [`Store::open`] and is empty. Dropping
    /// does the same.
    pub fn close(self) {}

    fn make(&self, part: &str) -> rustix::io::Result<std::fs::File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::APPEND | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*self.directory.fd, part, flags, Mode::RUSR | Mode::WUSR)?;
        // A file system without owners keeps its own.
        if let Some(owner) = self.owner {
            let _ = owner.give(&file);
        }
        Ok(file.into())
    }
}

fn checked_prefix(prefix: &str) -> Result<String, Failure> {
    let odd = |c: char| c == '/' || c.is_control();
    if prefix.is_empty() || prefix.len() > 100 || prefix.starts_with(['.', '-']) || prefix.contains(odd) {
        return Err(Failure::new(
            Code::Usage,
            format!("cannot use {prefix:?} as a prefix"),
            "it becomes the start of a file name: 1 to 100 bytes, no '/' or control character, no '.' or '-' in front",
            "choose another one: --prefix NAME",
        ));
    }
    Ok(prefix.to_owned())
}

fn stem(prefix: Option<&str>, comm: Comm, pid: Pid, wall_secs: u64) -> String {
    let at = i64::try_from(wall_secs).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut stem = prefix.map_or(String::new(), |prefix| format!("{prefix}."));
    stem.push_str(&sanitised(&comm.to_text()));
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    stem.push_str(&format!(".{pid}.{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"));
    stem
}

fn sanitised(comm: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    let name: String = comm.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    match name.chars().next() {
        None => "_".to_owned(),
        Some('.' | '-') => format!("_{}", name.get(1..).unwrap_or_default()),
        Some(_) => name,
    }
}

/// The name of a finished file.
fn numbered(stem: &str, number: u32) -> String {
    match number {
        0 => format!("{stem}.pgt"),
        number => format!("{stem}.{number}.pgt"),
    }
}

#[cfg(test)]
mod tests {
    use super::{sanitised, stem};
    use crate::units::{Comm, Pid};

    #[test]
    fn names_say_who_and_when() {
        let check = |prefix, comm, secs, expected: &str| {
            assert_eq!(stem(prefix, Comm::of(comm), Pid(4242), secs), expected);
        };
        check(None, "redis-server", 1_795_400_100, "redis-server.4242.20261123T021500Z");
        check(Some("run 1"), "redis-server", 1_795_400_100, "run 1.redis-server.4242.20261123T021500Z");
        check(None, "a", 0, "a.4242.19700101T000000Z");
        check(None, "a", 951_782_399, "a.4242.20000228T235959Z");
        check(None, "a", 951_782_400, "a.4242.20000229T000000Z");
        check(None, "a", u64::MAX, "a.4242.19700101T000000Z");
    }

    #[test]
    fn a_comm_becomes_part_of_a_name() {
        for (comm, expected) in [
            ("kworker/u4:1-ev", "kworker_u4_1-ev"),
            ("../../etc", "_._.._etc"),
            ("-rf", "_rf"),
            ("", "_"),
            ("a b\n\u{fc}", "a_b__"),
            ("c++", "c++"),
        ] {
            assert_eq!(sanitised(comm), expected, "{comm:?}");
        }
    }
}
