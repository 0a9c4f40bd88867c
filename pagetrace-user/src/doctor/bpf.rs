//! Whether the kernel takes what a recording loads: the smallest maps and programs of each kind, made and dropped.

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use caps::Capability;

use crate::doctor::{Check, Lack};
use crate::host;

const NAME: &str = "bpf";

const MAPS: [(MapType, &str); 4] = [
    (MapType::RingBuf, "ring buffers"),
    (MapType::ArrayOfMaps, "arrays of maps"),
    (MapType::PerCpuArray, "per-CPU arrays"),
    (MapType::Hash, "hashes"),
];

// NOTE: programs on BTF tracepoints are not tried this way: the trial is an fentry program, which some kernels
// refuse (no CONFIG_KPROBES) although they take BTF tracepoints.
const PROGRAMS: [(ProgramType, &str); 2] =
    [(ProgramType::RawTracePoint, "raw tracepoints"), (ProgramType::TracePoint, "tracepoints")];

/// One row: all kinds work, or which do not.
pub fn checks() -> Vec<Check> {
    let held = host::has_capability;
    let may_load = held(Capability::CAP_SYS_ADMIN) || held(Capability::CAP_BPF) && held(Capability::CAP_PERFMON);
    if !may_load {
        return vec![Check::note(NAME, "not tried: this process may not load programs", "sudo pagetrace-user doctor")];
    }
    let maps = MAPS.into_iter().map(|(kind, name)| (name, is_map_supported(kind).map_err(|error| words(&error))));
    let programs =
        PROGRAMS.into_iter().map(|(kind, name)| (name, is_program_supported(kind).map_err(|error| words(&error))));
    vec![verdict(maps.chain(programs))]
}

fn verdict(found: impl Iterator<Item = (&'static str, Result<bool, String>)>) -> Check {
    let (mut works, mut lacks) = (Vec::new(), Vec::new());
    for (name, supported) in found {
        match supported {
            Ok(true) => works.push(name),
            Ok(false) => lacks.push(name),
            Err(error) => {
                return Check::missing(
                    NAME,
                    Lack::Privilege,
                    format!("the kernel refuses {name}: {error}"),
                    "run it on the host, or without the sandbox (a seccomp filter) that forbids bpf(2)",
                );
            }
        }
    }
    if lacks.is_empty() {
        return Check::ok(NAME, format!("{} load", works.join(", ")));
    }
    Check::missing(
        NAME,
        Lack::Kernel,
        format!("the kernel has no {}", lacks.join(", ")),
        "boot a kernel built with CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y",
    )
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        words = format!("{words}: {next}");
        cause = next.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_kind_that_is_refused_is_not_a_kind_that_is_absent() {
        let check = |found: Vec<(&'static str, Result<bool, String>)>, expected| {
            assert_eq!(verdict(found.into_iter()).status, expected);
        };
        check(vec![("a", Ok(true)), ("b", Ok(true))], Status::Ok);
        check(vec![("a", Ok(true)), ("b", Ok(false))], Status::Missing(Lack::Kernel));
        check(vec![("a", Ok(false)), ("b", Err("EPERM".into()))], Status::Missing(Lack::Privilege));
    }
}
