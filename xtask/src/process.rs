//! Where the workspace is, and other programs: cargo, and whatever has to run as root.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::ebpf;

/// The repository's root.
pub fn workspace() -> Result<PathBuf> {
    // At run time, not at compile time: the folder may have been moved with its target directory in it.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    Ok(Path::new(&manifest).parent().context("xtask lies in no workspace")?.to_path_buf())
}

/// The cargo target directory, wherever CARGO_TARGET_DIR or a config file puts it: this program lies in it.
pub fn target_directory() -> Result<PathBuf> {
    ebpf::target_directory(&env::current_exe()?).context("xtask was not built by cargo")
}

/// Cargo, the one that runs us.
pub fn cargo(verb: &str) -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(verb).current_dir(workspace()?);
    Ok(command)
}

/// Whether we are root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// This program, run as root: by sudo if we are somebody else.
pub fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Runs a command to its end and shows what it says; without a terminal to ask on.
pub fn show(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", name(command));
    }
    Ok(())
}

/// Runs a command to its end and returns what it writes to stdout; what it says is shown only if it fails.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", name(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{} ended with {}\n{stdout}{}",
            name(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(stdout)
}

/// The file of this name in PATH, or among the system's own programs, which a user's PATH may leave out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// The command as an error names it: the program and its first argument.
fn name(command: &Command) -> String {
    let first = command.get_args().next().map(|argument| format!(" {}", argument.display())).unwrap_or_default();
    format!("`{}{first}`", Path::new(command.get_program()).file_name().unwrap_or_default().display())
}
