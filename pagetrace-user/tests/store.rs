//! Where traces lie and how they are opened: real directories, real locks, a real full disk.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use pagetrace_user::event::{Body, Event, Header, Trailer};
use pagetrace_user::failure::{Code, Failure};
use pagetrace_user::format::{Encoder, Trace};
use pagetrace_user::input::{self, Input};
use pagetrace_user::store::{Owner, Store};
use pagetrace_user::units::{Comm, Nanos, Pid, Tid};
use tempfile::TempDir;

const AT: u64 = 1_795_400_100;
const NAME: &str = "sh.7.20261123T021500Z.pgt";

fn open(directory: &Path) -> Result<Store, Failure> {
    Store::open_for(None, directory, None, false)
}

fn create(store: &Store) -> Result<pagetrace_user::store::TraceFile, Failure> {
    store.create(Comm::of("sh"), Pid(7), AT)
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A failure says what, why and how to mend it.
fn check_failure<T>(result: Result<T, Failure>, code: Code, why: &str) -> Failure {
    let Err(failure) = result else { panic!("no failure: {why}") };
    assert_eq!(failure.code, code, "{failure}");
    assert!(failure.why.contains(why), "{failure}");
    assert!(!failure.what.is_empty() && !failure.fix.is_empty(), "{failure}");
    failure
}

#[test]
fn a_recording_is_a_part_until_it_is_finished() {
    let temp = TempDir::new().unwrap();
    let directory = temp.path().join("a/b");
    let store = open(&directory).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);
    let pid = fs::read_to_string(store.pid_file()).unwrap();
    assert_eq!(pid, format!("{}\n", std::process::id()));

    let mut file = create(&store).unwrap();
    file.append(b"one").unwrap();
    file.append(b"two").unwrap();
    file.sync().unwrap();
    assert_eq!(file.length(), 6);
    assert_eq!(file.path(), directory.join(format!("{NAME}.part")));
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o7777, 0o600);
    let path = file.finish().unwrap();
    assert_eq!(path, directory.join(NAME));
    assert_eq!(fs::read(&path).unwrap(), b"onetwo");
    store.close();
    assert_eq!(names(&directory), [NAME]);
}

#[test]
fn nothing_is_left_of_a_store_without_recordings() {
    let temp = TempDir::new().unwrap();
    let store = open(&temp.path().join("a/b")).unwrap();
    create(&store).unwrap().discard();
    drop(store);
    assert!(names(temp.path()).is_empty());

    // What was there before stays.
    open(temp.path()).unwrap().close();
    assert!(temp.path().is_dir());
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let temp = TempDir::new().unwrap();
    fs::write(temp.path().join(NAME), "old").unwrap();
    let store = open(temp.path()).unwrap();
    let first = create(&store).unwrap();
    let second = create(&store).unwrap();
    // Somebody takes the name of the second while it is recorded.
    fs::write(temp.path().join("sh.7.20261123T021500Z.2.pgt"), "other").unwrap();
    let ends = [first.finish().unwrap(), second.finish().unwrap()];
    assert_eq!(ends[0], temp.path().join("sh.7.20261123T021500Z.1.pgt"));
    assert_eq!(ends[1], temp.path().join("sh.7.20261123T021500Z.3.pgt"));
    assert_eq!(fs::read(temp.path().join(NAME)).unwrap(), b"old");
    assert_eq!(fs::read(temp.path().join("sh.7.20261123T021500Z.2.pgt")).unwrap(), b"other");
}

#[test]
fn force_replaces_what_was_there_but_not_its_own() {
    let temp = TempDir::new().unwrap();
    fs::write(temp.path().join(NAME), "old").unwrap();
    let store = Store::open_for(None, temp.path(), None, true).unwrap();
    let mut first = create(&store).unwrap();
    first.append(b"new").unwrap();
    assert_eq!(fs::read(temp.path().join(NAME)).unwrap(), b"old", "until the new one is whole");
    assert_eq!(first.finish().unwrap(), temp.path().join(NAME));
    assert_eq!(fs::read(temp.path().join(NAME)).unwrap(), b"new");
    assert_eq!(create(&store).unwrap().finish().unwrap(), temp.path().join("sh.7.20261123T021500Z.1.pgt"));
}

