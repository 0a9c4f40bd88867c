//! The host's CPUs and memory, as far as the maps and rings depend on them.

use std::fs;

use pagetrace_common::control::MAX_CPUS;

use super::failed;
use crate::failure::{Code, Failure};

pub(super) fn possible_cpus() -> Result<u32, Failure> {
    let cpus = aya::util::nr_cpus().map_err(|(file, error)| failed(&format!("read {file}"), &error))?;
    match u32::try_from(cpus) {
        Ok(cpus) if cpus <= MAX_CPUS => Ok(cpus),
        _ => Err(Failure::new(
            Code::Kernel,
            "cannot record on this host",
            format!("it has {cpus} CPUs, and at most {MAX_CPUS} are supported"),
            "",
        )),
    }
}

pub(super) fn online_cpus() -> Result<Vec<u32>, Failure> {
    aya::util::online_cpus().map_err(|(file, error)| failed(&format!("read {file}"), &error))
}

/// One more than the highest frame number of the host, from /proc/zoneinfo.
pub(super) fn frames_spanned() -> u64 {
    let text = fs::read_to_string("/proc/zoneinfo").unwrap_or_default();
    let mut spanned = 0;
    let mut highest = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("spanned"), Some(value)) => spanned = value.parse().unwrap_or(0),
            (Some("start_pfn:"), Some(value)) => {
                let start: u64 = value.parse().unwrap_or(0);
                highest = highest.max(start.saturating_add(spanned));
            }
            _ => {}
        }
    }
    highest
}
