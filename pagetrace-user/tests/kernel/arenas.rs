//! The arenas of glibc in programs that know nothing of it.
//!
//! *Oracles.* `malloc_info(3)`, called by the program itself when nobody takes or frees any more: for each arena the chunks
//! and bytes in fastbins, those that are free, and what it has of the system's, equal to the byte. It counts what threads put
//! aside (tcache) as in use, which to the arena it is; of that the program knows how much there is, since it has filled every
//! list. Of free chunks it adds up the words that have their sizes, with the flags in their low bits: `mallinfo2(3)`, of all
//! arenas together, does not. In programs that were not made for this a library that is put before them calls both
//! (`say_chunks.c`). `malloc_trim(3)` and the resident pages before and after it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use pagetrace_user::event::Body;
use pagetrace_user::format::Reader;
use pagetrace_user::replay::{ArenaUses, fold};
use rustix::process::Signal;
use serde_json::Value;

use crate::objects::compiled;
use crate::procfs::{mappings, range_bytes};
use crate::programs::Target;
use crate::recorder::{Recorder, Recording, report};
use crate::stage::{Stage, wait_for};
use crate::trace::Trace;

/// Fast chunks and bytes, free chunks and bytes, bytes of the system: of one arena.
type Figures = [u64; 5];

/// What `malloc_info` said, arena by arena.
fn figures_said(file: &Path) -> Vec<Figures> {
    let text = std::fs::read_to_string(file).unwrap();
    let heaps = text.split("<heap nr=").skip(1);
    let heaps = heaps.map(|heap| {
        let heap = heap.split("</heap>").next().unwrap();
        let number = |element: &str, key: &str| {
            let line = heap.split(element).nth(1).unwrap_or_else(|| panic!("{element} in {heap}"));
            let value = line.split(&format!("{key}=\"")).nth(1).unwrap().split('"').next().unwrap();
            value.parse::<u64>().unwrap()
        };
        let (fast, rest) = ("<total type=\"fast\"", "<total type=\"rest\"");
        let system = number("<system type=\"current\"", "size");
        [number(fast, "count"), number(fast, "size"), number(rest, "count"), number(rest, "size"), system]
    });
    heaps.collect()
}

/// What a recording says of the arenas at its end.
fn arenas_of(file: &Path) -> Option<ArenaUses> {
    let (state, _) = fold(&mut Reader::new(File::open(file).unwrap()).unwrap()).unwrap();
    state.arenas()
}

/// The same figures, in the order of the ring.
fn figures(uses: &ArenaUses) -> Vec<Figures> {
    let arenas = uses.arenas.iter().map(|part| &part.arena);
    let arenas = arenas.map(|arena| {
        assert!(arena.settled, "{arena:?}");
        // `top` is free too, and always there.
        let rest = arena.free.bytes.0 + arena.top.0;
        [arena.fast.count, arena.fast.bytes.0, arena.free.count + 1, rest, arena.size.0]
    });
    arenas.collect()
}

/// Every sum of a report closes, to the byte.
fn assert_closed(report: &Value) {
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or_else(|| panic!("{key} in {value}"));
    let line = &report["arenas"];
    for arena in line["arenas"].as_array().unwrap().iter().chain([line]) {
        let chunks = ["in_use", "cached", "fast", "free"].map(|chunks| number(&arena[chunks], "bytes"));
        let size = chunks.iter().sum::<u64>() + number(arena, "top_bytes") + number(arena, "own_bytes");
        assert_eq!(size, number(arena, "size_bytes"), "{arena}");
        let parts = ["in_use", "kept", "free", "own"].map(|part| number(arena, &format!("resident_{part}_bytes")));
        assert_eq!(parts.iter().sum::<u64>(), number(arena, "resident_bytes"), "{arena}");
        assert!(number(arena, "resident_bytes").is_multiple_of(4096), "{arena}");
    }
    let classes = report["classes"].as_array().unwrap().iter();
    let classes = classes.filter(|class| class["class"] == "heap" || class["class"] == "anonymous");
    let uses = report["uses"].as_array().unwrap().iter();
    assert_eq!(
        uses.map(|line| number(line, "bytes")).sum::<u64>(),
        classes.map(|class| number(class, "bytes")).sum::<u64>(),
        "{report}"
    );
}

