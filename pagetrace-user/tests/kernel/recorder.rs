//! The recorder under test: started, waited for, ended, and what it left.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;

use rustix::process::Signal;
use serde_json::Value;

use crate::programs::{await_line, lines_of, send};
use crate::stage::wait_for;
use crate::trace::Trace;

pub const BINARY: &str = env!("CARGO_BIN_EXE_pagetrace-user");

/// A command that ran to its end.
#[derive(Debug)]
pub struct Ran {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `pagetrace-user ARGS` to its end.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(args);
    run_command(&mut command)
}

/// Runs any command to its end.
pub fn run_command(command: &mut Command) -> Ran {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (lines_of(child.stdout.take().unwrap()), lines_of(child.stderr.take().unwrap()));
    // Read while it runs: a full pipe would stop it.
    let reader = std::thread::spawn(move || stdout.iter().map(|line| line + "\n").collect::<String>());
    let errors = std::thread::spawn(move || stderr.iter().map(|line| line + "\n").collect::<String>());
    let status = end_of(&mut child, &format!("{command:?} to end"));
    Ran { code: status.code(), stdout: reader.join().unwrap(), stderr: errors.join().unwrap() }
}

/// Waits for the end of a child, and kills it when it does not come.
fn end_of(child: &mut Child, what: &str) -> ExitStatus {
    struct Killed<'a>(&'a mut Child);
    impl Drop for Killed<'_> {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let child = Killed(child);
    wait_for(what, || child.0.try_wait().unwrap())
}

/// The answer of `report --json` about one file.
pub fn report(file: &Path) -> Value {
    let ran = run([OsStr::new("report"), OsStr::new("--json"), file.as_os_str()]);
    assert_eq!(ran.code, Some(0), "report {}: {}", file.display(), ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("report --json: {error}: {}", ran.stdout))
}

/// A running recorder. Killed when dropped.
pub struct Recorder {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    directory: PathBuf,
}

impl Recorder {
    /// Starts `pagetrace-user --json -o DIRECTORY ARGS` and does not wait.
    pub fn launch<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> Recorder {
        let mut command = Command::new(BINARY);
        Recorder::spawn(directory, command.arg("--json").arg("-o").arg(directory).args(args))
    }

    /// Starts a command that is a recorder, or runs one, and does not wait.
    pub fn spawn(directory: &Path, command: &mut Command) -> Recorder {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (lines_of(child.stdout.take().unwrap()), lines_of(child.stderr.take().unwrap()));
        Recorder { child, stdout, stderr, directory: directory.to_owned() }
    }

    /// The same, and returns when it says that it records.
    pub fn start<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> Recorder {
        let recorder = Recorder::launch(directory, args);
        recorder.await_recording();
        recorder
    }

    /// Records one process.
    pub fn of_pid(directory: &Path, pid: u32) -> Recorder {
        Recorder::start(directory, ["--pid", &pid.to_string()])
    }

    pub fn await_recording(&self) {
        await_line(&self.stderr, "recording", "the recorder");
    }

    /// Waits for a line on its stderr, and returns it with all lines before it.
    pub fn await_line(&self, start: &str) -> Vec<String> {
        await_line(&self.stderr, start, "the recorder")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Interrupts it, and waits for its end.
    pub fn interrupt(self) -> Recording {
        self.signal(Signal::INT);
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Recording {
        let status = end_of(&mut self.child, "the recorder to end");
        let stderr: String = self.stderr.iter().map(|line| line + "\n").collect();
        let stdout: String = self.stdout.iter().map(|line| line + "\n").collect();
        let summary = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        Recording { code: status.code(), summary, stderr, directory: self.directory.clone() }
    }

    /// Kills it without any chance to clean up.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a recorder left when it had ended.
#[derive(Debug)]
pub struct Recording {
    pub code: Option<i32>,
    /// The summary of `--json`; null when there was none.
    pub summary: Value,
    pub stderr: String,
    pub directory: PathBuf,
}

impl Recording {
    /// The files of the summary, in its order.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = self.summary["files"].as_array().unwrap_or_else(|| panic!("a summary with files: {self:?}"));
        files.iter().map(|file| PathBuf::from(file["path"].as_str().unwrap())).collect()
    }

    /// The only file.
    pub fn file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "one file: {self:?}");
        files.into_iter().next().unwrap()
    }

    /// The files of one process number, in the summary's order.
    pub fn files_of(&self, pid: u32) -> Vec<PathBuf> {
        let files = self.summary["files"].as_array().unwrap_or_else(|| panic!("a summary with files: {self:?}"));
        let own = files.iter().filter(|file| file["tgid"].as_u64() == Some(u64::from(pid)));
        own.map(|file| PathBuf::from(file["path"].as_str().unwrap())).collect()
    }

    /// The only file of one process number.
    pub fn file_of(&self, pid: u32) -> PathBuf {
        let files = self.files_of(pid);
        assert_eq!(files.len(), 1, "one file of process {pid}: {self:?}");
        files.into_iter().next().unwrap()
    }

    pub fn reason(&self) -> &str {
        self.summary["reason"].as_str().unwrap_or_else(|| panic!("a summary with a reason: {self:?}"))
    }

    /// Every event of every file.
    pub fn traces(&self) -> Vec<Trace> {
        self.files().iter().map(|file| Trace::dump(file)).collect()
    }
}
