//! What a command says when it cannot do what was asked: what failed, why, the one thing that mends it, and the
//! exit code that scripts rely on.
//!
//! *Format.* Three lines on stderr: `error: <what>`, `  why:  <why>`, `  fix:  <fix>`; empty ones are left out.

use std::fmt;

/// Exit codes. Zero and the two that need no failure ([`Code::Loss`], [`Code::Aborted`]) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Complete.
    Complete = 0,
    /// Failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The target was not found, or gone before the start.
    NoTarget = 3,
    /// A privilege is missing.
    Privilege = 4,
    /// The kernel lacks a feature.
    Kernel = 5,
    /// Finished, but more was lost than allowed.
    Loss = 6,
    /// The input file is damaged; what could be read was reported.
    Damaged = 7,
    /// Aborted by a second interrupt.
    Aborted = 130,
}

impl Code {
    /// Every one.
    pub const ALL: [Code; 9] = [
        Code::Complete,
        Code::Failed,
        Code::Usage,
        Code::NoTarget,
        Code::Privilege,
        Code::Kernel,
        Code::Loss,
        Code::Damaged,
        Code::Aborted,
    ];
}

/// A command's end without its result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    pub code: Code,
    /// Object and act, lower case: "cannot open trace.pgt".
    pub what: String,
    /// The cause, usually the system's own words.
    pub why: String,
    /// The one command or act that mends it.
    pub fix: String,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(code: Code, what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Failure {
        Failure { code, what: what.into(), why: why.into(), fix: fix.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if !self.why.is_empty() {
            write!(f, "\n  why:  {}", self.why)?;
        }
        if !self.fix.is_empty() {
            write!(f, "\n  fix:  {}", self.fix)?;
        }
        Ok(())
    }
}
