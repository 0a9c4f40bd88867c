//! `cargo xtask VERB`: everything that is done to pagetrace, from a bare machine to a measured release.
//!
//! Each verb that needs tools sets them up first; a second run finds them and adds no time.

mod bench;
mod clients;
mod ebpf;
mod lint;
mod process;
mod run;
mod setup;
mod test;
mod toolchains;

use std::env;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB

  setup            install what building and running need: Debian packages, bpf-linker below target/, tracefs
  run -- ARGS      set-up, release build, then pagetrace-user ARGS as root:  cargo xtask run -- --pid N
  test [ARGS]      set-up, lint, then every test as root; ARGS go to cargo test
  lint             formatting and clippy, without warnings
  bench [--quick] [--go | --reading]
                   what recording costs, against perf, bpftrace and nothing at all, and reading; one of them alone
";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    // Both `cargo xtask run --pid N` and `cargo xtask run -- --pid N` work.
    let mut rest: Vec<_> = arguments.collect();
    if rest.first().is_some_and(|first| first == "--") {
        rest.remove(0);
    }

    let done = match verb.to_str() {
        Some("setup") if rest.is_empty() => setup::setup(&[setup::BUILD]),
        Some("run") => run::run(&rest),
        Some("test") => test::test(&rest),
        Some("lint") if rest.is_empty() => lint::lint(),
        Some("bench") => bench::bench(&rest),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
