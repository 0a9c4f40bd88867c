//! Sixteen processes of one Go program that checks its own work (`churn.go`), a recorder of all of them, and the moments
//! at which its breakpoints come and go.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::accounts::names_in;
use crate::programs::{Target, faults};
use crate::recorder::{BINARY, Recorder};
use crate::stage::{PATIENCE, Stage};
use crate::texts::{Text, own_copy};
use crate::toolchain::{PLAIN, build_file};

const VERSION: &str = "1.27.3";
const CROWD: usize = 16;
/// Where recorders write down what they attach.
const JOURNALS: &str = "/run/pagetrace";
/// A window is at least so long: a single link is made in a millisecond, some of them after its journal.
const SHORTEST: Duration = Duration::from_millis(15);
/// A moment is at most so much of a window after its beginning.
const BEYOND: f64 = 1.2;

/// A number from the environment, or the usual one.
pub fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Numbers that are the same for a seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn begin(what: &str) -> Chance {
        let seed = setting("PAGETRACE_TEST_SEED", 1);
        println!("{what}: PAGETRACE_TEST_SEED={seed}");
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// One of so many.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// A moment of a window.
    pub fn within(&mut self, window: Duration) -> Duration {
        window.max(SHORTEST).mul_f64(BEYOND * (self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// How the kernel is asked for breakpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    This,
    Older,
}

/// Which processes a recorder is told to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Each by its number: breakpoints in it alone.
    Numbers,
    /// All of a name: breakpoints in all that run the file.
    Name,
}

/// Starts the program; it has begun on return.
pub fn churn(file: &Path, workers: &str, pause_us: &str, processors: &str) -> Target {
    Target::run(Command::new(file).args([workers, pause_us]).env("GOMAXPROCS", processors)).ready()
}

/// A file of its own of the program, under a name of its own.
pub fn churn_file(stage: &Stage) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/churn.go");
    own_copy(stage, &build_file(VERSION, &source, PLAIN, false, ""), &format!("churn{}", std::process::id()))
}

/// The processes of a recording, and a process that is none of them.
pub struct Crowd<'a> {
    stage: &'a Stage,
    kernel: Kernel,
    told: Told,
    name: String,
    targets: Vec<Target>,
    texts: Vec<Text>,
    /// Of each process: where breakpoints stand while it is recorded. Its first journal tells.
    places: Vec<Vec<u64>>,
    window: Option<Duration>,
    other: Target,
    traces: u32,
}

