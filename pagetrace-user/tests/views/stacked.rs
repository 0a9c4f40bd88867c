//! Views of stacks, over a trace made by hand.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use pagetrace_user::diff::Diff;
use pagetrace_user::dump::Filter;
use pagetrace_user::event::{Access, Body, Call, Event, FileId, Function, Place, StackId, StackOf, Start};
use pagetrace_user::export::{Form, export};
use pagetrace_user::format::{Reader, Trace};
use pagetrace_user::naming::Named;
use pagetrace_user::stacks::{Of, Profile, weigh};
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::image::Image;
use pagetrace_user::units::{Bytes, Nanos, Pid};

use crate::fixture::{self, Script, frame, pages};

const BIG: u64 = 0x7e00_0000_0000;

fn place(offset: u64) -> Place {
    Place::File { file: FileId(1), offset }
}

fn named(functions: &[(&str, u32)]) -> Vec<Function> {
    let function = |(name, line): &(&str, u32)| Function {
        name: (*name).to_owned(),
        file: if *line == 0 { String::new() } else { "src/cache.c".to_owned() },
        line: *line,
    };
    functions.iter().map(function).collect()
}

fn fault(addr: u64) -> Body {
    Body::Fault { addr, ip: 0x7f00_0000_1000, access: Access::Write, kernel: false }
}

/// `main` maps four pages by way of `grow`, `fill` (inlined into `put`) touches them, `trim` gives two back, and they come
/// back: one by `put`, one by khugepaged. The fault of the last page touched at first has no stack of its own.
pub fn trace() -> Vec<Event> {
    let mut script = Script::default();
    let node = |parent: Option<u32>, place: Place| Body::StackNode { parent: parent.map(StackId), place };
    let stack = |of: StackOf, id: u32| Body::Stack { of, id: StackId(id) };
    script.main(Body::Start { how: Start::Executed, parent: Pid(1) });
    script.own(Body::MapFile { id: FileId(1), path: "/usr/bin/cache".to_owned(), whole: true, dev: 1, ino: 2 });
    for (parent, place) in [
        (None, place(0x100)),
        (Some(0), place(0x200)),
        (Some(0), place(0x300)),
        (Some(0), place(0x400)),
        (None, Place::Cut),
        (Some(4), Place::Address(0xabc0)),
        (Some(2), Place::Kernel(0x500)),
    ] {
        script.own(node(parent, place));
    }
    let (began, call) = (script.began(), Call::Mmap);
    let range = pages(BIG, 5);
    script.main(Body::Map { range, prot: 3, flags: 0x22, file: None, offset: Bytes(0), call, began });
    script.main(stack(StackOf::Call, 1));
    for at in 0..4 {
        script.main(fault(BIG + at * 4096));
        if at < 3 {
            // Of the third, the kernel's part is told too.
            script.main(stack(StackOf::Fault, if at == 2 { 6 } else { 2 }));
        }
        script.main(frame(BIG + at * 4096, 0x1000 + at, 0, at + 1));
    }
    // A thread whose stack is cut touches the fifth.
    script.worker(fault(BIG + 4 * 4096));
    script.worker(stack(StackOf::Fault, 5));
    script.worker(frame(BIG + 4 * 4096, 0x1004, 0, 5));
    let (began, call) = (script.began(), Call::Madvise);
    script.main(Body::Advise { range: pages(BIG, 2), advice: 4, call, began });
    script.main(stack(StackOf::Call, 3));
    for at in 0..2 {
        script.main(Body::Free { pfn: pagetrace_user::units::Pfn(0x1000 + at), order: 0 });
    }
    script.main(fault(BIG));
    script.main(stack(StackOf::Fault, 2));
    script.main(frame(BIG, 0x1000, 0, 4));
    script.other("khugepaged", 40, frame(BIG + 4096, 0x1001, 0, 5));
    script.own(Body::BuildId { file: FileId(1), id: vec![0xab, 0xcd], linked: Some(0x40_0000) });
    script.own(Body::Symbol { place: Place::Kernel(0x500), functions: named(&[("exc_page_fault", 0)]) });
    for (offset, functions) in
        [(0x100, named(&[("main", 80)])), (0x200, named(&[("grow", 12)])), (0x300, named(&[("fill", 30), ("put", 41)]))]
    {
        script.own(Body::Symbol { place: place(offset), functions });
    }
    script.events
}

