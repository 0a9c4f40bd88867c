//! Any bytes as an allocator's file: an answer or an error, no panic, no more memory than the fuzzer allows, no hang.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::image::Image;
use pagetrace_user::symbols::{allocators, tcmalloc};

fuzz_target!(|bytes: &[u8]| {
    let Ok(elf) = Elf::parse(Image::of_bytes(bytes.to_vec())) else { return };
    if let Ok(Some(plan)) = allocators::plan_of(&elf) {
        for function in plan.functions {
            let places = function.returns.iter().chain([&function.file_offset]);
            assert!(places.into_iter().all(|place| place.0 < elf.image.len()));
        }
    }
    if let Ok(Some(found)) = tcmalloc::look_at(&elf)
        && let Ok(plan) = found.plan
    {
        assert!(plan.points.iter().all(|point| point.file_offset.0 < elf.image.len()));
    }
});
