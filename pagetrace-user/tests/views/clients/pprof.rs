//! Profiles of pprof, opened by `go tool pprof`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pagetrace_user::export::Form;
use pagetrace_user::format::Reader;
use pagetrace_user::stacks::{Of, Profile, weigh};

use super::exported;
use crate::{fixture, stacked, toolchain};

/// The last toolchain that has pprof ready: later ones build it first.
const GO: &str = "1.24.11";

fn pprof(words: &[&str], file: &Path) -> String {
    toolchain::output(toolchain::go(GO).args(["tool", "pprof"]).args(words).arg(file))
}

/// Every stack of a profile, the innermost name first, with its weight.
fn ours(profile: &Profile) -> BTreeMap<Vec<String>, u64> {
    let mut stacks = BTreeMap::new();
    for sample in &profile.samples {
        let names = profile.frames_of(sample).rev().map(|frame| frame.name.clone()).collect();
        *stacks.entry(names).or_default() += sample.value;
    }
    stacks
}

/// The same, out of `pprof -traces`: blocks between rules, the weight before the first name.
fn traces(text: &str) -> BTreeMap<Vec<String>, u64> {
    let mut stacks = BTreeMap::new();
    for block in text.split("-----------+").skip(1) {
        let mut lines = block.lines().skip(1).filter(|line| !line.trim().is_empty()).peekable();
        let Some(first) = lines.peek() else { continue };
        let weight = first.split_whitespace().next().unwrap().trim_end_matches('B').parse::<u64>().unwrap();
        let name = |line: &str| line.chars().skip(13).collect::<String>().trim_end_matches(" (inline)").to_owned();
        *stacks.entry(lines.map(name).collect()).or_default() += weight;
    }
    stacks
}

#[test]
fn pprof_sees_the_totals_the_names_and_the_stacks() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fixture::whole(&stacked::trace());
    for (word, of) in Of::ALL.iter().filter(|(_, of)| !matches!(of, Of::Objects | Of::Heap)) {
        let profile = weigh(&mut Reader::new(bytes.as_slice()).unwrap(), *of, None).unwrap().1;
        let path = dir.path().join(format!("{word}.pb.gz"));
        fs::write(&path, exported(&stacked::trace(), Form::Pprof, *of).0).unwrap();
        let unit = if profile.unit == "bytes" { "B" } else { "" };

        let top = pprof(&["-top", "-unit=B", "-nodecount=0", "-nodefraction=0"], &path);
        assert!(top.contains(&format!("Type: {word}\n")), "{top}");
        assert!(top.contains(&format!("Total samples = {}{unit}", profile.total)), "{top}");
        assert!(top.contains(profile.title), "{top}");
        assert!(top.contains("Build ID: abcd"), "{top}");
        for frame in profile.samples.iter().flat_map(|sample| profile.frames_of(sample)) {
            assert!(top.contains(&frame.name), "{}: {top}", frame.name);
        }

        assert_eq!(traces(&pprof(&["-traces", "-unit=B"], &path)), ours(&profile), "{word}");

        let raw = pprof(&["-raw"], &path);
        assert!(raw.contains(&format!("Samples:\n{word}/{}\n", profile.unit)), "{raw}");
        assert!(raw.contains("/usr/bin/cache abcd [FN][FL][LN][IN]"), "{raw}");
        if *of == Of::Resident {
            let place = raw.lines().position(|line| line.contains("0x10000000300 M=1 fill src/cache.c:30")).unwrap();
            assert!(raw.lines().nth(place + 1).unwrap().trim_start().starts_with("put src/cache.c:41"), "{raw}");
        }
    }
}
