//! `cargo xtask lint`: formatting and clippy over the whole workspace; a warning is an error.

use anyhow::Result;

use crate::process::{capture, cargo, show};

pub fn lint() -> Result<()> {
    components()?;
    show(cargo("fmt")?.args(["--all", "--check"]))?;
    show(cargo("clippy")?.args(["--workspace", "--all-targets", "--locked", "--quiet", "--", "--deny", "warnings"]))?;
    eprintln!("lint: clean");
    Ok(())
}

/// Adds rustfmt and clippy to the toolchain where they are missing.
fn components() -> Result<()> {
    for (verb, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if capture(cargo(verb)?.arg("--version")).is_err() {
            eprintln!("setup: {component}: installing");
            capture(std::process::Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}
