//! What /proc tells of a process besides its pages: that it is still the one meant, and what it is.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use procfs::process::Process;

use crate::event::Header;
use crate::live::clock;
use crate::units::{PAGE_BYTES, Pid};

/// Clock ticks a second in /proc (`USER_HZ`), on every x86-64 kernel.
const TICK_NANOS: u64 = 10_000_000;
/// Bytes of a page of a Go heap.
const HEAP_PAGE_BYTES: u64 = 8192;

/// Whether the process with this number is still the one that began then.
#[must_use]
pub fn is_still(pid: Pid, start_boottime: u64) -> bool {
    let stat = Process::new(i32::try_from(pid.0).unwrap_or(0)).and_then(|process| process.stat());
    match stat {
        Ok(stat) => stat.starttime == start_boottime / TICK_NANOS,
        Err(_) => false,
    }
}

/// Whether the process that began then is there and has not ended (a zombie has).
#[must_use]
pub fn is_alive(pid: Pid, start_boottime: u64) -> bool {
    let stat = Process::new(i32::try_from(pid.0).unwrap_or(0)).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.starttime == start_boottime / TICK_NANOS && !matches!(stat.state, 'Z' | 'X' | 'x'))
}

/// The program that a process runs; empty when it is gone.
#[must_use]
pub fn exe(pid: Pid) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a process runs a 32-bit ELF program.
fn is_32_bit(pid: Pid) -> bool {
    let mut start = [0; 5];
    let read = fs::File::open(format!("/proc/{pid}/exe")).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"\x7fELF\x01"
}

/// The cgroups of a process, a line for each hierarchy (cgroups(7)); empty when it is gone.
#[must_use]
pub fn cgroups(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// The parts of a header that do not depend on the process.
#[must_use]
pub fn host_header() -> Header {
    let first_line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Header {
        recorder: env!("CARGO_PKG_VERSION").to_owned(),
        page_bytes: PAGE_BYTES,
        heap_page_bytes: HEAP_PAGE_BYTES,
        clock_monotonic: clock::now().0,
        clock_wall: clock::wall(),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        kernel: first_line("/proc/sys/kernel/osrelease"),
        ..Header::default()
    }
}

/// What a process runs, as it tells itself.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Empty: the process was gone before it could be asked.
    pub exe: String,
    pub cmdline: Vec<String>,
    is_32_bit: bool,
}

impl Program {
    /// Asks the process that began then.
    #[must_use]
    pub fn of(pid: Pid, start_boottime: u64) -> Program {
        if !is_still(pid, start_boottime) {
            return Program::default();
        }
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let mut cmdline: Vec<String> = words.collect();
        if cmdline.last().is_some_and(String::is_empty) {
            cmdline.pop();
        }
        Program { exe: exe(pid), cmdline, is_32_bit: is_32_bit(pid) }
    }

    /// What is known of a process that was gone before it could be asked: its file.
    #[must_use]
    pub fn of_file(exe: String) -> Program {
        Program { exe, ..Program::default() }
    }

    /// What the recorder itself started with these words.
    #[must_use]
    pub fn started(words: &[String]) -> Program {
        let path = words.first().and_then(|name| file_of(name));
        let exe = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        Program { exe, cmdline: words.to_vec(), is_32_bit: false }
    }

    /// Whether the process could be asked.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.exe.is_empty()
    }

    /// Puts it into a header.
    pub fn describe(self, header: &mut Header) {
        if self.is_32_bit {
            header.notes.push("a 32-bit program: its system calls are not seen, its pages are".to_owned());
        }
        (header.exe, header.cmdline) = (self.exe, self.cmdline);
    }
}

/// The program's file that a command's first word names, without links on the way.
#[must_use]
pub fn file_of(name: &str) -> Option<PathBuf> {
    find_program(name).and_then(|path| fs::canonicalize(path).ok())
}

/// The program's file that a command's first word names, as execvp would find it.
#[must_use]
pub fn find_program(word: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if word.contains('/') {
        return Some(PathBuf::from(word)).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(word)).find(is_program)
}
