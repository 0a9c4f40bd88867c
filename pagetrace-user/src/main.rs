//! The program: reads the command line, does what it says, tells a failure and exits with its code.

use std::io::Write;
use std::process::ExitCode;

use pagetrace_user::cli;

fn main() -> ExitCode {
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
