//! `cargo xtask test [ARGS]`: all that has to hold before a change is kept.
//!
//! The kernel's tests need root. Somebody else builds as themselves, and sudo runs what was built.

use std::ffi::OsString;

use anyhow::Result;

use crate::process::{cargo, is_root, show};
use crate::{clients, lint, setup, toolchains};

pub fn test(arguments: &[OsString]) -> Result<()> {
    setup::setup(&[setup::BUILD, setup::TEST, toolchains::NEEDS])?;
    toolchains::install()?;
    clients::install()?;
    lint::lint()?;
    let mut tests = cargo("test")?;
    tests.args(["--workspace", "--locked", "--no-fail-fast"]);
    if !is_root() {
        tests.args(["--config", "target.'cfg(all())'.runner = ['sudo', '--preserve-env']"]);
    }
    show(tests.args(arguments))
}
