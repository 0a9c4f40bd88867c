//! `cargo xtask run -- ARGS`: builds pagetrace-user for release and becomes it, as root.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::process::{as_root, cargo, is_root, show, target_directory};
use crate::setup;

/// Does not return if all goes well.
pub fn run(arguments: &[OsString]) -> Result<()> {
    setup::setup(&[setup::BUILD])?;
    show(cargo("build")?.args(["--release", "--locked", "--quiet", "--package", "pagetrace-user"]))?;

    let program = target_directory()?.join("release/pagetrace-user");
    let mut command = if is_root() {
        as_root(&program)
    } else {
        // sudo clears the environment, in which each flag may stand too.
        let mut command = as_root("env");
        for (name, value) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PAGETRACE_")) {
            let mut pair = name;
            pair.push("=");
            pair.push(value);
            command.arg(pair);
        }
        command.arg(&program);
        command
    };
    Err(command.args(arguments).exec()).with_context(|| format!("cannot run {}", program.display()))
}
