//! A program started for the recording, traced from its first instruction.
//!
//! *How.* The recorder starts itself once more as a child ([`stage`]), which stops before it becomes the program; once
//! every attach point is live and the child's number is known to them, it goes on.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Signal, WaitOptions, getpid, kill_process, set_parent_process_death_signal, waitpid};

use crate::failure::{Code, Failure};
use crate::live::process::{Program, find_program};
use crate::units::Pid;

/// The hidden first argument that makes this program run [`stage`].
pub const STAGE: &str = "__exec";

/// Whether these words name a program, which can be told before anything is loaded for it.
///
/// *Errors.* Exit code 3 when they do not.
pub fn check(words: &[String]) -> Result<(), Failure> {
    let name = name_of(words);
    if find_program(name).is_some() {
        Ok(())
    } else if Path::new(name).exists() {
        let fix = format!("chmod +x {name}, or name what runs it, as in -- python3 {name}");
        Err(Failure::new(Code::NoTarget, format!("cannot run {name}"), "it is not an executable file", fix))
    } else {
        Err(cannot_run(name, "there is no such program".to_owned()))
    }
}

/// The program, stopped before its first instruction.
pub struct Stopped {
    child: Child,
    words: Vec<String>,
}

impl Stopped {
    /// Starts the child and waits until it has stopped.
    ///
    /// *Errors.* Exit code 3 when that does not come about.
    pub fn start(words: &[String]) -> Result<Stopped, Failure> {
        let failed = |why: String| cannot_run(name_of(words), why);
        let child = Command::new("/proc/self/exe").arg(STAGE).args(words).spawn();
        let child = child.map_err(|error| failed(error.to_string()))?;
        let stopped = Stopped { child, words: words.to_vec() };
        let pid = rustix::process::Pid::from_raw(i32::try_from(stopped.pid().0).unwrap_or(0));
        match waitpid(pid, WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => Ok(stopped),
            Ok(_) => Err(failed("it ended before it began".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// What it will run.
    #[must_use]
    pub fn program(&self) -> Program {
        Program::started(&self.words)
    }

    /// Lets it run.
    pub fn go(self) -> Result<Running, Failure> {
        let pid = rustix::process::Pid::from_child(&self.child);
        kill_process(pid, Signal::CONT).map_err(|error| {
            Failure::new(Code::Failed, format!("cannot run {}", name_of(&self.words)), error.to_string(), "")
        })?;
        Ok(Running { child: Some(self.child) })
    }

    /// Ends it before it began.
    pub fn cancel(mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, running.
pub struct Running {
    child: Option<Child>,
}

impl Running {
    /// Collects the child if it has ended, so that it is no zombie.
    pub fn collect(&mut self) {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            self.child = None;
        }
    }

    /// Whether the child was still running when it was last looked for.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }
}

fn name_of(words: &[String]) -> &str {
    words.first().map(String::as_str).unwrap_or_default()
}

fn cannot_run(name: &str, why: String) -> Failure {
    Failure::new(Code::NoTarget, format!("cannot run {name}"), why, "check the program's name and path")
}

/// The child: stops, and becomes the program when it is told to go on. Only returns when it cannot: the exit code.
pub fn stage(words: &[std::ffi::OsString]) -> u8 {
    let Some((name, rest)) = words.split_first() else { return 2 };
    // Nobody would let it go on without the recorder.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        eprintln!("error: cannot stop: {error}");
        return 1;
    }
    let _ = set_parent_process_death_signal(None);
    let error = Command::new(name).args(rest).exec();
    eprintln!("error: cannot run {}: {error}", name.to_string_lossy());
    127
}
