//! Builds the eBPF programs and leaves their object at `$OUT_DIR/pagetrace-ebpf`, where the recorder embeds it.
//!
//! The object is built by another cargo, with another compiler where need be (see `xtask/src/ebpf.rs`), into `ebpf/`
//! below the target directory. Two profiles of pagetrace-user share it, and it never waits for the outer cargo's lock.
//!
//! Before `cargo xtask setup` there may be nothing to build it with. Editors still have to check the workspace, so the
//! object is empty then, with a warning, and only linking the program fails, with the remedy in the linker's message.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[path = "../xtask/src/ebpf.rs"]
mod ebpf;

use ebpf::{Compiler, Route};

/// The object's name, and that of the crate it is built from.
const OBJECT: &str = "pagetrace-ebpf";

/// What the linker says cannot be found when the program is linked without its eBPF programs.
const REMEDY: &str = "the eBPF programs of pagetrace: run `cargo xtask setup`";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot build {OBJECT}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let out_directory = PathBuf::from(variable("OUT_DIR")?);
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let target_directory = ebpf::target_directory(&out_directory).ok_or("OUT_DIR lies in no cargo target directory")?;
    let linker = ebpf::linker_path(&target_directory);

    let sources = [
        "Cargo.toml",
        "Cargo.lock",
        "pagetrace-ebpf/Cargo.toml",
        "pagetrace-ebpf/src",
        "pagetrace-common/Cargo.toml",
        "pagetrace-common/src",
    ];
    for source in sources {
        println!("cargo:rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo:rerun-if-changed={}", linker.display());

    let embedded = out_directory.join(OBJECT);
    let compiler =
        if linker.is_file() { Compiler::find() } else { Err(format!("bpf-linker is not at {}", linker.display())) };
    match compiler {
        Ok(compiler) => {
            let built = build(&compiler, &linker, &workspace, &target_directory.join("ebpf"))?;
            fs::copy(&built, &embedded)?;
        }
        Err(missing) => {
            fs::write(&embedded, [])?;
            println!("cargo:warning=the eBPF programs are not built: {missing}; fix: cargo xtask setup");
            println!("cargo:rustc-link-arg-bins={REMEDY}");
            // Never there: cargo runs this script each time until the set-up is done.
            println!("cargo:rerun-if-changed={}", out_directory.join("set-up").display());
        }
    }
    Ok(())
}

/// Builds the object and returns its path.
fn build(
    compiler: &Compiler,
    linker: &Path,
    workspace: &Path,
    target_directory: &Path,
) -> Result<PathBuf, Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", compiler.rustc.display());
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?),
        // bpf-linker makes the BTF out of the debug info.
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ];

    let program = compiler.rustc.with_file_name("cargo");
    let mut cargo = Command::new(&program);
    for (name, _) in env::vars_os() {
        if belongs_to_the_outer_build(&name) {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(workspace.join(OBJECT))
        .args(["build", "--release", "--locked", "--target", target])
        .arg("--target-dir")
        .arg(target_directory)
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        // The BPF target's inline assembly and `-Z build-std` are unstable.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("LD_LIBRARY_PATH", directory_with_only(&compiler.llvm, target_directory)?);
    if matches!(compiler.route, Route::RustSrc(_)) {
        cargo.args(["-Z", "build-std=core"]);
    }

    let output = cargo.output().map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} with {compiler}\n{messages}", output.status).into());
    }
    for warning in messages.lines().filter(|line| line.starts_with("warning: ")) {
        println!("cargo:warning={OBJECT}: {}", warning.trim_start_matches("warning: "));
    }
    Ok(target_directory.join(target).join("release").join(OBJECT))
}

/// A directory in which bpf-linker finds this LLVM and no other: it opens the first that it sees on its search path.
fn directory_with_only(llvm: &Path, target_directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let directory = target_directory.join("llvm");
    let link = directory.join("libLLVM.so");
    if fs::read_link(&link).is_ok_and(|present| present == llvm) {
        return Ok(directory);
    }
    fs::create_dir_all(&directory)?;
    // Made aside and renamed: a build in another profile may be using the directory.
    let aside = directory.join(format!(".{}", std::process::id()));
    symlink(llvm, &aside)?;
    fs::rename(&aside, &link)?;
    Ok(directory)
}

/// Whether an environment variable speaks of the build that runs this script, not of the user's machine.
fn belongs_to_the_outer_build(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return false };
    // Where crates come from is the user's business and stays.
    let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "RUSTUP_HOME"];
    let outer = ["CARGO", "RUST", "CLIPPY", "DEP_", "MAKEFLAGS", "LD_LIBRARY_PATH"];
    let exact = ["TARGET", "HOST", "OUT_DIR", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS"];
    (outer.iter().any(|prefix| name.starts_with(prefix)) || exact.contains(&name))
        && !kept.iter().any(|prefix| name.starts_with(prefix))
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}
