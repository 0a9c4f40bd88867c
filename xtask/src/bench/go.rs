//! What recording costs Go programs: CPU time of the process, user and system, for the same work.
//!
//! The tools watch one live process in turn. Others at work on the machine only ever add to a round's time, so that the
//! best of some rounds counts; and rounds that nobody watches stand before and after those of each tool: what it adds is its
//! best against the mean of these two bests. The runtime's own page trace cannot be turned on in a live process, so that
//! another process has it from its start.
//!
//! Units: ns of CPU a round; what is added, as a part of the CPU time of rounds that nobody watches.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::go_program::GoProgram;
use super::observer::{Outcome, Tool};
use super::workload::Workload;
use super::{Bench, median, quartile};

/// Processes that are measured in each run of the bench.
const PROCESSES: usize = 2;

/// Rounds of which the best counts.
const ROUNDS: usize = 4;

/// Blocks and requests a round: some half a second.
const BLOCKS: &str = "15000";
const REQUESTS: &str = "15000";
const COMPRESSED_REQUESTS: &str = "7000";

/// `workers` of workload.go.
const PAGE_WORKERS: usize = 2;

/// What recording adds, as a part.
pub struct GoCost {
    pub page_heavy: f64,
    pub server: f64,
    pub compressing_server: f64,
}

/// What a program does that is measured.
struct Work<'a> {
    what: &'a str,
    words: &'a [&'a str],
    cpus: &'a str,
    /// CPUs that it keeps busy.
    busy_cpus: usize,
    /// Of a server's client, a round.
    requests: &'a str,
}

/// Who watches a round.
#[derive(Clone, Copy)]
enum Watched {
    By(Tool),
    /// The runtime watches itself.
    ByItself,
}

/// The builds of the program, a file each: whoever watches a file's processes must not watch the client.
struct Programs {
    plain: GoProgram,
    with_own_trace: GoProgram,
    client: GoProgram,
}

/// A process at work, and who asks it to.
struct Subject {
    process: Workload,
    client: Option<Workload>,
}

/// What one way of watching came to: an entry a process.
struct Cost {
    added: Vec<f64>,
    outcomes: Vec<Outcome>,
}

impl Bench {
    pub fn go(&self) -> Result<GoCost> {
        let directory = self.directory.parent().context("no directory")?;
        let programs = Programs {
            plain: GoProgram::build(directory, "go-plain", "")?,
            with_own_trace: GoProgram::build(directory, "go-own-trace", "pagetrace")?,
            client: GoProgram::build(directory, "go-client", "")?,
        };
        let (all_cpus, last_cpu) = (format!("0-{}", self.cpu), self.cpu.to_string());
        let page_heavy = Work {
            what: "page-heavy Go program",
            words: &["pages", BLOCKS],
            cpus: &all_cpus,
            busy_cpus: PAGE_WORKERS.min(self.cpu + 1),
            requests: "",
        };
        // Beside its client, which has the first CPU.
        let server =
            Work { what: "HTTP server in Go", words: &["serve"], cpus: &last_cpu, busy_cpus: 1, requests: REQUESTS };
        let compressing = Work {
            what: "HTTP server in Go that compresses its replies, as ordinary ones do",
            words: &["serve-compressed"],
            requests: COMPRESSED_REQUESTS,
            ..server
        };
        Ok(GoCost {
            page_heavy: self.go_program(&programs, &page_heavy)?,
            server: self.go_program(&programs, &server)?,
            compressing_server: self.go_program(&programs, &compressing)?,
        })
    }

