//! The targets: C programs of `tests/programs`, compiled once, started, talked to and killed at the end.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{PATIENCE, wait_for};

const PROGRAMS: [&str; 8] = ["acts", "touch", "asleep", "remote", "flood", "family", "spin", "points"];

/// The path of a compiled program. Call it under the stage's lock.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        std::fs::create_dir_all(&directory).unwrap();
        for name in PROGRAMS {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.c"));
            let made = Command::new("cc")
                .args(["-O1", "-g", "-Wall", "-Wextra", "-pthread", "-o"])
                .args([&directory.join(name), &source])
                .output()
                .expect("cc must be installed");
            assert!(made.status.success(), "cc {name}.c: {}", String::from_utf8_lossy(&made.stderr));
        }
        directory
    });
    assert!(PROGRAMS.contains(&name));
    directory.join(name)
}

/// The path of `faults.c` as a library. Call it under the stage's lock.
pub fn faults() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let library = program(PROGRAMS[0]).with_file_name("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/faults.c");
        let options = ["-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-o"];
        let made = Command::new("cc").args(options).args([&library, &source]).arg("-ldl").output().unwrap();
        assert!(made.status.success(), "cc faults.c: {}", String::from_utf8_lossy(&made.stderr));
        library
    });
    library.clone()
}

/// A process under test. Killed and reaped when dropped.
pub struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Target {
    /// Starts a compiled program with stdin and stdout in our hands.
    pub fn start<S: AsRef<std::ffi::OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Target {
        let mut command = Command::new(program(name));
        command.args(args);
        Target::run(&mut command)
    }

    /// The same for any command.
    pub fn run(command: &mut Command) -> Target {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let lines = lines_of(child.stdout.take().unwrap());
        Target { child, stdin, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins with `start`, and returns it with all lines before it.
    pub fn await_line(&self, start: &str) -> Vec<String> {
        await_line(&self.lines, start, "the target")
    }

    /// Writes to its stdin.
    pub fn say(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Tells the target to go on.
    pub fn go(&mut self) {
        self.say("\n");
    }

    /// Tells the target to go on, and waits until it says "done". Returns what it said.
    pub fn act(&mut self) -> Vec<String> {
        self.go();
        self.await_line("done")
    }

    /// Waits for "ready".
    pub fn ready(self) -> Target {
        self.await_line("ready");
        self
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Stops it where it stands, and returns when no thread of it runs any more.
    pub fn freeze(&self) {
        freeze(self.pid());
    }

    /// Lets it end, and asserts that it did so with status 0.
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let status = wait_for("the target to end", || self.child.try_wait().unwrap());
        assert!(status.success(), "the target ended with {status}");
    }

    /// Kills and reaps it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Target {
    /// Kills it with all that it started, also what a test has stopped, which would not go by itself.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let mut all = vec![self.pid()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            next += 1;
        }
        let _ = self.child.kill();
        for pid in all.into_iter().skip(1) {
            let _ = try_send(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that is ours.
pub fn send(pid: u32, signal: Signal) {
    try_send(pid, signal).unwrap();
}

/// The same to one that may be gone.
pub fn try_send(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal)
}

/// Stops a process, and returns when no thread of it runs any more.
pub fn freeze(pid: u32) {
    send(pid, Signal::STOP);
    wait_for("a stopped target", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.map(|task| thread_state(&task.unwrap().path())).all(|state| state == Some('T')).then_some(())
    });
}

fn thread_state(task: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// One spinning process for each CPU, until dropped.
pub struct BusyCpus(#[expect(dead_code, reason = "held for its drop")] Vec<Target>);

impl BusyCpus {
    pub fn all() -> BusyCpus {
        let cpus = std::thread::available_parallelism().unwrap().get();
        BusyCpus((0..cpus).map(|_| Target::start("spin", [""; 0])).collect())
    }
}

/// Reads lines on a thread of its own, so that whoever waits for one can give up.
pub fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if to.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Waits for a line that begins with `start`, and returns it with all lines before it.
pub fn await_line(lines: &Receiver<String>, start: &str, whose: &str) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let found = line.starts_with(start);
                all.push(line);
                if found {
                    return all;
                }
            }
            Err(RecvTimeoutError::Timeout) => panic!("{whose} did not say {start:?} in {PATIENCE:?}; it said {all:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("{whose} ended without {start:?}; it said {all:?}"),
        }
    }
}

/// The range that a line "at HEX BYTES" names, as `[start, end)`; the last one where there are several.
pub fn range_said(lines: &[String]) -> (u64, u64) {
    let line = lines.iter().rev().find_map(|line| line.strip_prefix("at ")).expect("a line that begins with at");
    let (start, bytes) = line.split_once(' ').unwrap();
    let start = u64::from_str_radix(start, 16).unwrap();
    (start, start + bytes.parse::<u64>().unwrap())
}

/// The processes that lines "child PID" name.
pub fn children_said(lines: &[String]) -> Vec<u32> {
    lines.iter().filter_map(|line| line.strip_prefix("child ")).map(|pid| pid.parse().unwrap()).collect()
}
