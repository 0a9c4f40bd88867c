//! Rust programs, whose standard library asks glibc (or what is put before it) for memory: `leaks.rs`, and the cargo
//! that builds these tests.
//!
//! Of the toolchain's programs that is the one with std's own allocator. rustup's rustc has jemalloc in the program
//! itself: no library comes before that and counts. So of rustc only this is tested, that each object which it gives
//! back, it was seen to be given.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{
    ALLOCATORS, by_act, calls_of, check_leaks, check_objects, check_trust, counted, kept_by_libraries, leaks_said,
    less, recorded,
};
use crate::stage::Stage;

const CARGO: &str = env!("CARGO");

fn rustc() -> PathBuf {
    Path::new(CARGO).with_file_name("rustc")
}

/// Compiles a source of `tests/programs`.
pub fn built(source: &str, flags: &[&str]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&directory).unwrap();
    let program = directory.join(source.replace('.', "-"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let mut command = Command::new(rustc());
    command.args(["-O", "--edition=2024"]).args(flags).arg("-o").args([&program, &source]);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr));
    program
}

#[test]
fn what_a_rust_program_leaks() {
    let stage = Stage::enter("objects_rust");
    let program = built("leaks.rs", &[]);
    let (all, nothing) = ([program.to_str().unwrap()], [program.to_str().unwrap(), "nothing"]);
    for preload in ALLOCATORS {
        let (counted_nothing, _) = counted(&stage, preload, &nothing);
        let (recorded_nothing, _) = recorded(&stage, preload, &["--sample", "0"], &nothing);
        let (expected, _) = counted(&stage, preload, &all);
        let (report, said) = recorded(&stage, preload, &["--sample", "0"], &all);
        let found = calls_of(&report);
        if preload.is_empty() {
            assert_eq!(found, expected);
            for call in ["malloc", "calloc", "realloc", "posix_memalign", "free"] {
                assert!(found[call].0 > by_name(&calls_of(&recorded_nothing), call), "{call}: {found:?}");
            }
        }
        let own = less(by_act(&calls_of(&recorded_nothing)), by_act(&counted_nothing));
        assert_eq!(less(by_act(&found), by_act(&expected)), own, "{preload:?}\n{found:?}\n{expected:?}");
        check_trust(&report);
        assert_eq!(leaks_said(&said).0, 2109, "{said}");
        check_leaks(&report, &said, kept_by_libraries(&recorded_nothing, false));
    }
}

/// How often this function was called.
fn by_name(counts: &super::Counts, call: &str) -> u64 {
    counts.get(call).map_or(0, |(calls, _)| *calls)
}

/// Some 50,000 objects, in one thread, the same in each run.
#[test]
fn calls_of_cargo() {
    let stage = Stage::enter("objects_cargo");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let command = [CARGO, "read-manifest", "--offline", "--manifest-path", manifest];
    for preload in ["", "libjemalloc.so.2"] {
        let (expected, said) = counted(&stage, preload, &command);
        let (report, again) = recorded(&stage, preload, &["--sample", "0"], &command);
        assert_eq!(said, again);
        let found = calls_of(&report);
        if preload.is_empty() {
            assert_eq!(found, expected);
        }
        assert_eq!(by_act(&found), by_act(&expected), "with {preload:?}");
        assert!(found["malloc"].0 > 10_000, "{found:?}");
        // NOTE: of pages it may tell an anomaly that is none. A frame that goes from one page to another between a
        // reading's time and its look at the page map seems to be given while the page found still holds it.
        check_objects(&report);
    }
}

#[test]
fn objects_of_rustc() {
    let stage = Stage::enter("objects_rustc");
    let (report, _) = recorded(&stage, "", &["--sample", "0"], &[rustc().to_str().unwrap(), "--print", "cfg"]);
    let (given, _, taken) = by_act(&calls_of(&report));
    assert!(given > 1000 && taken > 1000, "{}", report["objects"]);
    // As in `calls_of_cargo`.
    check_objects(&report);
}