/// Resident bytes of private anonymous memory.
fn anonymous(pid: u32) -> u64 {
    let ranges = mappings(pid).into_iter().filter(|(_, name)| name.is_empty() || name == "[heap]");
    ranges.map(|(range, _)| range_bytes(pid, range).0).sum()
}

/// Compares arena by arena, and their sum.
fn compare(name: &str, uses: &ArenaUses, info: &Path) {
    let (ours, said) = (figures(uses), figures_said(info));
    assert_eq!(ours.len(), said.len(), "{name}: {ours:?}, {said:?}");
    for (ours, said) in ours.iter().zip(&said) {
        let [fast, fast_bytes, free, free_bytes, system] = *ours;
        assert_eq!(
            [fast, fast_bytes, free, system],
            [said[0], said[1], said[2], said[4]],
            "{name}: {ours:?}, {said:?}"
        );
        // Before a free chunk there is one in use (1); some are marked as another's than the main arena's (4).
        let flags = said[3] - free_bytes - (free - 1);
        assert!(flags.is_multiple_of(4) && flags / 4 < free, "{name}: {ours:?}, {said:?}");
    }
    let text = std::fs::read_to_string(info).unwrap();
    let all = text.lines().find_map(|line| line.strip_prefix("mallinfo2 "));
    let all: Vec<u64> = all.unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
    let sum = ours.iter().fold([0; 4], |sum, ours| std::array::from_fn(|at| sum[at] + ours[at]));
    // What is in fastbins is free to it.
    assert_eq!(vec![sum[0], sum[1], sum[2], sum[3] + sum[1]], all, "{name}");
}

struct Ran {
    recording: Recording,
    info: PathBuf,
    /// What `malloc_trim(0)` took.
    trimmed: u64,
}

fn ran(stage: &Stage, name: &str, command: &mut Command) -> Ran {
    let info = stage.join(&format!("{name}.xml"));
    let mut target = Target::run(command.arg(&info)).ready();
    let recording = Recorder::of_pid(&stage.join(name), target.pid()).interrupt();
    let before = anonymous(target.pid());
    target.act();
    let trimmed = before - anonymous(target.pid());
    target.finish();
    Ran { recording, info, trimmed }
}

fn chunks() -> PathBuf {
    compiled("cc", &["-O1", "-Wall", "-Wextra", "-pthread"], "chunks.c", "chunks")
}

