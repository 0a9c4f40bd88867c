//! Allocators' files: those of Debian as they are, and small ones that lie.

use std::fs;
use std::path::{Path, PathBuf};

use pagetrace_user::event::ObjectCall;
use pagetrace_user::symbols::SymbolError;
use pagetrace_user::symbols::allocators::{self, AllocatorPlan, Function};
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::image::Image;
use pagetrace_user::symbols::prologue::Cost;
use proptest::prelude::*;

use super::lies::{each_word_at_its_extremes, soon};

fn ask(bytes: Vec<u8>) -> Result<Option<AllocatorPlan>, SymbolError> {
    let elf = soon(|| Elf::parse(Image::of_bytes(bytes)))?;
    let plan = soon(|| allocators::plan_of(&elf));
    if let Ok(Some(plan)) = &plan {
        for function in &plan.functions {
            let places = function.returns.iter().chain([&function.file_offset]);
            assert!(places.into_iter().all(|place| place.0 < elf.image.len()), "{function:?}");
        }
    }
    plan
}

fn library(name: &str) -> AllocatorPlan {
    let path = Path::new("/usr/lib/x86_64-linux-gnu").join(name);
    assert!(path.exists(), "{name} is not there: run the tests by `cargo xtask test`");
    allocators::plan(&path).unwrap().unwrap()
}

fn function<'a>(plan: &'a AllocatorPlan, symbol: &str) -> &'a Function {
    plan.functions.iter().find(|function| function.symbol == symbol).unwrap_or_else(|| panic!("{symbol}: {plan:?}"))
}

/// What the functions that every call goes through cost: the kernel emulates the instruction at which they are met, with
/// their arguments in registers still. Versions as the packages have them.
#[test]
fn debians_allocators() {
    for (name, what) in [
        ("libc.so.6", "glibc 2."),
        ("libjemalloc.so.2", "jemalloc 5."),
        ("libtcmalloc_minimal.so.4", "gperftools tcmalloc 2."),
        ("libmimalloc.so.2.0", "mimalloc"),
    ] {
        let plan = library(name);
        assert!(plan.name.starts_with(what), "{}", plan.name);
        assert_eq!(plan.missing, Vec::<String>::new());
        for symbol in ["malloc", "calloc", "realloc", "free"] {
            let function = function(&plan, symbol);
            assert_eq!(function.site.cost, Cost::Emulated, "{name}: {function:?}");
            assert!(!function.forwards && !function.throws, "{name}: {function:?}");
        }
    }
}

/// The C++ runtime's operators hand on, allocators' own do not: their results are seen where they return.
#[test]
fn operators() {
    let runtime = library("libstdc++.so.6");
    assert_eq!(runtime.name, "C++ runtime");
    assert!(runtime.functions.len() >= 20 && runtime.functions.iter().all(|function| function.forwards), "{runtime:?}");
    for name in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"] {
        let plan = library(name);
        let new = function(&plan, "_Znwm");
        assert_eq!((new.call, new.forwards, new.throws), (ObjectCall::New, false, true), "{name}");
        assert!(new.knows_all_returns && !new.returns.is_empty(), "{name}: {new:?}");
    }
}

fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/allocators");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The small files that fuzzing starts from: whole, they have what was written into them.
#[test]
fn seeds_of_the_fuzz_target_for_allocators() {
    for (path, bytes) in seeds() {
        let plan = ask(bytes.clone()).unwrap().unwrap();
        assert_eq!((plan.name.as_str(), plan.functions.len()), ("jemalloc 5.3.0", 8), "{}: {plan:?}", path.display());
        let (new, delete) = (function(&plan, "_Znwm"), function(&plan, "_ZdlPv"));
        assert!(new.forwards && delete.forwards, "{}: {plan:?}", path.display());
        for len in (0..bytes.len()).step_by(7) {
            let _ = ask(bytes[..len].to_vec());
        }
    }
    assert_eq!(seeds().len(), 2);
}

#[test]
fn each_word_of_an_allocators_file_at_its_extremes() {
    let mut plans = 0;
    for (_, bytes) in seeds() {
        for bytes in each_word_at_its_extremes(&bytes, 0..bytes.len()) {
            plans += usize::from(ask(bytes).is_ok_and(|plan| plan.is_some()));
        }
    }
    assert!(plans > 0, "many of these words do not matter");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_allocators_file_changed_at_random(
        which in 0..2_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let (_, mut bytes) = seeds().remove(which);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = ask(bytes);
    }
}
