//! Symbol tables of real C programs and libraries, against binutils' nm.

use std::fs;
use std::path::Path;
use std::process::Command;

use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::image::Image;
use pagetrace_user::symbols::prologue::{self, Cost};

use super::toolchain::output;

const PROGRAM: &str = "\
#include <stdlib.h>
__attribute__((noinline)) void *hand_out(size_t bytes) { return malloc(bytes); }
__attribute__((noinline)) static int take_back(void *block) { free(block); return block != 0; }
int main(int argc, char **argv) { return take_back(hand_out(argc)) + (argv == 0); }
";

/// Checks these functions by `nm` with this flag.
#[track_caller]
fn check(program: &Path, flag: &str, names: &[&str]) {
    let elf = Elf::parse(Image::open(program).unwrap()).unwrap();
    let lines = output(Command::new("nm").args([flag, "--defined-only", "-S"]).arg(program));
    let found = elf.functions(names).unwrap();
    for (name, symbol) in names.iter().zip(found) {
        // A library's names have their version behind an at sign.
        let fits = |line: &&str| line.split(' ').nth(3).is_some_and(|full| full.split('@').next() == Some(name));
        let numbers = lines.lines().find(fits).map(|line| {
            let mut words = line.split(' ').map(|word| u64::from_str_radix(word, 16).unwrap_or(0));
            let entry = words.next().unwrap();
            (entry, entry + words.next().unwrap())
        });
        assert_eq!(symbol.map(|symbol| (symbol.entry.0, symbol.end.0)), numbers, "{name} of {}", program.display());
        if let Some(symbol) = symbol {
            let code = elf.code(symbol.entry, prologue::LENGTH).unwrap();
            assert!(prologue::best_site(&code).is_some(), "{name} of {}", program.display());
        }
    }
}

#[test]
fn as_nm_says() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("program.c");
    fs::write(&source, PROGRAM).unwrap();
    for flags in [&["-no-pie", "-O0"][..], &["-pie", "-fPIE", "-O2"], &["-static", "-O2"]] {
        let program = dir.path().join("program");
        output(Command::new("cc").args(flags).arg("-o").arg(&program).arg(&source));
        // `out` is the tail of a name, and no name; malloc is imported, but for the static one.
        check(&program, "-n", &["hand_out", "out", "take_back", "main", "malloc", "absent"]);
    }
}

#[test]
fn a_library_by_its_exports() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("libc.so")));
    check(Path::new(libc.unwrap()), "-D", &["malloc", "free", "calloc", "realloc", "posix_memalign", "alloc"]);
}

#[test]
fn frames_pushed_first_are_cheap() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("program.c"), dir.path().join("program"));
    fs::write(&source, PROGRAM).unwrap();
    output(Command::new("cc").args(["-O0", "-fno-omit-frame-pointer", "-o"]).arg(&program).arg(&source));
    let elf = Elf::parse(Image::open(&program).unwrap()).unwrap();
    let symbol = elf.functions(&["hand_out"]).unwrap()[0].unwrap();
    let site = prologue::best_site(&elf.code(symbol.entry, prologue::LENGTH).unwrap()).unwrap();
    assert_eq!(site.cost, Cost::Emulated);
}
