//! Can this host record, and what mends it if not: rows of checks, and processes that were asked about.
//!
//! *Invariant.* Nothing is changed: a probe of the kernel is loaded and gone within the call, and never attached.

mod tracepoints;

mod bpf;
mod directory;
mod kernel;
mod privileges;

mod allocators;
mod page_heap;

mod view;

use std::path::Path;

use crate::failure::Code;
use crate::host;
use crate::host::process::{self, Process, Unfit};
use crate::symbols::go::GoPlan;
use crate::units::Pid;
use allocators::Mapped;

/// What was found on this host.
#[derive(Clone, Debug)]
pub struct Report {
    /// `uname -r`.
    pub kernel: String,
    pub boot_id: String,
    pub checks: Vec<Check>,
    pub targets: Vec<Looked>,
}

/// A process that was asked about.
#[derive(Clone, Debug)]
pub struct Looked {
    pub pid: Pid,
    pub found: Result<Process, Unfit>,
    /// Its program's page heap, if it has one that is known.
    pub page_heap: Option<GoPlan>,
    /// What is known of the page heaps of the allocators that it has mapped.
    pub page_heaps: Vec<page_heap::Mapped>,
    /// The allocators that it has mapped.
    pub allocators: Vec<Mapped>,
}

impl Looked {
    fn at(pid: Pid) -> Looked {
        let found = process::look(pid);
        let page_heap = found.as_ref().ok().and_then(|_| page_heap::look(pid));
        let is_there = found.is_ok();
        let allocators = if is_there { allocators::look(pid, page_heap.is_some()) } else { Vec::new() };
        let page_heaps = if is_there { page_heap::look_at_libraries(pid) } else { Vec::new() };
        Looked { pid, found, page_heap, page_heaps, allocators }
    }
}

/// One thing that a recording depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Stable: programs look for it in the JSON.
    pub name: &'static str,
    pub status: Status,
    pub found: String,
    /// The one command or act that mends it; empty when there is nothing to mend.
    pub fix: String,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// Recording works; something about it is worth to know.
    Note,
    /// Recording does not work.
    Missing(Lack),
}

/// What kind of thing is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Another kernel, or another configuration of it.
    Kernel,
    Privilege,
    /// A setting of the host that can be changed at once.
    SetUp,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, status: Status::Ok, found: found.into(), fix: String::new() }
    }

    fn note(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { name, status: Status::Note, found: found.into(), fix: fix.into() }
    }

    fn missing(name: &'static str, lack: Lack, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { name, status: Status::Missing(lack), found: found.into(), fix: fix.into() }
    }
}

/// Looks at the host, at `output` as the place of trace files, and at these processes.
#[must_use]
pub fn examine(output: &Path, pids: &[Pid]) -> Report {
    let mut checks = kernel::checks();
    checks.extend(privileges::checks());
    checks.extend(bpf::checks());
    checks.extend(tracepoints::checks());
    checks.extend(directory::checks(output));
    Report {
        kernel: host::kernel_release(),
        boot_id: host::boot_id().unwrap_or_default(),
        checks,
        targets: pids.iter().map(|pid| Looked::at(*pid)).collect(),
    }
}

impl Report {
    /// Complete when recording can work; else what is missing, the hardest to get first.
    #[must_use]
    pub fn code(&self) -> Code {
        let lacks = |lack| self.checks.iter().any(|check| check.status == Status::Missing(lack));
        let unfit: Option<&Unfit> = self.targets.iter().find_map(|looked| looked.found.as_ref().err());
        if lacks(Lack::Kernel) {
            Code::Kernel
        } else if lacks(Lack::Privilege) || matches!(unfit, Some(Unfit::Unreadable(_))) {
            Code::Privilege
        } else if unfit.is_some() {
            Code::NoTarget
        } else if lacks(Lack::SetUp) {
            Code::Failed
        } else {
            Code::Complete
        }
    }

    /// A table for people.
    #[must_use]
    pub fn text(&self) -> String {
        view::text(self)
    }

    /// One JSON object on one line, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        view::json(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(statuses: &[Status], targets: Vec<Result<Process, Unfit>>) -> Report {
        let check = |status: &Status| Check { name: "x", status: *status, found: String::new(), fix: String::new() };
        Report {
            kernel: String::new(),
            boot_id: String::new(),
            checks: statuses.iter().map(check).collect(),
            targets: targets
                .into_iter()
                .map(|found| Looked {
                    pid: Pid(1),
                    found,
                    page_heap: None,
                    page_heaps: Vec::new(),
                    allocators: Vec::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn the_exit_code_names_what_is_hardest_to_get() {
        let check = |statuses: &[Status], targets, expected| assert_eq!(report(statuses, targets).code(), expected);
        let (kernel, privilege, set_up) =
            (Status::Missing(Lack::Kernel), Status::Missing(Lack::Privilege), Status::Missing(Lack::SetUp));
        check(&[], vec![], Code::Complete);
        check(&[Status::Ok, Status::Note], vec![], Code::Complete);
        check(&[Status::Ok, set_up], vec![], Code::Failed);
        check(&[set_up, privilege], vec![], Code::Privilege);
        check(&[privilege, kernel, set_up], vec![], Code::Kernel);
        check(&[set_up], vec![Err(Unfit::Absent)], Code::NoTarget);
        check(&[], vec![Err(Unfit::Unreadable("no".into()))], Code::Privilege);
        check(&[privilege], vec![Err(Unfit::Absent)], Code::Privilege);
    }
}
