//! Blocks to files, on a thread of its own: a slow disk holds the capture back only when the channel is full, and
//! then the pressure reaches the rings, where losses are counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::failure::{Code, Failure};
use crate::store::TraceFile;

/// Blocks on their way at most: 4 MiB.
const CHANNEL_BLOCKS: usize = 64;

/// A file among those of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber(pub u32);

enum Work {
    Open(FileNumber, TraceFile),
    Append(FileNumber, Bytes),
    Finish(FileNumber),
    /// Leave it unfinished.
    Keep(FileNumber),
}

/// What became of the files.
#[derive(Debug, Default)]
pub struct Written {
    /// Finished files, by number.
    pub paths: HashMap<FileNumber, PathBuf>,
    /// The first thing that went wrong.
    pub failure: Option<Failure>,
}

/// The way to the thread.
pub struct Writer {
    sender: Option<SyncSender<Work>>,
    written: Arc<Mutex<Written>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// *Errors.* The system gives no thread.
    pub fn start() -> Result<Writer, Failure> {
        let (sender, receiver) = sync_channel(CHANNEL_BLOCKS);
        let written = Arc::new(Mutex::new(Written::default()));
        let shared = Arc::clone(&written);
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || work(&receiver, &shared));
        let thread = thread
            .map_err(|error| Failure::new(Code::Failed, "cannot start the writing thread", error.to_string(), ""))?;
        Ok(Writer { sender: Some(sender), written, thread: Some(thread) })
    }

    pub fn open(&self, number: FileNumber, file: TraceFile) {
        self.send(Work::Open(number, file));
    }

    pub fn append(&self, number: FileNumber, bytes: Bytes) {
        if !bytes.is_empty() {
            self.send(Work::Append(number, bytes));
        }
    }

    pub fn finish(&self, number: FileNumber) {
        self.send(Work::Finish(number));
    }

    pub fn keep(&self, number: FileNumber) {
        self.send(Work::Keep(number));
    }

    /// What went wrong so far.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.written).failure.clone()
    }

    /// Waits until everything sent is on the disk.
    #[must_use]
    pub fn close(mut self) -> Written {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let failure = Failure::new(Code::Failed, "cannot write the trace", "the writing thread ended early", "");
            lock(&self.written).failure.get_or_insert(failure);
        }
        std::mem::take(&mut *lock(&self.written))
    }

    fn send(&self, work: Work) {
        if let Some(sender) = &self.sender {
            // The thread ends only when the sender does.
            let _ = sender.send(work);
        }
    }
}

fn lock(written: &Mutex<Written>) -> std::sync::MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(receiver: &Receiver<Work>, written: &Mutex<Written>) {
    let mut files: HashMap<FileNumber, TraceFile> = HashMap::new();
    while let Ok(work) = receiver.recv() {
        match work {
            Work::Open(number, file) => {
                files.insert(number, file);
            }
            Work::Append(number, bytes) => {
                let Some(file) = files.get_mut(&number) else { continue };
                if let Err(error) = file.append(&bytes) {
                    let kept = if file.length() > 0 { "; what was written before is whole" } else { "" };
                    let failure = Failure::new(
                        Code::Failed,
                        format!("cannot write {}", file.path().display()),
                        error.to_string(),
                        format!("free some space, or choose another directory with -o{kept}"),
                    );
                    lock(written).failure.get_or_insert(failure);
                    // Nothing is put after a gap: the file stays as it is, unfinished.
                    if let Some(file) = files.remove(&number) {
                        file.keep_part();
                    }
                }
            }
            Work::Finish(number) => {
                let Some(file) = files.remove(&number) else { continue };
                match file.finish() {
                    Ok(path) => {
                        lock(written).paths.insert(number, path);
                    }
                    Err(failure) => {
                        lock(written).failure.get_or_insert(failure);
                    }
                }
            }
            Work::Keep(number) => {
                if let Some(file) = files.remove(&number) {
                    file.keep_part();
                }
            }
        }
    }
    // Those that nobody finished.
    for (_, file) in files {
        file.keep_part();
    }
}
