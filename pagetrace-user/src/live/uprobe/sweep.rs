//! What a killed recorder may have left in the text of live processes, and putting it back.
//!
//! A breakpoint that belongs to nobody goes with the next whole attach and detach at its place: the kernel takes the
//! first byte of the instruction from the file then. A journal goes when that is done, or when nothing can be left.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::file::{self, Identity};
use super::journal::{self, Entry, Journal, SUFFIX, StateDirectory};
use super::{Point, Program, Scope, Way, attach_all, flight};

/// Bytes of a journal that are read at most.
const JOURNAL_BYTES: u64 = 64 << 20;

/// The kernel's own error for instructions that cannot be probed; user space has no name for it (include/linux/errno.h).
const ENOTSUPP: i32 = 524;

/// What came of a journal.
#[derive(Clone, Debug)]
pub struct Swept {
    /// The file that was attached to.
    pub path: PathBuf,
    pub points: usize,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every text byte is what it was.
    Restored,
    /// Nobody has the file any more: nothing is left anywhere.
    Gone,
    /// The file's content is another: its processes are left alone.
    Changed,
    /// Some of it did not work; the journal stays for the next start.
    Failed(String),
}

impl fmt::Display for Swept {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (points, path) = (self.points, self.path.display());
        match &self.outcome {
            Outcome::Restored => {
                write!(out, "a recorder was killed while attached to {points} points of {path}: put back")
            }
            Outcome::Gone => write!(out, "a recorder was killed while attached to {path}, which nobody has any more"),
            Outcome::Changed => write!(
                out,
                "a recorder was killed while attached to {path}, whose content is another now: breakpoints that it \
                 left may stay until the processes end that have it open"
            ),
            Outcome::Failed(why) => {
                write!(out, "cannot put back what a killed recorder may have left at {points} points of {path}: {why}")
            }
        }
    }
}

/// Puts back what dead recorders may have left. Those that live are not touched.
///
/// *Errors.* The state directory is not ours, or cannot be read. None when there is no such directory.
pub fn sweep(state: &StateDirectory) -> io::Result<Vec<Swept>> {
    let directory = match state.open() {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut swept = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(SUFFIX)
            && let Some((journal, text)) = journal::take_over(&directory, &name)?
        {
            swept.extend(sweep_one(journal, text));
        }
    }
    Ok(swept)
}

fn sweep_one(journal: Journal, text: File) -> Option<Swept> {
    let mut bytes = Vec::new();
    let read = text.take(JOURNAL_BYTES).read_to_end(&mut bytes);
    let entry = read.ok().and_then(|_| serde_json::from_slice::<Entry>(&bytes).ok());
    // One of another version, whose recorder synced it before it attached: or none of ours at all.
    let Some(entry) = entry.filter(|entry| entry.boot_id == journal::boot_id()) else {
        journal.remove();
        return None;
    };
    let outcome = restore(&entry);
    if !matches!(outcome, Outcome::Failed(_)) {
        journal.remove();
    }
    let path = if entry.name.as_os_str().is_empty() { entry.path } else { entry.name };
    Some(Swept { path, points: entry.offsets.len(), outcome })
}

fn restore(entry: &Entry) -> Outcome {
    let file = match find(entry) {
        Found::Same(file) => file,
        Found::Changed => return Outcome::Changed,
        Found::Nowhere => return Outcome::Gone,
    };
    let points = |offset: &u64| Point { name: format!("{offset:#x}"), offset: *offset, cookie: 0 };
    let points: Vec<Point> = entry.offsets.iter().map(points).collect();
    let way = Way::best();
    let loaded = match Program::nothing().load(way) {
        Ok(loaded) => loaded,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let Some(_flight) = flight::begin() else { return Outcome::Failed("the recorder is ending".to_owned()) };
    let (links, outcomes) = attach_all(&loaded, &file::path_of(&file), Scope::Everyone, &points, way);
    drop(links);
    let failures = points.iter().zip(outcomes).filter_map(|(point, outcome)| Some((point, outcome.err()?)));
    let failed = failures.into_iter().find(|(_, error)| !is_never_attached(error));
    match failed {
        Some((point, error)) => Outcome::Failed(format!("{}: {error}", point.name)),
        None => Outcome::Restored,
    }
}

/// Whether the kernel refuses the place itself, today as when the recorder lived: nothing can be left there.
///
/// *Source.* kernel/events/uprobes.c, `uprobe_register` and `prepare_uprobe` (6.18): beyond the file's end, or an
/// instruction that cannot be probed.
fn is_never_attached(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOEXEC | ENOTSUPP))
}

enum Found {
    Same(File),
    Changed,
    Nowhere,
}

/// The file of a journal, by its old paths or through any process that has it.
fn find(entry: &Entry) -> Found {
    let mut changed = false;
    let named = [entry.path.clone(), entry.name.clone()].into_iter();
    for path in named.chain(programs()).chain(mapped_files()) {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if !Identity::of(&metadata).is_same_file(&entry.file) {
            continue;
        }
        match file::open(&path) {
            Ok((file, identity)) if identity == entry.file => return Found::Same(file),
            Ok((_, identity)) => changed |= identity.is_same_file(&entry.file),
            Err(_) => {}
        }
    }
    if changed { Found::Changed } else { Found::Nowhere }
}

fn programs() -> impl Iterator<Item = PathBuf> {
    processes().map(|process| process.join("exe"))
}

fn mapped_files() -> impl Iterator<Item = PathBuf> {
    processes().flat_map(|process| listed(&process.join("map_files")))
}

fn processes() -> impl Iterator<Item = PathBuf> {
    listed(Path::new("/proc"))
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit)))
}

/// What a directory holds; nothing when it is gone.
fn listed(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path())
}