fn weighed(of: Of) -> Profile {
    weigh(&mut Reader::new(fixture::whole(&trace()).as_slice()).unwrap(), of, None).unwrap().1
}

#[test]
fn dump_of_stacks() {
    let filter = Filter { layers: vec![pagetrace_user::event::Layer::Stack], kinds: Vec::new() };
    insta::assert_snapshot!(crate::dumped(&fixture::whole(&trace()), &filter, true).0);
    insta::assert_snapshot!(crate::dumped(&fixture::whole(&trace()), &filter, false).0);
}

#[test]
fn every_resident_page_stands_under_one_stack() {
    for of in [Of::Resident, Of::Mapped, Of::Both] {
        assert_eq!(weighed(of).total, 5 * 4096, "{of:?}");
    }
    assert_eq!((weighed(Of::Returned).total, weighed(Of::Faults).total), (2 * 4096, 6));
    let texts: Vec<String> = Of::ALL.iter().map(|(_, of)| weighed(*of).text(10)).collect();
    insta::assert_snapshot!(texts.join("\n"));
    let folded: Vec<String> = Of::ALL.iter().map(|(word, of)| format!("{word}\n{}", weighed(*of).folded())).collect();
    insta::assert_snapshot!(folded.join("\n"));
}

/// What is resident at a time before the end, and just before the process's own end.
#[test]
fn stacks_are_weighed_at_a_moment() {
    let events = trace();
    let bytes = fixture::whole(&events);
    let at = |ts: Nanos| weigh(&mut Reader::new(bytes.as_slice()).unwrap(), Of::Resident, Some(ts)).unwrap().1.total;
    let advised = events.iter().find(|event| matches!(event.body, Body::Advise { .. })).unwrap().ts;
    let advised = advised.since(events[0].ts);
    assert_eq!((at(Nanos(advised.0 - 1)), at(advised), at(Nanos(u64::MAX))), (5 * 4096, 3 * 4096, 5 * 4096));
    let mut ended = events;
    let last = ended.last().unwrap().clone();
    for body in [Body::Exit { code: 0, signal: 0 }, Body::MmGone] {
        ended.push(Event { body, ..last.clone() });
    }
    let bytes = fixture::whole(&ended);
    let profile = weigh(&mut Reader::new(bytes.as_slice()).unwrap(), Of::Both, None).unwrap().1;
    assert_eq!((profile.total, profile.samples), (5 * 4096, weighed(Of::Both).samples));
}

#[test]
fn stacks_as_files_of_other_tools() {
    let bytes = fixture::whole(&trace());
    let written = |form: Form| {
        let mut out = Vec::new();
        let done = export(&mut Reader::new(bytes.as_slice()).unwrap(), form, Of::Resident, &mut out).unwrap();
        assert_eq!(done.stacks, 4, "{form:?}");
        out
    };
    assert_eq!(String::from_utf8(written(Form::Folded)).unwrap(), weighed(Of::Resident).folded());
    let flame = String::from_utf8(written(Form::Flame)).unwrap();
    assert!(flame.contains("<title>fill (12,288 bytes, 60.00%)</title>"), "{flame}");
    assert!(flame.contains("<title>exc_page_fault (8,192 bytes, 40.00%)</title>"), "{flame}");
    let speedscope: serde_json::Value = serde_json::from_slice(&written(Form::Speedscope)).unwrap();
    assert_eq!(speedscope["profiles"][0]["endValue"], 5 * 4096);
    let mut profile = Vec::new();
    GzDecoder::new(written(Form::Pprof).as_slice()).read_to_end(&mut profile).unwrap();
    let text = String::from_utf8_lossy(&profile);
    assert!(
        ["resident", "bytes", "khugepaged", "/usr/bin/cache", "abcd", "src/cache.c", "[kernel.kallsyms]"]
            .iter()
            .all(|word| text.contains(word))
    );
}