#[test]
fn a_planted_link_is_never_written_through() {
    let temp = TempDir::new().unwrap();
    let victim = temp.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let directory = temp.path().join("out");
    fs::create_dir(&directory).unwrap();
    symlink(&victim, directory.join(format!("{NAME}.part"))).unwrap();
    symlink(&victim, directory.join("trace.pid")).unwrap();
    check_failure(open(&directory), Code::Failed, "symbolic link");
    fs::remove_file(directory.join("trace.pid")).unwrap();
    fs::hard_link(&victim, directory.join("trace.pid")).unwrap();
    check_failure(open(&directory), Code::Failed, "not a pid file");
    fs::remove_file(directory.join("trace.pid")).unwrap();
    let store = open(&directory).unwrap();
    create(&store).unwrap().append(b"x").unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_part_that_was_left_is_kept() {
    let temp = TempDir::new().unwrap();
    let store = open(temp.path()).unwrap();
    let mut file = create(&store).unwrap();
    file.append(b"left").unwrap();
    let left = file.path();
    file.keep_part();
    let next = create(&store).unwrap();
    assert_ne!(next.path(), left);
    assert_eq!(fs::read(left).unwrap(), b"left");
    // There is nothing in this one.
    let empty = next.path();
    next.keep_part();
    assert!(!empty.exists());
}

#[test]
fn a_second_recorder_has_a_pid_file_of_its_own() {
    let temp = TempDir::new().unwrap();
    let first = open(temp.path()).unwrap();
    let second = open(temp.path()).unwrap();
    let own = format!("trace.{}.pid", std::process::id());
    assert_eq!(first.pid_file(), temp.path().join("trace.pid"));
    assert_eq!(second.pid_file(), temp.path().join(&own));
    check_failure(open(temp.path()), Code::Failed, "live recorder");
    first.close();
    assert_eq!(names(temp.path()), [own]);
    second.close();
    assert!(names(temp.path()).is_empty());
}

#[test]
fn pid_files_of_the_dead_are_taken_over() {
    let temp = TempDir::new().unwrap();
    fs::write(temp.path().join("trace.pid"), "99999999 and more that is longer\n").unwrap();
    fs::write(temp.path().join("trace.99999999.pid"), "99999999\n").unwrap();
    fs::write(temp.path().join("trace.mine.pid"), "not ours\n").unwrap();
    let store = open(temp.path()).unwrap();
    assert_eq!(fs::read_to_string(store.pid_file()).unwrap(), format!("{}\n", std::process::id()));
    assert_eq!(names(temp.path()), ["trace.mine.pid", "trace.pid"]);
}

#[test]
fn directories_that_will_not_do_are_refused() {
    let temp = TempDir::new().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("file"), "").unwrap();
    check_failure(open(&at("file")), Code::Failed, "not a directory");
    check_failure(open(&at("file/below")), Code::Failed, "not a directory");
    fs::create_dir(at("real")).unwrap();
    symlink(at("real"), at("link")).unwrap();
    for path in ["link", "link/", "link/."] {
        let failure = check_failure(open(&at(path)), Code::Failed, "symbolic link");
        assert!(failure.fix.ends_with("/real"), "{failure}");
    }
    fs::DirBuilder::new().mode(0o700).create(at("open")).unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
    check_failure(open(&at("open")), Code::Failed, "every user");
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    open(&at("open")).unwrap();
    assert_eq!(names(temp.path()), ["file", "link", "open", "real"]);
    assert!(names(&at("real")).is_empty());
}

#[test]
fn prefixes_stand_before_the_name() {
    let temp = TempDir::new().unwrap();
    let store = Store::open_for(None, temp.path(), Some("run-1"), false).unwrap();
    assert_eq!(create(&store).unwrap().finish().unwrap(), temp.path().join(format!("run-1.{NAME}")));
    for prefix in ["", "../x", "a/b", ".hidden", "-o", "a\n"] {
        check_failure(Store::open_for(None, temp.path(), Some(prefix), false), Code::Usage, "file name");
    }
}

/// Needs root, as recording does; without it there is nobody to give to.
#[test]
fn what_sudo_makes_belongs_to_the_caller() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let temp = TempDir::new().unwrap();
    let owner = Some(Owner { uid: 1234, gid: 2345 });
    let directory = temp.path().join("made");
    let store = Store::open_for(owner, &directory, None, false).unwrap();
    let path = create(&store).unwrap().finish().unwrap();
    for path in [&path, &directory] {
        let meta = fs::metadata(path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345));
    }
    // The same directory is good the next time, for the same user only.
    store.close();
    Store::open_for(owner, &directory, None, false).unwrap().close();
    check_failure(open(&directory), Code::Failed, "another user");
}

