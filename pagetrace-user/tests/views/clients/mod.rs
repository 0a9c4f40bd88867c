//! What `export` writes, opened by the programs that it is for.

mod flame;
mod heaptrack;
mod hostile;
#[cfg(feature = "parquet")]
mod parquet;
mod perfetto;
mod pprof;
#[cfg(feature = "parquet")]
mod spark;
mod speedscope;
mod tables;

use std::path::{Path, PathBuf};
use std::process::Command;

use pagetrace_user::event::Event;
use pagetrace_user::export::{Exported, Form, export};
use pagetrace_user::format::Reader;
use pagetrace_user::stacks::Of;

use crate::fixture;

/// What is written of these events.
fn exported(events: &[Event], form: Form, of: Of) -> (Vec<u8>, Exported) {
    exported_file(&fixture::whole(events), form, of)
}

/// What is written of a trace.
fn exported_file(trace: &[u8], form: Form, of: Of) -> (Vec<u8>, Exported) {
    let mut out = Vec::new();
    let done = export(&mut Reader::new(trace).unwrap(), form, of, &mut out).unwrap();
    (out, done)
}

/// What a program prints.
fn printed(program: &str, words: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(words).arg(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The folder of a Python package.
fn package(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("python").join(name);
    assert!(folder.exists(), "{} is not there: run the tests by `cargo xtask test`", folder.display());
    folder
}
