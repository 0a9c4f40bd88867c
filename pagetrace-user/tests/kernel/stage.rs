//! Where a test takes place: alone on the machine, as root, in a directory of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long any condition may take. Far more than any takes: a machine may be busy, and a wait ends when it is over.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The lock on the machine and a directory. The directory goes with the stage, unless the test failed.
pub struct Stage {
    directory: Option<tempfile::TempDir>,
    _lock: File,
}

impl Stage {
    /// Waits for its turn. Fails when not root.
    pub fn enter(name: &str) -> Stage {
        assert!(
            rustix::process::geteuid().is_root(),
            "the kernel tests need root and a prepared machine: run `sudo cargo xtask test` (or `cargo xtask test` as root)"
        );
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(std::env::temp_dir().join("pagetrace-kernel-tests.lock"))
            .unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let directory = tempfile::Builder::new().prefix(&format!("pagetrace-{name}-")).tempdir().unwrap();
        // Programs that run as other users must be able to pass.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Stage { directory: Some(directory), _lock: lock }
    }

    pub fn path(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// A path below the directory; nothing is made.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A new directory below.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("left for a look: {}", directory.keep().display());
        }
    }
}

/// Waits until `condition` gives something, and fails with `what` when it never does.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The kernel's monotonic clock, in nanoseconds: the clock of every event.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// A setting of the kernel in a file, put back at the end.
pub struct Setting {
    path: PathBuf,
    before: String,
}

impl Setting {
    pub fn set(path: impl Into<PathBuf>, value: &str) -> Setting {
        let path = path.into();
        let before = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        std::fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Setting { path, before: before.trim().to_owned() }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.path, &self.before) {
            eprintln!("could not set {} back to {}: {error}", self.path.display(), self.before);
        }
    }
}
