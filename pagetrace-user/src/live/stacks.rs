//! Stacks: from a thread's registers and a copy of its stack to nodes of a tree of calls.
//!
//! *When.* While the capture runs: what is mapped where in a process is asked of /proc when its first stack comes, and again
//! when it mapped more code since. A child begins with what its parent had.
//! *Errors.* A stack of a process that was gone before it could be asked is cut after the first place.
//! *Bound.* The programs' bound on the rate of stacks is the bound on the work here; nodes of one process end at [`MOST_NODES`].

mod code;
mod kernel;
mod names;
mod perf_map;
mod unwind;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use framehop::x86_64::CacheX86_64;

use crate::live::uprobe::Identity;
use crate::symbols::guarded;
pub use code::CodeFile;
pub use kernel::KernelSymbols;
pub use names::Namer;
pub use unwind::{Copied, ProcessStacks, Walked};

/// Nodes of one process.
const MOST_NODES: usize = 1 << 20;
/// Files kept at most.
const MOST_FILES: usize = 4096;

/// What all processes of a recording share.
pub struct Unwinding {
    files: HashMap<Identity, Option<Arc<CodeFile>>>,
    cache: CacheX86_64,
    /// Of the kernel; `None` where its part of stacks is not recorded.
    pub kernel: Option<KernelSymbols>,
}

impl Default for Unwinding {
    fn default() -> Unwinding {
        Unwinding { files: HashMap::new(), cache: CacheX86_64::new(), kernel: None }
    }
}

impl Unwinding {
    /// The file behind a path, if it is a program or library.
    fn file(&mut self, path: &Path) -> Option<Arc<CodeFile>> {
        let identity = Identity::of(&std::fs::metadata(path).ok()?);
        if self.files.len() >= MOST_FILES {
            self.files.clear();
        }
        self.files.entry(identity).or_insert_with(|| CodeFile::open(path).ok().map(Arc::new)).clone()
    }
}
