//! The kernel itself, its limits and modes.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::doctor::{Check, Lack};
use crate::host::{self, CgroupMode, KERNEL_FLOOR, Namespace};
use crate::live::KernelSymbols;
use crate::units::Bytes;

/// File descriptors that a recording needs beside those of each CPU: programs, links, maps, files.
const DESCRIPTORS: u64 = 256;

/// Everything about the kernel that no privilege is needed to see.
pub fn checks() -> Vec<Check> {
    let mut checks = vec![
        release(&host::kernel_release()),
        machine(&host::machine()),
        btf(),
        lockdown(host::lockdown().as_deref()),
        pid_namespace(host::in_initial_namespace(Namespace::Pid)),
        cgroups(host::cgroup_mode()),
        cpus(),
        open_files(),
        symbols(KernelSymbols::read().is_some()),
    ];
    checks.extend(file_size(getrlimit(Resource::Fsize).current));
    checks
}

fn release(release: &str) -> Check {
    const NAME: &str = "kernel";

    let (major, minor) = KERNEL_FLOOR;
    match host::kernel_version(release) {
        Some(version) if version >= KERNEL_FLOOR => Check::ok(NAME, format!("{release} (at least {major}.{minor})")),
        _ => Check::missing(
            NAME,
            Lack::Kernel,
            format!("{release} is not supported: the counters of resident pages are others before {major}.{minor}"),
            format!("boot a kernel of {major}.{minor} or later"),
        ),
    }
}

fn machine(machine: &str) -> Check {
    const NAME: &str = "machine";

    match machine {
        "x86_64" => Check::ok(NAME, machine),
        _ => Check::missing(
            NAME,
            Lack::Kernel,
            format!("{machine} is not supported: only x86 has tracepoints for page faults"),
            "record on an x86_64 host",
        ),
    }
}

fn btf() -> Check {
    const NAME: &str = "btf";

    match fs::metadata(host::BTF) {
        Ok(file) => Check::ok(NAME, format!("{}, {}", host::BTF, Bytes(file.len()))),
        Err(error) => Check::missing(
            NAME,
            Lack::Kernel,
            format!("{}: {error}", host::BTF),
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of the distributions are",
        ),
    }
}

fn lockdown(mode: Option<&str>) -> Check {
    const NAME: &str = "lockdown";

    match mode {
        None => Check::ok(NAME, "not told (no lockdown, or securityfs is not mounted)"),
        Some("confidentiality") => Check::missing(
            NAME,
            Lack::Kernel,
            "confidentiality: programs may not read kernel memory, and tracefs is closed",
            "boot with lockdown=integrity",
        ),
        Some(mode) => Check::ok(NAME, mode),
    }
}

fn pid_namespace(initial: bool) -> Check {
    const NAME: &str = "pid_namespace";

    if initial {
        return Check::ok(NAME, "the host's own");
    }
    Check::missing(
        NAME,
        Lack::SetUp,
        "of a container: the kernel's events carry other process numbers than those seen here",
        "run it on the host, or in a container with the host's PID namespace (docker run --pid=host)",
    )
}

fn cgroups(mode: CgroupMode) -> Check {
    const NAME: &str = "cgroups";

    match mode {
        CgroupMode::Absent => Check::note(
            NAME,
            "none are mounted: --cgroup has nothing to choose from",
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
        mode => Check::ok(NAME, mode.word()),
    }
}

fn cpus() -> Check {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Check::ok("cpus", format!("{cpus} usable by this process"))
}

fn open_files() -> Check {
    const NAME: &str = "open_files";

    let limit = getrlimit(Resource::Nofile).current;
    match limit {
        Some(limit) if limit < DESCRIPTORS => {
            Check::note(NAME, format!("{limit} descriptors may be too few"), "ulimit -n 4096")
        }
        Some(limit) => Check::ok(NAME, format!("{limit} descriptors")),
        None => Check::ok(NAME, "no limit"),
    }
}

fn symbols(are_told: bool) -> Check {
    const NAME: &str = "kernel_symbols";

    if are_told {
        return Check::ok(NAME, "the kernel's functions have names");
    }
    Check::note(
        NAME,
        "hidden: stacks have no part of the kernel (--stacks kernel, both)",
        "sudo sysctl kernel.kptr_restrict=1   (and run as root)",
    )
}

fn file_size(limit: Option<u64>) -> Option<Check> {
    let limit = Bytes(limit?);
    Some(Check::note("file_size", format!("a file may not grow beyond {limit}"), "ulimit -f unlimited"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn kernels_below_the_floor_are_not_supported() {
        let check = |text: &str, expected| assert_eq!(release(text).status, expected, "{text}");
        check("6.2.0", Status::Ok);
        check("6.18.44-fc", Status::Ok);
        check("7.0", Status::Ok);
        check("6.1.0-30-amd64", Status::Missing(Lack::Kernel));
        check("5.10.0", Status::Missing(Lack::Kernel));
        check("odd", Status::Missing(Lack::Kernel));
    }

    #[test]
    fn only_confidentiality_locks_out() {
        assert_eq!(lockdown(None).status, Status::Ok);
        assert_eq!(lockdown(Some("integrity")).status, Status::Ok);
        assert_eq!(lockdown(Some("confidentiality")).status, Status::Missing(Lack::Kernel));
    }

    #[test]
    fn hidden_symbols_are_no_obstacle() {
        assert_eq!(symbols(true).status, Status::Ok);
        assert_eq!(symbols(false).status, Status::Note);
    }

    #[test]
    fn everything_missing_says_what_mends_it() {
        let lacking = [release("5.4.0"), machine("aarch64"), lockdown(Some("confidentiality")), pid_namespace(false)];
        for check in lacking {
            assert!(matches!(check.status, Status::Missing(_)), "{check:?}");
            assert!(!check.found.is_empty() && !check.fix.is_empty(), "{check:?}");
        }
    }
}