#[test]
fn what_malloc_info_says() {
    let stage = Stage::enter("arenas");
    let all = |threads: u64| (threads + 1) * 7 * 64;
    for (name, threads, objects, setting, cached) in [
        ("one", 0, "20000", ("UNUSED", ""), all(0)),
        ("small", 2, "10", ("UNUSED", ""), all(2)),
        ("threads", 4, "30000", ("UNUSED", ""), all(4)),
        // More than one part of 64 MiB for each arena.
        ("parts", 1, "120000", ("MALLOC_ARENA_MAX", "2"), all(1)),
        ("shared", 6, "5000", ("MALLOC_ARENA_MAX", "2"), all(6)),
        ("alone", 3, "5000", ("MALLOC_ARENA_MAX", "1"), all(3)),
        ("uncached", 3, "20000", ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"), 0),
        ("slow", 3, "20000", ("GLIBC_TUNABLES", "glibc.malloc.mxfast=0"), all(3)),
        ("padded", 2, "20000", ("MALLOC_TOP_PAD_", "9000000"), all(2)),
        ("perturbed", 2, "20000", ("MALLOC_PERTURB_", "165"), all(2)),
        ("mapped", 2, "20000", ("MALLOC_MMAP_THRESHOLD_", "4096"), all(2)),
    ] {
        let mut command = Command::new(chunks());
        command.args([&threads.to_string(), objects]).env(setting.0, setting.1);
        let Ran { recording, info, trimmed } = ran(&stage, name, &mut command);
        let uses = arenas_of(&recording.file()).unwrap_or_else(|| panic!("{name}: {recording:?}"));
        compare(name, &uses, &info);
        assert_eq!(uses.arenas.iter().map(|part| part.arena.cached.count).sum::<u64>(), cached, "{name}");
        let report = report(&recording.file());
        assert_closed(&report);
        assert_eq!(report["arenas"]["trim_bytes"], trimmed, "{name}");
        assert_eq!(report["arenas"]["why"], "end", "{name}");
        let allocator = report["arenas"]["allocator"].as_str().unwrap();
        assert!(allocator.starts_with("glibc 2."), "{allocator}");
        assert_eq!(report["unexplained_bytes"], 0, "{name}");
    }
}

/// Walked while threads take and free without a pause, and again when they have stopped.
#[test]
fn while_threads_take_and_free() {
    const THREADS: u64 = 3;
    const OBJECTS: u64 = 20000;
    let stage = Stage::enter("arenas");
    let info = stage.join("busy.xml");
    let mut command = Command::new(chunks());
    command.args([THREADS.to_string(), OBJECTS.to_string()]).arg(&info).arg("busy");
    let mut target = Target::run(&mut command).ready();
    let recorder = Recorder::of_pid(&stage.join("busy"), target.pid());
    wait_for("the arenas to be read", || {
        let file = std::fs::read_dir(stage.join("busy")).unwrap().find_map(|entry| {
            let path = entry.unwrap().path();
            path.to_string_lossy().contains(".pgt").then_some(path)
        })?;
        Trace::dump_with(&file, 7).of("heap", "arena").next().map(|_| ())
    });
    target.act();
    let recording = recorder.interrupt();
    target.finish();
    compare("busy", &arenas_of(&recording.file()).unwrap(), &info);
    // The first reading: every thread has its objects, but for the one that it changes.
    let mut reader = Reader::new(File::open(recording.file()).unwrap()).unwrap();
    let mut count = 0;
    let mut readings = 0;
    while let Some(event) = reader.next_event().unwrap() {
        match event.body {
            Body::ArenaReading { .. } => readings += 1,
            Body::Arena(arena) if readings == 1 && !arena.is_main => count += arena.in_use.count,
            _ => {}
        }
    }
    assert_eq!(readings, 2, "{recording:?}");
    // What a thread has put aside (448 chunks at most) counts as in use where its lists never stood still, and it has a few more
    // for itself.
    let before = THREADS * (OBJECTS / 2 - OBJECTS / 12);
    let expected = THREADS * OBJECTS + before;
    assert!(count.abs_diff(expected) < THREADS * 500, "{count} of {expected}");
}

/// Programs that were not made for this, at a moment when they wait for us.
#[test]
fn what_malloc_info_says_of_real_programs() {
    let stage = Stage::enter("arenas");
    let shim = compiled("cc", &["-shared", "-fPIC", "-O2", "-Wall", "-Wextra"], "say_chunks.c", "say_chunks.so");
    let perl =
        "my %h; $h{$_} = 'x' x ($_ % 3000) for 1..20000; delete @h{1..15000}; $| = 1; print \"ready\\n\"; <STDIN>";
    let python = "import sys, threading\n\
                  d = {i: b'x' * (i % 9000) for i in range(20000)}\n\
                  def work(): kept.append([b'y' * (i % 5000) for i in range(5000)][::3])\n\
                  kept, workers = [], [threading.Thread(target=work) for _ in range(3)]\n\
                  for worker in workers: worker.start()\n\
                  for worker in workers: worker.join()\n\
                  for i in range(0, 20000, 2): del d[i]\n\
                  print('ready', flush=True); sys.stdin.readline()";
    let sqlite = "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60000) \
                  SELECT i, printf('%.*c', i % 500, 'x') AS x FROM n; DELETE FROM t WHERE i % 3 = 0; SELECT 'ready';\n";
    let bash = "for i in {1..20000}; do a[i]=x$i$i$i b[i]=${a[i]}$i; done; unset a; echo ready; read";
    for (command, input) in [
        (&["perl", "-e", perl][..], ""),
        (&["/usr/bin/python3", "-c", python], ""),
        (&["sqlite3", ":memory:"], sqlite),
        (&["bash", "-c", bash], ""),
    ] {
        let name = command[0].rsplit('/').next().unwrap();
        let info = stage.join(&format!("{name}.xml"));
        let mut program = Command::new(command[0]);
        program.args(&command[1..]).env("LD_PRELOAD", &shim).env("SAY_CHUNKS", &info).env("PERL_HASH_SEED", "0");
        let mut target = Target::run(&mut program);
        target.say(input);
        let target = target.ready();
        // A thread that was joined still gives back what it had put aside, and who has said "ready" may have an allocator's
        // lock: it is at rest when it waits for its stdin.
        wait_for("the program to be at rest", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap().count();
            let call = std::fs::read_to_string(format!("/proc/{}/syscall", target.pid())).unwrap();
            (threads == 1 && call.starts_with("0 0x0 ")).then_some(())
        });
        target.signal(Signal::USR1);
        wait_for("what malloc_info says", || {
            let text = std::fs::read_to_string(&info).unwrap();
            text.lines().any(|line| line.starts_with("mallinfo2")).then_some(())
        });
        let recording = Recorder::of_pid(&stage.join(name), target.pid()).interrupt();
        target.kill();
        let uses = arenas_of(&recording.file()).unwrap_or_else(|| panic!("{name}: {recording:?}"));
        compare(name, &uses, &info);
        let report = report(&recording.file());
        assert_closed(&report);
        assert!(report["arenas"]["in_use"]["count"].as_u64().unwrap() > 1000, "{name}: {report}");
    }
}

