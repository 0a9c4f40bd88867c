//! tcmalloc's page heap: where it is probed in Debian's library, and small files that lie.

use std::path::Path;

use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::image::Image;
use pagetrace_user::symbols::prologue::Cost;
use pagetrace_user::symbols::tcmalloc::{self, Found, Verb, Why};

fn library(name: &str) -> Option<Found> {
    let path = Path::new("/usr/lib/x86_64-linux-gnu").join(name);
    assert!(path.exists(), "{name} is not there: run the tests by `cargo xtask test`");
    tcmalloc::look(&path).unwrap()
}

#[test]
fn debians_tcmalloc() {
    for name in ["libtcmalloc_minimal.so.4", "libtcmalloc_minimal_debug.so.4"] {
        let found = library(name).unwrap();
        assert!(found.allocator.starts_with("gperftools tcmalloc 2."), "{name}: {found:?}");
        let plan = found.plan.unwrap();
        let verbs: Vec<Verb> = plan.points.iter().map(|point| point.verb).collect();
        assert_eq!(verbs, [Verb::Alloc, Verb::Free, Verb::Scav], "{name}");
        assert!(plan.points.iter().all(|point| point.cost == Cost::Emulated), "{name}: {plan:?}");
        assert_eq!(plan.page_shift, 13, "{name}");
    }
}

#[test]
fn allocators_whose_page_heap_nobody_can_see() {
    for (name, allocator) in
        [("libc.so.6", "glibc 2."), ("libjemalloc.so.2", "jemalloc 5."), ("libmimalloc.so.2.0", "mimalloc")]
    {
        let found = library(name).unwrap();
        assert!(found.allocator.starts_with(allocator), "{found:?}");
        assert_eq!(found.plan, Err(Why::NotExported));
    }
    // No allocators.
    assert_eq!(library("libm.so.6"), None);
    assert_eq!(library("libstdc++.so.6"), None);
}

/// Whatever a file says: an answer, and points inside of it.
#[test]
fn a_library_cut_and_changed() {
    let path = Path::new("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4");
    let whole = std::fs::read(path).unwrap();
    let ask = |bytes: Vec<u8>| {
        let length = bytes.len() as u64;
        let found = Elf::parse(Image::of_bytes(bytes)).and_then(|elf| tcmalloc::look_at(&elf));
        let plan = found.ok().flatten().and_then(|found| found.plan.ok());
        if let Some(plan) = &plan {
            assert!(plan.points.iter().all(|point| point.file_offset.0 < length), "{plan:?}");
        }
        plan
    };
    let plan = ask(whole.clone()).unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 50) {
        ask(whole[..length].to_vec());
    }
    // Each bit of the code that is judged: the plan stands as it is, or there is none, or it is of other instructions.
    let scav = plan.points.iter().find(|point| point.verb == Verb::Scav).unwrap();
    let (mut same, mut none) = (0, 0);
    for at in scav.file_offset.0 as usize - 43..=scav.file_offset.0 as usize {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            match ask(bytes) {
                Some(other) if other == plan => same += 1,
                Some(_) => {}
                None => none += 1,
            }
        }
    }
    assert!(same > 10 && none > 100, "{same} the same, {none} none");
}
