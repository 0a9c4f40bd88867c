//! Which address spaces that came into view are recorded.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::failure::{Code, Failure};
use crate::live::process;
use crate::options::Select;
use crate::units::{Comm, Pid};

/// The rule, in a form that can be applied to a process.
pub enum Rule {
    /// The kernel chooses: by number, or all.
    Any,
    Comm(GlobMatcher),
    /// Below these directories, as paths of /proc/PID/cgroup.
    Cgroup(PathBuf),
}

impl Rule {
    /// *Errors.* A glob that is none.
    pub fn new(select: &Select) -> Result<Rule, Failure> {
        Ok(match select {
            Select::Pids(_) | Select::All | Select::Command(_) => Rule::Any,
            Select::Comm(glob) => {
                let matcher = GlobBuilder::new(glob).literal_separator(false).build().map_err(|error| {
                    Failure::new(
                        Code::Usage,
                        format!("cannot use --comm {glob}"),
                        error.to_string(),
                        "try --comm 'redis*'",
                    )
                })?;
                Rule::Comm(matcher.compile_matcher())
            }
            Select::Cgroup(path) => Rule::Cgroup(relative(path)),
        })
    }

    /// Whether this process is recorded. `parent`: what was decided for its parent, which stands for a process that
    /// is gone before /proc can be asked (a child begins in its parent's cgroup).
    #[must_use]
    pub fn admits(&self, pid: Pid, comm: Comm, parent: Option<bool>) -> bool {
        match self {
            Rule::Any => true,
            Rule::Comm(matcher) => matcher.is_match(comm.to_text()),
            Rule::Cgroup(directory) => {
                let paths = process::cgroup_paths(pid);
                if paths.is_empty() {
                    return parent.unwrap_or(false);
                }
                paths.iter().any(|path| Path::new(path).starts_with(directory))
            }
        }
    }
}

/// A directory of the cgroup file systems as /proc/PID/cgroup names it: without the mount point.
fn relative(path: &Path) -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup").then(|| left.split(' ').nth(4))?
    });
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut best: Option<PathBuf> = None;
    for mount in mounts {
        if let Ok(rest) = absolute.strip_prefix(mount)
            && best.as_ref().is_none_or(|best| best.as_os_str().len() > rest.as_os_str().len())
        {
            best = Some(rest.to_owned());
        }
    }
    Path::new("/").join(best.unwrap_or(absolute))
}