/// Two moments of one trace: what was given back in between, and what came.
#[test]
fn what_changed_between_two_moments() {
    let events = trace();
    let bytes = fixture::whole(&events);
    let at = |event: &Event| Some(event.ts.since(events[0].ts));
    let weighed = |at: Option<Nanos>| weigh(&mut Reader::new(bytes.as_slice()).unwrap(), Of::Resident, at).unwrap().1;
    let first = events.iter().find(|event| matches!(event.body, Body::Frame { .. })).unwrap();
    let advised = events.iter().find(|event| matches!(event.body, Body::Advise { .. })).unwrap();
    let (early, late, end) = (weighed(at(first)), weighed(at(advised)), weighed(None));
    assert_eq!((early.total, late.total, end.total), (4096, 3 * 4096, 5 * 4096));
    let diff = Diff::new(&early, &end);
    assert_eq!((diff.before, diff.after, diff.change), (4096, 5 * 4096, 4 * 4096));
    let told: Vec<(i64, &str)> =
        diff.changes.iter().map(|change| (change.change, change.frames.last().unwrap().name.as_str())).collect();
    assert_eq!(told, [(2 * 4096, "exc_page_fault"), (4096, "0xabc0"), (4096, "[khugepaged]")]);
    assert!(Diff::new(&end, &end).changes.is_empty());
    let back = Diff::new(&end, &late);
    assert_eq!((back.change, back.changes[0].change), (-2 * 4096, -4096));
    insta::assert_snapshot!(diff.text(2) + "\n" + &back.text(1));
}

/// This program's own file names what a trace of it could not.
#[test]
fn names_from_files_that_were_kept() {
    let program = std::env::current_exe().unwrap();
    let elf = Elf::parse(Image::open(&program).unwrap()).unwrap();
    let main = elf.functions(&["main"]).unwrap()[0].unwrap().entry;
    let (segment, offset) = (elf.segment_of(main).unwrap(), elf.file_offset(main).unwrap().0);
    let (id, linked) = (elf.build_id().unwrap(), Some(segment.address.0.wrapping_sub(segment.file.start)));
    let named = |linked: Option<u64>, directory: Option<&Path>| {
        let mut script = Script::default();
        script.main(Body::Start { how: Start::Executed, parent: Pid(1) });
        script.own(Body::MapFile { id: FileId(1), path: "/usr/bin/cache".to_owned(), whole: true, dev: 1, ino: 2 });
        script.own(Body::StackNode { parent: None, place: place(offset) });
        script.own(Body::BuildId { file: FileId(1), id: id.clone(), linked });
        let bytes = fixture::whole(&script.events);
        let mut trace = Named::new(Reader::new(bytes.as_slice()).unwrap(), directory);
        let mut names = Vec::new();
        while let Some(event) = trace.next_event().unwrap() {
            if let Body::Symbol { place: at, functions } = &event.body {
                assert_eq!(*at, place(offset));
                names.extend(functions.iter().map(|function| function.name.clone()));
            }
        }
        assert_eq!((trace.outcome().events, trace.outcome().is_whole()), (4, true));
        names
    };
    let (kept, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(kept.path().join("below")).unwrap();
    std::os::unix::fs::symlink(&program, kept.path().join("below/kept")).unwrap();
    std::os::unix::fs::symlink(kept.path(), kept.path().join("below/circle")).unwrap();
    std::os::unix::fs::symlink("/bin/true", other.path().join("cache")).unwrap();
    assert_eq!(named(linked, Some(kept.path())), ["main"]);
    assert_eq!(named(None, Some(kept.path())), ["main"], "the offset alone does where the file is whole");
    assert!(named(linked, Some(other.path())).is_empty() && named(linked, None).is_empty());
}
