//! What is given back and comes back, to the byte.

use std::process::Command;

use serde_json::Value;

use crate::accounts::{Loss, close};
use crate::programs::Target;
use crate::recorder::{BINARY, Recorder, Recording, run_command};
use crate::rss::tool;
use crate::stage::Stage;

const PAGE: u64 = 4096;

/// What `scav --json` says of the only file.
pub fn scav(recording: &Recording) -> Value {
    let ran = run_command(Command::new(BINARY).args(["scav", "--json"]).arg(recording.file()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn what_is_touched_again() {
    const PROGRAM: &str = "
import mmap, sys
pages = 4096
memory = mmap.mmap(-1, 2 * pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
def touch(count):
    for page in range(count):
        memory[page * mmap.PAGESIZE] = 1
print('ready', flush=True)
sys.stdin.readline()
touch(pages)
memory.madvise(mmap.MADV_DONTNEED)
touch(pages // 2)
memory.madvise(mmap.MADV_DONTNEED)
memory.madvise(mmap.MADV_DONTNEED)
# The last hundred come for the first time.
touch(pages + 100)
# Never resident: nothing is given back.
memory.madvise(mmap.MADV_DONTNEED, (pages + 100) * mmap.PAGESIZE, mmap.PAGESIZE)
print('done', flush=True)
sys.stdin.readline()
";
    let stage = Stage::enter("scav");
    let mut target = Target::run(Command::new(tool("python3", "python3")).args(["-c", PROGRAM])).ready();
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    target.act();
    target.freeze();
    let recording = recorder.interrupt();
    close(&recording, Loss::Nothing);
    let scav = scav(&recording);
    // A page counts each time that it was there: all have come back at the end.
    let (given, back) = ((4096 + 2048) * PAGE, (2048 + 4096) * PAGE);
    let figures = |key: &str| scav[key].as_u64();
    assert_eq!(figures("calls"), Some(4), "{scav:#}");
    assert_eq!(figures("asked_bytes"), Some((3 * 8192 + 1) * PAGE), "{scav:#}");
    assert_eq!(figures("given_bytes"), Some(given), "{scav:#}");
    assert_eq!(figures("came_back_bytes"), Some(back), "{scav:#}");
    assert_eq!(figures("faults"), Some(back / PAGE), "a fault a page: {scav:#}");
    assert_eq!(scav["by"], serde_json::json!({ "itself": back }), "{scav:#}");
    let after = scav["after"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap());
    assert_eq!(after.sum::<u64>(), back, "{scav:#}");
}
