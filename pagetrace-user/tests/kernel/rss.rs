//! The resident set closes: what the file adds up to is what the kernel counts, to the page.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::accounts::{Loss, close};
use crate::procfs::{children, pss_anon_kib, rss_bytes};
use crate::programs::{Target, children_said, freeze};
use crate::recorder::{BINARY, Recorder, Recording, report, run_command};
use crate::stage::{Setting, Stage, wait_for};

/// Stops the processes, ends the recording, and compares each with `smaps_rollup`.
pub fn close_and_compare(recorder: Recorder, pids: &[u32]) -> Recording {
    for &pid in pids {
        freeze(pid);
    }
    let recording = recorder.interrupt();
    close(&recording, Loss::Nothing);
    for &pid in pids {
        compare(&recording, pid);
    }
    recording
}

/// Asserts that the report of a stopped process says what the kernel says.
pub fn compare(recording: &Recording, pid: u32) {
    let report = report(&recording.file_of(pid));
    let kernel = rss_bytes(pid);
    let shown = || format!("process {pid}: {:#}", report);
    let ours = report["rss_bytes"].as_u64();
    assert_eq!(ours, Some(kernel), "rss of the file {ours:?}, of smaps_rollup {kernel}, {}", shown());
    assert_eq!(report["unexplained_bytes"].as_i64(), Some(0), "{}", shown());
    for member in report["members"].as_array().unwrap() {
        assert_eq!(member["unplaced_bytes"].as_u64(), Some(0), "{}", shown());
    }
    assert_eq!(report["anomalies"], serde_json::json!([]), "{}", shown());
    assert_eq!(report["lost"].as_u64(), Some(0), "{}", shown());
    let classes = report["classes"].as_array().unwrap();
    let sum: u64 = classes.iter().map(|class| class["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sum, kernel, "the classes add up, {}", shown());
}

/// A tool of the machine.
pub fn tool(name: &str, package: &str) -> PathBuf {
    let mut places: Vec<PathBuf> = ["/usr/bin", "/usr/sbin", "/bin"].map(PathBuf::from).to_vec();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.map(|version| version.unwrap().path().join("bin")));
    }
    let found = places.into_iter().map(|place| place.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package} (`cargo xtask test` does it)"))
}

fn assert_done(command: &mut Command) {
    let ran = run_command(command);
    assert_eq!(ran.code, Some(0), "{command:?}: {} {}", ran.stdout, ran.stderr);
}

fn check_touch(stage: &Stage, mode: &str) {
    let mut target = Target::start("touch", [mode.as_ref(), stage.path().as_os_str()]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["-f", "--pid", &target.pid().to_string()]);
    let said = target.act();
    let mut pids = children_said(&said);
    pids.push(target.pid());
    let recording = close_and_compare(recorder, &pids);
    assert_eq!(recording.files().len(), pids.len(), "a file for each process: {recording:?}");
    if !["cow", "mixed", "scattered"].contains(&mode) {
        return;
    }
    // And once more from what is there already: all of it is baseline.
    let again =
        Recorder::start(&stage.join("again"), pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]));
    close_and_compare(again, &pids);
}

#[test]
fn of_a_mix_of_mappings() {
    check_touch(&Stage::enter("rss"), "mixed");
}

#[test]
fn of_huge_pages() {
    let stage = Stage::enter("rss");
    // khugepaged comes by every few seconds and fills the hole; it may do so between the recording's end and the
    // comparison. What it does meanwhile is another test's.
    let _holes_stay = Setting::set("/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none", "0");
    check_touch(&stage, "thp");
}

#[test]
fn of_thousands_of_separate_pages() {
    check_touch(&Stage::enter("rss"), "scattered");
}

#[test]
fn of_shared_memory() {
    check_touch(&Stage::enter("rss"), "shmem");
}

#[test]
fn of_a_copy_on_write_child_and_its_parent() {
    check_touch(&Stage::enter("rss"), "cow");
}

