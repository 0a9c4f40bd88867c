//! Programs that tests open exports with, or record, and Debian does not have, below `tools/python` in the target directory.
//!
//! A folder appears under its name only when it is whole.

use std::fs;
use std::path::Path;
use std::process::{self, Command};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::{capture, target_directory};
use crate::setup::say;

/// The Python packages that read Parquet and Perfetto's messages, and a server in Rust; tests look for them under these names.
/// Of Spark 3.5, whose archive has 317 MB: one of 4 has more than 430.
const PACKAGES: [(&str, &str); 7] = [
    ("chdb-core", "26.9.0"),
    ("duckdb", "2.0.0"),
    ("perfetto", "0.59.1"),
    ("protobuf", "7.36.2"),
    ("py4j", "0.10.9.7"),
    ("pyspark", "3.5.7"),
    ("ruff", "0.17.6"),
];

/// Makes sure that all of them are there.
pub fn install() -> Result<()> {
    let folder = target_directory()?.join("tools/python");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (package, version) in PACKAGES {
        let done = folder.join(format!("{package}-{version}"));
        if done.is_dir() {
            say(&format!("{package} {version}: there"));
            continue;
        }
        let start = Instant::now();
        from_pip(package, version, &done).with_context(|| format!("cannot install {package} {version}"))?;
        say(&format!("{package} {version}: installed in {:.0} s", start.elapsed().as_secs_f64()));
    }
    Ok(())
}

fn from_pip(package: &str, version: &str, done: &Path) -> Result<()> {
    let part = done.with_file_name(format!("{package}.part.{}", process::id()));
    let unpacked =
        unpack(&format!("{package}=={version}"), &part).and_then(|_| fs::rename(&part, done).context("cannot rename"));
    if unpacked.is_err() {
        // The first error says more than a second one.
        let _ = fs::remove_dir_all(&part);
    }
    unpacked
}

/// Puts what a package holds into a folder, without what it needs.
pub fn unpack(package: &str, folder: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check"]);
    pip.args(["--no-cache-dir", "--root-user-action=ignore", "--target"]).arg(folder).arg(package);
    capture(&mut pip).map(drop)
}
