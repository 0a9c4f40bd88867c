//! Bad input: an error that says what failed, why and what mends it; the exit code of the design; nothing left behind.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::accounts::{Loss, close, names_in};
use crate::programs::Target;
use crate::recorder::{BINARY, Ran, Recorder, run, run_command};
use crate::stage::{Stage, wait_for};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NO_TARGET: i32 = 3;
const PRIVILEGE: i32 = 4;
const DAMAGED: i32 = 7;

fn assert_error(ran: &Ran, code: i32, what: &str) {
    assert_eq!(ran.code, Some(code), "{what}: {ran:?}");
    for start in ["error: ", "  why:  ", "  fix:  "] {
        assert!(
            ran.stderr.lines().any(|line| line.strip_prefix(start).is_some_and(|rest| !rest.trim().is_empty())),
            "{what}: a line that begins with {start:?}: {ran:?}"
        );
    }
    assert!(!ran.stderr.contains("panicked"), "{what}: {ran:?}");
    assert!(!ran.stderr.lines().any(|line| line.starts_with("recording")), "{what}: {ran:?}");
    assert!(ran.stdout.is_empty(), "{what}: {ran:?}");
}

/// Runs a recording that must fail, and asserts that the directory is as it was: not there, or with the same names.
fn check(what: &str, directory: &Path, args: &[&str], code: i32) {
    let before = directory.exists().then(|| names_in(directory));
    let mut command = Command::new(BINARY);
    command.arg("-o").arg(directory).args(args);
    let ran = run_command(&mut command);
    assert_error(&ran, code, what);
    assert_eq!(directory.exists().then(|| names_in(directory)), before, "{what}: left behind");
}

/// A process that lives as long as the test.
fn living() -> Target {
    Target::start("touch", ["named", "living"]).ready()
}

#[test]
fn targets_that_cannot_be() {
    let stage = Stage::enter("bad");
    let traces = stage.join("traces");

    let gone = living();
    let number = gone.pid().to_string();
    gone.kill();
    check("no such process", &traces, &["--pid", &number], NO_TARGET);

    let kernel_thread = (2..).find(|pid| is_kernel_thread(*pid)).unwrap().to_string();
    check("a kernel thread", &traces, &["--pid", &kernel_thread], NO_TARGET);

    let mut zombie = Command::new("true").stdout(Stdio::null()).spawn().unwrap();
    let stat = format!("/proc/{}/stat", zombie.id());
    wait_for("a zombie", || std::fs::read_to_string(&stat).unwrap().contains(") Z ").then_some(()));
    check("a zombie", &traces, &["--pid", &zombie.id().to_string()], NO_TARGET);
    zombie.wait().unwrap();

    let alive = living();
    check("one of two is gone", &traces, &["--pid", &alive.pid().to_string(), "--pid", &number], NO_TARGET);
}

/// Said at once: before anything is loaded.
#[test]
fn programs_that_cannot_be() {
    let stage = Stage::enter("bad");
    let (file, pipe, script) = (stage.join("file"), stage.join("pipe"), stage.join("script"));
    std::fs::write(&file, "echo no").unwrap();
    let executable = |path: &Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o700.into(), 0).unwrap();
    executable(&pipe);
    for (program, why) in [
        (Path::new("/no/such/program"), "there is no such program"),
        (Path::new("no-such-program"), "there is no such program"),
        (&file, "it is not an executable file"),
        (&pipe, "it is not an executable file"),
        (stage.path(), "it is not an executable file"),
    ] {
        let (traces, calls) = (stage.join("traces"), stage.join("calls"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-e", "trace=bpf", "-o"]).arg(&calls).arg(BINARY).arg("--objects").arg("-o").arg(&traces);
        let ran = run_command(strace.arg("--").arg(program));
        assert_error(&ran, NO_TARGET, &program.display().to_string());
        assert!(ran.stderr.contains(why), "{ran:?}");
        assert!(!traces.exists(), "{}: left behind", program.display());
        let calls = std::fs::read_to_string(calls).unwrap();
        assert!(calls.contains("exited with 3") && !calls.contains("bpf("), "{calls}");
    }

    // Nobody writes into the pipe by which this would be run, and nobody waits for that.
    std::fs::write(&script, format!("#!{}\n", pipe.display())).unwrap();
    executable(&script);
    check("run by a pipe", &stage.join("traces"), &["-q", "--objects", "--", script.to_str().unwrap()], NO_TARGET);
}

fn is_kernel_thread(pid: u32) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let flags = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_KTHREAD != 0)
}

#[test]
fn arguments_that_make_no_sense() {
    let stage = Stage::enter("bad");
    let (traces, target) = (stage.join("traces"), living());
    let pid = target.pid().to_string();
    check("no ring of three bytes", &traces, &["--pid", &pid, "--ring", "3"], USAGE);
    check("no selection", &traces, &[], USAGE);
    check("two selections", &traces, &["--pid", &pid, "-a"], USAGE);
    check("no number", &traces, &["--pid", "init"], USAGE);
}