/// A file system of `size` bytes, unmounted at the end. `None` for a user who may not mount.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn of(size: &str) -> Option<Tmpfs> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let temp = TempDir::new().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]).arg(temp.path());
        assert!(mount.status().unwrap().success());
        Some(Tmpfs(temp))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        assert!(std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status().unwrap().success());
    }
}

#[test]
fn a_full_disk_costs_no_whole_block() {
    let Some(disk) = Tmpfs::of("64k") else { return };
    let store = open(disk.0.path()).unwrap();
    let mut file = create(&store).unwrap();
    let block = [7u8; 5000];
    let mut whole = 0;
    let error = loop {
        match file.append(&block) {
            Ok(()) => whole += block.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(whole > 40_000, "{whole}");
    assert_eq!((file.length(), fs::metadata(file.path()).unwrap().len()), (whole, whole));
    assert!(file.append(b"x").is_err(), "nothing after a gap");
    let path = file.finish().unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), whole);
}

#[test]
fn a_disk_too_full_for_a_pid_file_is_an_error_and_leaves_nothing() {
    let Some(disk) = Tmpfs::of("16k") else { return };
    let mut filler = fs::File::create(disk.0.path().join("filler")).unwrap();
    while filler.write_all(&[0; 1024]).is_ok() {}
    let failure = check_failure(open(disk.0.path()), Code::Failed, "No space left");
    assert!(failure.what.contains("trace.pid"), "{failure}");
    check_failure(open(&disk.0.path().join("made")), Code::Failed, "No space left");
    assert_eq!(names(disk.0.path()), ["filler"]);
}

fn trace() -> Vec<u8> {
    let mut encoder = Encoder::new(&Header { tgid: 7, ..Header::default() });
    encoder.push(&Event { ts: Nanos(1), cpu: 0, tid: Tid(7), actor: None, body: Body::MmGone });
    encoder.finish(&Trailer::default()).to_vec()
}

#[test]
fn a_trace_is_opened_by_its_path() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("x.pgt");
    fs::write(&path, trace()).unwrap();
    let mut input = input::open(&path).unwrap();
    assert_eq!(input.header().tgid, 7);
    assert!(input.next_event().unwrap().is_some());
    assert!(input.next_event().unwrap().is_none());
    assert!(input.outcome().is_whole());
}

/// Surely one by its first two words, or by the first and the name.
#[test]
fn a_go_trace_is_told_by_its_form() {
    let temp = TempDir::new().unwrap();
    let p = (-1i64 << 3 | 4).to_le_bytes();
    let time = (123_456i64 << 3).to_le_bytes();
    let alloc = 0xc000_0000_0009_u64.to_le_bytes();
    for (name, words, is_go) in [
        ("x", &[p, time, alloc][..], true),
        ("x.pt", &[p, time], true),
        ("x", &[p, alloc], false),
        ("x.pt", &[p, alloc], true),
        ("x.pt", &[alloc, p], false),
        ("x.pt", &[(1i64 << 20 << 3 | 4).to_le_bytes()], false),
    ] {
        let path = temp.path().join(name);
        fs::write(&path, words.concat()).unwrap();
        let input = input::open(&path);
        assert_eq!(matches!(input, Ok(Input::Go(_))), is_go, "{name} {words:?}");
        if !is_go {
            check_failure(input, Code::Damaged, "not a pagetrace file");
        }
    }
    let path = temp.path().join("y.pt");
    fs::write(&path, trace()).unwrap();
    assert!(matches!(input::open(&path), Ok(Input::Pagetrace(_))), "what it is goes before its name");
}

#[test]
fn what_cannot_be_read_is_named() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("x");
    check_failure(input::open(&path), Code::Failed, "No such file");
    check_failure(input::open(temp.path()), Code::Failed, "directory");
    let mut newer = trace();
    newer[8] = 9;
    let crc = crc32c::crc32c(&newer[..12]);
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    for (content, why) in [
        (&b""[..], "it is empty"),
        (b"hello, world", "not a pagetrace file"),
        (b"PERFILE2h\0\0\0", "perf"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "ELF"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (&newer, "version 9"),
        (&trace()[..10], "header is damaged"),
        (&trace()[..100], "header is damaged"),
    ] {
        fs::write(&path, content).unwrap();
        check_failure(input::open(&path), Code::Damaged, why);
    }
}
