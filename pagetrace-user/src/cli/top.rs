//! `top FILE|PID`: the screen.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::values;
use crate::failure::{Code, Failure};
use crate::top::{self, Subject};

/// `top FILE|PID`
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// A trace file, also one that is still written, or the number of a process, which is recorded while it is shown
    #[arg(value_name = "FILE|PID")]
    subject: OsString,

    /// Of a process: keep the trace, in this directory; else it lies in one under TMPDIR until the end
    #[arg(short, long, value_name = "DIR")]
    #[arg(env = "PAGETRACE_OUTPUT", hide_env = true)]
    output: Option<PathBuf>,
}

impl TopArgs {
    pub(super) fn run(self) -> Result<Code, Failure> {
        if self.subject == "-" {
            let (why, fix) = ("a screen needs standard input for its keys", "name a file");
            return Err(Failure::new(Code::Usage, "cannot show standard input", why, fix));
        }
        // A file whose name is a number has a directory before it: ./4242
        let pid = self.subject.to_str().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        let subject = match pid.map(values::pid) {
            None => Subject::File(self.subject.into()),
            Some(Ok(pid)) => Subject::Process { pid, directory: self.output },
            Some(Err(bad)) => return Err(Failure::new(Code::Usage, "cannot show that process", bad.why, bad.fix)),
        };
        top::run(&subject)
    }
}
