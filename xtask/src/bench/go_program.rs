//! The measured Go programs: built without network by a toolchain below the target directory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::workload::Workload;
use crate::process::capture;
use crate::toolchains;

/// Of the versions whose runtime can be built with a page trace of its own, the last.
const GO: &str = "1.22.10";

/// The compiled program.
pub struct GoProgram {
    file: PathBuf,
    /// Where the functions begin in which the page heap gives out, takes and gives back pages.
    pub entries: [u64; 3],
}

impl GoProgram {
    /// Builds it as a file of this name, with an experiment (`GOEXPERIMENT`) or with none (`""`).
    pub fn build(directory: &Path, name: &str, experiment: &str) -> Result<GoProgram> {
        let source = directory.join("workload.go");
        fs::write(&source, include_str!("workload.go"))?;
        let file = directory.join(name);
        let mut build = go(directory)?;
        build.env("GOEXPERIMENT", experiment).args(["build", "-o"]).arg(&file).arg(&source);
        capture(&mut build)?;
        let symbols = capture(go(directory)?.args(["tool", "nm"]).arg(&file))?;
        let entry = |function: &str| {
            let line = symbols.lines().find(|line| line.ends_with(function));
            let address = line.and_then(|line| u64::from_str_radix(line.split_whitespace().next()?, 16).ok());
            address.with_context(|| format!("{} has no {function}", file.display()))
        };
        let entries = [
            entry(" T runtime.(*mheap).setSpans")?,
            entry(" T runtime.(*mheap).freeSpanLocked")?,
            entry(" T runtime.sysUnusedOS")?,
        ];
        Ok(GoProgram { file, entries })
    }

    /// Starts it with these words on these CPUs, as taskset takes them; where `own_trace` is a file, the runtime writes its
    /// own page trace into it.
    pub fn start(&self, words: &[&str], cpus: &str, own_trace: Option<&Path>) -> Result<Workload> {
        // Whoever else is at work on this machine should not be in its figures. Both replace themselves by the program.
        let mut command = Command::new("nice");
        command.args(["-n", "-15", "taskset", "--cpu-list", cpus]).arg(&self.file).args(words);
        if let Some(file) = own_trace {
            command.env("GODEBUG", format!("pagetrace={}", file.display()));
        }
        Workload::start(&mut command)
    }
}

/// Go's own command, as if no other Go and no network were there.
fn go(directory: &Path) -> Result<Command> {
    let mut command = Command::new(toolchains::install_one(GO)?.join("bin/go"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GO")) {
        command.env_remove(name);
    }
    command.env("GOPROXY", "off").env("GOTOOLCHAIN", "local").env("GO111MODULE", "off").env("GOENV", "off");
    command.env("GOPATH", directory.join("go")).env("GOCACHE", directory.join("go-cache")).env("CGO_ENABLED", "0");
    Ok(command)
}
