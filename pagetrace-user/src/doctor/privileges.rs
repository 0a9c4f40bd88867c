//! What this process may do.

use std::fs;

use caps::Capability;

use crate::doctor::{Check, Lack};
use crate::host::{self, Namespace, Need};

/// The capabilities, and the setting that a capability overrides.
pub fn checks() -> Vec<Check> {
    let missing = host::missing_capabilities();
    let mut checks = vec![match missing {
        Ok(missing) => {
            capabilities(&missing, rustix::process::geteuid().is_root(), host::in_initial_namespace(Namespace::User))
        }
        Err(error) => Check::missing(
            "privileges",
            Lack::Privilege,
            format!("the kernel does not tell the capabilities: {error}"),
            "run it as root on the host, outside of sandboxes",
        ),
    }];
    checks.extend(fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok().map(|level| {
        let level = level.trim();
        let found = if host::has_capability(Capability::CAP_PERFMON) || host::has_capability(Capability::CAP_SYS_ADMIN)
        {
            format!("{level}, and CAP_PERFMON overrides it")
        } else {
            format!("{level}, which CAP_PERFMON overrides")
        };
        Check::ok("perf_event_paranoid", found)
    }));
    checks
}

fn capabilities(missing: &[Need], root: bool, initial_namespace: bool) -> Check {
    const NAME: &str = "privileges";

    if missing.is_empty() {
        let who = if root { "root" } else { "not root, but" };
        return Check::ok(NAME, format!("{who} with all capabilities that are needed"));
    }
    let needs: Vec<String> =
        missing.iter().map(|need| format!("{} is missing, needed to {}", need.capability, need.purpose)).collect();
    let fix = if !initial_namespace {
        "run it on the host: inside a user namespace capabilities do not reach the kernel".to_owned()
    } else if root {
        let names: Vec<String> = missing.iter().map(|need| need.capability.to_string()).collect();
        format!("grant {} (docker run --cap-add, or AmbientCapabilities= of systemd)", names.join(", "))
    } else {
        "sudo pagetrace-user ...".to_owned()
    };
    Check::missing(NAME, Lack::Privilege, needs.join("\n"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;
    use crate::host::NEEDS;

    #[test]
    fn the_remedy_fits_the_case() {
        let check = |missing: &[Need], root, initial, expected: &str| {
            let found = capabilities(missing, root, initial);
            assert_eq!(found.status == Status::Ok, missing.is_empty());
            assert!(found.fix.contains(expected), "{found:?}");
        };
        check(&[], true, true, "");
        check(&NEEDS, false, true, "sudo");
        check(&NEEDS, true, false, "on the host");
        check(&NEEDS[1..2], true, true, "CAP_PERFMON");
    }

    #[test]
    fn every_missing_capability_is_named_with_its_purpose() {
        let found = capabilities(&NEEDS, false, true).found;
        for need in NEEDS {
            assert!(found.contains(&need.capability.to_string()) && found.contains(need.purpose), "{found}");
        }
    }
}