#[test]
fn missing_privileges() {
    let stage = Stage::enter("bad");
    let open = stage.directory("open");
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    // The build's directory may be closed to others.
    let binary = stage.join("pagetrace-user");
    std::fs::copy(BINARY, &binary).unwrap();
    std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
    let mut own = Command::new("sleep");
    let own = Target::run(own.arg("infinity").uid(65534).gid(65534));
    let mut command = Command::new(&binary);
    command.uid(65534).gid(65534).current_dir("/").arg("-o").arg(&open).args(["--pid", &own.pid().to_string()]);
    assert_error(&run_command(&mut command), PRIVILEGE, "not root, and its own process");
    assert_eq!(names_in(&open), [""; 0]);

    let target = living();
    for missing in ["-bpf,-perfmon,-sys_admin", "-bpf,-sys_admin", "-perfmon,-sys_admin"] {
        let traces = stage.join("traces");
        let mut command = Command::new("setpriv");
        command.args([&format!("--bounding-set={missing}"), &format!("--inh-caps={missing}")]);
        command.arg(BINARY).arg("-o").arg(&traces).args(["--pid", &target.pid().to_string()]);
        let ran = run_command(&mut command);
        assert_error(&ran, PRIVILEGE, missing);
        assert!(ran.stderr.contains("CAP_"), "it names what is missing: {ran:?}");
        assert!(!traces.exists(), "{missing}: left behind");
    }
}

/// A small tmpfs, unmounted at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, options: &str) -> Tmpfs {
        let mut mount = Command::new("mount");
        let ran = run_command(mount.args(["-t", "tmpfs", "-o", options, "pagetrace-test"]).arg(&at));
        assert_eq!(ran.code, Some(0), "mount: {ran:?}");
        Tmpfs(at)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let ran = Command::new("umount").arg("-l").arg(&self.0).status();
        if !ran.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("could not unmount {}: {ran:?}", self.0.display());
        }
    }
}

#[test]
fn directories_that_cannot_be_used() {
    let stage = Stage::enter("bad");
    let target = living();
    let pid = target.pid().to_string();
    let args = ["--pid", pid.as_str()];

    let read_only = Tmpfs::mount(stage.directory("read-only"), "ro,size=64k");
    check("unwritable", &read_only.0, &args, FAILED);
    check("below unwritable", &read_only.0.join("new"), &args, FAILED);

    let link = stage.join("link");
    let behind = stage.directory("behind");
    symlink(&behind, &link).unwrap();
    check("a symlink", &link, &args, FAILED);
    assert_eq!(names_in(&behind), [""; 0]);

    let file = stage.join("file");
    std::fs::write(&file, "text").unwrap();
    let mut command = Command::new(BINARY);
    assert_error(&run_command(command.arg("-o").arg(&file).args(args)), FAILED, "a file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");

    let full = Tmpfs::mount(stage.directory("full"), "size=64k");
    fill(&full.0.join("filling"));
    check("full", &full.0, &args, FAILED);
}

/// Writes until there is no room for one more byte.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    while file.write(b"0").is_ok() {}
}

#[test]
fn a_directory_that_fills_up_meanwhile() {
    let stage = Stage::enter("bad");
    let small = Tmpfs::mount(stage.directory("small"), "size=1m");
    let mut target = Target::start("flood", ["0", "0"]).ready();
    let recorder = Recorder::of_pid(&small.0, target.pid());
    target.go();
    let recording = recorder.ended();
    assert_eq!(recording.code, Some(FAILED), "{recording:?}");
    for start in ["error: ", "  why:  ", "  fix:  "] {
        assert!(recording.stderr.lines().any(|line| line.starts_with(start)), "{start}: {recording:?}");
    }
    assert!(recording.stderr.contains("No space"), "{recording:?}");
    // What was written is kept, and can be read.
    let names = names_in(&small.0);
    assert!(!names.iter().any(|name| name.ends_with(".pid")), "{names:?}");
    let [name] = names.as_slice() else { panic!("one file: {names:?}") };
    let ran = run(["check".as_ref(), small.0.join(name).as_os_str()]);
    assert!(matches!(ran.code, Some(0 | DAMAGED)), "{ran:?}");
}

#[test]
fn a_directory_with_room_for_some_files_only() {
    let stage = Stage::enter("bad");
    let tiny = Tmpfs::mount(stage.directory("tiny"), "size=16k");
    let _others: Vec<Target> = (0..6).map(|_| living()).collect();
    let recording = Recorder::launch(&tiny.0, ["-a", "-d", "30s"]).ended();
    assert_eq!(recording.code, Some(FAILED), "{recording:?}");
    assert!(recording.stderr.contains("No space"), "{recording:?}");
    for name in names_in(&tiny.0) {
        let file = tiny.0.join(&name);
        assert!(std::fs::metadata(&file).unwrap().len() > 0, "{name} is empty");
        let ran = run(["check".as_ref(), file.as_os_str()]);
        assert!(matches!(ran.code, Some(0 | DAMAGED)), "{ran:?}");
    }
}

