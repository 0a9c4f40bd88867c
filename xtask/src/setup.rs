//! `cargo xtask setup`: from a bare Debian with rustup's stable toolchain to one that builds, runs and tests pagetrace.
//!
//! Every step looks before it acts, says in one line what it found or did, and costs next to nothing when there is
//! nothing to do. On another distribution the same programs may come from elsewhere: only what is missing is installed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::ebpf::{self, Compiler};
use crate::process::{as_root, capture, cargo, find_program, target_directory};

/// The bpf-linker that is installed below the target directory: 0.10 with LLVM 22, as `ebpf.rs` expects.
const LINKER_VERSION: &str = "0.10.3";

/// A thing that has to be there, and the Debian package that brings it.
pub struct Need {
    /// A program's name, a file's absolute path, or a path with one `*` for a directory name.
    what: &'static str,
    package: &'static str,
}

impl Need {
    pub const fn new(what: &'static str, package: &'static str) -> Need {
        Need { what, package }
    }
}

/// What building needs, beside a compiler for the BPF target.
pub const BUILD: &[Need] =
    &[Need { what: "cc", package: "gcc" }, Need { what: "/usr/include/stdio.h", package: "libc6-dev" }];

/// What the tests run: real programs to record, and other people's tools to compare with.
pub const TEST: &[Need] = &[
    Need { what: "aria2c", package: "aria2" },
    Need { what: "bpftool", package: "bpftool" },
    Need { what: "bpftrace", package: "bpftrace" },
    Need { what: "c++", package: "g++" },
    Need { what: "chromium", package: "chromium" },
    Need { what: "gcc", package: "gcc" },
    Need { what: "heaptrack_print", package: "heaptrack" },
    Need { what: "java", package: "openjdk-17-jre-headless" },
    Need { what: "/usr/lib/*/libjemalloc.so.2", package: "libjemalloc2" },
    Need { what: "/usr/lib/*/libmimalloc.so.2.0", package: "libmimalloc2.0" },
    Need { what: "musl-gcc", package: "musl-tools" },
    Need { what: "node", package: "nodejs" },
    Need { what: "perf", package: "linux-perf" },
    Need { what: "perl", package: "perl" },
    Need { what: "/usr/lib/postgresql/*/bin/pgbench", package: "postgresql" },
    Need { what: "python3", package: "python3" },
    Need { what: "redis-server", package: "redis-server" },
    Need { what: "runc", package: "runc" },
    Need { what: "sqlite3", package: "sqlite3" },
    Need { what: "strace", package: "strace" },
    Need { what: "/usr/lib/*/libtcmalloc_minimal.so.4", package: "libtcmalloc-minimal4" },
];

/// What the measurements compare with.
pub const BENCH: &[Need] = &[
    Need { what: "bpftrace", package: "bpftrace" },
    Need { what: "gcc", package: "gcc" },
    Need { what: "heaptrack", package: "heaptrack" },
    Need { what: "perf", package: "linux-perf" },
];

/// The Debian packages with a compiler for the BPF target.
const COMPILER_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// Installs packages as root. Services must not start, so a policy forbids it for as long as this takes; a machine that
/// has a policy of its own keeps it.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
mark='# by `cargo xtask setup` of pagetrace, while it installs packages'
if [ ! -e "$policy" ] || grep -qF "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" > "$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=300 update
apt-get -qq -o DPkg::Lock::Timeout=300 -y --no-install-recommends install "$@"
"#;

/// Makes sure that all of these, a compiler for the BPF target, bpf-linker and tracefs are there.
pub fn setup(needs: &[&[Need]]) -> Result<()> {
    packages(needs)?;
    let compiler = Compiler::find().map_err(|why| anyhow::anyhow!("no compiler for the BPF target: {why}"))?;
    say(&format!("eBPF compiler: {compiler}"));
    linker()?;
    tracefs()
}

fn packages(needs: &[&[Need]]) -> Result<()> {
    let mut missing: Vec<&str> =
        needs.iter().copied().flatten().filter(|need| !is_there(need.what)).map(|need| need.package).collect();
    if Compiler::find().is_err() {
        missing.extend(COMPILER_PACKAGES);
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        say("packages: all there");
        return Ok(());
    }
    let list = missing.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "missing: {list} (Debian's names), and there is no apt-get\n  \
             fix:  install them; instead of {}: rustup toolchain install nightly -c rust-src",
            COMPILER_PACKAGES.join(" ")
        );
    }
    let start = Instant::now();
    say(&format!("packages: installing {list}"));
    capture(as_root("sh").args(["-c", INSTALL, "install"]).args(&missing))
        .with_context(|| format!("cannot install {list}"))?;
    say(&format!("packages: installed in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn linker() -> Result<()> {
    let target_directory = target_directory()?;
    let linker = ebpf::linker_path(&target_directory);
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    if capture(Command::new(&linker).arg("--version")).is_ok_and(|version| version.trim() == wanted) {
        say(&format!("{wanted}: there"));
        return Ok(());
    }
    let start = Instant::now();
    say(&format!("{wanted}: building, about a minute"));
    let mut install = cargo("install")?;
    install.args(["bpf-linker", "--version", LINKER_VERSION, "--locked", "--force", "--root"]);
    capture(install.arg(target_directory.join("tools"))).with_context(|| format!("cannot install {wanted}"))?;
    say(&format!("{wanted}: built in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn tracefs() -> Result<()> {
    const MOUNT_POINT: &str = "/sys/kernel/tracing";
    // Closed to all but root; to see that it is mounted, anybody may read the mount table.
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(MOUNT_POINT)) {
        say("tracefs: mounted");
        return Ok(());
    }
    capture(as_root("mount").args(["-t", "tracefs", "nodev", MOUNT_POINT])).context("cannot mount tracefs")?;
    say("tracefs: mounted now");
    Ok(())
}

/// Whether a program is in PATH or a file exists.
fn is_there(what: &str) -> bool {
    match what.split_once("/*/") {
        Some((parent, rest)) => {
            fs::read_dir(parent).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join(rest).exists()))
        }
        None if what.starts_with('/') => Path::new(what).exists(),
        None => find_program(what).is_some(),
    }
}

/// Says what a step found or did.
pub fn say(line: &str) {
    eprintln!("setup: {line}");
}
