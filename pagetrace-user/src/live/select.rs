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
    Cgroup(Cgroup),
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
            Select::Cgroup(path) => Rule::Cgroup(Cgroup::of(path)),
        })
    }

    /// Whether this process is recorded. `parent`: what was decided for its parent, which stands for a process that
    /// is gone before /proc can be asked (a child begins in its parent's cgroup).
    #[must_use]
    pub fn admits(&self, pid: Pid, comm: Comm, parent: Option<bool>) -> bool {
        match self {
            Rule::Any => true,
            Rule::Comm(matcher) => matcher.is_match(comm.to_text()),
            Rule::Cgroup(cgroup) => match process::cgroups(pid) {
                text if text.is_empty() => parent.unwrap_or(false),
                text => text.lines().any(|line| cgroup.holds(line)),
            },
        }
    }
}

/// A cgroup as /proc/PID/cgroup names it.
pub struct Cgroup {
    /// Of the hierarchy: its controllers or its name, among other words; empty for v2.
    options: Vec<String>,
    /// Without the mount point.
    path: PathBuf,
}

impl Cgroup {
    /// That of a directory of the cgroup file systems.
    fn of(directory: &Path) -> Cgroup {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = text.lines().filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let (kind, rest) = right.split_once(' ')?;
            let options = rest.split_once(' ')?.1.split(',').map(str::to_owned);
            let options = match kind {
                "cgroup" => options.collect(),
                "cgroup2" => Vec::new(),
                _ => return None,
            };
            Some((left.split(' ').nth(4)?, options))
        });
        let absolute = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let below = mounts.filter_map(|(mount, options)| Some((absolute.strip_prefix(mount).ok()?, options)));
        // The innermost mount.
        let (rest, options) = below.min_by_key(|(rest, _)| rest.as_os_str().len()).unwrap_or((&absolute, Vec::new()));
        Cgroup { options, path: Path::new("/").join(rest) }
    }

    /// Whether a process is in it, or below it, by a line of /proc/PID/cgroup: `number:controllers:path`.
    fn holds(&self, line: &str) -> bool {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return false };
        let is_its = match controllers {
            "" => self.options.is_empty(),
            _ => controllers.split(',').all(|controller| self.options.iter().any(|option| option == controller)),
        };
        is_its && Path::new(path).starts_with(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::Cgroup;

    #[test]
    fn a_hierarchy_of_its_own() {
        let cgroup = |options: &[&str]| Cgroup {
            options: options.iter().map(|&word| word.to_owned()).collect(),
            path: "/a/b".into(),
        };
        let (v2, memory, named, both) = (
            cgroup(&[]),
            cgroup(&["rw", "memory"]),
            cgroup(&["rw", "name=systemd"]),
            cgroup(&["rw", "cpu", "cpuacct"]),
        );
        let held = |line: &str| [&v2, &memory, &named, &both].map(|cgroup| cgroup.holds(line));
        assert_eq!(held("0::/a/b"), [true, false, false, false]);
        assert_eq!(held("0::/a/b/c:d"), [true, false, false, false]);
        assert_eq!(held("0::/a/bc"), [false; 4]);
        assert_eq!(held("0::/a"), [false; 4]);
        assert_eq!(held("4:memory:/a/b/c"), [false, true, false, false]);
        assert_eq!(held("1:name=systemd:/a/b"), [false, false, true, false]);
        assert_eq!(held("2:cpu,cpuacct:/a/b"), [false, false, false, true]);
        assert_eq!(held("2:cpu:/a/b"), [false, false, false, true]);
        assert_eq!(held("odd"), [false; 4]);
    }
}
