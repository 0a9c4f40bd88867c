//! Who watches the workload: nobody, pagetrace-user, perf or bpftrace; and what watching cost the tool and brought.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::capture;

/// How long a tool may take until it watches.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clock ticks a second in /proc, on every Linux.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Nobody,
    /// pagetrace-user, recording the processes, with these flags besides.
    Pagetrace(&'static [&'static str]),
    /// pagetrace-user, recording every process.
    PagetraceAll,
    Perf,
    Bpftrace,
    /// bpftrace, counting how often a process comes to these instructions.
    BpftraceCount([u64; 3]),
}

/// A tool that watches.
pub struct Observer {
    tool: Tool,
    program: PathBuf,
    directory: PathBuf,
    /// None where nobody watches.
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// What it says on stderr.
    said: JoinHandle<String>,
    /// CPU seconds it took to get ready.
    cpu_to_start: f64,
}

/// What watching brought.
#[derive(Clone, Copy, Default)]
pub struct Outcome {
    pub events: u64,
    /// Those of them in which a page heap gave out, took or gave back pages.
    pub heap_events: u64,
    /// Events that the tool says it lost.
    pub lost: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// CPU seconds of the tool from the moment it watched to its end.
    pub cpu_seconds: f64,
    /// Peak resident memory of the tool in bytes.
    pub peak_bytes: u64,
}

