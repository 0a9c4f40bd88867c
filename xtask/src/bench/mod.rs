//! `cargo xtask bench [--quick] [--go | --reading]`: what recording costs, as ratios of one run, and reading; with `--go`
//! recording of Go programs alone, with `--reading` reading alone.
//!
//! Machines differ and other work disturbs, so tools take turns: each run measures every tool once, what a tool adds is
//! its figure less the same run's figure with nobody watching, and the median over the runs is printed.
//!
//! Units: ns an act, bytes an event, CPU seconds a million events.

mod go;
mod go_program;
mod observer;
mod reading;
mod workload;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Result, bail, ensure};

use crate::process::{cargo, is_root, show, target_directory};
use crate::{setup, toolchains};
use observer::{Observer, Outcome, Tool};
use workload::{Act, Program, Workload};

/// Runs of each measurement, by default and with `--quick`.
const RUNS: usize = 9;
const QUICK_RUNS: usize = 3;

/// What one event may cost the traced program, as a part of what perf's costs it.
const GOAL_OF_PERF: f64 = 1.0 / 8.0;
const GOAL_BYTES_AN_EVENT: f64 = 6.0;
const GOAL_CPU_SECONDS_A_MILLION: f64 = 0.3;
const GOAL_BYSTANDER_NS: f64 = 50.0;
/// What recording may add to the CPU time of a Go program with 60,000 events of its page heap a second, and of a server.
const GOAL_GO_PAGES_PERCENT: f64 = 8.0;
const GOAL_GO_SERVER_PERCENT: f64 = 1.0;
/// Seconds of CPU that a report takes for a million events, and the memory for any number of them.
const GOAL_READING_CPU_SECONDS_A_MILLION: f64 = 0.05;
const GOAL_READING_MIB: f64 = 512.0;

/// Everything a measurement needs.
struct Bench {
    runs: usize,
    workload: Program,
    /// pagetrace-user, built for release.
    pagetrace: PathBuf,
    /// For the tools' files.
    directory: PathBuf,
    /// The CPU of the workload: the last, as the first takes most interrupts.
    cpu: usize,
}

/// One tool's measurement in one run.
struct Sample {
    /// What the workload says, a figure each.
    figures: Vec<f64>,
    outcome: Outcome,
}

pub fn bench(arguments: &[OsString]) -> Result<()> {
    let (mut runs, mut parts) = (RUNS, [true; 3]);
    for argument in arguments {
        match argument.to_str() {
            Some("--quick") => runs = QUICK_RUNS,
            Some("--go") => parts = [false, true, false],
            Some("--reading") => parts = [false, false, true],
            _ => bail!("usage: cargo xtask bench [--quick] [--go | --reading]"),
        }
    }
    ensure!(is_root(), "measuring needs root, as recording does\n  fix:  sudo -E env \"PATH=$PATH\" cargo xtask bench");
    setup::setup(&[setup::BUILD, setup::BENCH, toolchains::NEEDS_OF_ONE])?;
    show(cargo("build")?.args(["--release", "--locked", "--quiet", "--package", "pagetrace-user"]))?;

    let target = target_directory()?;
    let directory = target.join("bench");
    fs::create_dir_all(&directory)?;
    let bench = Bench {
        runs,
        workload: Program::compile(&directory)?,
        pagetrace: target.join("release/pagetrace-user"),
        directory: directory.join("files"),
        cpu: thread::available_parallelism()?.get() - 1,
    };
    println!("medians of {runs} alternating runs");
    let [pages, go, reading] = parts;
    let pages = pages.then(|| bench.pages()).transpose()?;
    let go = go.then(|| bench.go()).transpose()?;
    let reading = reading.then(|| bench.reading()).transpose()?;

    println!("\ngoals");
    if let Some((touch, bystander)) = pages {
        goal("one page touch, of what perf adds", touch.of_perf, GOAL_OF_PERF, "");
        goal("bytes an event", touch.bytes_an_event, GOAL_BYTES_AN_EVENT, "");
        goal("recorder CPU a million events", touch.cpu_seconds_a_million, GOAL_CPU_SECONDS_A_MILLION, "s");
        goal("bystander's system call", bystander, GOAL_BYSTANDER_NS, "ns");
    }
    if let Some(go) = go {
        goal("page-heavy Go program", go.page_heavy * 100.0, GOAL_GO_PAGES_PERCENT, "%");
        goal("HTTP server in Go", go.server * 100.0, GOAL_GO_SERVER_PERCENT, "%");
        goal("HTTP server in Go that compresses", go.compressing_server * 100.0, GOAL_GO_SERVER_PERCENT, "%");
    }
    if let Some(reading) = reading {
        goal("report, a million events", 1e6 / reading.events_a_second, GOAL_READING_CPU_SECONDS_A_MILLION, "s");
        goal("memory of a report", reading.peak_mib, GOAL_READING_MIB, "MiB");
    }
    Ok(())
}

