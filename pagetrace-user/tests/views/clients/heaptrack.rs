//! The objects of a trace, opened by `heaptrack_print`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pagetrace_user::event::{
    Body, Event, FileId, Function, LibraryId, Object, ObjectAct, ObjectCall, Place, StackId, StackOf, Start, Who,
};
use pagetrace_user::export::Form;
use pagetrace_user::format::{Encoder, Reader};
use pagetrace_user::leaks::Leaks;
use pagetrace_user::replay::{Estimate, fold};
use pagetrace_user::stacks::Of;
use pagetrace_user::units::{Bytes, Comm, Nanos, Pid};

use super::{exported_file, printed};
use crate::fixture::{self, Script, frame};

const HEAP: u64 = 0x5555_5555_0000;
const PERIOD: u64 = 512 << 10;

/// A trace of a recording with objects.
pub fn trace(events: &[Event], period: u64) -> Vec<u8> {
    let mut header = fixture::header();
    header.object_period_bytes = Some(period);
    header.cmdline.push("two\nlines".to_owned());
    let mut encoder = Encoder::new(&header);
    for event in events {
        encoder.push(event);
    }
    let mut bytes = encoder.flush().to_vec();
    bytes.extend_from_slice(&encoder.finish(&fixture::trailer(events)));
    bytes
}

fn object(act: ObjectAct, at: u64, bytes: u64, moves: bool) -> Body {
    let who = Who { call: ObjectCall::Malloc, library: LibraryId(0) };
    Body::Object(Object { act, addr: HEAP + at, bytes: Bytes(bytes), who, moves })
}

/// `main` asks by way of `grow` and of `put` (with `fill` inlined), a second thread between its calls and their stacks.
pub fn program() -> Script {
    let mut s = Script::default();
    s.own(Body::Start { how: Start::Executed, parent: Pid(1) });
    s.own(Body::MapFile { id: FileId(1), path: "/usr/bin/cache".to_owned(), whole: true, dev: 1, ino: 2 });
    s.own(Body::Library {
        id: LibraryId(0),
        whole: true,
        name: "glibc 2.36".to_owned(),
        path: "/libc.so.6".to_owned(),
    });
    let place = |offset: u64| Place::File { file: FileId(1), offset };
    for (parent, offset) in [(None, 0x100), (Some(0), 0x200), (Some(0), 0x300)] {
        s.own(Body::StackNode { parent: parent.map(StackId), place: place(offset) });
    }
    let here = |id: u32| Body::Stack { of: StackOf::Object, id: StackId(id) };
    s.main(object(ObjectAct::Alloc, 0, 1000, false));
    s.main(here(1));
    s.main(frame(0x7e00_0000_0000, 0x1000, 0, 7));
    s.worker(object(ObjectAct::Alloc, 0x1000, 64, false));
    s.main(object(ObjectAct::Alloc, 0x2000, 200, false));
    s.worker(here(2));
    s.main(here(1));
    // Moved, and then not moved.
    s.main(object(ObjectAct::Free, 0, 0, true));
    s.main(object(ObjectAct::Alloc, 0x3000, 3000, true));
    s.main(here(2));
    s.main(object(ObjectAct::Free, 0x3000, 0, true));
    s.main(object(ObjectAct::Kept, 0x3000, 0, false));
    s.main(object(ObjectAct::Free, 0x2000, 0, false));
    // Of before the recording; and one without a stack.
    s.worker(object(ObjectAct::Free, 0x9000, 0, false));
    s.main(object(ObjectAct::Alloc, 0x4000, 96, false));
    s.main(frame(0x7e00_0000_1000, 0x1001, 0, 5));
    for (offset, functions) in
        [(0x100, &[("main", 80)][..]), (0x200, &[("gr\now\"", 12)]), (0x300, &[("fill", 30), ("put", 41)])]
    {
        let function = |(name, line): &(&str, u32)| Function {
            name: (*name).to_owned(),
            file: "src/cache.c".to_owned(),
            line: *line,
        };
        s.own(Body::Symbol { place: place(offset), functions: functions.iter().map(function).collect() });
    }
    s
}

