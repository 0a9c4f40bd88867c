//! The main job's arguments: what clap read -> [`RecordOptions`], or why they make no sense.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, ValueEnum};

use crate::cli::values;
use crate::failure::{Code, Failure};
use crate::host;
use crate::options::{self, RecordOptions, Select};
use crate::units::{Bytes, Pid};

const WHICH: &str = "Which processes (one of these)";
const HOW: &str = "How";
const TUNING: &str = "Tuning";

/// Bytes between two samples of objects.
const DEFAULT_SAMPLE: Bytes = Bytes(512 << 10);

/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Which stacks are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stacks {
    /// Calls in the process's own code
    User,
    /// Calls in the kernel, at faults and memory calls
    Kernel,
    /// Both
    Both,
    /// No stacks
    None,
}

/// As they stand on the command line or in the environment.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// Record this process; repeatable, or a list: 10,11
    #[arg(short, long, value_name = "N", value_parser = values::pid, value_delimiter = ',', action = ArgAction::Append)]
    #[arg(env = "PAGETRACE_PID", hide_env = true, allow_negative_numbers = true, help_heading = WHICH)]
    pid: Vec<Pid>,

    /// Record every process, one file each
    #[arg(short, long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_ALL", hide_env = true, help_heading = WHICH)]
    all: bool,

    /// Record the processes whose name (comm) matches, now or later
    #[arg(long, value_name = "GLOB", value_parser = values::comm)]
    #[arg(env = "PAGETRACE_COMM", hide_env = true, help_heading = WHICH)]
    comm: Option<String>,

    /// Record the processes in this cgroup and below: a directory under /sys/fs/cgroup
    #[arg(long, value_name = "PATH")]
    #[arg(env = "PAGETRACE_CGROUP", hide_env = true, help_heading = WHICH)]
    cgroup: Option<PathBuf>,

    /// Start this program and record it from its first instruction
    #[arg(last = true, value_name = "CMD", help_heading = WHICH)]
    command: Vec<String>,

    /// Record the children too, across exec
    #[arg(short, long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_FOLLOW", hide_env = true, help_heading = HOW)]
    follow: bool,

    /// Stop after this long, such as 500ms, 30s, 2m, 1h [default: until Ctrl-C or the end of the process]
    #[arg(short, long, value_name = "TIME", value_parser = values::recording_time)]
    #[arg(env = "PAGETRACE_DURATION", hide_env = true, help_heading = HOW)]
    duration: Option<Duration>,

    /// Record objects too: every call of malloc, free, operator new and their kin, sampled by bytes
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_OBJECTS", hide_env = true, help_heading = HOW)]
    objects: bool,

    /// With --objects: bytes between two samples on average, up to 1GiB; 0 records every object [default: 512KiB]
    #[arg(long, value_name = "SIZE", value_parser = values::sample)]
    #[arg(env = "PAGETRACE_SAMPLE", hide_env = true, allow_negative_numbers = true, help_heading = HOW)]
    sample: Option<Bytes>,

    /// Record where a thread was at faults, calls, heap and object events
    #[arg(long, value_name = "WHICH", value_enum, default_value = "user")]
    #[arg(env = "PAGETRACE_STACKS", hide_env = true, help_heading = HOW)]
    stacks: Stacks,

    /// Without --stacks none: stacks of each CPU in a second at most, 1 to 1000000; the file tells which events have none
    #[arg(long, value_name = "N", value_parser = values::stack_rate, default_value = "1000")]
    #[arg(env = "PAGETRACE_STACK_RATE", hide_env = true, allow_negative_numbers = true, help_heading = TUNING)]
    stack_rate: u64,

    /// Directory of the trace files; made if absent
    #[arg(short, long, value_name = "DIR", default_value = crate::cli::DIRECTORY)]
    #[arg(env = "PAGETRACE_OUTPUT", hide_env = true, help_heading = HOW)]
    output: PathBuf,

    /// Put NAME and a dot before the name of each file
    #[arg(long, value_name = "NAME", value_parser = values::prefix)]
    #[arg(env = "PAGETRACE_PREFIX", hide_env = true, help_heading = HOW)]
    prefix: Option<String>,

    /// Overwrite files of the same name
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_FORCE", hide_env = true, help_heading = HOW)]
    force: bool,

    /// Print the summary to stdout as one JSON object
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true, help_heading = HOW)]
    json: bool,

    /// Print nothing to stderr but errors
    #[arg(short, long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_QUIET", hide_env = true, help_heading = HOW)]
    quiet: bool,

    /// Lost records that still count as success; more is exit code 6
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "0")]
    #[arg(env = "PAGETRACE_MAX_LOSS", hide_env = true, allow_negative_numbers = true, help_heading = TUNING)]
    max_loss: u64,

    /// Ring buffer of each CPU: a power of two from 4KiB to 1GiB
    #[arg(long, value_name = "SIZE", value_parser = values::ring, default_value = "8MiB")]
    #[arg(env = "PAGETRACE_RING", hide_env = true, allow_negative_numbers = true, help_heading = TUNING)]
    ring: Bytes,

    /// Look at empty rings for this long before sleeping
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "50us")]
    #[arg(env = "PAGETRACE_SPIN_TIME", hide_env = true, help_heading = TUNING)]
    spin_time: Duration,

    /// One ring for all CPUs, to measure what that costs
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_ONE_RING", hide_env = true, hide = true)]
    one_ring: bool,

    /// Let programs wake the recorder, to measure what that costs
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_WAKE_UPS", hide_env = true, hide = true)]
    wake_ups: bool,

    /// Records of a cache line each, to measure what that costs
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_PADDED", hide_env = true, hide = true)]
    padded: bool,

    /// Attach everything and want nothing, to measure what the attach points alone cost
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_EMPTY", hide_env = true, hide = true)]
    empty: bool,

    /// Attach to no page heap, to measure what its points cost
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_NO_HEAP", hide_env = true, hide = true)]
    no_heap: bool,

    /// End when the process that started this one ends, however that ends
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_END_WITH_PARENT", hide_env = true, hide = true)]
    end_with_parent: bool,
}

