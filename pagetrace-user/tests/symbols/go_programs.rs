//! Real programs: every point is where Go's own nm says the function is, however the program was built and stripped.

use std::fs;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions};
use pagetrace_user::symbols::Address;
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::go::{self, GoPlan, Verb, Why};
use pagetrace_user::symbols::image::Image;
use pagetrace_user::symbols::prologue::Cost;

use super::toolchain::{EXTERNAL, PIE, PLAIN, RACE, VERSIONS, Way, addresses, build, without_sections};

/// Verb, function, bytes from its entry to the point: since Go 1.21. Zero bytes mean that the versions differ.
const POINTS: [(Verb, &str, u64); 9] = [
    (Verb::Alloc, "runtime.(*mheap).setSpans", 0),
    (Verb::Init, "runtime.(*mheap).initSpan", 0xa),
    (Verb::Free, "runtime.(*mheap).freeSpanLocked", 0xa),
    (Verb::Scav, "runtime.sysUnusedOS", 0xa),
    (Verb::Grow, "runtime.(*pageAlloc).grow", 0),
    (Verb::GcStart, "runtime.gcResetMarkState", 0),
    (Verb::GcMarkEnd, "runtime.gcMark", 0),
    (Verb::GcMarkTermination, "runtime.gcMarkTermination", 18),
    (Verb::GcSweep, "runtime.gcSweep", 0),
];

fn plan_of(bytes: Vec<u8>) -> GoPlan {
    go::plan_of(&Elf::parse(Image::of_bytes(bytes)).unwrap()).unwrap().unwrap()
}

/// Checks the plan of the unstripped, the stripped and the section-less program.
fn check(version: &str, way: Way) {
    let (twin, stripped) = (build(version, way, false), build(version, way, true));
    let plan = go::plan(&stripped).unwrap().unwrap();
    let told = format!("Go {version}, {}: {plan:#x?}", way.name);
    assert_eq!(plan.version, format!("go{version}"), "{told}");
    assert_eq!(plan.race, way == RACE, "{told}");
    assert!(plan.offsets.is_ok(), "{told}");
    assert_eq!(plan_of(without_sections(&stripped)), plan, "without section headers");
    let of_twin = go::plan(&twin).unwrap().unwrap();

    let addresses = addresses(version, &twin);
    assert!(of_twin.all_ps.contains(&Address(addresses["runtime.allp"])), "{told}");
    let bytes = fs::read(&twin).unwrap();
    let mut verbs = Vec::new();
    for ((verb, symbol, offset), point) in expected(version).into_iter().zip(&of_twin.points) {
        assert_eq!((point.verb, point.symbol.as_str(), point.cost), (verb, symbol, Cost::Emulated), "{told}");
        let entry = addresses[symbol];
        let start = usize::try_from(point.file_offset.0 - (point.address.0 - entry)).unwrap();
        is_boundary(&bytes[start..], entry, point.address.0);
        if offset != 0 || verb == Verb::Alloc {
            assert_eq!(point.address.0 - entry, offset, "{symbol}: {told}");
        }
        // What is mapped from there is in the program's own executable segment.
        let elf = Elf::parse(Image::open(&twin).unwrap()).unwrap();
        assert!(elf.segment_of(point.address).unwrap().executable);
        verbs.push(verb);
    }
    assert_eq!(verbs.len(), of_twin.points.len());
    let missing: Vec<(Verb, Why)> = plan.missing.iter().map(|missing| (missing.verb, missing.why)).collect();
    assert_eq!(missing, if version == "1.19.8" { vec![(Verb::Init, Why::NoFunction)] } else { vec![] }, "{told}");
    // An external linker may place code elsewhere in a stripped program; Go's own does not.
    if way.linker.is_empty() {
        // What the linker was told is among the data, before these.
        assert_eq!(plan.all_ps.len(), of_twin.all_ps.len());
        assert_eq!(plan, GoPlan { all_ps: plan.all_ps.clone(), ..of_twin });
    } else {
        assert_same_code(&plan, &stripped, &of_twin, &twin);
    }
}

/// In 1.19 there is no `push`: the points are the branches of the checks.
fn expected(version: &str) -> Vec<(Verb, &'static str, u64)> {
    if version != "1.19.8" {
        return POINTS.to_vec();
    }
    let old = |(verb, symbol, _)| match verb {
        Verb::Alloc => (verb, "runtime.(*mheap).allocNeedsZero", 4),
        Verb::Init => (Verb::Purpose, "runtime.(*mheap).allocSpan", 9),
        Verb::GcMarkTermination => (verb, symbol, 12),
        _ => (verb, symbol, 4),
    };
    POINTS.into_iter().map(old).collect()
}

/// Decodes from the entry and sees an instruction begin at the address.
fn is_boundary(code: &[u8], entry: u64, address: u64) {
    let mut decoder = Decoder::with_ip(64, code, entry, DecoderOptions::NONE);
    let starts: Vec<u64> = decoder.iter().map(|instruction| instruction.ip()).take(16).collect();
    assert!(starts.contains(&address), "{address:#x} in {starts:x?}");
}

/// The same functions at the same offsets, by the bytes of the code around each point.
fn assert_same_code(one: &GoPlan, one_file: &Path, other: &GoPlan, other_file: &Path) {
    let (one_bytes, other_bytes) = (fs::read(one_file).unwrap(), fs::read(other_file).unwrap());
    assert_eq!(one.points.len(), other.points.len());
    for (a, b) in one.points.iter().zip(&other.points) {
        let at = |bytes: &[u8], offset: u64| bytes[usize::try_from(offset).unwrap()..][..4].to_vec();
        assert_eq!((a.verb, &a.symbol, a.cost), (b.verb, &b.symbol, b.cost));
        assert_eq!(at(&one_bytes, a.file_offset.0), at(&other_bytes, b.file_offset.0), "{}", a.symbol);
    }
}

#[test]
fn plain() {
    VERSIONS.iter().for_each(|version| check(version, PLAIN));
}

#[test]
fn position_independent() {
    VERSIONS.iter().for_each(|version| check(version, PIE));
}

#[test]
fn linked_externally() {
    VERSIONS.iter().for_each(|version| check(version, EXTERNAL));
}

#[test]
fn with_the_race_detector() {
    ["1.19.8", "1.22.10", "1.27.3"].iter().for_each(|version| check(version, RACE));
}

#[test]
fn other_programs_are_not_go() {
    assert_eq!(go::plan(Path::new("/bin/sh")).unwrap(), None);
    assert_eq!(go::plan(Path::new(env!("CARGO_BIN_EXE_pagetrace-user"))).unwrap(), None);
    let own = std::env::current_exe().unwrap();
    assert_eq!(go::plan(&own).unwrap(), None);
}

#[test]
fn the_toolchain_itself_is_go() {
    // Its data holds the magics that others are found by.
    let go_command = super::toolchain::go("1.27.3").get_program().to_owned();
    let plan = go::plan(Path::new(&go_command)).unwrap().unwrap();
    assert_eq!((plan.version.as_str(), plan.points.len()), ("go1.27.3", 9));
    assert_eq!(plan_of(without_sections(Path::new(&go_command))), plan);
}