/// What `heaptrack_print` sums up by stack: calls, bytes at the peak, or bytes that stay.
fn by_stack(file: &Path, of: &str) -> BTreeMap<String, u64> {
    let stacks = file.with_file_name("stacks");
    let words = ["--flamegraph-cost-type", of, "-F", stacks.to_str().unwrap()];
    printed("heaptrack_print", &words, file);
    fs::read_to_string(stacks).unwrap().lines().fold(BTreeMap::new(), |mut sums, line| {
        let (stack, weight) = line.rsplit_once(' ').unwrap();
        *sums.entry(stack.to_owned()).or_default() += weight.parse::<u64>().unwrap();
        sums
    })
}

fn total(sums: &BTreeMap<String, u64>) -> u64 {
    sums.values().sum()
}

#[test]
fn heaptrack_sees_the_calls_the_peak_and_what_stays() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = trace(&program().events, 0);
    for (name, form) in [("heaptrack.x.1.gz", Form::HeaptrackGzip), ("heaptrack.x.1.zst", Form::HeaptrackZstd)] {
        let path = dir.path().join(name);
        assert_eq!(Form::of(&path), Some(form));
        let (written, done) = exported_file(&bytes, form, Of::Resident);
        assert_eq!((done.events, done.unfit, done.period_bytes), (10, 0, None));
        fs::write(&path, written).unwrap();

        let text = printed("heaptrack_print", &["--print-leaks=1"], &path);
        for line in [
            "Debuggee command was: redis-server *:6379 two\\nlines\n",
            "calls to allocation functions: 5 ",
            "temporary memory allocations: 0 ",
            "peak heap memory consumption: 3.26K",
            "total memory leaked: 3.16K",
            "peak RSS (including heaptrack overhead): 28.67K",
            "src/cache.c:41",
            "gr\\now\"",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }

        let sums = |of: &str| by_stack(&path, of);
        let leaks: Vec<u64> = sums("leaked").into_values().collect();
        assert_eq!((total(&sums("allocations")), total(&sums("peak")), total(&sums("leaked"))), (5, 3264, 3160));
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        let (state, _) = fold(&mut reader).unwrap();
        let ours = Leaks::new(reader.header(), &state, Nanos(0));
        assert_eq!((ours.bytes, ours.objects), (total(&sums("leaked")), 3));
        let mut sites: Vec<u64> = ours.sites.iter().map(|site| site.bytes).collect();
        sites.sort_unstable();
        let mut theirs: Vec<u64> = leaks.into_iter().filter(|bytes| *bytes > 0).collect();
        theirs.sort_unstable();
        assert_eq!(theirs, sites);
    }
}

/// What a program had is gone with its exec; what an object had whose end nobody saw, with the next one in its place.
#[test]
fn what_is_gone_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heaptrack.x.1.gz");
    let mut script = program();
    script.main(Body::Exec { comm: Comm::of("next"), exe: "/next".to_owned() });
    script.main(object(ObjectAct::Alloc, 0, 10, false));
    script.main(object(ObjectAct::Alloc, 0, 7, false));
    let bytes = trace(&script.events, 0);
    fs::write(&path, exported_file(&bytes, Form::HeaptrackGzip, Of::Resident).0).unwrap();
    assert_eq!((total(&by_stack(&path, "allocations")), total(&by_stack(&path, "leaked"))), (7, 7));
}

#[test]
fn samples_are_told_as_what_they_stand_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heaptrack.x.1.zst");
    let bytes = trace(&program().events, PERIOD);
    let (written, done) = exported_file(&bytes, Form::HeaptrackZstd, Of::Resident);
    assert_eq!(done.period_bytes, Some(PERIOD));
    fs::write(&path, written).unwrap();
    let text = printed("heaptrack_print", &[], &path);
    assert!(text.contains("[SAMPLES, one in 512.0 KiB on average: bytes are estimates"), "{text}");
    let expected: u64 = [64, 3000, 96]
        .iter()
        .map(|bytes| {
            let mut estimate = Estimate::default();
            estimate.add(Bytes(*bytes), PERIOD);
            estimate.bytes.round() as u64
        })
        .sum();
    assert!(expected > 3 * PERIOD);
    assert_eq!(total(&by_stack(&path, "leaked")), expected);
}