#[test]
fn of_a_family_each_frame_counts_once() {
    let stage = Stage::enter("rss");
    let mut target = Target::start("touch", ["cow".as_ref(), stage.path().as_os_str()]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["-f", "--pid", &target.pid().to_string()]);
    let mut pids = children_said(&target.act());
    pids.push(target.pid());
    let recording = close_and_compare(recorder, &pids);
    let ran = run_command(Command::new(BINARY).args(["rss", "--together", "--json"]).args(recording.files()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let together: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(together["rss_bytes"].as_u64(), Some(pids.iter().map(|pid| rss_bytes(*pid)).sum()), "{together:#}");
    assert_eq!(together["processes"].as_array().unwrap().len(), pids.len());
    // Nobody else maps their anonymous memory, so their parts of it add up to all of it.
    let once: u64 = together["classes"].as_array().unwrap().iter().fold(0, |sum, line| {
        let is_anonymous = ["heap", "anonymous", "stack"].contains(&line["class"].as_str().unwrap());
        sum + if is_anonymous { line["once_bytes"].as_u64().unwrap() } else { 0 }
    });
    let parts: u64 = pids.iter().map(|pid| pss_anon_kib(*pid)).sum();
    let lost_to_rounding = once / 1024 - parts;
    assert!(lost_to_rounding <= pids.len() as u64, "{once} bytes, {parts} KiB: {together:#}");
    let shared = together["rss_bytes"].as_u64().unwrap() - together["once_bytes"].as_u64().unwrap();
    assert!(shared > 1 << 20, "what the child has of its parent: {together:#}");
}

#[test]
fn of_a_list_in_python() {
    const PROGRAM: &str = "
import sys
print('ready', flush=True)
sys.stdin.readline()
rows = [str(n) * 3 for n in range(1000000)]
kept = rows[::1000]
del rows
print('done', flush=True)
sys.stdin.readline()
";
    let stage = Stage::enter("rss");
    let mut target = Target::run(Command::new(tool("python3", "python3")).args(["-c", PROGRAM])).ready();
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    target.act();
    close_and_compare(recorder, &[target.pid()]);
}

#[test]
fn of_redis_after_many_keys_and_after_none() {
    let stage = Stage::enter("rss");
    let socket = stage.join("redis.sock");
    let mut server = Command::new(tool("redis-server", "redis-server"));
    server
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(stage.path());
    let server = Target::run(&mut server);
    let client = || {
        let mut client = Command::new(tool("redis-cli", "redis-tools"));
        client.arg("-s").arg(&socket);
        client
    };
    wait_for("an answer from redis", || (run_command(client().arg("ping")).stdout.trim() == "PONG").then_some(()));

    let recorder = Recorder::of_pid(&stage.join("full"), server.pid());
    assert_done(client().args([
        "eval",
        "for i = 1, 500000 do redis.call('set', 'key:' .. i, string.rep('x', 40) .. i) end return redis.call('dbsize')",
        "0",
    ]));
    assert_eq!(run_command(client().arg("dbsize")).stdout.trim(), "500000");
    close_and_compare(recorder, &[server.pid()]);
    let full = rss_bytes(server.pid());

    server.signal(rustix::process::Signal::CONT);
    let recorder = Recorder::of_pid(&stage.join("flushed"), server.pid());
    assert_done(client().arg("flushall"));
    // Its allocator would give the pages back in its own time; threads of its own may still be taking keys apart.
    wait_for("flushall to give memory back", || {
        assert_done(client().args(["memory", "purge"]));
        (rss_bytes(server.pid()) < full / 2).then_some(())
    });
    let recording = close_and_compare(recorder, &[server.pid()]);
    assert!(report(&recording.file())["rss_bytes"].as_u64().unwrap() < full / 2, "{full} before, {recording:?}");
}

/// What postgres' processes call themselves that are there as long as it is.
const LASTING_WORKERS: [&str; 3] = ["checkpointer", "background writer", "walwriter"];

fn is_lasting_worker(pid: u32) -> bool {
    // It may have been a backend, and be gone.
    let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    cmdline
        .strip_prefix("postgres: ")
        .is_some_and(|role| LASTING_WORKERS.iter().any(|lasting| role.starts_with(lasting)))
}

#[test]
fn of_postgres_after_pgbench() {
    let stage = Stage::enter("rss");
    // It refuses to run as root.
    let as_user = |program: PathBuf| {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.uid(65534).gid(65534).current_dir("/").env("PGHOST", stage.path()).env("PGDATABASE", "postgres");
        command.env("PGUSER", "tester").env("HOME", stage.path()).env("LC_ALL", "C.UTF-8");
        command
    };
    std::os::unix::fs::chown(stage.path(), Some(65534), Some(65534)).unwrap();
    let data = stage.join("data");
    assert_done(as_user(tool("initdb", "postgresql")).args(["-N", "-U", "tester", "-A", "trust", "-D"]).arg(&data));
    let mut server = as_user(tool("postgres", "postgresql"));
    server.arg("-D").arg(&data).arg("-k").arg(stage.path()).stderr(Stdio::null());
    server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off", "-c", "shared_buffers=32MB"]);
    let server = Target::run(&mut server);
    wait_for("an answer from postgres", || {
        (run_command(&mut as_user(tool("pg_isready", "postgresql-client"))).code == Some(0)).then_some(())
    });

    // The server, its workers that are there already, and every backend that comes.
    let workers = wait_for("postgres' workers", || {
        let workers = children(server.pid()).into_iter().filter(|pid| is_lasting_worker(*pid)).collect::<Vec<_>>();
        (workers.len() == LASTING_WORKERS.len()).then_some(workers)
    });
    let mut pids = workers.clone();
    pids.push(server.pid());
    let mut args: Vec<String> = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]).collect();
    args.push("-f".to_owned());
    let recorder = Recorder::start(&stage.join("traces"), args);

    assert_done(as_user(tool("pgbench", "postgresql-contrib")).args(["-q", "-i", "-s", "2"]));
    assert_done(as_user(tool("pgbench", "postgresql-contrib")).args(["-n", "-c", "2", "-t", "300"]));
    let mut session = Target::run(as_user(tool("psql", "postgresql-client")).args(["-X", "-A", "-t"]));
    session.say("select 'rows ' || count(*), 'of ' || pg_backend_pid() from pgbench_accounts;\n");
    let said = session.await_line("rows 200000|of ");
    let backend: u32 = said.last().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(!pids.contains(&backend));
    pids.push(backend);

    let recording = close_and_compare(recorder, &pids);
    assert!(recording.files().len() >= pids.len() + 3, "the backends of pgbench have files too: {recording:?}");
}