/// A program that has its C library in itself, at a low address; and that of another mount namespace.
#[test]
fn wherever_the_library_is() {
    let stage = Stage::enter("arenas");
    let flags = ["-O1", "-Wall", "-Wextra", "-pthread", "-static", "-no-pie"];
    let alone = compiled("cc", &flags, "chunks.c", "chunks_static");
    let mut command = Command::new(&alone);
    let Ran { recording, info, trimmed } = ran(&stage, "static", command.args(["2", "5000"]));
    compare("static", &arenas_of(&recording.file()).unwrap(), &info);
    assert_eq!(report(&recording.file())["arenas"]["trim_bytes"], trimmed);
    assert_eq!(report(&recording.file())["arenas"]["path"], alone.to_str().unwrap());
    // There is no file of its name where the recorder is.
    let script = "mount -t tmpfs nodev /mnt && cp \"$0\" /mnt/elsewhere && exec /mnt/elsewhere \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(&alone).args(["1", "5000"]);
    let Ran { recording, info, .. } = ran(&stage, "elsewhere", &mut command);
    compare("elsewhere", &arenas_of(&recording.file()).unwrap(), &info);
}

/// Where another allocator is put before the C library's, that is said, and nothing is made of the arenas that nobody uses.
#[test]
fn other_allocators_are_named() {
    let stage = Stage::enter("arenas");
    let mut command = Command::new("perl");
    command.args(["-e", "$| = 1; my @x = map { 'x' x $_ } 1..3000; print \"ready\\n\"; <STDIN>"]);
    let target = Target::run(command.env("LD_PRELOAD", "libjemalloc.so.2")).ready();
    let recording = Recorder::of_pid(&stage.join("traces"), target.pid()).interrupt();
    target.kill();
    let report = report(&recording.file());
    let notes = report["notes"].to_string();
    assert!(notes.contains("the heap of jemalloc 5.3.0 (/"), "{notes}");
    assert!(notes.contains("is not walked: only that of glibc is"), "{notes}");
    assert!(arenas_of(&recording.file()).is_none_or(|uses| uses.arenas.iter().all(|part| part.arena.size.0 == 0)));
}

/// A heap that is not in one piece is refused, and that is said once.
#[test]
fn what_does_not_verify_is_refused() {
    let stage = Stage::enter("arenas");
    let python = "import ctypes, sys\n\
                  x = [b'x' * (600 + i % 900) for i in range(3000)]\n\
                  ctypes.CDLL(None).sbrk(5000)\n\
                  y = [b'y' * (600 + i % 900) for i in range(9000)]\n\
                  print('ready', flush=True); sys.stdin.readline()";
    let target = Target::run(Command::new("/usr/bin/python3").args(["-c", python])).ready();
    let recording = Recorder::of_pid(&stage.join("traces"), target.pid()).interrupt();
    target.kill();
    let notes = report(&recording.file())["notes"].to_string();
    let why = "was not walked: something else in the program moves the end of the heap too (sbrk)";
    assert_eq!(notes.matches(why).count(), 1, "{notes}");
    assert_eq!(recording.stderr.matches(why).count(), 1, "{}", recording.stderr);
    assert!(arenas_of(&recording.file()).is_none());
}
