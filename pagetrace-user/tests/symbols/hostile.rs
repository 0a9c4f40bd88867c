//! Files that lie: for any bytes there is an answer or an error, soon, and no panic.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;

use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::go::{self, GoPlan};
use pagetrace_user::symbols::image::Image;
use pagetrace_user::symbols::{Address, SymbolError};
use proptest::prelude::*;

use super::lies::{each_word_at_its_extremes, soon};
use super::toolchain::{PIE, PLAIN, build};

/// Everything that the module says about a file.
fn ask(bytes: Vec<u8>) -> Result<Option<GoPlan>, SymbolError> {
    let elf = soon(|| Elf::parse(Image::of_bytes(bytes)))?;
    let plan = soon(|| {
        let _ = elf.functions(&["malloc", "free", "runtime.gcSweep"]);
        go::plan_of(&elf)
    });
    let everywhere: Vec<u64> = (0..64).map(|part| elf.image.len() / 64 * part).collect();
    for (_, functions) in soon(|| go::functions_of(&elf, &everywhere)).unwrap_or_default() {
        assert!((1..=64).contains(&functions.len()), "{}", functions.len());
        // A byte that is no text becomes three.
        assert!(functions.iter().all(|function| function.name.len().max(function.file.len()) <= 3 * 4096));
    }
    if let Ok(Some(plan)) = &plan {
        for point in &plan.points {
            assert!(elf.segment_of(point.address).is_some_and(|segment| segment.executable), "{point:?}");
            assert!(point.file_offset.0 < elf.image.len(), "{point:?}");
        }
    }
    plan
}

/// A program of each form, small: one by an old and one by a new toolchain, the second position-independent.
static PROGRAMS: LazyLock<[Vec<u8>; 2]> =
    LazyLock::new(|| [build("1.19.8", PLAIN, true), build("1.27.3", PIE, true)].map(|path| fs::read(path).unwrap()));

/// Where in a file the headers and tables are that a plan depends on: each as start and length.
fn tables(bytes: &[u8]) -> Vec<(usize, usize)> {
    let word = |at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let find = |needle: &[u8]| memchr::memmem::find(bytes, needle).unwrap();
    let magic = find(b"\xff\xff\xff\x00\x00\x01\x08") - 1;
    let (index, pcs) = (magic + word(magic + 64), magic + word(magic + 56));
    let structures = index + 8 * word(magic + 8) + 4;
    vec![
        (0, 64),
        (64, 56 * usize::from(bytes[0x38])),
        (word(0x28), 64 * usize::from(bytes[0x3c])),
        (find(b"\xff Go buildinf:"), 64),
        (magic, 72),
        (pcs, 4096),
        (structures, 4096),
        (index, 4096),
    ]
}

/// The small programs that fuzzing starts from: whole, they have every point.
#[test]
fn seeds_of_the_fuzz_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/symbols");
    let mut seeds = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let plan = ask(bytes.clone()).unwrap().unwrap();
        assert_eq!((plan.points.len(), plan.offsets.is_ok()), (9, true), "{}: {plan:?}", path.display());
        for len in 0..bytes.len() {
            let _ = ask(bytes[..len].to_vec());
        }
        seeds += 1;
    }
    assert!(seeds >= 5, "{seeds}");
}

#[test]
fn cut_anywhere() {
    for program in &*PROGRAMS {
        let mut lengths: Vec<usize> = (0..200).chain((0..200).map(|part| program.len() * part / 200)).collect();
        for (start, len) in tables(program) {
            lengths.extend([start, start + 1, start + len / 2, start + len - 1, start + len]);
        }
        for len in lengths {
            let _ = ask(program[..len].to_vec());
        }
    }
}

#[test]
fn each_word_of_each_header_at_its_extremes() {
    let mut plans = 0;
    for program in &*PROGRAMS {
        for (start, len) in tables(program) {
            for bytes in each_word_at_its_extremes(program, start..start + len.min(192)) {
                plans += usize::from(ask(bytes).is_ok_and(|plan| plan.is_some()));
            }
        }
    }
    assert!(plans > 0, "many of these words do not matter");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_at_random(
        which in 0_usize..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u64>(), 1_usize..9), 1..6),
    ) {
        let mut bytes = PROGRAMS[which].clone();
        let tables = tables(&bytes);
        for (table, place, value, len) in changes {
            let (start, room) = tables[table.index(tables.len())];
            let at = start + place.index(room);
            for (to, from) in bytes[at..].iter_mut().zip(value.to_le_bytes()).take(len) {
                *to = from;
            }
        }
        let _ = ask(bytes);
    }

    #[test]
    fn any_bytes_behind_a_sound_header(rest in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut bytes = PROGRAMS[0][..64].to_vec();
        bytes.extend(rest);
        let _ = ask(bytes);
    }
}

