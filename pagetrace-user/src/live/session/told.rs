//! What a recording says of itself: its limits, and the line on a terminal.

use std::io::Write;

use crate::failure::{Code, Failure};
use crate::live::clock;
use crate::live::control::Progress;
use crate::live::load::Kernel;
use crate::live::stacks::KernelSymbols;
use crate::options::{RecordOptions, Select, Stacks};

/// Limits of this recording, for the header.
pub(super) fn notes(options: &RecordOptions, kernel: &Kernel) -> Vec<String> {
    let mut notes = Vec::new();
    if !kernel.exact {
        let cpus = kernel.cpus;
        notes.push(format!("RSS levels between readings are the kernel's approximate ones: the host has {cpus} CPUs"));
    }
    if kernel.frames.limit() < kernel.frames_of_host {
        notes.push(format!(
            "frames beyond {} GiB are not joined to their owner when they are freed",
            kernel.frames.limit() >> 18
        ));
    }
    if let Some(Stacks { rate, .. }) = options.stacks {
        notes.push(format!("at most {rate} stacks a second of each CPU are recorded, as many more after a pause"));
    }
    if matches!(options.select, Select::Cgroup(_)) {
        notes.push(
            "a process that moves into or out of the cgroup while it runs is judged by where it was at its last exec"
                .to_owned(),
        );
    }
    notes
}

/// The names for the kernel's part of stacks, if it is wanted and can be named.
pub(super) fn kernel_symbols(
    options: &RecordOptions,
    notes: &mut Vec<String>,
) -> Result<Option<KernelSymbols>, Failure> {
    const HIDDEN: &str = "the kernel hides the addresses of its functions";

    let Some(stacks) = options.stacks.filter(|stacks| stacks.kernel) else { return Ok(None) };
    let symbols = KernelSymbols::read();
    if symbols.is_none() && !stacks.user {
        let fix = "sudo sysctl kernel.kptr_restrict=1   (and run as root)";
        return Err(Failure::new(Code::Privilege, "cannot record stacks of the kernel", HIDDEN, fix));
    }
    if symbols.is_none() {
        notes.push(format!("stacks have no part of the kernel: {HIDDEN} (kernel.kptr_restrict)"));
    }
    Ok(symbols)
}

/// What cannot wait for the end.
pub(super) fn warn(warnings: &[String], line: bool) {
    for warning in warnings {
        // A closed stderr is no reason not to record.
        let _ = writeln!(std::io::stderr(), "{}warning: {warning}", if line { "\r\x1b[K" } else { "" });
    }
}

/// The line on a terminal.
pub(super) fn tell(progress: &Progress) {
    let seconds = clock::now().since(progress.since).as_secs_f64();
    let Progress { events, processes, lost, .. } = progress;
    let plural = if *processes == 1 { "" } else { "es" };
    // A closed stderr is no reason not to record.
    let _ = write!(
        std::io::stderr(),
        "\r\x1b[K{seconds:.0} s: {events} events of {processes} process{plural}, {lost} lost"
    );
}
