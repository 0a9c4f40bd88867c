//! Uprobes leave no trace: whatever ends the one who attached, every text byte of a target is that of its file again.
//!
//! *Oracle.* The bytes of `/proc/PID/mem`, not what the kernel says of its links.
//! *Victim.* The test [`attach_and_detach`], run by this program as a process of its own, which goes on for ever then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pagetrace_user::live::uprobe::{
    Outcome, Point, Program, Scope, StateDirectory, Swept, Target as Where, UprobeSet, Way, settle, sweep,
};
use pagetrace_user::units::Pid;

use crate::accounts::names_in;
use crate::programs::{Target, program};
use crate::recorder::run;
use crate::stage::{Stage, wait_for};
use crate::texts::{Text, own_copy};

/// What tells the victim to be one: `MODE STATE FILE PID OFFSETS`.
const VICTIM: &str = "PAGETRACE_TEST_VICTIM";

/// A target with its places.
struct Places {
    target: Target,
    file: PathBuf,
    text: Text,
    /// Where the places are in the file, and where in memory.
    offsets: Vec<u64>,
    addresses: Vec<u64>,
}

impl Places {
    fn start(file: PathBuf) -> Places {
        let target = Target::run(&mut Command::new(&file));
        let lines = target.await_line("ready");
        let points = lines.iter().filter_map(|line| line.strip_prefix("point "));
        let addresses: Vec<u64> = points.map(|hex| u64::from_str_radix(hex, 16).unwrap()).collect();
        assert_eq!(addresses.len(), 100);
        let text = Text::of(target.pid(), &file);
        let offsets = addresses.iter().map(|address| text.offset_of(*address)).collect();
        Places { target, file, text, offsets, addresses }
    }

    /// Points on the places; of perf events few: the kernel takes its time for each of them.
    fn points(&self, way: Way) -> Vec<Point> {
        let point = |offset: &u64| Point { name: format!("{offset:#x}"), offset: *offset, cookie: 0 };
        self.offsets.iter().take(count(way)).map(point).collect()
    }

    /// The addresses of those.
    fn attached(&self, way: Way) -> BTreeSet<u64> {
        self.addresses.iter().take(count(way)).copied().collect()
    }

    fn here(&self) -> Where {
        Where { path: self.file.clone(), scope: Scope::Process(Pid(self.target.pid())) }
    }

    /// The addresses at which the text is not that of the file.
    fn foreign(&self) -> BTreeSet<u64> {
        self.text.foreign()
    }

    /// Runs through all places.
    fn act(&mut self) {
        self.target.act();
    }

    /// A process that attaches to the places; it has attached on return.
    fn victim(&self, mode: &str, state: &Path) -> Target {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["uprobes::attach_and_detach", "--exact", "--nocapture"]);
        let offsets: Vec<String> = self.offsets.iter().map(u64::to_string).collect();
        let (state, file, pid) = (state.display(), self.file.display(), self.target.pid());
        command.env(VICTIM, format!("{mode} {state} {file} {pid} {}", offsets.join(",")));
        // It may be asked to panic.
        let victim = Target::run(command.stderr(Stdio::null()));
        victim.await_line("attached");
        victim
    }
}

fn count(way: Way) -> usize {
    if way == Way::Multi { 100 } else { 5 }
}

/// Attaches to every place of a target, and detaches; as a victim, without end or until told to end.
#[test]
fn attach_and_detach() {
    if let Ok(words) = std::env::var(VICTIM) {
        return be_victim(&words);
    }
    let stage = Stage::enter("uprobes");
    let file = own_copy(&stage, &program("points"), "points");
    let state = StateDirectory::at(stage.join("state"));
    let mut places = Places::start(file.clone());
    let bystander = Places::start(file);
    assert_eq!(Way::best(), Way::Multi, "the machine's kernel has links of several points");
    let mut fastest = Duration::MAX;
    for way in [Way::Multi, Way::Perf] {
        for scope in [Scope::Process(Pid(places.target.pid())), Scope::Everyone] {
            let there = Where { scope, ..places.here() };
            let set = UprobeSet::attach(&Program::nothing(), &there, &places.points(way), way, &state).unwrap();
            assert!(set.probes().iter().all(|probe| probe.attached), "{:?}", set.probes());
            assert_eq!(places.foreign(), places.attached(way), "{way:?} {scope:?}");
            let others = if scope == Scope::Everyone { bystander.attached(way) } else { BTreeSet::new() };
            assert_eq!(bystander.foreign(), others, "{way:?} {scope:?}");
            assert_eq!(names_in(state.path()).len(), 1);
            assert!(sweep(&state).unwrap().is_empty(), "a recorder that lives is left alone");
            places.act();
            let began = Instant::now();
            set.detach();
            let took = began.elapsed();
            println!("{way:?} {scope:?}: detached from {} points in {took:?}", count(way));
            assert!(took < Duration::from_secs(5), "{took:?}");
            if way == Way::Multi {
                fastest = fastest.min(took);
            }
            assert!(places.foreign().is_empty() && bystander.foreign().is_empty());
            assert!(names_in(state.path()).is_empty());
            places.act();
        }
    }
    assert!(fastest < Duration::from_millis(500), "a hundred points by one link: {fastest:?}");
    places.target.finish();
    bystander.target.finish();
}

