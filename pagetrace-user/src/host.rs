//! What this host is and offers: read from the kernel, never changed.
//!
//! *Source.* uname(2), capget(2), statfs(2), /proc and /sys. Every function reads afresh.

pub mod process;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};

/// The kernel's own type information: where the offsets of its structures are looked up.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The oldest kernel that is supported: the RSS counters of an address space are percpu counters from 6.2 on
/// (`include/linux/mm_types.h`, `mm_struct::rss_stat`).
pub const KERNEL_FLOOR: (u32, u32) = (6, 2);

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `uname -m`: of the kernel, not of this program.
#[must_use]
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// Major and minor number of a release such as `6.18.44-amd64`; `None` when it has no such head.
#[must_use]
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The random name of this boot: a monotonic time means something only together with it.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Where tracefs is mounted; `None` when it is at neither of its two usual places.
#[must_use]
pub fn tracefs() -> Option<PathBuf> {
    // TRACEFS_MAGIC of include/uapi/linux/magic.h.
    const MAGIC: u64 = 0x7472_6163;
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == MAGIC))
}

/// A privilege that a recording needs, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub capability: Capability,
    /// Completes "needed to ...".
    pub purpose: &'static str,
    /// Wider capabilities that the kernel takes in its place.
    instead: &'static [Capability],
}

/// All privileges that a recording needs.
pub const NEEDS: [Need; 6] = [
    Need { capability: Capability::CAP_BPF, purpose: "load programs and maps", instead: &[Capability::CAP_SYS_ADMIN] },
    Need {
        capability: Capability::CAP_PERFMON,
        purpose: "attach to tracepoints",
        instead: &[Capability::CAP_SYS_ADMIN],
    },
    Need { capability: Capability::CAP_SYS_ADMIN, purpose: "read page frame numbers", instead: &[] },
    Need { capability: Capability::CAP_SYS_PTRACE, purpose: "read /proc/PID of other users' processes", instead: &[] },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        purpose: "open /proc/PID/pagemap and tracefs",
        instead: &[Capability::CAP_DAC_OVERRIDE],
    },
    Need {
        capability: Capability::CAP_CHECKPOINT_RESTORE,
        purpose: "follow /proc/PID/map_files",
        instead: &[Capability::CAP_SYS_ADMIN],
    },
];

/// Those of [`NEEDS`] that this process does not have in effect. Inside a user namespace of its own it has none:
/// what the kernel checks for these is the initial one.
///
/// # Errors
/// When the kernel does not tell (a sandbox that forbids capget).
pub fn missing_capabilities() -> io::Result<Vec<Need>> {
    if !in_initial_namespace(Namespace::User) {
        return Ok(NEEDS.to_vec());
    }
    let held = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
    let lacks =
        |need: &&Need| !held.contains(&need.capability) && !need.instead.iter().any(|wider| held.contains(wider));
    Ok(NEEDS.iter().filter(lacks).copied().collect())
}

/// Whether this process has one capability in effect; `false` also when the kernel does not tell.
#[must_use]
pub fn has_capability(capability: Capability) -> bool {
    in_initial_namespace(Namespace::User) && caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// The namespaces that matter to a recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Elsewhere capabilities do not count.
    User,
    /// Elsewhere process numbers are others than those the kernel's events carry.
    Pid,
}

/// Whether this process is in the host's own namespace of this kind; `true` when that cannot be read.
#[must_use]
pub fn in_initial_namespace(namespace: Namespace) -> bool {
    // The inode numbers of the initial namespaces are fixed: include/linux/proc_ns.h, PROC_*_INIT_INO.
    let (path, initial) = match namespace {
        Namespace::User => ("/proc/self/ns/user", "user:[4026531837]"),
        Namespace::Pid => ("/proc/self/ns/pid", "pid:[4026531836]"),
    };
    fs::read_link(path).map_or(true, |link| link.as_os_str() == initial)
}

/// How the host's cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// One tree at /sys/fs/cgroup.
    V2,
    /// A tree for each controller, and one of v2 without controllers at /sys/fs/cgroup/unified.
    Hybrid,
    /// A tree for each controller.
    V1,
    /// Nothing is mounted at /sys/fs/cgroup.
    Absent,
}

impl CgroupMode {
    /// For text and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            CgroupMode::V2 => "v2",
            CgroupMode::Hybrid => "hybrid",
            CgroupMode::V1 => "v1",
            CgroupMode::Absent => "absent",
        }
    }
}

/// How the host's cgroups are mounted.
#[must_use]
pub fn cgroup_mode() -> CgroupMode {
    const TMPFS: u64 = 0x0102_1994;
    match (magic("/sys/fs/cgroup"), magic("/sys/fs/cgroup/unified")) {
        (Some(CGROUP2), _) => CgroupMode::V2,
        (Some(TMPFS), Some(CGROUP2)) => CgroupMode::Hybrid,
        (Some(TMPFS), _) => CgroupMode::V1,
        _ => CgroupMode::Absent,
    }
}

/// Whether a path is in a tree of cgroups, of either version.
#[must_use]
pub fn is_cgroup(path: impl AsRef<Path>) -> bool {
    const CGROUP1: u64 = 0x0027_e0eb;
    matches!(magic(path), Some(CGROUP1 | CGROUP2))
}

/// `CGROUP2_SUPER_MAGIC` of include/uapi/linux/magic.h, where the others stand too.
const CGROUP2: u64 = 0x6367_7270;

/// Which file system a path is in.
fn magic(path: impl AsRef<Path>) -> Option<u64> {
    rustix::fs::statfs(path.as_ref()).ok().map(|found| found.f_type as u64)
}

/// The kernel's lockdown: `none`, `integrity` or `confidentiality`; `None` when securityfs is not mounted or the
/// kernel has no lockdown.
#[must_use]
pub fn lockdown() -> Option<String> {
    chosen(&fs::read_to_string("/sys/kernel/security/lockdown").ok()?)
}

/// The word in brackets of a line such as `none [integrity] confidentiality`.
fn chosen(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

/// The nearest directory that exists: `path` itself or one above it.
#[must_use]
pub fn nearest_directory(path: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(path).ok()?;
    whole.ancestors().find(|above| above.is_dir()).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn versions_are_read_from_releases() {
        for (release, expected) in [
            ("6.18.44-cloud-amd64", Some((6, 18))),
            ("5.10.0-30-amd64", Some((5, 10))),
            ("6.2", Some((6, 2))),
            ("7.1-rc3", Some((7, 1))),
            ("6", None),
            ("", None),
            ("linux", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(kernel_version(release), expected, "{release:?}");
        }
    }

    #[test]
    fn the_chosen_lockdown_is_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(chosen("[none] integrity confidentiality").as_deref(), Some("none"));
        assert_eq!(chosen("none"), None);
        assert_eq!(chosen("[none"), None);
    }

    #[test]
    fn the_nearest_directory_of_a_path_not_there_is_above_it() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().canonicalize().unwrap();
        assert_eq!(nearest_directory(&here.join("a/b/c")).as_deref(), Some(here.as_path()));
        assert_eq!(nearest_directory(&here).as_deref(), Some(here.as_path()));
    }

    #[test]
    fn the_boot_has_a_name() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