impl Tool {
    /// Ends it. The CPU seconds of our other children until then, and how it ended.
    fn end(self, child: &mut Child) -> Result<(f64, ExitStatus)> {
        loop {
            // The shell's own `kill`: the program of that name need not be installed.
            capture(Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]))?;
            let others = ended_children_cpu_seconds()?;
            // bpftrace misses a signal that comes while it is not waiting for events. To the others a second one is an abort.
            if !matches!(self, Tool::Bpftrace | Tool::BpftraceCount(_)) {
                return Ok((others, child.wait()?));
            }
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(1) {
                if let Some(status) = child.try_wait()? {
                    return Ok((others, status));
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Observer {
    /// Starts the tool and waits until it watches these processes. `program` is pagetrace-user; `directory` is made
    /// anew for the tool's files.
    pub fn start(tool: Tool, program: &Path, targets: &[u32], directory: &Path) -> Result<Observer> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let running = match tool {
            Tool::Nobody => None,
            Tool::Pagetrace(flags) => {
                let pids = targets.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
                Some(start_pagetrace(Command::new(program).args(flags).args(pids), directory)?)
            }
            Tool::PagetraceAll => Some(start_pagetrace(Command::new(program).arg("--all"), directory)?),
            Tool::Perf => Some(start_perf(directory)?),
            Tool::Bpftrace => Some(start_bpftrace(directory)?),
            Tool::BpftraceCount(addresses) => Some(start_counting(directory, targets, addresses)?),
        };
        Ok(Observer { tool, program: program.to_path_buf(), directory: directory.to_path_buf(), running })
    }

    /// Stops the tool and counts what it brought.
    pub fn stop(self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let Some(mut running) = self.running else { return Ok(outcome) };
        outcome.peak_bytes = peak_bytes(running.child.id());
        let (others, status) = self.tool.end(&mut running.child)?;
        outcome.cpu_seconds = (ended_children_cpu_seconds()? - others - running.cpu_to_start).max(0.0);
        let said = running.said.join().unwrap_or_default();

        match self.tool {
            Tool::Nobody => {}
            Tool::Pagetrace(_) | Tool::PagetraceAll => {
                // 6: more was lost than allowed; the files say how much.
                ensure!(matches!(status.code(), Some(0 | 6)), "pagetrace-user ended with {status}\n{said}");
                count_traces(&self.program, &self.directory, &mut outcome)?;
            }
            Tool::Perf => {
                let data = self.directory.join("perf.data");
                outcome.bytes = fs::metadata(&data)?.len();
                let stats = capture(Command::new("perf").args(["report", "--stats", "--input"]).arg(&data))?;
                outcome.events = stats.lines().filter_map(|line| number_after(line, "SAMPLE events:")).sum();
                outcome.lost = said.lines().filter_map(|line| number_after(line, "lost ")).sum();
            }
            Tool::Bpftrace => {
                let output = fs::read(self.directory.join("events"))?;
                outcome.bytes = output.len() as u64;
                outcome.events = output.iter().filter(|byte| **byte == b'\n').count() as u64;
                outcome.lost = said.lines().filter_map(|line| number_after(line, "Lost ")).sum();
            }
            Tool::BpftraceCount(_) => {
                let output = fs::read_to_string(self.directory.join("events"))?;
                outcome.heap_events = output.lines().filter_map(|line| number_after(line, "@events:")).sum();
            }
        }
        fs::remove_dir_all(&self.directory)?;
        Ok(outcome)
    }
}

fn start_pagetrace(command: &mut Command, directory: &Path) -> Result<Running> {
    command.arg("--output").arg(directory).stdout(Stdio::null());
    start(command, |line| line.starts_with("recording"))
}

/// perf says on a pipe when it watches, if it is asked to on another.
fn start_perf(directory: &Path) -> Result<Running> {
    let (control, answer) = (directory.join("control"), directory.join("answer"));
    capture(Command::new("mkfifo").args([&control, &answer]))?;
    // Open both ways, or opening would wait for perf.
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let (mut ask, answers) = (open(&control)?, open(&answer)?);

    let mut command = Command::new("perf");
    command.args(["record", "--all-cpus", "--event", "kmem:mm_page_alloc", "--delay=-1", "--output"]);
    command.arg(directory.join("perf.data")).arg("--control");
    command.arg(format!("fifo:{},{}", control.display(), answer.display())).stdout(Stdio::null());
    let mut running = start(&mut command, |line| line.starts_with("Events disabled"))?;
    ask.write_all(b"enable\n")?;
    let (_, watching) = follow(answers, |line| line.starts_with("ack"));
    watching.recv_timeout(PATIENCE).context("perf does not answer")?;
    running.cpu_to_start = running_cpu_seconds(running.child.id());
    Ok(running)
}

/// bpftrace does not say when it watches; as it watches all processes, events show it. It writes them many at a time, so
/// that on a quiet host some have to be made.
fn start_bpftrace(directory: &Path) -> Result<Running> {
    const SCRIPT: &str = "tracepoint:kmem:mm_page_alloc { printf(\"%lld %d %d %lx\\n\", nsecs, cpu, pid, args->pfn); }";
    let events = directory.join("events");
    let mut command = Command::new("bpftrace");
    command.arg("-o").arg(&events).args(["-e", SCRIPT]).stdout(Stdio::null());
    let mut running = spawn(&mut command, |_| false)?.0;
    let begun = Instant::now();
    // The first line says that it attaches.
    while fs::read_to_string(&events).unwrap_or_default().lines().count() < 2 {
        ensure!(begun.elapsed() < PATIENCE && running.child.try_wait()?.is_none(), "bpftrace does not begin");
        // Whether it succeeds does not matter: starting it takes pages.
        let _ = Command::new("true").status();
        thread::sleep(Duration::from_millis(20));
    }
    running.cpu_to_start = running_cpu_seconds(running.child.id());
    Ok(running)
}

/// Neither does it here: that a breakpoint (0xcc) stands in the process's text tells.
fn start_counting(directory: &Path, targets: &[u32], addresses: [u64; 3]) -> Result<Running> {
    let &[pid] = targets else { bail!("one process can be counted in") };
    let points = addresses.map(|address| format!("uprobe:/proc/{pid}/exe:{address:#x}")).join(", ");
    let script = format!("{points} {{ @events = count(); }}");
    let mut command = Command::new("bpftrace");
    command.arg("-o").arg(directory.join("events")).args(["-p", &pid.to_string(), "-e", &script]).stdout(Stdio::null());
    let mut running = spawn(&mut command, |_| false)?.0;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let begun = Instant::now();
    for address in addresses {
        let mut byte = [0];
        loop {
            memory.read_exact_at(&mut byte, address)?;
            if byte == [0xcc] {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE && running.child.try_wait()?.is_none(), "bpftrace does not begin");
            thread::sleep(Duration::from_millis(20));
        }
    }
    running.cpu_to_start = running_cpu_seconds(running.child.id());
    Ok(running)
}

/// Starts a tool and waits until it says on stderr that it watches.
fn start(command: &mut Command, watches: fn(&str) -> bool) -> Result<Running> {
    let (mut running, watching) = spawn(command, watches)?;
    if watching.recv_timeout(PATIENCE).is_err() {
        let _ = running.child.kill();
        running.child.wait()?;
        bail!("{} does not begin\n{}", command.get_program().display(), running.said.join().unwrap_or_default());
    }
    running.cpu_to_start = running_cpu_seconds(running.child.id());
    Ok(running)
}

fn spawn(command: &mut Command, watches: fn(&str) -> bool) -> Result<(Running, mpsc::Receiver<()>)> {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let (said, watching) = follow(child.stderr.take().context("no stderr")?, watches);
    Ok((Running { child, said, cpu_to_start: 0.0 }, watching))
}

/// Reads all that is said, and tells when a line fits.
fn follow(source: impl Read + Send + 'static, fits: fn(&str) -> bool) -> (JoinHandle<String>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let (mut all, mut tell) = (String::new(), Some(tell));
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if fits(&line)
                && let Some(tell) = tell.take()
            {
                // The other side may have lost its patience.
                let _ = tell.send(());
            }
            all.push_str(&line);
            all.push('\n');
        }
        all
    });
    (thread, told)
}

