//! Resident pages of files, clean and dirty, when a recording ends.
//!
//! *Oracle.* /proc/PID/smaps, read before and after: a recording between two that differ is done again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::objects::compiled;
use crate::programs::Target;
use crate::recorder::{BINARY, report, run_command};
use crate::stage::{Stage, wait_for};

const PAGES: u64 = 600;

/// Bytes of pages of files, clean and dirty, by the path of the mapping.
fn smaps(pid: u32) -> BTreeMap<String, (u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut files: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut path = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(key) = words[0].strip_suffix(':') else {
            path = words.get(5).filter(|name| name.starts_with('/')).map(|name| (*name).to_owned()).unwrap_or_default();
            continue;
        };
        if path.is_empty() {
            continue;
        }
        let (clean, dirty) = files.entry(path.clone()).or_default();
        let bytes = || words[1].parse::<u64>().unwrap() * 1024;
        match key {
            "Shared_Clean" | "Private_Clean" => *clean += bytes(),
            "Shared_Dirty" | "Private_Dirty" => *dirty += bytes(),
            // Copies of a file's pages are no file's pages any more. Each was written to.
            "Anonymous" => *dirty -= bytes(),
            _ => {}
        }
    }
    files
}

/// What a recording of the process says that ends now, and what smaps says.
fn looked_at(stage: &Stage, target: &Target, times: &mut u32) -> (Value, BTreeMap<String, (u64, u64)>) {
    wait_for("a recording in which no page changes", || {
        *times += 1;
        let directory = stage.directory(&format!("traces-{times}"));
        let before = smaps(target.pid());
        let mut recorder = Command::new(BINARY);
        recorder.args(["-q", "-d", "1ms", "--pid", &target.pid().to_string(), "-o"]).arg(&directory);
        let ran = run_command(&mut recorder);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let file = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
        (smaps(target.pid()) == before).then(|| (report(&file), before))
    })
}

#[test]
fn pages_of_files_are_clean_or_dirty_as_smaps_says() {
    let stage = Stage::enter("file-pages");
    let program = compiled("cc", &["-Wall", "-Wextra"], "dirty.c", "dirty");
    // On a disk, and not where files are only in memory.
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = file.path().to_str().unwrap();
    let mut target = Target::run(Command::new(program).arg(path).arg(PAGES.to_string())).ready();
    let mut times = 0;
    let mut dirty = Vec::new();
    for act in 0..3 {
        if act > 0 {
            target.act();
        }
        let (report, expected) = looked_at(&stage, &target, &mut times);
        let pages = &report["file_pages"];
        let sum = |of: fn(&(u64, u64)) -> u64| expected.values().map(of).sum::<u64>();
        assert_eq!(pages["clean_bytes"], sum(|file| file.0), "{act}: {pages} {expected:?}");
        assert_eq!(pages["dirty_bytes"], sum(|file| file.1), "{act}: {pages} {expected:?}");
        let told: BTreeMap<String, (u64, u64)> = pages["dirty_files"].as_array().unwrap().iter().map(line).collect();
        let expected: BTreeMap<_, _> = expected.into_iter().filter(|(_, (_, dirty))| *dirty > 0).collect();
        assert_eq!(told, expected, "{act}");
        dirty.push(expected.get(path).map_or(0, |(_, dirty)| *dirty));
    }
    // Whole folios are dirty, which may be larger than what was written.
    assert!(dirty[0] == 0 && dirty[1] > PAGES / 3 * 4096 && dirty[2] == 0, "{dirty:?}");
    target.finish();
    assert!(Path::new(path).exists());
}

fn line(file: &Value) -> (String, (u64, u64)) {
    let bytes = |key: &str| file[key].as_u64().unwrap();
    (file["path"].as_str().unwrap().to_owned(), (bytes("clean_bytes"), bytes("dirty_bytes")))
}
