//! Code that a process makes while it runs: JavaScript in node, which tells perf the names of its functions.

use std::path::Path;

use super::{recorded, weighed};
use crate::stage::Stage;

/// Runs what follows without huge pages (`PR_SET_THP_DISABLE`).
const WITHOUT_HUGE_PAGES: &str =
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])";

/// The process is gone when its map is read.
#[test]
fn functions_of_a_program_that_makes_its_code_have_names() {
    let stage = Stage::enter("stacks-made");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/made.js");
    let source = source.to_str().unwrap();
    let node = ["node", "--perf-basic-prof", "--allow-natives-syntax", source];
    let command = [&["/usr/bin/python3", "-c", WITHOUT_HUGE_PAGES][..], &node].concat();
    let file = recorded(stage.path(), &command);
    let pid = file.file_name().unwrap().to_str().unwrap().split('.').nth(1).unwrap();
    let map = format!("/tmp/perf-{pid}.map");
    let told = std::fs::read_to_string(&map).unwrap();
    std::fs::remove_file(&map).unwrap();

    // As V8 names what its optimising compiler made.
    let is_made = |name: &str| name.contains(":*touchPages ");
    assert!(told.lines().any(is_made), "{told}");
    let (profile, faults) = weighed(&file, "faults");
    assert_eq!(profile["events"], profile["events_with_stack"]);
    let made: Vec<_> = faults.into_iter().filter(|(frames, _)| is_made(frames.last().unwrap())).collect();
    assert_eq!(made.iter().map(|(_, count)| count).sum::<u64>(), 2010, "{made:#?}");
    for (frames, _) in made {
        assert!(frames.iter().any(|frame| frame == "main" || frame == "_start"), "{frames:?}");
    }
}