    /// Measures a program and prints it. What all that `--pid` brings adds to it.
    fn go_program(&self, programs: &Programs, work: &Work) -> Result<f64> {
        let watched = [
            (Watched::By(Tool::Pagetrace(&[])), "pagetrace-user --pid N"),
            (Watched::By(Tool::Pagetrace(&["--no-heap"])), "the same without the page heap"),
            (Watched::ByItself, "Go's own page trace, in the process"),
            (Watched::By(Tool::BpftraceCount(programs.plain.entries)), "bpftrace, counting at entries"),
        ];
        let own_trace = self.directory.with_file_name("own.pt");
        let mut bare = Vec::new();
        let mut costs = watched.map(|_| Cost { added: Vec::new(), outcomes: Vec::new() });
        for turn in 0..self.runs * PROCESSES {
            let start = |program: &GoProgram, trace| Subject::start(program, work, trace, &programs.client);
            let mut plain = start(&programs.plain, None)?;
            let mut traced = start(&programs.with_own_trace, Some(&own_trace))?;
            // To warm up.
            traced.best()?;
            plain.best()?;
            let mut before = plain.best()?;
            for place in 0..watched.len() {
                let place = (turn + place) % watched.len();
                let (best, outcome) = match watched[place].0 {
                    Watched::ByItself => (traced.best()?, Outcome::default()),
                    Watched::By(tool) => {
                        let observer = self.observe(tool, &[&plain.process])?;
                        let best = plain.best()?;
                        (best, observer.stop()?)
                    }
                };
                let after = plain.best()?;
                costs[place].added.push(2.0 * best / (before + after) - 1.0);
                costs[place].outcomes.push(outcome);
                bare.push(after);
                before = after;
            }
            plain.end()?;
            traced.end()?;
            fs::remove_file(&own_trace)?;
        }
        let [everything, no_heap, ..] = &costs;
        let heap = everything.added.iter().zip(&no_heap.added).map(|(all, rest)| all - rest).collect();
        let heap = Cost { added: heap, outcomes: Vec::new() };

        let seconds = median(bare.into_iter()) / 1e9;
        let events = everything.events(|outcome| outcome.heap_events) / ROUNDS as f64;
        println!(
            "\n{}: {seconds:.2} s of CPU a round, of {ROUNDS} the best, and {events:.0} events of its page heap: {:.0} a second",
            work.what,
            events / (seconds / work.busy_cpus as f64)
        );
        println!("{:40}{:>10}{:>22}{:>10}{:>10}", "watched by", "added", "half of the rounds", "heap", "events");
        for ((_, name), cost) in watched.iter().zip(&costs) {
            cost.print(name);
        }
        heap.print("the page heap's part, by difference");
        Ok(median(everything.added.iter().copied()))
    }
}

impl Subject {
    /// A server, which says its address, gets a client on the first CPU.
    fn start(program: &GoProgram, work: &Work, own_trace: Option<&Path>, client: &GoProgram) -> Result<Subject> {
        let process = program.start(work.words, work.cpus, own_trace)?;
        let client = match process.said() {
            "" => None,
            address => Some(client.start(&["drive", address, work.requests], "0", None)?),
        };
        Ok(Subject { process, client })
    }

    /// A round; the CPU ns that the process took.
    fn round(&mut self) -> Result<f64> {
        if let Some(client) = &mut self.client {
            // What it took since the last round does not count.
            self.process.round()?;
            client.round()?;
        }
        self.process.round()?.first().copied().context("the workload says nothing")
    }

    fn best(&mut self) -> Result<f64> {
        (0..ROUNDS).try_fold(f64::INFINITY, |best, _| Ok(best.min(self.round()?)))
    }

    fn end(self) -> Result<()> {
        if let Some(client) = self.client {
            client.end()?;
        }
        self.process.end()
    }
}

impl Cost {
    fn events(&self, which: fn(&Outcome) -> u64) -> f64 {
        median(self.outcomes.iter().map(|outcome| which(outcome) as f64))
    }

    fn print(&self, name: &str) {
        let added = || self.added.iter().map(|part| part * 100.0);
        let half = format!("{:+.1} to {:+.1} %", quartile(added(), 1), quartile(added(), 3));
        print!("{name:40}{:>+8.1} %{half:>22}", median(added()));
        for events in [self.events(|outcome| outcome.heap_events), self.events(|outcome| outcome.events)] {
            if events > 0.0 {
                print!("{events:>10.0}");
            } else {
                print!("{:>10}", "");
            }
        }
        println!();
    }
}
