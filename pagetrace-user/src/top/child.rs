//! The recorder of a process that is shown: this very program, as a child.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Signal, kill_process};

use crate::failure::{Code, Failure};
use crate::units::Pid;

/// Of the errors of a recorder, which are three lines.
const MOST_SAID: u64 = 1 << 16;

/// A recorder at work. Dropped, it is told to end, and waited for.
pub struct Recorder {
    child: Child,
    /// Reads what it says on stderr to the end.
    said: Option<JoinHandle<String>>,
    directory: PathBuf,
    /// What lay there before.
    before: Vec<PathBuf>,
    pid: Pid,
    status: Option<ExitStatus>,
    /// Removed when it is dropped, after the child's end.
    _temporary: Option<tempfile::TempDir>,
}

impl Recorder {
    /// Begins to record a process; without a directory, into one that goes with the recorder.
    ///
    /// # Errors
    /// When there can be no directory, or no child. What the child itself finds wrong comes at its end.
    pub fn start(pid: Pid, directory: Option<&Path>) -> Result<Recorder, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::new(Code::Failed, format!("cannot record process {pid}"), error.to_string(), "")
        };
        let temporary = match directory {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("pagetrace-top-").tempdir().map_err(cannot)?),
        };
        let directory = match (directory, &temporary) {
            (Some(directory), _) => directory.to_owned(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => PathBuf::new(),
        };
        let before = traces_of(pid, &directory).collect();
        let program = std::env::current_exe().map_err(cannot)?;
        let mut command = Command::new(program);
        command.args(["--pid", &pid.to_string(), "-q", "--end-with-parent", "-o"]).arg(&directory);
        // In a group of its own: the terminal's signals are for the screen alone.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(cannot)?;
        let said = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                let mut stderr = stderr.take(MOST_SAID);
                // What was said until then is all there is.
                let _ = stderr.read_to_end(&mut said);
                String::from_utf8_lossy(&said).into_owned()
            })
        });
        Ok(Recorder { child, said, directory, before, pid, status: None, _temporary: temporary })
    }

    /// The file that it writes, once it is there.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        traces_of(self.pid, &self.directory).find(|path| !self.before.contains(path))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status.is_some()
    }

    /// Ends it, and tells how it ended; the file, where it stays.
    ///
    /// # Errors
    /// What the recorder says was wrong.
    pub fn end(mut self) -> Result<(Code, Option<PathBuf>), Failure> {
        let code = self.stop();
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        if matches!(code, Code::Complete | Code::Loss) {
            return Ok((code, self._temporary.is_none().then(|| self.file()).flatten()));
        }
        Err(failure(code, &said))
    }

    fn stop(&mut self) -> Code {
        if !self.has_ended() {
            // It may end at this very moment.
            if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = kill_process(pid, Signal::INT);
            }
            self.status = self.child.wait().ok();
        }
        let code = self.status.and_then(|status| status.code());
        code.and_then(|code| Code::ALL.into_iter().find(|known| *known as i32 == code)).unwrap_or(Code::Failed)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The traces of a process in a directory, finished and not.
fn traces_of(pid: Pid, directory: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(move |path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.contains(&format!(".{pid}.")) && (name.ends_with(".pgt") || name.ends_with(".pgt.part"))
    })
}

/// The three lines of a failure, read back.
fn failure(code: Code, said: &str) -> Failure {
    let line = |start: &str| {
        said.lines().find_map(|line| line.trim_start().strip_prefix(start)).map(|rest| rest.trim().to_owned())
    };
    let what = line("error: ").unwrap_or_else(|| "the recorder ended without a word".to_owned());
    Failure::new(code, what, line("why:").unwrap_or_default(), line("fix:").unwrap_or_default())
}