impl Crowd<'_> {
    pub fn gather<'a>(stage: &'a Stage, kernel: Kernel, chance: &mut Chance) -> Crowd<'a> {
        // Breakpoints that stand in one process only go one by one on older kernels, in a second a process.
        let told = if kernel == Kernel::This && chance.below(2) == 0 { Told::Numbers } else { Told::Name };
        let file = churn_file(stage);
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let targets: Vec<Target> = (0..CROWD).map(|_| churn(&file, "1", "100000", "2")).collect();
        let texts: Vec<Text> = targets.iter().map(|target| Text::of(target.pid(), &file)).collect();
        let other = Target::start("points", [""; 0]).ready();
        let crowd =
            Crowd { stage, kernel, told, name, targets, texts, places: Vec::new(), window: None, other, traces: 0 };
        assert_eq!(crowd.foreign(), 0);
        crowd
    }

    /// How long it takes from the journal to the last breakpoint: one recording shows, for the rest of the test.
    pub fn window(&mut self) -> Duration {
        if let Some(window) = self.window {
            return window;
        }
        let recorder = self.record();
        self.await_attaching(&recorder);
        let begun = Instant::now();
        await_moment(|| self.standing() == self.most());
        let window = begun.elapsed();
        recorder.await_recording();
        assert_eq!(self.foreign(), self.most(), "breakpoints where the journal says, and nowhere else");
        recorder.signal(Signal::INT);
        assert_complete(recorder);
        assert_eq!(self.foreign(), 0);
        println!("{:?} kernel, told {:?}: a window of {window:.1?}", self.kernel, self.told);
        *self.window.insert(window)
    }

    /// Starts a recorder of all of them.
    pub fn record(&mut self) -> Recorder {
        self.traces += 1;
        let traces = self.stage.join(&format!("traces-{}", self.traces));
        let mut command = Command::new(BINARY);
        command.arg("-o").arg(&traces).env("LD_PRELOAD", faults()).env("RUST_BACKTRACE", "0");
        if self.kernel == Kernel::Older {
            command.env("FAULTS", "no-multi");
        }
        match self.told {
            Told::Numbers => {
                command.args(self.targets.iter().flat_map(|target| ["--pid".to_owned(), target.pid().to_string()]));
            }
            Told::Name => {
                command.args(["--comm", &self.name]);
            }
        }
        Recorder::spawn(&traces, command.stdin(Stdio::null()))
    }

    /// Starts a recorder of something else altogether; it has begun on return, and ends soon.
    pub fn record_other(&mut self) -> Recorder {
        self.traces += 1;
        let traces = self.stage.join(&format!("traces-{}", self.traces));
        Recorder::start(&traces, ["-d", "1ms", "--pid", &self.other.pid().to_string()])
    }

    /// Bytes of all texts that are not those of the file.
    pub fn foreign(&self) -> usize {
        self.texts.iter().map(|text| text.foreign().len()).sum()
    }

    /// Breakpoints there may be.
    pub fn most(&self) -> usize {
        self.places.iter().map(Vec::len).sum()
    }

    /// Breakpoints there are, by a fast look.
    pub fn standing(&self) -> usize {
        let all = self.texts.iter().zip(&self.places);
        all.map(|(text, places)| places.iter().filter(|place| text.is_broken(**place)).count()).sum()
    }

    /// Waits until a recorder is about to attach.
    pub fn await_attaching(&mut self, recorder: &Recorder) {
        await_moment(|| !journals_of(recorder.pid()).is_empty());
        if self.places.is_empty() {
            let journal = std::fs::read(Path::new(JOURNALS).join(&journals_of(recorder.pid())[0])).unwrap();
            let journal: serde_json::Value = serde_json::from_slice(&journal).unwrap();
            let offsets = journal["offsets"].as_array().unwrap().iter().map(|offset| offset.as_u64().unwrap());
            let offsets: Vec<u64> = offsets.collect();
            let places = |text: &Text| offsets.iter().map(|offset| text.address_of(*offset)).collect();
            self.places = self.texts.iter().map(places).collect();
        }
    }

    /// Waits until a breakpoint stands, a random one, or stands no more.
    pub fn await_breakpoint(&self, chance: &mut Chance, stands: bool) {
        let process = chance.below(CROWD);
        let places = &self.places[process];
        let place = places[chance.below(places.len())];
        await_moment(|| self.texts[process].is_broken(place) == stands);
    }

    /// Each process lives, and finds its work and its runtime's books right.
    pub fn check_work(&mut self) {
        for target in &mut self.targets {
            target.act();
        }
    }

    pub fn dismiss(mut self) {
        self.check_work();
        for target in self.targets {
            target.finish();
        }
        self.other.finish();
    }
}

/// What a recorder wrote down and did not take back.
pub fn journals_of(pid: u32) -> Vec<String> {
    let start = format!("{pid}.");
    if !Path::new(JOURNALS).exists() {
        return Vec::new();
    }
    names_in(Path::new(JOURNALS)).into_iter().filter(|name| name.starts_with(&start)).collect()
}

/// It ends by itself, with success.
pub fn assert_complete(recorder: Recorder) {
    let ended = recorder.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Waits for what lasts a moment only.
fn await_moment(has_come: impl Fn() -> bool) {
    let start = Instant::now();
    while !has_come() {
        assert!(start.elapsed() < PATIENCE, "the moment does not come");
        std::thread::yield_now();
    }
}
