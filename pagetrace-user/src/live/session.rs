//! One recording, from the checks before it to its summary.
//!
//! Two threads of ours: this one waits for signals and the clock (tokio), the other captures.

mod told;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use pagetrace_common::control::{stack_parts, word};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::failure::{Code, Failure};
use crate::host::{self, Namespace};
use crate::live::calibrate;
use crate::live::capture::{Capture, End};
use crate::live::clock;
use crate::live::command::{self, Stopped};
use crate::live::control::{Control, Stop};
use crate::live::heap::Heaps;
use crate::live::layout;
use crate::live::load::{Kernel, LoadOptions};
use crate::live::merge::Merge;
use crate::live::objects::Objects;
use crate::live::process;
use crate::live::route::Route;
use crate::live::select::Rule;
use crate::live::summary::Summary;
use crate::live::tcmalloc::PageHeaps;
use crate::live::uprobe::{self, StateDirectory};
use crate::live::writer::Writer;
use crate::options::{RecordOptions, Select};
use crate::store::Store;
use crate::units::Pid;
use told::{kernel_symbols, notes, tell, warn};

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// The part of a ring that may be unread for a stack to be put into it: what is held in memory of stacks stays small.
const STACK_PART: u64 = 8;

/// How long an abort may take before the process ends without it.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// Records as asked, to the end of the recording.
///
/// *Errors.* Those of the checks (exit codes 2 to 5), of the kernel, and of writing; nothing is left behind.
pub fn record(options: RecordOptions) -> Result<Code, Failure> {
    check(&options)?;
    let store = Arc::new(Store::open(&options.directory, options.prefix.as_deref(), options.force)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, "cannot wait for signals", error.to_string(), ""))?;
    let _settled = Settled;
    let code = runtime.block_on(supervise(options, &store));
    drop(store);
    code
}

/// Whatever way a recording ends, the process does not while text bytes of others are being changed.
struct Settled;

impl Drop for Settled {
    fn drop(&mut self) {
        uprobe::settle();
    }
}

/// What can be refused before anything is touched.
fn check(options: &RecordOptions) -> Result<(), Failure> {
    let missing = host::missing_capabilities().map_err(|error| {
        Failure::new(Code::Privilege, "cannot read our own privileges", error.to_string(), "run with sudo")
    })?;
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|need| need.capability.to_string()).collect();
        return Err(Failure::new(
            Code::Privilege,
            "cannot record",
            format!("this process lacks {}", names.join(", ")),
            "run it with sudo: sudo pagetrace-user ...",
        ));
    }
    if !host::in_initial_namespace(Namespace::Pid) {
        return Err(Failure::new(
            Code::Privilege,
            "cannot record from inside a PID namespace",
            "the kernel's process numbers are not the ones seen here",
            "run it on the host, or in a container with the host's PID namespace (--pid=host)",
        ));
    }
    if host::tracefs().is_none() {
        return Err(Failure::new(
            Code::Kernel,
            "cannot attach to tracepoints",
            "tracefs is not mounted",
            "sudo mount -t tracefs nodev /sys/kernel/tracing",
        ));
    }
    match &options.select {
        Select::Pids(pids) => pids.iter().try_for_each(|pid| {
            if pid.0 == std::process::id() {
                let what = format!("cannot record process {pid}");
                return Err(Failure::new(Code::NoTarget, what, "it is this recorder", ""));
            }
            host::process::look(*pid).map(drop).map_err(|unfit| unfit.failure(*pid))
        }),
        Select::Command(words) => command::check(words),
        _ => Ok(()),
    }
}