impl RecordArgs {
    /// The recording that is asked for. `matches` tells what came from the environment: a selection on the command
    /// line replaces one there.
    ///
    /// # Errors
    /// No selection, or more than one; a cgroup that is none.
    pub fn options(self, matches: &ArgMatches) -> Result<RecordOptions, Failure> {
        let select = self.select(matches)?;
        if self.sample.is_some() && !self.objects {
            return Err(Failure::new(
                Code::Usage,
                "cannot sample objects",
                "they are not recorded",
                "add --objects, or leave --sample out",
            ));
        }
        Ok(RecordOptions {
            select,
            follow: self.follow,
            duration: self.duration,
            directory: self.output,
            prefix: self.prefix,
            force: self.force,
            objects: self.objects.then(|| self.sample.unwrap_or(DEFAULT_SAMPLE)),
            stacks: (self.stacks != Stacks::None).then_some(options::Stacks {
                rate: self.stack_rate,
                user: matches!(self.stacks, Stacks::User | Stacks::Both),
                kernel: matches!(self.stacks, Stacks::Kernel | Stacks::Both),
            }),
            ring: self.ring,
            one_ring: self.one_ring,
            wake_ups: self.wake_ups,
            padded: self.padded,
            empty: self.empty,
            no_heap: self.no_heap,
            spin_time: self.spin_time,
            max_loss: self.max_loss,
            json: self.json,
            quiet: self.quiet,
        })
    }

    /// Where that is asked for, has the kernel terminate this process when its parent ends, even by SIGKILL.
    ///
    /// Of a parent with threads the signal may come once for each of them: SIGINT would be an abort the second time.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn end_with_parent(&self) -> Result<(), Failure> {
        if !self.end_with_parent {
            return Ok(());
        }
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .map_err(|error| Failure::new(Code::Failed, "cannot end with the parent", error.to_string(), ""))
    }

    fn select(&self, matches: &ArgMatches) -> Result<Select, Failure> {
        let asked = [
            ("pid", "--pid", !self.pid.is_empty()),
            ("all", "--all", self.all),
            ("comm", "--comm", self.comm.is_some()),
            ("cgroup", "--cgroup", self.cgroup.is_some()),
            ("command", "-- CMD", !self.command.is_empty()),
        ];
        let from = |source: ValueSource| -> Vec<(&str, &str)> {
            let given = asked.iter().filter(|(id, _, is)| *is && matches.value_source(id) == Some(source));
            given.map(|(id, flag, _)| (*id, *flag)).collect()
        };
        let mut chosen = from(ValueSource::CommandLine);
        if chosen.is_empty() {
            chosen = from(ValueSource::EnvVariable);
        }
        match chosen.as_slice() {
            [("pid", _)] => {
                let mut pids: Vec<Pid> = Vec::with_capacity(self.pid.len());
                for pid in &self.pid {
                    if !pids.contains(pid) {
                        pids.push(*pid);
                    }
                }
                Ok(Select::Pids(pids))
            }
            [("all", _)] => Ok(Select::All),
            [("comm", _)] => Ok(Select::Comm(self.comm.clone().unwrap_or_default())),
            [("cgroup", _)] => cgroup(self.cgroup.as_deref().unwrap_or(Path::new(""))).map(Select::Cgroup),
            [("command", _)] if self.command.first().is_some_and(String::is_empty) => Err(Failure::new(
                Code::Usage,
                "cannot start a program",
                "its name is empty",
                "name it after the two dashes: pagetrace-user -- ls -l",
            )),
            [("command", _)] => Ok(Select::Command(self.command.clone())),
            [] => Err(Failure::new(
                Code::Usage,
                "nothing to record",
                "no process is selected",
                "sudo pagetrace-user --pid N   (or -a, --comm GLOB, --cgroup PATH, -- CMD ARGS)",
            )),
            several => {
                let flags: Vec<&str> = several.iter().map(|(_, flag)| *flag).collect();
                Err(Failure::new(
                    Code::Usage,
                    "cannot tell what to record",
                    format!("{} select processes in different ways", flags.join(" and ")),
                    "keep one of them; --pid may be repeated",
                ))
            }
        }
    }
}

