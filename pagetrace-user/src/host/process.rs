//! One process as /proc shows it, and why it cannot be recorded if it cannot.
//!
//! *Source.* /proc/PID/stat, status, exe and smaps_rollup. Everything may have changed when it is used: a process
//! is known for certain only from the kernel's events.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use procfs::ProcError;
use rustix::io::Errno;

use crate::failure::{Code, Failure};
use crate::units::{Bytes, Pid};

/// A process that can be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    /// Lossy text of the kernel's comm.
    pub comm: String,
    /// `None` when it may not be read.
    pub exe: Option<PathBuf>,
    /// `Rss` of smaps_rollup, exact; `None` when it may not be read.
    pub rss: Option<Bytes>,
    /// `None` when the program file may not be read.
    pub width: Option<Width>,
}

/// The width of a program's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Bits32,
    Bits64,
}

impl Width {
    /// 32 or 64.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Width::Bits32 => 32,
            Width::Bits64 => 64,
        }
    }
}

/// Why a process cannot be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is no such process.
    Absent,
    /// The number is that of a thread.
    Thread { of: Pid },
    /// It has no address space of its own.
    KernelThread { comm: String },
    /// It ended and waits for its parent.
    Zombie { comm: String },
    /// /proc does not tell: the system's own words.
    Unreadable(String),
}

impl Unfit {
    /// The cause, as a sentence without its end.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Unfit::Absent => "there is no such process".into(),
            Unfit::Thread { of } => format!("it is a thread of process {of}"),
            Unfit::KernelThread { comm } => format!("{comm} is a kernel thread and has no memory of its own"),
            Unfit::Zombie { comm } => format!("{comm} has ended and waits for its parent to notice"),
            Unfit::Unreadable(words) => words.clone(),
        }
    }

    /// What mends it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Unfit::Absent => "list the processes with: ps -e -o pid,comm".into(),
            Unfit::Thread { of } => format!("pagetrace-user --pid {of}"),
            Unfit::KernelThread { .. } | Unfit::Zombie { .. } => "choose a running user process".into(),
            Unfit::Unreadable(_) => "run it as root: sudo pagetrace-user ...".into(),
        }
    }

    /// The failure of a command that was told to use this process.
    #[must_use]
    pub fn failure(&self, pid: Pid) -> Failure {
        let code = match self {
            Unfit::Unreadable(_) => Code::Privilege,
            _ => Code::NoTarget,
        };
        Failure::new(code, format!("cannot record process {pid}"), self.why(), self.fix())
    }
}

/// The process with this number, if it can be recorded.
///
/// # Errors
/// An [`Unfit`] that says why it cannot.
pub fn look(pid: Pid) -> Result<Process, Unfit> {
    /// `PF_KTHREAD` of include/linux/sched.h.
    const KERNEL_THREAD: u32 = 0x0020_0000;

    let number = i32::try_from(pid.0).map_err(|_| Unfit::Absent)?;
    let process = procfs::process::Process::new(number).map_err(|error| unreadable(number, &error))?;
    let stat = process.stat().map_err(|error| unreadable(number, &error))?;
    let status = process.status().map_err(|error| unreadable(number, &error))?;

    if let Ok(leader) = u32::try_from(status.tgid)
        && leader != pid.0
    {
        return Err(Unfit::Thread { of: Pid(leader) });
    }
    if stat.flags & KERNEL_THREAD != 0 {
        return Err(Unfit::KernelThread { comm: stat.comm });
    }
    if matches!(stat.state, 'Z' | 'X' | 'x') {
        return Err(Unfit::Zombie { comm: stat.comm });
    }

    let rss = process.smaps_rollup().ok().and_then(|rollup| {
        let whole = rollup.memory_map_rollup.0.first()?;
        whole.extension.map.get("Rss").copied().map(Bytes)
    });
    Ok(Process { pid, comm: stat.comm, exe: process.exe().ok(), rss, width: width(pid) })
}

/// What an error of /proc means for the process: a number that nobody has, or something that may not be read.
fn unreadable(number: i32, error: &ProcError) -> Unfit {
    let hidden = rustix::process::Pid::from_raw(number)
        .is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH)));
    match error {
        ProcError::NotFound(_) if hidden => Unfit::Unreadable("/proc hides it (hidepid)".into()),
        ProcError::NotFound(_) => Unfit::Absent,
        other if hidden => Unfit::Unreadable(other.to_string()),
        _ => Unfit::Absent,
    }
}

/// The class of the program file: `e_ident[EI_CLASS]` of its ELF header.
fn width(pid: Pid) -> Option<Width> {
    let mut head = [0; 5];
    File::open(format!("/proc/{pid}/exe")).ok()?.read_exact(&mut head).ok()?;
    match head {
        [0x7f, b'E', b'L', b'F', 1] => Some(Width::Bits32),
        [0x7f, b'E', b'L', b'F', 2] => Some(Width::Bits64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    #[test]
    fn this_process_can_be_recorded() {
        let me = look(Pid(std::process::id())).unwrap();
        assert_eq!(me.exe.unwrap(), std::env::current_exe().unwrap());
        assert_eq!(me.width, Some(Width::Bits64));
        assert!(me.rss.unwrap().0 > 0);
    }

    #[test]
    fn a_thread_is_told_from_its_process() {
        let process = std::process::id();
        let found = thread::spawn(move || {
            let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            look(Pid(own))
        });
        assert_eq!(found.join().unwrap(), Err(Unfit::Thread { of: Pid(process) }));
    }

    #[test]
    fn a_zombie_and_a_number_of_nobody_are_unfit() {
        // The shell's own end is seen on its output; it stays a zombie until it is waited for.
        let mut child = Command::new("sh").args(["-c", "exit 0"]).stdout(Stdio::piped()).spawn().unwrap();
        let pid = Pid(child.id());
        let mut rest = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        // Its output closes a moment before it becomes a zombie.
        let found = loop {
            match look(pid) {
                Ok(_) => thread::yield_now(),
                Err(unfit) => break unfit,
            }
        };
        assert_eq!(found, Unfit::Zombie { comm: "sh".into() });
        child.wait().unwrap();
        assert_eq!(look(pid), Err(Unfit::Absent));
        assert_eq!(look(Pid(u32::MAX)), Err(Unfit::Absent));
    }
}