fn be_victim(words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    let [mode, state, file, pid, offsets] = words.as_slice() else { panic!("{words:?}") };
    let (state, path) = (StateDirectory::at(*state), PathBuf::from(file));
    let there = Where { path, scope: Scope::Process(Pid(pid.parse().unwrap())) };
    let point = |offset: &str| Point { name: offset.to_owned(), offset: offset.parse().unwrap(), cookie: 0 };
    let points: Vec<Point> = offsets.split(',').map(point).collect();
    let attach = move || UprobeSet::attach(&Program::nothing(), &there, &points, Way::Multi, &state);
    let mut set = Some(attach().unwrap());
    println!("attached");
    if *mode != "stay" {
        let worker = std::thread::spawn(move || {
            // Until the process is about to end, when nothing may begin any more.
            loop {
                drop(set.take());
                match attach() {
                    Ok(again) => set = Some(again),
                    Err(_) => return,
                }
            }
        });
        if *mode == "loop" {
            worker.join().unwrap();
        }
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // Without a word to the thread that attaches.
    let settled = Settled;
    assert!(*mode != "panic", "as asked");
    drop(settled);
    std::process::exit(0);
}

/// As the recorder has it.
struct Settled;

impl Drop for Settled {
    fn drop(&mut self) {
        settle();
    }
}

#[test]
fn one_bad_point_of_many() {
    let stage = Stage::enter("uprobes");
    let file = own_copy(&stage, &program("points"), "points");
    let state = StateDirectory::at(stage.join("state"));
    let places = Places::start(file);
    let beyond = Point { name: "beyond".to_owned(), offset: 1 << 40, cookie: 0 };
    for way in [Way::Multi, Way::Perf] {
        let mut points = places.points(way);
        points.insert(3, beyond.clone());
        let set = UprobeSet::attach(&Program::nothing(), &places.here(), &points, way, &state).unwrap();
        let bad: Vec<&str> =
            set.probes().iter().filter(|probe| !probe.attached).map(|probe| probe.name.as_str()).collect();
        assert_eq!(bad, ["beyond"], "{way:?}");
        assert!(!set.probes()[3].reason.is_empty());
        assert_eq!(places.foreign(), places.attached(way), "{way:?}");
        drop(set);
        let none = UprobeSet::attach(&Program::nothing(), &places.here(), std::slice::from_ref(&beyond), way, &state);
        assert!(none.is_err_and(|failure| !failure.why.is_empty()), "{way:?}");
        assert!(names_in(state.path()).is_empty() && places.foreign().is_empty(), "{way:?}");
    }
    places.target.finish();
}

#[test]
fn killed_at_any_moment() {
    let stage = Stage::enter("uprobes");
    let file = own_copy(&stage, &program("points"), "points");
    let state = StateDirectory::at(stage.join("state"));
    let places: Vec<Places> = (0..4).map(|_| Places::start(file.clone())).collect();
    let mut left = 0;
    for round in 0..40_u64 {
        let victim = places[round as usize % places.len()].victim("loop", state.path());
        // Not to wait for anything: to hit another moment each time.
        std::thread::sleep(Duration::from_micros(round * 7919 % 20_000));
        victim.kill();
        let swept = sweep(&state).unwrap();
        assert!(swept.iter().all(|swept| swept.outcome == Outcome::Restored), "{swept:?}");
        left += swept.len();
        // What was attached as a whole goes in the kernel's own time.
        wait_for("the text to be that of the file", || {
            places.iter().all(|places| places.foreign().is_empty()).then_some(())
        });
        assert!(names_in(state.path()).is_empty());
    }
    println!("{left} of 40 kills left a journal");
    assert!(left > 0, "no kill came while something was attached");
    for mut places in places {
        places.act();
        places.target.finish();
    }
}

#[test]
fn ended_or_panicking_while_another_thread_attaches() {
    let stage = Stage::enter("uprobes");
    let file = own_copy(&stage, &program("points"), "points");
    let mut places = Places::start(file);
    for round in 0..20 {
        let mut victim = places.victim(if round % 2 == 0 { "exit" } else { "panic" }, &stage.join("state"));
        std::thread::sleep(Duration::from_micros(round * 7919 % 20_000));
        victim.go();
        let pid = victim.pid();
        wait_for("the victim to end", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
        drop(victim);
        // No sweep: only what was attached as a whole goes by itself.
        wait_for("the text to be that of the file", || places.foreign().is_empty().then_some(()));
        places.act();
    }
    places.target.finish();
}

/// The journal of a recorder that was killed while it was attached, and a breakpoint that it left.
fn orphaned(stage: &Stage, file: &Path) -> Places {
    let places = Places::start(file.to_owned());
    places.victim("stay", &stage.join("state")).kill();
    wait_for("the kernel to detach", || places.foreign().is_empty().then_some(()));
    places.text.forge(places.addresses[7]);
    places.text.forge(places.addresses[93]);
    assert_eq!(places.foreign().len(), 2);
    places
}

fn swept(stage: &Stage) -> Outcome {
    let state = StateDirectory::at(stage.join("state"));
    let all = sweep(&state).unwrap();
    let [Swept { points: 100, outcome, .. }] = all.as_slice() else { panic!("{all:?}") };
    outcome.clone()
}

#[test]
fn what_a_dead_one_left() {
    let stage = Stage::enter("uprobes");
    let mut places = orphaned(&stage, &own_copy(&stage, &program("points"), "points"));
    assert_eq!(swept(&stage), Outcome::Restored);
    assert!(places.foreign().is_empty());
    places.act();
    places.target.finish();
    assert!(names_in(&stage.join("state")).is_empty());
}

#[test]
fn what_a_dead_one_left_beside_a_point_that_it_could_not_have() {
    let stage = Stage::enter("uprobes");
    let mut places = Places::start(own_copy(&stage, &program("points"), "points"));
    // Beyond the end of the file.
    places.offsets[50] = 1 << 40;
    places.victim("stay", &stage.join("state")).kill();
    wait_for("the kernel to detach", || places.foreign().is_empty().then_some(()));
    places.text.forge(places.addresses[7]);
    assert_eq!(swept(&stage), Outcome::Restored);
    assert!(places.foreign().is_empty());
    assert!(names_in(&stage.join("state")).is_empty(), "the next start has nothing to do");
    places.act();
    places.target.finish();
}

#[test]
fn what_a_dead_one_left_in_a_file_that_was_replaced() {
    let stage = Stage::enter("uprobes");
    let file = own_copy(&stage, &program("points"), "points");
    let mut places = orphaned(&stage, &file);
    std::fs::rename(own_copy(&stage, &program("points"), "another"), &file).unwrap();
    assert_eq!(swept(&stage), Outcome::Restored);
    assert!(places.foreign().is_empty());
    places.act();
    places.target.finish();
}

#[test]
fn what_a_dead_one_left_in_a_file_that_is_gone_or_changed() {
    let stage = Stage::enter("uprobes");
    let file = own_copy(&stage, &program("points"), "points");
    orphaned(&stage, &file).target.kill();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(swept(&stage), Outcome::Gone);

    let file = own_copy(&stage, &program("points"), "points");
    orphaned(&stage, &file).target.kill();
    std::fs::write(&file, "no program any more").unwrap();
    assert_eq!(swept(&stage), Outcome::Changed);
    assert!(names_in(&stage.join("state")).is_empty());
}

/// The recorder itself, at its start.
#[test]
fn the_next_recorder_puts_back() {
    let stage = Stage::enter("uprobes");
    let mut places = orphaned(&stage, &own_copy(&stage, &program("points"), "points"));
    let state = StateDirectory::default();
    std::fs::create_dir_all(state.path()).unwrap();
    let name = names_in(&stage.join("state")).remove(0);
    // A name that no recorder that lives has.
    let journal = state.path().join("0.0.uprobes");
    std::fs::copy(stage.join("state").join(name), &journal).unwrap();
    let pid = places.target.pid().to_string();
    let ran = run(["--pid", &pid, "-d", "1ms", "-o", stage.join("traces").to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(places.foreign().is_empty(), "{}", ran.stderr);
    assert!(!journal.exists());
    places.act();
    places.target.finish();
}

#[test]
fn a_state_directory_of_somebody_else() {
    let stage = Stage::enter("uprobes");
    let places = Places::start(own_copy(&stage, &program("points"), "points"));
    let attach = |state: &StateDirectory| {
        UprobeSet::attach(&Program::nothing(), &places.here(), &places.points(Way::Multi), Way::Multi, state)
    };
    let elsewhere = stage.directory("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, stage.join("link")).unwrap();
    assert!(attach(&StateDirectory::at(stage.join("link"))).is_err(), "links are not followed");
    let foreign = stage.directory("foreign");
    std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
    assert!(attach(&StateDirectory::at(foreign)).is_err());
    let open = stage.directory("open");
    drop(attach(&StateDirectory::at(&open)).unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&open.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700, "nobody else reads what is attached");
    places.target.finish();
}