/// What the first table says about our own recorder.
struct Touch {
    of_perf: f64,
    bytes_an_event: f64,
    cpu_seconds_a_million: f64,
}

impl Bench {
    /// All but Go programs; what our recorder adds to a page, and to a bystander's system call in ns.
    fn pages(&self) -> Result<(Touch, f64)> {
        let touch = self.page_touch()?;
        let bystander = self.bystander()?;
        self.choices()?;
        self.malloc()?;
        Ok((touch, bystander))
    }

    /// What each tool adds to the first touch of a page, and what it has on disk of it.
    fn page_touch(&self) -> Result<Touch> {
        let tools = [
            (Tool::Nobody, "nobody"),
            (Tool::Pagetrace(&["--empty"]), "empty programs on our hooks"),
            (Tool::Pagetrace(&[]), "pagetrace-user --pid N"),
            (Tool::Pagetrace(&["--stacks", "none"]), "the same, --stacks none"),
            (Tool::PagetraceAll, "pagetrace-user --all"),
            (Tool::Perf, "perf record -a -e kmem:mm_page_alloc"),
            (Tool::Bpftrace, "bpftrace, a line a kmem:mm_page_alloc"),
        ];
        let samples = self.alternate(&tools.map(|(tool, _)| tool), |tool| self.one_workload(tool, Act::Touch))?;
        let [bare, _, ours, _, _, perf, _] = &samples[..] else { bail!("a sample a tool") };
        let perf_adds = added(perf, bare, 0);

        println!("\nfirst touch of a page ({} a run)", Act::Touch.count());
        println!("{:40}{:>10}{:>10}{:>10}{:>15}", "watched by", "ns", "added", "of perf", "+ give-back");
        for ((tool, name), samples) in tools.iter().zip(&samples) {
            let ns = median(samples.iter().map(|sample| sample.figures[0]));
            if *tool == Tool::Nobody {
                println!("{name:40}{ns:>10.0}");
                continue;
            }
            let (touch, both) = (added(samples, bare, 0), added(samples, bare, 1));
            println!("{name:40}{ns:>10.0}{touch:>10.0}{:>10.2}{both:>15.0}", touch / perf_adds);
        }

        println!("\nwhat the tool has of it (its whole recording: {} touches)", 2 * Act::Touch.count());
        println!("{:40}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "events", "lost", "bytes/ev", "CPU s/M", "peak MiB");
        for ((tool, name), samples) in tools.iter().zip(&samples) {
            // Empty programs have no events.
            if samples.iter().all(|sample| sample.outcome.events == 0) {
                continue;
            }
            let of = |figure: fn(&Outcome) -> f64| median(samples.iter().map(|sample| figure(&sample.outcome)));
            println!(
                "{name:40}{:>10.0}{:>10.0}{:>10.1}{:>10.2}{:>10.1}",
                of(|outcome| outcome.events as f64),
                of(|outcome| outcome.lost as f64),
                of(bytes_an_event),
                of(cpu_seconds_a_million),
                of(|outcome| outcome.peak_bytes as f64 / f64::from(1 << 20)),
            );
            if *tool == Tool::Nobody {
                bail!("nobody recorded events");
            }
        }
        Ok(Touch {
            of_perf: added(ours, bare, 0) / perf_adds,
            bytes_an_event: median(ours.iter().map(|sample| bytes_an_event(&sample.outcome))),
            cpu_seconds_a_million: median(ours.iter().map(|sample| cpu_seconds_a_million(&sample.outcome))),
        })
    }

    /// What another process pays while one is recorded: added ns a system call.
    fn bystander(&self) -> Result<f64> {
        let tools = [Tool::Nobody, Tool::Pagetrace(&[])];
        let measure = |act| {
            self.alternate(&tools, |tool| {
                let target = self.workload.start(Act::Touch, 0)?;
                let observer = self.observe(tool, &[&target])?;
                let mut bystander = self.workload.start(act, self.cpu)?;
                bystander.round()?;
                let figures = bystander.round()?;
                bystander.end()?;
                let outcome = observer.stop()?;
                target.end()?;
                Ok(Sample { figures, outcome })
            })
        };
        let (calls, touches) = (measure(Act::Syscall)?, measure(Act::Touch)?);
        println!("\na bystander, while another process is recorded");
        println!("{:40}{:>10}{:>10}", "", "ns", "added");
        for (name, samples) in [("getppid", &calls), ("first touch of a page", &touches)] {
            let bare = median(samples[0].iter().map(|sample| sample.figures[0]));
            println!("{name:40}{bare:>10.0}{:>10.0}", added(&samples[1], &samples[0], 0));
        }
        Ok(added(&calls[1], &calls[0], 0))
    }

    /// Two processes on two CPUs touch pages at once: what was chosen against what else could have been.
    fn choices(&self) -> Result<()> {
        if self.cpu == 0 {
            println!("\nchoices: not measured, this machine has one CPU");
            return Ok(());
        }
        let tools = [
            (Tool::Nobody, "nobody"),
            (Tool::Pagetrace(&[]), "as it is"),
            (Tool::Pagetrace(&["--one-ring"]), "one ring for all CPUs"),
            (Tool::Pagetrace(&["--padded"]), "records of a cache line each"),
            (Tool::Pagetrace(&["--wake-ups"]), "programs wake the recorder"),
            (Tool::Pagetrace(&["--spin-time", "10s"]), "the recorder never sleeps"),
        ];
        let samples = self.alternate(&tools.map(|(tool, _)| tool), |tool| {
            let mut workloads = [self.workload.start(Act::Touch, 0)?, self.workload.start(Act::Touch, self.cpu)?];
            let observer = self.observe(tool, &[&workloads[0], &workloads[1]])?;
            let mut figures = Vec::new();
            for _ in 0..2 {
                figures.clear();
                for workload in &mut workloads {
                    workload.begin_round()?;
                }
                for workload in &mut workloads {
                    figures.extend(workload.finish_round()?);
                }
            }
            let outcome = observer.stop()?;
            for workload in workloads {
                workload.end()?;
            }
            // Each says two figures: touch, and touch with give-back.
            Ok(Sample { figures: vec![(figures[0] + figures[2]) / 2.0], outcome })
        })?;
        println!("\nfirst touch of a page on two CPUs at once: what was chosen, and what else could have been");
        println!("{:40}{:>10}{:>10}{:>10}{:>10}{:>10}", "recorded", "ns", "added", "events", "lost", "CPU s/M");
        for ((tool, name), sample) in tools.iter().zip(&samples) {
            let of = |figure: fn(&Sample) -> f64| median(sample.iter().map(figure));
            print!("{name:40}{:>10.0}", of(|sample| sample.figures[0]));
            if *tool != Tool::Nobody {
                let (events, lost) =
                    (of(|sample| sample.outcome.events as f64), of(|sample| sample.outcome.lost as f64));
                let cpu = of(|sample| cpu_seconds_a_million(&sample.outcome));
                print!("{:>10.0}{events:>10.0}{lost:>10.0}{cpu:>10.2}", added(sample, &samples[0], 0));
            }
            println!();
        }
        Ok(())
    }

    /// What recording objects costs, and what a heap tracer does that has a library in the process.
    fn malloc(&self) -> Result<()> {
        let tools = [
            (Some(Tool::Nobody), "nobody"),
            (Some(Tool::Pagetrace(&["--objects"])), "pagetrace-user --objects"),
            (Some(Tool::Pagetrace(&["--objects", "--sample", "0", "--ring", "64M"])), "the same, --sample 0"),
            (None, "heaptrack"),
        ];
        let samples = self.alternate(&tools.map(|(tool, _)| tool), |tool| match tool {
            Some(tool) => self.one_workload(tool, Act::Malloc),
            None => self.under_heaptrack(),
        })?;
        println!("\nmalloc and free ({} a run)", Act::Malloc.count());
        println!("{:40}{:>10}{:>10}{:>10}", "watched by", "ns", "added", "lost");
        for ((_, name), tool) in tools.iter().zip(&samples) {
            let ns = median(tool.iter().map(|sample| sample.figures[0]));
            let lost = median(tool.iter().map(|sample| sample.outcome.lost as f64));
            println!("{name:40}{ns:>10.0}{:>10.0}{lost:>10.0}", added(tool, &samples[0], 0));
        }
        Ok(())
    }

    fn under_heaptrack(&self) -> Result<Sample> {
        let mut tool = Command::new("heaptrack");
        tool.arg("--output").arg(self.directory.join("heaptrack"));
        let mut workload = self.workload.start_in(tool, Act::Malloc, self.cpu)?;
        workload.round()?;
        let figures = workload.round()?;
        workload.end()?;
        Ok(Sample { figures, outcome: Outcome::default() })
    }

    /// Measures each case once a run, starting with another one in each run; a list of samples for each case.
    fn alternate<T: Copy>(&self, cases: &[T], measure: impl Fn(T) -> Result<Sample>) -> Result<Vec<Vec<Sample>>> {
        let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
        for run in 0..self.runs {
            for turn in 0..cases.len() {
                let case = (run + turn) % cases.len();
                samples[case].push(measure(cases[case])?);
            }
        }
        Ok(samples)
    }

    /// One process does a round to warm up and one that counts, watched by this tool.
    fn one_workload(&self, tool: Tool, act: Act) -> Result<Sample> {
        let mut workload = self.workload.start(act, self.cpu)?;
        let observer = self.observe(tool, &[&workload])?;
        workload.round()?;
        let figures = workload.round()?;
        let outcome = observer.stop()?;
        workload.end()?;
        Ok(Sample { figures, outcome })
    }

    fn observe(&self, tool: Tool, targets: &[&Workload]) -> Result<Observer> {
        let pids: Vec<u32> = targets.iter().map(|workload| workload.pid()).collect();
        Observer::start(tool, &self.pagetrace, &pids, Path::new(&self.directory))
    }
}

fn bytes_an_event(outcome: &Outcome) -> f64 {
    outcome.bytes as f64 / outcome.events as f64
}

fn cpu_seconds_a_million(outcome: &Outcome) -> f64 {
    outcome.cpu_seconds / (outcome.events as f64 / 1e6)
}

/// What watching adds to this figure: each run against the same run with nobody watching, and the median of that.
fn added(samples: &[Sample], bare: &[Sample], figure: usize) -> f64 {
    median(samples.iter().zip(bare).map(|(sample, bare)| sample.figures[figure] - bare.figures[figure]))
}

/// The middle one; of an even number the upper of the two.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    quartile(figures, 2)
}

/// The figure that has this many quarters of them below it.
fn quartile(figures: impl Iterator<Item = f64>, quarters: usize) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * quarters / 4).copied().unwrap_or(f64::NAN)
}

fn goal(what: &str, here: f64, goal: f64, unit: &str) {
    let distance = if here <= goal { "reached".to_owned() } else { format!("{:.1} times too much", here / goal) };
    println!("{what:40}{here:>10.3} {unit:3} goal <= {goal} {unit}: {distance}");
}