/// The directory of a cgroup, with its links resolved.
fn cgroup(path: &Path) -> Result<PathBuf, Failure> {
    const FIX: &str = "give a directory under /sys/fs/cgroup; list them with: find /sys/fs/cgroup -type d";

    let what = || format!("cannot record cgroup {}", path.display());
    let real = path
        .canonicalize()
        .map_err(|error| Failure::new(Code::NoTarget, what(), format!("{}: {error}", path.display()), FIX))?;
    if real.starts_with(CGROUPS) && real.is_dir() && host::is_cgroup(&real) {
        return Ok(real);
    }
    Err(Failure::new(Code::Usage, what(), format!("{} is no cgroup", real.display()), FIX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::{Command, FromArgMatches};

    use super::*;

    /// The options of a command line, without the environment.
    fn read(line: &[&str]) -> Result<RecordOptions, Failure> {
        let command = RecordArgs::augment_args(Command::new("pagetrace-user")).mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from(["pagetrace-user"].iter().chain(line)).unwrap();
        RecordArgs::from_arg_matches(&matches).unwrap().options(&matches)
    }

    #[test]
    fn the_defaults() {
        let options = read(&["--pid", "42"]).unwrap();
        assert!(matches!(options.select, Select::Pids(pids) if pids == [Pid(42)]));
        assert!(!(options.follow || options.force || options.one_ring || options.json || options.quiet));
        assert_eq!(options.duration, None);
        assert_eq!(options.directory, Path::new("traces"));
        assert_eq!(options.prefix, None);
        assert_eq!(options.ring, Bytes(8 << 20));
        assert_eq!(options.spin_time, Duration::from_micros(50));
        assert_eq!(options.max_loss, 0);
        assert_eq!(options.objects, None);
    }

    #[test]
    fn objects() {
        assert_eq!(read(&["--pid", "42", "--objects"]).unwrap().objects, Some(Bytes(512 << 10)));
        assert_eq!(read(&["--pid", "42", "--objects", "--sample", "1M"]).unwrap().objects, Some(Bytes(1 << 20)));
        assert_eq!(read(&["--pid", "42", "--sample", "1M"]).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn every_option_arrives() {
        let options = read(&[
            "-p",
            "7",
            "--pid",
            "8,7",
            "-f",
            "--objects",
            "--sample",
            "0",
            "-d",
            "30s",
            "-o",
            "/tmp/x",
            "--prefix",
            "before",
            "--force",
            "--ring",
            "64K",
            "--one-ring",
            "--wake-ups",
            "--padded",
            "--no-heap",
            "--spin-time",
            "0us",
            "--max-loss",
            "9",
            "--json",
            "-q",
        ])
        .unwrap();
        assert!(matches!(options.select, Select::Pids(pids) if pids == [Pid(7), Pid(8)]));
        assert!(options.follow && options.force && options.json && options.quiet);
        assert!(options.one_ring && options.wake_ups && options.padded && options.no_heap);
        assert_eq!(options.objects, Some(Bytes(0)));
        assert_eq!(options.duration, Some(Duration::from_secs(30)));
        assert_eq!(options.directory, Path::new("/tmp/x"));
        assert_eq!(options.prefix.as_deref(), Some("before"));
        assert_eq!(options.ring, Bytes(65536));
        assert_eq!(options.spin_time, Duration::ZERO);
        assert_eq!(options.max_loss, 9);
    }

    #[test]
    fn one_selection() {
        assert!(matches!(read(&["-a"]).unwrap().select, Select::All));
        assert!(matches!(read(&["--comm", "re*"]).unwrap().select, Select::Comm(glob) if glob == "re*"));
        let options = read(&["-q", "--", "ls", "-l", "--pid"]).unwrap();
        assert!(matches!(options.select, Select::Command(words) if words == ["ls", "-l", "--pid"]));
        for line in [&["-f"][..], &["--", ""], &["-a", "--pid", "1"], &["--comm", "a", "--", "ls"]] {
            assert_eq!(read(line).unwrap_err().code, Code::Usage, "{line:?}");
        }
    }

    #[test]
    fn a_cgroup_is_a_directory_of_the_kernel() {
        assert_eq!(cgroup(Path::new("/sys/fs/cgroup/not-there")).unwrap_err().code, Code::NoTarget);
        assert_eq!(cgroup(Path::new("/tmp")).unwrap_err().code, Code::Usage);
        assert_eq!(cgroup(Path::new("/sys/fs/cgroup/../..")).unwrap_err().code, Code::Usage);
    }
}
