//! Any bytes as a program's file: an answer or an error, no panic, no more memory than the fuzzer allows, no hang.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::go;
use pagetrace_user::symbols::image::Image;

fuzz_target!(|bytes: &[u8]| {
    let Ok(elf) = Elf::parse(Image::of_bytes(bytes.to_vec())) else { return };
    let _ = elf.functions(&["malloc", "free", "runtime.gcSweep"]);
    let everywhere: Vec<u64> = (0..64).map(|part| elf.image.len() / 64 * part).collect();
    let _ = go::functions_of(&elf, &everywhere);
    if let Ok(Some(plan)) = go::plan_of(&elf) {
        for point in plan.points {
            assert!(elf.segment_of(point.address).is_some_and(|segment| segment.executable));
            assert!(point.file_offset.0 < elf.image.len());
        }
    }
});
