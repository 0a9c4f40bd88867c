//! Which compiler and linker build the eBPF object, looked up the same way by `cargo xtask` and by the build script of
//! pagetrace-user.
//!
//! Two routes, both without a toolchain pinned by this repository:
//! - **rust-src:** a rustup toolchain (a nightly first) with the `rust-src` component builds `core` itself.
//! - **Debian:** the packages `rustc-web`, `cargo-web` and `libstd-rust-web-dev-bpf` carry a prebuilt `core`.
//!
//! Either compiler writes LLVM bitcode that bpf-linker turns into BPF. bpf-linker opens an LLVM at run time, which must
//! not be older than the compiler's and must be of the release it was built for: so it gets the compiler's own.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The LLVM release that the bpf-linker of `cargo xtask setup` is built for.
const LLVM_MAJOR: u32 = 22;

/// Where Debian keeps the compiler that knows the BPF target, and its `core`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

/// A compiler that can build for `bpfel-unknown-none`.
#[derive(Debug)]
pub struct Compiler {
    pub route: Route,
    /// The compiler; its cargo lies beside it.
    pub rustc: PathBuf,
    /// The compiler's own LLVM library.
    pub llvm: PathBuf,
}

/// Where `core` comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// Built from the sources in this rustup toolchain.
    RustSrc(String),
    /// Prebuilt, from Debian's packages.
    Debian,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Route::RustSrc(toolchain) => write!(f, "{toolchain} of rustup, with rust-src")?,
            Route::Debian => write!(f, "Debian's rustc-web")?,
        }
        write!(f, " ({}, {})", self.rustc.display(), self.llvm.display())
    }
}

impl Compiler {
    /// The compiler to use, or why there is none.
    pub fn find() -> Result<Compiler, String> {
        let mut refused = Vec::new();
        for (name, toolchain) in toolchains_with_source() {
            match newest_llvm(&toolchain.join("lib")) {
                Some(llvm) => {
                    return Ok(Compiler { route: Route::RustSrc(name), rustc: toolchain.join("bin/rustc"), llvm });
                }
                None => refused.push(format!("{name} does not come with LLVM {LLVM_MAJOR}")),
            }
        }
        if Path::new(DEBIAN_CORE).is_dir() && Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_CARGO).exists() {
            match subdirectories(Path::new("/usr/lib")).iter().find_map(|directory| newest_llvm(directory)) {
                Some(llvm) => return Ok(Compiler { route: Route::Debian, rustc: DEBIAN_RUSTC.into(), llvm }),
                None => refused.push(format!("Debian's rustc-web does not come with LLVM {LLVM_MAJOR}")),
            }
        } else {
            refused.push("Debian's rustc-web, cargo-web and libstd-rust-web-dev-bpf are not installed".to_owned());
        }
        if !refused.iter().any(|reason| reason.contains("LLVM")) {
            refused.push("no rustup toolchain has rust-src".to_owned());
        }
        Err(refused.join("; "))
    }
}

/// Where set-up puts bpf-linker.
pub fn linker_path(target_directory: &Path) -> PathBuf {
    target_directory.join("tools/bin/bpf-linker")
}

/// The cargo target directory that `inside` lies in: cargo marks it, whatever CARGO_TARGET_DIR or a config file called it.
pub fn target_directory(inside: &Path) -> Option<PathBuf> {
    inside.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
}

/// Rustup's toolchains that have the sources of `core`: nightlies first, the latest name first.
fn toolchains_with_source() -> Vec<(String, PathBuf)> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")));
    let mut found: Vec<(String, PathBuf)> = home
        .map(|home| subdirectories(&home.join("toolchains")))
        .unwrap_or_default()
        .into_iter()
        .filter(|toolchain| toolchain.join("lib/rustlib/src/rust/library/core").is_dir())
        .filter_map(|toolchain| Some((toolchain.file_name()?.to_string_lossy().into_owned(), toolchain)))
        .collect();
    found.sort_by(|(a, _), (b, _)| (b.starts_with("nightly"), b).cmp(&(a.starts_with("nightly"), a)));
    found
}

/// An LLVM library of the wanted release in this directory.
fn newest_llvm(directory: &Path) -> Option<PathBuf> {
    let wanted = [format!("libLLVM.so.{LLVM_MAJOR}"), format!("libLLVM-{LLVM_MAJOR}")];
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // A text file of that name can be a linker script, and a broken link can be left over.
            wanted.iter().any(|prefix| name.starts_with(prefix.as_str()))
                && fs::metadata(path).is_ok_and(|meta| meta.len() > 1 << 20)
        })
        .collect();
    found.sort();
    found.pop()
}

/// The directories in this directory, sorted by name; none if it cannot be read.
fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect())
        .unwrap_or_default();
    found.sort();
    found
}