/// Waits for whatever ends the recording.
async fn supervise(options: RecordOptions, store: &Arc<Store>) -> Result<Code, Failure> {
    let no_signals =
        |error: std::io::Error| Failure::new(Code::Failed, "cannot wait for signals", error.to_string(), "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signals)?;

    let control = Arc::new(Control::default());
    let (done, mut ended) = oneshot::channel();
    let (live, mut recording) = oneshot::channel();
    let work = Work { options: options.clone(), store: Arc::clone(store), control: Arc::clone(&control) };
    let thread = std::thread::Builder::new().name("pagetrace".to_owned()).spawn(move || {
        // The receiver is gone only when nobody waits for the result any more.
        let _ = done.send(work.run(live));
    });
    thread.map_err(|error| Failure::new(Code::Failed, "cannot start the capture thread", error.to_string(), ""))?;

    let mut interrupts = 0;
    let mut clock_runs = false;
    let mut over = false;
    let mut deadline = std::pin::pin!(tokio::time::sleep(Duration::MAX));
    loop {
        tokio::select! {
            result = &mut ended => {
                return result.unwrap_or_else(|_| {
                    Err(Failure::new(Code::Failed, "cannot go on", "the capture thread ended early", ""))
                });
            }
            // The time asked for begins when the recording does.
            began = &mut recording, if !clock_runs => {
                clock_runs = true;
                if let (Ok(()), Some(duration)) = (began, options.duration) {
                    deadline.as_mut().reset(tokio::time::Instant::now() + duration);
                }
            }
            () = &mut deadline, if options.duration.is_some() && clock_runs && !over => {
                over = true;
                control.stop(Stop::Duration);
            }
            Some(()) = interrupt.recv() => {
                interrupts += 1;
                control.stop(Stop::Interrupted);
                if interrupts > 1 {
                    control.abort();
                    return match tokio::time::timeout(ABORT_PATIENCE, &mut ended).await {
                        Ok(Ok(Err(failure))) => Err(failure),
                        // Whatever was finished before is finished, but it was not waited for to the end. Or it is
                        // stuck, in a write for instance: the process ends without it.
                        _ => Ok(Code::Aborted),
                    };
                }
            }
            Some(()) = terminate.recv() => control.stop(Stop::Terminated),
            Some(()) = hangup.recv() => control.stop(Stop::Terminated),
        }
    }
}

/// What the capture thread needs.
struct Work {
    options: RecordOptions,
    store: Arc<Store>,
    control: Arc<Control>,
}

impl Work {
    fn run(self, live: oneshot::Sender<()>) -> Result<Code, Failure> {
        let options = &self.options;
        self.sweep();
        let rule = Rule::new(&options.select)?;
        let layout = layout::read()?;
        let ring_bytes = u32::try_from(options.ring.0).unwrap_or(u32::MAX);
        let load = LoadOptions {
            ring_bytes,
            one_ring: options.one_ring,
            wake_ups: options.wake_ups,
            padded: options.padded,
            object_period: options.objects.map(|period| period.0),
        };
        let (mut kernel, mut rings) = Kernel::load(&layout, &load)?;
        let calibrated = calibrate::vmemmap(&mut kernel, &mut rings)?;
        let zero = calibrate::zero_frames();
        let mut merge = Merge::new(rings);
        merge.decoded = calibrated;

        let mut host = process::host_header();
        host.cpus = kernel.cpus;
        host.ring_bytes = options.ring.0;
        host.object_period_bytes = options.objects.map(|period| period.0);
        host.probes = kernel.probes().to_vec();
        host.notes = notes(options, &kernel);
        let of_kernel = kernel_symbols(options, &mut host.notes)?;
        let mut route = Route::new(rule, Arc::clone(&self.store), Writer::start()?, host);
        route.unwinding.kernel = of_kernel;
        route.skipped = calibrated;

        let stopped = match &options.select {
            Select::Command(words) => Some(Stopped::start(words)?),
            _ => None,
        };
        raise_file_limit();
        // A target at the same priority must not keep the rings from being drained.
        let _ = rustix::process::setpriority_process(None, -15);
        let everyone = options.follow || !matches!(options.select, Select::Pids(_));
        let heaps = if options.no_heap { Heaps::none() } else { Heaps::new(everyone) };
        let others_come = options.follow || !matches!(options.select, Select::Pids(_) | Select::Command(_));
        let objects = Objects::new(options.objects.map(|period| period.0), others_come);
        let page_heaps = PageHeaps::new(!options.no_heap, others_come);
        let allocators = (heaps, page_heaps, objects);
        let mut capture = Capture::new(kernel, merge, route, allocators, (zero, options.spin_time));
        let mut command = match self.begin(&mut capture, stopped.as_ref()) {
            Ok(()) => stopped.map(Stopped::go).transpose()?,
            Err(failure) => {
                if let Some(stopped) = stopped {
                    stopped.cancel();
                }
                return Err(failure);
            }
        };
        self.announce(&capture);
        let _ = live.send(());

        let line = !options.quiet && std::io::stderr().is_terminal();
        let began = clock::now();
        // Others may still come by name, by cgroup or at all.
        let ends_by_itself = matches!(options.select, Select::Pids(_) | Select::Command(_)) && !options.empty;
        let end = capture.run(&self.control, &mut command, ends_by_itself, &mut |progress| {
            if !options.quiet {
                warn(&progress.warnings, line);
            }
            if line {
                tell(&progress);
            }
        });
        if line {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        self.close(capture, end, began.0)
    }

    /// Puts back what a killed recorder may have left in live processes.
    fn sweep(&self) {
        let state = StateDirectory::default();
        let told = match uprobe::sweep(&state) {
            Ok(swept) => swept.iter().map(ToString::to_string).collect(),
            Err(error) => {
                vec![format!("cannot look for what a killed recorder left: {}: {error}", state.path().display())]
            }
        };
        for line in told.iter().filter(|_| !self.options.quiet) {
            // A closed stderr is no reason not to record.
            let _ = writeln!(std::io::stderr(), "note: {line}");
        }
    }

    /// Chooses the processes, turns the programs on and reads what is there.
    fn begin(&self, capture: &mut Capture, stopped: Option<&Stopped>) -> Result<(), Failure> {
        let select = &self.options.select;
        let kernel = &mut capture.kernel;
        kernel.set(word::OWN_TGID, u64::from(std::process::id()))?;
        let all = matches!(select, Select::All | Select::Comm(_) | Select::Cgroup(_));
        kernel.set(word::ALL, u64::from(all))?;
        kernel.set(word::FOLLOW, u64::from(self.options.follow))?;
        let pause = self.options.stacks.map_or(0, |stacks| SECOND / stacks.rate.max(1));
        kernel.set(word::STACK_PAUSE, pause)?;
        let user = if self.options.stacks.is_some_and(|stacks| stacks.user) { stack_parts::USER } else { 0 };
        let of_kernel = if capture.route.unwinding.kernel.is_some() { stack_parts::KERNEL } else { 0 };
        kernel.set(word::STACK_PARTS, user | of_kernel)?;
        kernel.set(word::STACK_ROOM, self.options.ring.0 / STACK_PART)?;
        kernel.set(word::PERIOD, self.options.objects.map_or(0, |period| period.0))?;
        if let Select::Pids(pids) = select {
            for pid in pids {
                kernel.want(*pid)?;
            }
        }
        kernel.set(word::ON, u64::from(!self.options.empty))?;
        capture.baseline(&self.control)?;
        if let (Some(stopped), Select::Command(words)) = (stopped, select) {
            if let Some(file) = words.first().and_then(|name| process::file_of(name)) {
                let kernel = &mut capture.kernel;
                let is_go = capture.heaps.of_program(kernel, &file).is_some();
                kernel.has_frame_pointers(stopped.pid(), is_go);
                if !is_go && self.options.objects.is_some() {
                    kernel.take_returns(stopped.pid(), None)?;
                }
                capture.objects.of_program(kernel, stopped.pid(), &file, is_go);
                capture.page_heaps.of_program(kernel, stopped.pid(), &file, is_go);
            }
            // Only now: the walk must not take the stage that becomes the program for the program.
            capture.route.started = Some((stopped.pid(), stopped.program()));
            capture.route.last_came = clock::now();
            return capture.kernel.want(stopped.pid());
        }
        if let Select::Pids(pids) = select
            && capture.route.targets.is_empty()
            && !self.options.empty
        {
            let names: Vec<String> = pids.iter().map(Pid::to_string).collect();
            return Err(Failure::new(
                Code::NoTarget,
                format!("cannot record process {}", names.join(", ")),
                "it ended before the recording began",
                "find the process with `ps -e` or `pgrep -a NAME`",
            ));
        }
        Ok(())
    }

    fn announce(&self, capture: &Capture) {
        if self.options.quiet {
            return;
        }
        let what = match &self.options.select {
            Select::All => "all processes".to_owned(),
            Select::Comm(glob) => format!("processes named {glob}"),
            Select::Cgroup(path) => format!("processes of {}", path.display()),
            Select::Command(words) => words.join(" "),
            Select::Pids(_) => {
                let names =
                    capture.route.targets.values().map(|target| format!("{} ({})", target.comm, target.identity.pid));
                names.collect::<Vec<_>>().join(", ")
            }
        };
        // A closed stderr is no reason not to record.
        let _ = writeln!(std::io::stderr(), "recording {what} to {}; end with Ctrl-C", self.store.path().display());
        for note in capture.heap_notes().into_iter().chain(capture.object_notes()) {
            let _ = writeln!(std::io::stderr(), "{note}");
        }
    }

    /// The end of a capture as the user sees it.
    fn close(&self, capture: Capture, end: Result<End, Failure>, began: u64) -> Result<Code, Failure> {
        let Capture { kernel, route, .. } = capture;
        for note in route.notes.iter().filter(|_| !self.options.quiet) {
            let _ = writeln!(std::io::stderr(), "note: {note}");
        }
        let mut files = route.finished;
        let written = route.writer.close();
        // Detached only now that everything is on the disk.
        drop(kernel);
        let trailer = match end? {
            End::Aborted => return Ok(Code::Aborted),
            End::Finished(trailer) => trailer,
        };
        if let Some(failure) = written.failure {
            return Err(failure);
        }
        if let (Select::Command(words), true) = (&self.options.select, files.is_empty() && !self.options.empty) {
            return Err(Failure::new(
                Code::NoTarget,
                format!("cannot record {}", words.join(" ")),
                "it ended before it became a program",
                "check that the program can be run",
            ));
        }
        for file in &mut files {
            file.path = written.paths.get(&file.number).cloned();
        }
        let summary = Summary::new(&trailer, files, began);
        summary.print(self.options.json, self.options.quiet)?;
        Ok(if summary.lost() > self.options.max_loss { Code::Loss } else { Code::Complete })
    }
}

/// Every process recorded keeps a file open, and every attach point a descriptor.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What it was will have to do then.
    let _ = setrlimit(Resource::Nofile, limit);
}
