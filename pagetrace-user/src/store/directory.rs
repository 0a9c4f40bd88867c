//! The output directory: made if absent, checked, held open.
//!
//! *Invariant.* All later work goes through the open directory, so that renaming or replacing it leads nobody
//! elsewhere.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Owner;
use crate::failure::{Code, Failure};

#[derive(Debug)]
pub(super) struct Directory {
    /// As the user named it.
    pub path: PathBuf,
    pub fd: Arc<OwnedFd>,
    _made: Made,
}

/// Directories made for the store, outermost first: what is empty of them goes at the end.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            if rustix::fs::rmdir(path).is_err() {
                break;
            }
        }
    }
}

impl Directory {
    pub fn open(path: &Path, owner: Option<Owner>) -> Result<Directory, Failure> {
        // Without a slash or dot at the end, behind which a link would be followed.
        let path: PathBuf = if path.as_os_str().is_empty() { ".".into() } else { path.components().collect() };
        let refuse = |why: &str, fix: &str| {
            Failure::new(Code::Failed, format!("cannot record into {}", path.display()), why, fix)
        };
        let other = "choose another directory: -o DIR";
        let made = make(&path, owner).map_err(|error| refuse(&error.to_string(), other))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(error) if is_link(&path) => {
                let target = std::fs::canonicalize(&path);
                let fix = target
                    .map_or(other.to_owned(), |target| format!("name what it points to: -o {}", target.display()));
                let why = format!("it is a symbolic link, which is not followed ({})", io::Error::from(error));
                return Err(refuse(&why, &fix));
            }
            Err(Errno::NOTDIR) => return Err(refuse("it is not a directory", other)),
            Err(error) => return Err(refuse(&io::Error::from(error).to_string(), other)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| refuse(&io::Error::from(error).to_string(), other))?;
        let me = rustix::process::geteuid().as_raw();
        if ![0, me].contains(&stat.st_uid) && owner.map(|owner| owner.uid) != Some(stat.st_uid) {
            let why = format!("it belongs to another user (uid {}), who could replace what is recorded", stat.st_uid);
            return Err(refuse(&why, "choose a directory of your own: -o DIR"));
        }
        if stat.st_mode & 0o1002 == 0o002 {
            let fix = format!("chmod o-w {}", path.display());
            return Err(refuse(
                "every user can replace what is recorded there (it is writable for all, without sticky bit)",
                &fix,
            ));
        }
        Ok(Directory { path, fd: Arc::new(fd), _made: made })
    }

    /// Whether the directory has an entry of this name, whatever it is.
    pub fn has(&self, name: &str) -> bool {
        !matches!(self.stat(name), Err(Errno::NOENT))
    }

    pub fn stat(&self, name: &str) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Makes what is missing of `path`: the last for its owner only.
fn make(path: &Path, owner: Option<Owner>) -> io::Result<Made> {
    let mut missing: Vec<&Path> = path
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .take_while(|path| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
        .collect();
    missing.reverse();
    let mut made = Made::default();
    for ancestor in missing {
        let mode = if ancestor == path { Mode::RWXU } else { Mode::from_raw_mode(0o755) };
        match rustix::fs::mkdir(ancestor, mode) {
            Ok(()) => made.0.push(ancestor.to_owned()),
            Err(Errno::EXIST) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(owner) = owner {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // A file system without owners keeps its own.
            let _ = owner.give(rustix::fs::open(ancestor, flags, Mode::empty())?);
        }
    }
    Ok(made)
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
}