#[test]
fn a_live_recorders_directory_is_shared() {
    let stage = Stage::enter("bad");
    let traces = stage.join("traces");
    let targets = [living(), living()];
    let first = Recorder::of_pid(&traces, targets[0].pid());
    let held = std::fs::read_to_string(traces.join("trace.pid")).unwrap();
    assert_eq!(held.trim(), first.pid().to_string());
    let second = Recorder::of_pid(&traces, targets[1].pid());
    let own = traces.join(format!("trace.{}.pid", second.pid()));
    assert_eq!(std::fs::read_to_string(&own).unwrap().trim(), second.pid().to_string());
    assert_eq!(std::fs::read_to_string(traces.join("trace.pid")).unwrap(), held);
    let second = {
        second.signal(rustix::process::Signal::INT);
        second.ended()
    };
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(!own.exists());
    assert!(traces.join("trace.pid").exists(), "the first one's stays");
    let first = first.interrupt();
    close(&first, Loss::Nothing);
    assert_eq!(names_in(&traces).len(), 2, "{:?}", names_in(&traces));
}

#[test]
fn a_trace_that_is_there_already() {
    let stage = Stage::enter("bad");
    let (traces, target) = (stage.join("traces"), living());
    let first = Recorder::of_pid(&traces, target.pid()).interrupt();
    let name = first.file().file_name().unwrap().to_str().unwrap().to_owned();
    // NAME.PID.UTC.pgt: every second of the next ten minutes is taken.
    let parts: Vec<&str> = name.rsplitn(3, '.').collect();
    let taken = stage.directory("taken");
    for utc in seconds_from(parts[1], 600) {
        std::fs::write(taken.join(format!("{}.{utc}.pgt", parts[2])), "mine").unwrap();
    }
    let again = Recorder::of_pid(&taken, target.pid()).interrupt();
    close(&again, Loss::Nothing);
    let own = again.file();
    assert_ne!(std::fs::read(&own).unwrap(), b"mine", "a name of its own");
    let others = names_in(&taken).into_iter().filter(|name| taken.join(name) != own);
    let contents: Vec<Vec<u8>> = others.map(|name| std::fs::read(taken.join(name)).unwrap()).collect();
    assert!(contents.len() == 600 && contents.iter().all(|content| content == b"mine"), "untouched");

    let forced = Recorder::start(&taken, ["--force", "--pid", &target.pid().to_string()]).interrupt();
    close(&forced, Loss::Nothing);
    assert_eq!(names_in(&taken).len(), 601, "it replaced one of them");
}

/// `20261123T021500Z` and the seconds after it, by `date`.
fn seconds_from(utc: &str, count: u32) -> Vec<String> {
    let digit = |range: std::ops::Range<usize>| &utc[range];
    let iso = format!(
        "{}-{}-{}T{}:{}:{}Z",
        digit(0..4),
        digit(4..6),
        digit(6..8),
        digit(9..11),
        digit(11..13),
        digit(13..15)
    );
    let epoch = run_command(Command::new("date").args(["-u", "-d", &iso, "+%s"])).stdout;
    let epoch: u64 = epoch.trim().parse().unwrap_or_else(|_| panic!("the UTC of a file name: {utc}"));
    let lines: String = (0..u64::from(count)).map(|second| format!("@{}\n", epoch + second)).collect();
    let list = std::env::temp_dir().join(format!("pagetrace-seconds-{}", std::process::id()));
    std::fs::write(&list, lines).unwrap();
    let names = run_command(Command::new("date").args(["-u", "+%Y%m%dT%H%M%SZ", "-f"]).arg(&list)).stdout;
    std::fs::remove_file(&list).unwrap();
    names.lines().map(str::to_owned).collect()
}

#[test]
fn files_that_are_no_trace() {
    let stage = Stage::enter("bad");
    let empty = stage.join("empty");
    std::fs::write(&empty, "").unwrap();
    for command in ["dump", "check", "report"] {
        let json: &[&str] = if command == "dump" { &["--json"] } else { &[] };
        let ran = |path: &Path| {
            let mut line = Command::new(BINARY);
            run_command(line.arg(command).args(json).arg(path))
        };
        assert_error(&ran(stage.path()), FAILED, &format!("{command} of a directory"));
        assert_error(&ran(&stage.join("none")), FAILED, &format!("{command} of nothing"));
        assert_error(&ran(&empty), DAMAGED, &format!("{command} of an empty file"));
        assert_error(&ran(Path::new("/bin/sh")), DAMAGED, &format!("{command} of a program"));
    }
}