/// Adds up the trace files: each line of a dump but the first and the last is an event, and the last has the losses.
fn count_traces(program: &Path, directory: &Path, outcome: &mut Outcome) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pgt") {
            continue;
        }
        outcome.bytes += fs::metadata(&path)?.len();
        let dumped = directory.join("dump");
        let status =
            Command::new(program).args(["dump", "--json"]).arg(&path).stdout(File::create(&dumped)?).status()?;
        ensure!(status.success(), "pagetrace-user dump ended with {status}");
        let (mut lines, mut last) = (0_u64, String::new());
        for line in BufReader::new(File::open(&dumped)?).lines() {
            last = line?;
            lines += 1;
            outcome.heap_events += u64::from(is_heap_event(&last));
        }
        outcome.events += lines.saturating_sub(2);
        outcome.lost += number_after(&last, "\"dropped\":").context("the trailer has no losses")?;
    }
    Ok(())
}

/// Whether a line of a dump is one of the three verbs of a page heap.
fn is_heap_event(line: &str) -> bool {
    line.contains("\"layer\":\"heap\"")
        && ["alloc", "free", "scav"].iter().any(|verb| line.contains(&format!("\"kind\":\"{verb}\"")))
}

/// The number that follows these words in a line, if they are there.
fn number_after(line: &str, words: &str) -> Option<u64> {
    let rest = line[line.find(words)? + words.len()..].trim_start();
    rest[..rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// CPU seconds of the threads of a running process. (schedstat counts in ns, stat only in ticks.)
fn running_cpu_seconds(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds: u64 = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    nanoseconds as f64 / 1e9
}

/// CPU seconds of all our children that have ended.
pub fn ended_children_cpu_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    // Fields 16 and 17; the second, the name, may have spaces and ends with a parenthesis.
    let (_, fields) = text.rsplit_once(')').context("/proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(13).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS)
}

/// The most memory that a process ever had resident, in bytes.
pub fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| number_after(line, "VmHWM:")).unwrap_or(0) * 1024
}
