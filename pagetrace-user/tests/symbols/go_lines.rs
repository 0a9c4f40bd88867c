//! Functions, files, lines and what was inlined in Go programs, by their own tables: against Go's addr2line, and against
//! the debug information of the same program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blazesym::symbolize::source::{self, Source};
use blazesym::symbolize::{CodeInfo, Input, Symbolizer};
use pagetrace_user::event::Function;
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::go;
use pagetrace_user::symbols::image::Image;
use pagetrace_user::symbols::{Address, FileOffset};

use super::toolchain::{EXTERNAL, PIE, PLAIN, VERSIONS, Way, addresses, build, go, output, without_sections};

/// The places asked for: every so many bytes of the code.
const STEP: usize = 5;

/// The code of a program, as its own functions bound it, and the same as offsets in its file.
fn places(elf: &Elf, version: &str, program: &Path) -> BTreeMap<u64, u64> {
    let symbols = addresses(version, program);
    let (start, end) = (symbols["runtime.text"], symbols["runtime.etext"]);
    let offset = |address: u64| elf.file_offset(Address(address)).unwrap().0;
    (start..end).step_by(STEP).map(|address| (address, offset(address))).collect()
}

fn told(bytes: Vec<u8>, offsets: &BTreeMap<u64, u64>) -> BTreeMap<u64, Vec<Function>> {
    let elf = Elf::parse(Image::of_bytes(bytes)).unwrap();
    let offsets: Vec<u64> = offsets.values().copied().collect();
    let found = go::functions_of(&elf, &offsets).unwrap();
    found.into_iter().map(|(offset, functions)| (elf.address(FileOffset(offset)).unwrap().0, functions)).collect()
}

/// Compares what a program without symbols tells with what others say of the same program with them.
fn check(version: &str, way: Way) {
    let (twin, stripped) = (build(version, way, false), build(version, way, true));
    // Go's own linker puts the code of both at the same places; another one may not.
    let stripped = if way.linker.is_empty() { fs::read(stripped).unwrap() } else { without_sections(&twin) };
    let elf = Elf::parse(Image::open(&twin).unwrap()).unwrap();
    let offsets = places(&elf, version, &twin);
    let ours = told(stripped, &offsets);
    let what = format!("{version} {}", way.name);
    assert!(ours.len() > 20_000, "{what}: {}", ours.len());
    same_as_go(&what, &twin, &ours, &offsets);
    same_as_debug_information(&what, &twin, &ours, &offsets);
}

/// The function itself, and the innermost line.
fn same_as_go(what: &str, twin: &Path, ours: &BTreeMap<u64, Vec<Function>>, offsets: &BTreeMap<u64, u64>) {
    let asked = twin.with_extension("addresses");
    fs::write(&asked, offsets.keys().map(|address| format!("{address:#x}\n")).collect::<String>()).unwrap();
    // Older ones do not find the table of a position-independent program.
    let mut command = go("1.27.3");
    let lines = output(command.args(["tool", "addr2line"]).arg(twin).stdin(fs::File::open(asked).unwrap()));
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2 * offsets.len(), "{what}");
    for (address, pair) in offsets.keys().zip(lines.chunks(2)) {
        let (name, line) = (pair[0], pair[1]);
        let functions = ours.get(address).map(Vec::as_slice).unwrap_or_default();
        let (Some(inner), Some(outer)) = (functions.first(), functions.last()) else {
            assert_eq!(name, "?", "{what} {address:#x}");
            continue;
        };
        assert_eq!(outer.name, name, "{what} {address:#x}");
        if inner.file.is_empty() {
            // Between functions.
            assert!(line.starts_with(":-"), "{what} {address:#x}: {line}");
        } else {
            assert_eq!(format!("{}:{}", inner.file, inner.line), line, "{what} {address:#x}");
        }
    }
}

/// Every function that was inlined, and the line of each call.
fn same_as_debug_information(
    what: &str,
    twin: &Path,
    ours: &BTreeMap<u64, Vec<Function>>,
    offsets: &BTreeMap<u64, u64>,
) {
    let builder = Symbolizer::builder().enable_code_info(true).enable_inlined_fns(true).enable_demangling(false);
    let asked: Vec<u64> = offsets.values().copied().collect();
    let symbolizer = builder.build();
    let found = symbolizer.symbolize(&Source::Elf(source::Elf::new(twin)), Input::FileOffset(&asked)).unwrap();
    let (mut compared, mut inlined, mut differing) = (0, 0, Vec::new());
    for (address, found) in offsets.keys().zip(found) {
        let Some(functions) = ours.get(address).filter(|functions| !functions[0].file.is_empty()) else { continue };
        let Some(symbol) = found.into_sym().filter(|symbol| symbol.code_info.is_some()) else { continue };
        let line = |info: Option<&CodeInfo>| info.and_then(|info| info.line).unwrap_or(0);
        let calls = symbol.inlined.iter().map(|call| (call.name.to_string(), line(call.code_info.as_ref())));
        let outermost = (symbol.name.to_string(), line(symbol.code_info.as_deref()));
        let told: Vec<(String, u32)> =
            [outermost].into_iter().chain(calls).map(|(name, line)| (bare(&name), line)).collect();
        let own: Vec<(String, u32)> =
            functions.iter().rev().map(|function| (bare(&function.name), function.line)).collect();
        // What the compiler wrote itself has no inlined calls there.
        if functions.last().unwrap().file == "<autogenerated>" {
            continue;
        }
        if own != told {
            differing.push(format!("{address:#x}: {own:?} {told:?}"));
        }
        compared += 1;
        inlined += usize::from(own.len() > 1);
    }
    assert!(compared > 20_000 && inlined > 5_000, "{what}: {compared}, {inlined}");
    // An array's length is not in Go's own names, and a few instructions have another line in either table: the lines here
    // are those of Go's addr2line.
    assert!(differing.len() * 1000 < compared, "{what}: {differing:#?}");
}

/// A name without what debug information alone has: the ABI.
fn bare(name: &str) -> String {
    name.trim_end_matches(".abi0").to_owned()
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
