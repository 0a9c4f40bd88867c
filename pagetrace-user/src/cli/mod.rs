//! The command line: words -> one command with checked options, and that command's end.
//!
//! *Errors.* All end as a [`Failure`]; what clap finds wrong becomes one too, so that every error has the same
//! three lines and its exit code. A reader of stdout that goes away (`| head`) is success.

mod export;
mod heat;
mod html;
mod output;
mod pages;
mod reading;
mod record;
mod report;
mod top;
mod usage;
mod values;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::export::ExportArgs;
use crate::cli::heat::HeatArgs;
use crate::cli::reading::{CheckArgs, DiffArgs, DumpArgs, FragArgs, LeaksArgs, StacksArgs};
use crate::cli::record::RecordArgs;
use crate::cli::report::{ReportArgs, RssArgs, ScavArgs};
use crate::cli::top::TopArgs;
use crate::doctor;
use crate::failure::{Code, Failure};
use crate::live;
use crate::units::Pid;

/// Where trace files go when `-o` does not say.
pub const DIRECTORY: &str = "traces";

const EXAMPLES: &str = "\
sudo pagetrace-user --pid 4242               record a running process until Ctrl-C
sudo pagetrace-user --pid 4242 -f -d 30s     with its children, for 30 seconds
sudo pagetrace-user -- python3 job.py        record a program from its first instruction
pagetrace-user report traces/*.pgt           where the memory is, what changed, and who did it
pagetrace-user rss X.pgt --by stack --since 1m  who touched first what is resident, and the change in that time
pagetrace-user heat X.pgt -o X.png           which addresses were resident when, as a picture
pagetrace-user report X.pgt -o X.html        the same as a page, with its course over time and flame graphs
pagetrace-user export go.pt -o copy.pt       the heap events in the form of the Go runtime
pagetrace-user doctor                        what this host lacks for recording";

/// What follows the options in the long help and in the manual page: title and text.
const SECTIONS: [(&str, &str); 4] = [
    ("Examples", EXAMPLES),
    (
        "Files",
        "\
traces/NAME.PID.TIME.pgt     a finished trace; .pgt.part while it is recorded
traces/trace.pid             the recorder's PID while it runs",
    ),
    (
        "Environment",
        "\
Every option can be given as PAGETRACE_ and its long name: PAGETRACE_RING=64MiB, PAGETRACE_MAX_LOSS=100,
PAGETRACE_FOLLOW=true, PAGETRACE_PID=10,11. What stands on the command line goes first.",
    ),
    (
        "Exit codes",
        "\
0    complete
1    failed
2    the command line makes no sense
3    the process was not found, or was gone before the start
4    a privilege is missing
5    the kernel lacks a feature
6    finished, but more was lost than --max-loss allows
7    the trace file is damaged; what could be read was reported
130  aborted by a second Ctrl-C",
    ),
];

/// One section as the help shows it.
fn section((title, text): (&str, &str)) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("\n  {line}")).collect();
    format!("{title}:{}", lines.concat())
}

/// Record every page of a live, unmodified process, and see where its memory went.
#[derive(Debug, Parser)]
#[command(name = "pagetrace-user", version, after_help = section(("Examples", EXAMPLES)), after_long_help = SECTIONS.map(section).join("\n\n"))]
#[command(override_usage = "\
pagetrace-user [OPTIONS] --pid N | --all | --comm GLOB | --cgroup PATH | -- CMD ARGS
       pagetrace-user COMMAND ...")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Line {
    #[command(flatten)]
    record: RecordArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say where a process's memory is, what changed and who changed it
    Report(ReportArgs),
    /// Say what is resident by class, stack, range, thread, file or age, how much more than before, and for how long
    Rss(RssArgs),
    /// Show on the terminal where the memory is, of a trace at any moment or of a process that is recorded meanwhile
    Top(TopArgs),
    /// Show which addresses were resident when, in use by a page heap or given back, on the terminal or as a picture
    Heat(HeatArgs),
    /// Say which calls stand behind the resident memory, or behind its page faults
    Stacks(StacksArgs),
    /// Say which objects, or runs of a page heap, were given and never taken back, and which calls asked for them
    Leaks(LeaksArgs),
    /// Say what was given back to the kernel, what of it came back, how soon, by whom, and at how many faults
    Scav(ScavArgs),
    /// Say which objects keep pages resident that are all but empty, and which calls asked for them
    Frag(FragArgs),
    /// Say which calls stand behind more or less memory than before
    Diff(DiffArgs),
    /// Print every event of a trace, one a line
    Dump(DumpArgs),
    /// Write a trace as the file of another tool: a flame graph, a profile, the page trace of the Go runtime
    Export(ExportArgs),
    /// Check that a trace is whole and that its counters balance
    Check(CheckArgs),
    /// Say what this host offers for recording, and how to get what is missing
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of the program or of one of its commands
    Man { command: Option<String> },
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Look at this process too: can it be recorded; repeatable, or a list: 10,11
    #[arg(short, long, value_name = "N", value_parser = values::pid, value_delimiter = ',', action = ArgAction::Append)]
    #[arg(env = "PAGETRACE_PID", hide_env = true, allow_negative_numbers = true)]
    pid: Vec<Pid>,

    /// Directory where trace files would go
    #[arg(short, long, value_name = "DIR", default_value = DIRECTORY)]
    #[arg(env = "PAGETRACE_OUTPUT", hide_env = true)]
    output: PathBuf,

    /// Print one JSON object
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true)]
    json: bool,
}

/// Does what the command line says; the first of `words` is the program's own name.
///
/// # Errors
/// A [`Failure`] when the command line makes no sense or its command failed. Nothing about it is printed yet.
pub fn run(words: impl IntoIterator<Item = OsString>) -> Result<Code, Failure> {
    let words: Vec<OsString> = words.into_iter().collect();
    let matches = match Line::command().try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => return Err(usage::failure(Line::command(), &words, &error)),
        // Help or version: asked for, and so data.
        Err(error) => return finish(write!(anstream::stdout().lock(), "{}", error.render().ansi())),
    };
    let line = Line::from_arg_matches(&matches).map_err(|error| usage::failure(Line::command(), &words, &error))?;

    match line.command {
        None => {
            line.record.end_with_parent()?;
            live::record(line.record.options(&matches)?)
        }
        Some(Command::Report(args)) => args.run(),
        Some(Command::Rss(args)) => args.run(),
        Some(Command::Top(args)) => args.run(),
        Some(Command::Heat(args)) => args.run(),
        Some(Command::Stacks(args)) => args.run(),
        Some(Command::Leaks(args)) => args.run(),
        Some(Command::Scav(args)) => args.run(),
        Some(Command::Frag(args)) => args.run(),
        Some(Command::Diff(args)) => args.run(),
        Some(Command::Dump(args)) => args.run(),
        Some(Command::Export(args)) => args.run(),
        Some(Command::Check(args)) => args.run(),
        Some(Command::Doctor(args)) => {
            let report = doctor::examine(&args.output, &args.pid);
            print(&if args.json { report.json() } else { report.text() })?;
            Ok(report.code())
        }
        Some(Command::Completions { shell }) => print(&pages::completions(Line::command(), shell)),
        Some(Command::Man { command }) => print(&pages::manual(Line::command(), command.as_deref(), &SECTIONS)?),
    }
}

/// Writes `text` to stdout.
fn print(text: &str) -> Result<Code, Failure> {
    let mut stdout = io::stdout().lock();
    finish(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// What the end of writing to stdout means: a reader that has gone away has seen enough.
fn finish(written: io::Result<()>) -> Result<Code, Failure> {
    match written {
        Ok(()) => Ok(Code::Complete),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Code::Complete),
        Err(error) => Err(Failure::new(
            Code::Failed,
            "cannot write to stdout",
            error.to_string(),
            "send the output to a place that takes it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_the_command_line_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_examples_are_understood() {
        for example in EXAMPLES.lines() {
            let line = example.split("   ").next().unwrap_or_default();
            let words = line.strip_prefix("sudo ").unwrap_or(line).split_whitespace();
            let read = Line::command().try_get_matches_from(words);
            assert!(read.is_ok_and(|matches| matches.args_present() || matches.subcommand().is_some()), "{example}");
        }
    }

    #[test]
    fn every_option_has_its_name_in_the_environment() {
        let mut command = Line::command();
        command.build();
        for part in std::iter::once(&command).chain(command.get_subcommands()) {
            for arg in part.get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
                let Some(long) = arg.get_long() else { continue };
                let expected = format!("PAGETRACE_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
            }
        }
    }
}
