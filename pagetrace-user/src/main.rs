//! The program: reads the command line, does what it says, tells a failure and exits with its code.

use std::ffi::OsStr;
use std::io::Write;
use std::process::ExitCode;

use pagetrace_user::{cli, live};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next().as_deref().and_then(OsStr::to_str) {
        Some(live::LAYOUT_STAGE) => return ExitCode::from(live::stage_layout()),
        Some(live::EXEC_STAGE) => return ExitCode::from(live::stage_exec(&words.collect::<Vec<_>>())),
        _ => {}
    }
    let code = match cli::run(std::env::args_os()) {
        Ok(code) => code,
        Err(failure) => {
            // Nobody is left to be told when stderr is gone; the exit code still says it.
            let _ = writeln!(std::io::stderr().lock(), "{failure}");
            failure.code
        }
    };
    ExitCode::from(code as u8)
}
