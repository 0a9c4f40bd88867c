//! Code that a process makes while it runs: JavaScript in node, which tells perf the names of its functions.

use std::path::Path;

use super::{recorded_waiting, recorder, weighed};
use crate::stage::Stage;

/// Runs what follows without huge pages (`PR_SET_THP_DISABLE`).
const WITHOUT_HUGE_PAGES: &str =
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])";

/// Where the process tells them.
fn map_of(file: &Path) -> String {
    format!("/tmp/perf-{}.map", file.file_name().unwrap().to_str().unwrap().split('.').nth(1).unwrap())
}

/// The process is gone when its map is read.
#[test]
fn functions_of_a_program_that_makes_its_code_have_names() {
    let stage = Stage::enter("stacks-made");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/made.js");
    let source = source.to_str().unwrap();
    // A log of its own that V8 may begin is not to stay in the sources.
    let log = format!("--logfile={}", stage.join("v8.log").display());
    let node = ["node", "--perf-basic-prof", "--allow-natives-syntax", &log, source];
    let command = [&["/usr/bin/python3", "-c", WITHOUT_HUGE_PAGES][..], &node].concat();
    // As V8 names what its optimising compiler made.
    let is_made = |name: &str| name.contains(":*touchPages ");
    let file = recorded_waiting(stage.path(), &mut recorder(stage.path(), &command), |nodes, file| {
        let map = std::fs::read_to_string(map_of(file)).unwrap_or_default();
        let number = |word: Option<&str>| u64::from_str_radix(word.unwrap(), 16).unwrap();
        map.lines().filter(|line| is_made(line)).any(|line| {
            let mut words = line.split(' ');
            let (start, bytes) = (number(words.next()), number(words.next()));
            let addresses = nodes.split_whitespace().filter_map(|word| word.strip_prefix("addr=0x"));
            addresses.map(|address| number(Some(address))).any(|address| (start..start + bytes).contains(&address))
        })
    });
    std::fs::remove_file(map_of(&file)).unwrap();

    let (profile, faults) = weighed(&file, "faults");
    assert_eq!(profile["events"], profile["events_with_stack"]);
    let made: Vec<_> = faults.into_iter().filter(|(frames, _)| is_made(frames.last().unwrap())).collect();
    assert_eq!(made.iter().map(|(_, count)| count).sum::<u64>(), 2010, "{made:#?}");
    for (frames, _) in made {
        assert!(frames.iter().any(|frame| frame == "main" || frame == "_start"), "{frames:?}");
    }
}
