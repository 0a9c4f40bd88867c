//! The ledger on a screen: where the RSS is, what moves and who does it, of a file or of a process that lives.
//!
//! A thread reads the trace and makes [`Shot`]s: all that there is to see of one moment. The screen draws the last one,
//! and asks for another moment when a key says so; it never waits for the reading. A file that is still written is read
//! on from where the last reading ended, at most every half second, and so that the looks take at most a tenth of a CPU.
//! A moment in the past is folded anew from the beginning of the file; a later wish ends that.
//!
//! A process is recorded by this very program, as a child that writes to a directory of its own; what is shown comes from
//! its file as from any other.
//!
//! *Terminal.* It is put back at every end: a key, an error, a panic, SIGTERM, SIGHUP. Names of the traced machine reach
//! it without control characters.

mod child;
mod reading;
mod run;
mod screen;
mod shot;
mod view;

use std::path::PathBuf;

use crate::units::Pid;

pub use run::run;
pub use screen::{Act, Key, Screen};
pub use shot::{FileState, Folding, Shot};
pub use view::draw;

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    File(PathBuf),
    /// Recorded while it is shown; the trace stays where a directory is named.
    Process {
        pid: Pid,
        directory: Option<PathBuf>,
    },
}