#[test]
fn what_is_no_program_is_told_plainly() {
    let told = |bytes: &[u8]| ask(bytes.to_vec()).unwrap_err().to_string();
    assert_eq!(told(b""), "not an ELF file");
    assert_eq!(told(b"#!/bin/sh\nexit 0\n# and more text"), "not an ELF file");
    let mut arm = PROGRAMS[0].clone();
    arm[18] = 183;
    assert!(told(&arm).contains("ELF machine 183"), "{}", told(&arm));
    let mut small = PROGRAMS[0].clone();
    small[4] = 1;
    assert!(told(&small).contains("class 1"));

    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(go::plan(dir.path()), Err(SymbolError::NotAFile)));
    assert!(matches!(go::plan(&dir.path().join("none")), Err(SymbolError::Read(_))));
    assert!(matches!(go::plan(Path::new("/dev/zero")), Err(SymbolError::NotAFile)));
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(go::plan(&pipe), Err(SymbolError::NotAFile)), "and nobody waited for its writer");
}

/// A program whose segment is a terabyte of nothing.
#[test]
fn a_huge_hole_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    let mut file = fs::File::create(&path).unwrap();
    let mut header = PROGRAMS[0][..64 + 56 * 16].to_vec();
    header[0x28..0x30].fill(0);
    // Each segment from the start of the file to its end.
    for program in header[64..].chunks_exact_mut(56) {
        program[..4].copy_from_slice(&1_u32.to_le_bytes());
        program[4..8].copy_from_slice(&6_u32.to_le_bytes());
        program[8..16].fill(0);
        program[32..40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    }
    file.write_all(&header).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(matches!(soon(|| go::plan(&path)), Err(SymbolError::TooMuch(_))));
    file.write_all_at(b"x", 1 << 39).unwrap();
    assert!(resident_peak_kib() < 256 << 10, "{} KiB", resident_peak_kib());
}

/// The most memory that this process has had at once.
fn resident_peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An index all of whose entries lead far away, so that each costs a read of its own.
#[test]
fn an_index_that_jumps_about_is_given_up() {
    let mut bytes = PROGRAMS[0].clone();
    let (index, _) = *tables(&bytes).last().unwrap();
    let end = bytes.len();
    for (number, entry) in bytes[index..end].chunks_exact_mut(8).enumerate().take(1 << 14) {
        let far = if number % 2 == 0 { 0 } else { 0x0004_0000_u32 };
        entry[4..].copy_from_slice(&far.to_le_bytes());
    }
    let _ = ask(bytes);
}

/// As many segments as the header can count, each of them all of a file full of magics.
#[test]
fn segments_without_end() {
    for magic in [&b"\xff Go buildinf:\x08\x02"[..], b"\xf1\xff\xff\xff\x00\x00\x01\x08"] {
        for segments in [100_u16, u16::MAX] {
            let mut bytes = PROGRAMS[0][..64].to_vec();
            bytes[0x28..0x30].fill(0);
            bytes[0x38..0x3a].copy_from_slice(&segments.to_le_bytes());
            for _ in 0..segments {
                let mut header = [0_u8; 56];
                (header[0], header[4], header[34]) = (1, 6, 0x7f);
                bytes.extend(header);
            }
            bytes.resize(bytes.len().next_multiple_of(16), 0);
            bytes.extend(magic.repeat((4 << 20) / magic.len()));
            let answer = ask(bytes);
            assert_eq!(matches!(answer, Err(SymbolError::Damaged(_))), segments == u16::MAX, "{answer:?}");
        }
    }
}

#[test]
fn addresses_at_the_end_of_the_space() {
    let mut bytes = PROGRAMS[0].clone();
    for program in 0..usize::from(bytes[0x38]) {
        let at = 64 + 56 * program + 16;
        bytes[at..at + 8].copy_from_slice(&(u64::MAX - 100).to_le_bytes());
    }
    let elf = Elf::parse(Image::of_bytes(bytes.clone())).unwrap();
    assert!(elf.code(Address(u64::MAX), 64).is_ok_and(|code| code.len() <= 64));
    let _ = ask(bytes);
}
