//! What a file tells beside the bare calls: image info, and the process's own life.
//! (Every kind of call, odd, failing and huge ones included, is in `acts.c`, and so in the exact counts.)

use crate::accounts::{Loss, close};
use crate::procfs::mappings;
use crate::programs::{Target, program, range_said};
use crate::recorder::Recorder;
use crate::stage::Stage;
use crate::trace::Line;

#[test]
fn file_mappings_name_their_file() {
    let stage = Stage::enter("calls");
    // The loader of a new program maps libraries; the program stays, so that nobody is too late for their paths.
    let mut target = Target::start("touch", ["morph"]).ready();
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    target.act();
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Nothing);
    let trace = &traces[0];

    let (range, path) =
        mappings(target.pid()).into_iter().find(|(_, name)| name.contains("/libc.so")).expect("the C library");
    let parts: Vec<&Line> =
        trace.of("vma", "alloc").filter(|line| line.path.as_deref() == Some(path.as_str())).collect();
    assert!(parts.first().is_some_and(|line| line.addr == Some(range.0) && line.offset == Some(0)), "{parts:?}");
    assert!(parts.iter().any(|line| line.offset.is_some_and(|offset| offset > 0)), "parts at their offsets: {parts:?}");
    // Image info stands before the first event that needs it.
    let info = trace.lines.iter().position(|line| line.is("vma", "mapfile") && line.path.as_deref() == Some(&path));
    let first = trace.lines.iter().position(|line| line.is("vma", "alloc") && line.path.as_deref() == Some(&path));
    assert!(info.expect("image info") < first.unwrap());
}

#[test]
fn a_program_is_recorded_from_its_first_instruction_to_its_end() {
    let stage = Stage::enter("calls");
    let program = program("family");
    let args = [std::ffi::OsStr::new("--"), program.as_os_str(), "blink".as_ref()];
    let recording = Recorder::start(&stage.join("traces"), args).ended();
    let traces = close(&recording, Loss::Nothing);
    let trace = &traces[0];
    assert_eq!(trace.lines[0].how.as_deref(), Some("executed"), "{:?}", trace.lines[0]);
    let first_fault = trace.of("page", "fault").next().expect("a fault");
    let first_call = trace.of("vma", "alloc").chain(trace.of("vma", "brk")).map(|line| line.ts).min().expect("a call");
    assert!(first_fault.ts < first_call, "the loader's first instructions fault before its first call");
    let own = trace.mapping_of(103).expect("the program's own mapping");
    assert_eq!(trace.faults_in(own).len(), 103);
    let exit = trace.of("task", "exit").next().expect("the end");
    assert_eq!(exit.signal, Some(0));
    assert_eq!(trace.header["comm"], "family");
    assert_eq!(recording.reason(), "exited");
}

#[test]
fn exec_gives_a_new_address_space_in_the_same_file() {
    let stage = Stage::enter("calls");
    let mut target = Target::start("touch", ["morph"]).ready();
    let mut recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    let range = range_said(&target.act());
    assert!(recorder.is_running(), "an exec is no end");
    target.freeze();
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Nothing);
    crate::rss::compare(&recording, target.pid());
    let trace = &traces[0];
    let exec = trace.of("task", "exec").next().expect("an exec");
    assert!(exec.exe.as_deref().unwrap().ends_with("/touch"), "{exec:?}");
    let faults = trace.faults_in(range);
    assert_eq!(faults.len(), 119, "{faults:?}");
    assert!(faults.iter().all(|fault| fault.ts > exec.ts));
}
