//! The tracepoints that a recording attaches to, looked up in tracefs.

use std::io;
use std::path::Path;

use crate::doctor::{Check, Lack};
use crate::host;

/// Without these there is no recording.
const REQUIRED: [&str; 21] = [
    "exceptions/page_fault_user",
    "exceptions/page_fault_kernel",
    "kmem/mm_page_alloc",
    "kmem/mm_page_free",
    "kmem/rss_stat",
    "sched/sched_process_fork",
    "sched/sched_process_exec",
    "sched/sched_process_exit",
    "mmap/exit_mmap",
    "syscalls/sys_enter_mmap",
    "syscalls/sys_exit_mmap",
    "syscalls/sys_enter_munmap",
    "syscalls/sys_exit_munmap",
    "syscalls/sys_enter_mremap",
    "syscalls/sys_exit_mremap",
    "syscalls/sys_enter_brk",
    "syscalls/sys_exit_brk",
    "syscalls/sys_enter_madvise",
    "syscalls/sys_exit_madvise",
    "syscalls/sys_enter_mprotect",
    "syscalls/sys_exit_mprotect",
];

/// Without these something is not named in the trace; the kernel has them unless configured otherwise.
const OPTIONAL: [&str; 14] = [
    "syscalls/sys_enter_process_madvise",
    "syscalls/sys_exit_process_madvise",
    "syscalls/sys_enter_shmat",
    "syscalls/sys_exit_shmat",
    "syscalls/sys_enter_shmdt",
    "syscalls/sys_exit_shmdt",
    "huge_memory/mm_collapse_huge_page",
    "huge_memory/mm_khugepaged_scan_pmd",
    "vmscan/mm_vmscan_direct_reclaim_begin",
    "vmscan/mm_vmscan_direct_reclaim_end",
    "vmscan/mm_vmscan_memcg_reclaim_begin",
    "vmscan/mm_vmscan_memcg_reclaim_end",
    "migrate/mm_migrate_pages",
    "oom/mark_victim",
];

const TRACEFS: &str = "tracefs";
const TRACEPOINTS: &str = "tracepoints";

/// Where tracefs is, and what is in it.
pub fn checks() -> Vec<Check> {
    match host::tracefs() {
        Some(root) => {
            let events = root.join("events");
            vec![Check::ok(TRACEFS, root.display().to_string()), present(&events)]
        }
        None if !Path::new("/sys/kernel/tracing").is_dir() => vec![Check::missing(
            TRACEFS,
            Lack::Kernel,
            "the kernel has none",
            "boot a kernel built with CONFIG_FTRACE=y and CONFIG_FTRACE_SYSCALLS=y",
        )],
        None => vec![Check::missing(
            TRACEFS,
            Lack::SetUp,
            "not mounted",
            "mount -t tracefs nodev /sys/kernel/tracing   (as root)",
        )],
    }
}

/// Which tracepoints are in the directory `events`.
fn present(events: &Path) -> Check {
    if let Err(error) = events.read_dir() {
        return match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Check::note(TRACEPOINTS, "not looked up: tracefs is closed to this user", "sudo pagetrace-user doctor")
            }
            _ => Check::missing(
                TRACEPOINTS,
                Lack::Kernel,
                format!("{}: {error}", events.display()),
                "boot a kernel built with CONFIG_FTRACE=y",
            ),
        };
    }
    let absent = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().filter(|name| !events.join(name).is_dir()).copied().collect()
    };
    let (required, optional) = (absent(&REQUIRED), absent(&OPTIONAL));
    if !required.is_empty() {
        return Check::missing(
            TRACEPOINTS,
            Lack::Kernel,
            format!("the kernel lacks {}", required.join(", ")),
            "boot a kernel built with CONFIG_FTRACE=y and CONFIG_FTRACE_SYSCALLS=y",
        );
    }
    if !optional.is_empty() {
        return Check::note(
            TRACEPOINTS,
            format!("the kernel lacks {}: what they tell is missing in a trace", optional.join(", ")),
            "",
        );
    }
    // SANITY: the sum of two small constants.
    Check::ok(TRACEPOINTS, format!("all {} of them", REQUIRED.len() + OPTIONAL.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;
    use crate::doctor::Status;

    #[test]
    fn each_required_tracepoint_is_missed_and_an_optional_one_is_noted() {
        let events = tempfile::tempdir().unwrap();
        for name in REQUIRED.iter().chain(&OPTIONAL) {
            fs::create_dir_all(events.path().join(name)).unwrap();
        }
        assert_eq!(present(events.path()).status, Status::Ok);
        for (names, expected) in [(&REQUIRED[..], Status::Missing(Lack::Kernel)), (&OPTIONAL[..], Status::Note)] {
            for name in names {
                fs::remove_dir(events.path().join(name)).unwrap();
                let found = present(events.path());
                assert_eq!(found.status, expected, "{name}");
                assert!(found.found.contains(name), "{found:?}");
                fs::create_dir(events.path().join(name)).unwrap();
            }
        }
    }

    #[test]
    fn no_events_at_all_is_a_kernel_without_them() {
        assert_eq!(present(Path::new("/nonexistent/events")).status, Status::Missing(Lack::Kernel));
    }
}
