//! Go programs, built without network by the toolchains below `tools/go` in the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Every toolchain.
pub const VERSIONS: [&str; 8] = ["1.19.8", "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub name: &'static str,
    pub flags: &'static [&'static str],
    pub linker: &'static str,
    pub cgo: bool,
}

pub const PLAIN: Way = Way { name: "plain", flags: &[], linker: "", cgo: false };
pub const PIE: Way = Way { name: "pie", flags: &["-buildmode=pie"], linker: "", cgo: false };
pub const EXTERNAL: Way = Way { name: "external", flags: &["-buildmode=pie"], linker: "-linkmode=external", cgo: true };
pub const RACE: Way = Way { name: "race", flags: &["-race"], linker: "", cgo: true };

/// A folder for what is built, kept from run to run.
pub fn folder(version: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("symbols").join(version);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Go's own command, as if no other Go and no network were there.
pub fn go(version: &str) -> Command {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("go").join(version);
    let program = tools.join("bin/go");
    assert!(program.exists(), "{} is not there: run the tests by `cargo xtask test`", program.display());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GO")) {
        command.env_remove(name);
    }
    command.env("GOPROXY", "off").env("GOTOOLCHAIN", "local").env("GO111MODULE", "off").env("GOENV", "off");
    command.env("GOPATH", folder(version).join("path")).env("GOCACHE", folder(version).join("cache"));
    command
}

/// What a command prints.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Held while something is built: tests that want the same program must not write it under each other.
static BUILDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Builds the program.
pub fn build(version: &str, way: Way, stripped: bool) -> PathBuf {
    build_with(version, way, stripped, "")
}

/// The same with experiments (`GOEXPERIMENT`).
pub fn build_with(version: &str, way: Way, stripped: bool, experiment: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/symbols/some.go");
    build_file(version, &source, way, stripped, experiment)
}

/// Builds a program of a file of Go, with experiments or `""`.
pub fn build_file(version: &str, source: &Path, way: Way, stripped: bool, experiment: &str) -> PathBuf {
    let what = source.file_stem().unwrap().to_str().unwrap();
    let name = format!("{what}-{}{}{experiment}", way.name, if stripped { "-stripped" } else { "" });
    let program = folder(version).join(name);
    let mut built = BUILDING.lock().unwrap();
    if built.contains(&program) {
        return program;
    }
    let mut command = go(version);
    command.env("CGO_ENABLED", if way.cgo { "1" } else { "0" });
    if !experiment.is_empty() {
        command.env("GOEXPERIMENT", experiment);
    }
    command.arg("build").args(way.flags);
    command.arg(format!("-ldflags={} {}", way.linker, if stripped { "-s -w" } else { "" }));
    output(command.arg("-o").arg(&program).arg(source));
    built.push(program.clone());
    program
}

/// The address of every function and variable, by Go's own nm.
pub fn addresses(version: &str, program: &Path) -> std::collections::HashMap<String, u64> {
    output(go(version).args(["tool", "nm"]).arg(program))
        .lines()
        .filter_map(|line| {
            let (address, rest) = line.trim_start().split_once(' ')?;
            let (kind, name) = rest.trim_start().split_once(' ')?;
            matches!(kind, "T" | "t" | "D" | "d" | "B" | "b")
                .then(|| (name.to_owned(), u64::from_str_radix(address, 16).unwrap()))
        })
        .collect()
}

/// The bytes of a program, with its section headers gone.
pub fn without_sections(program: &Path) -> Vec<u8> {
    let mut bytes = fs::read(program).unwrap();
    bytes[0x28..0x30].fill(0);
    bytes[0x3a..0x40].fill(0);
    bytes
}
