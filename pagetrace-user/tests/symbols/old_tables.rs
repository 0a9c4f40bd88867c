//! The forms of `.gopclntab` that no installed toolchain writes, made by hand from their description.

use pagetrace_user::symbols::Address;
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::gopclntab::{Function, Table};
use pagetrace_user::symbols::image::Image;

const BASE: u64 = 0x40_0000;
const NAMES: [&str; 3] = ["runtime.gcMark", "runtime.gcMarkTermination", "main.main"];

/// Where the functions begin, and the last one ends.
const PCS: [u64; 4] = [BASE, BASE + 0x10, BASE + 0x30, BASE + 0x38];

/// A program with one executable segment that holds all of the file.
fn program(table: &[u8]) -> Elf {
    let mut bytes = vec![0_u8; 0x80];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16..20].copy_from_slice(&[2, 0, 62, 0]);
    bytes[32] = 64;
    bytes[54..58].copy_from_slice(&[56, 0, 1, 0]);
    bytes[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    bytes[80..88].copy_from_slice(&BASE.to_le_bytes());
    let len = (bytes.len() + table.len()) as u64;
    bytes[96..104].copy_from_slice(&len.to_le_bytes());
    bytes[104..112].copy_from_slice(&len.to_le_bytes());
    bytes.extend(table);
    Elf::parse(Image::of_bytes(bytes)).unwrap()
}

/// The names one behind another, and where each starts.
fn names() -> (Vec<u8>, Vec<u32>) {
    let mut all = Vec::new();
    let places = NAMES.map(|name| {
        let place = u32::try_from(all.len()).unwrap();
        all.extend(name.bytes().chain([0]));
        place
    });
    all.resize(all.len().next_multiple_of(8), 0);
    (all, places.to_vec())
}

/// Bytes of a function's structure.
const STRUCTURE: usize = 48;

/// Appends the index and the structures: `structures` is where the first one lies, as the index counts.
fn index(table: &mut Vec<u8>, structures: u64, name_places: &[u32]) {
    for (number, pc) in PCS.iter().enumerate() {
        table.extend(pc.to_le_bytes());
        if number < 3 {
            table.extend((structures + (STRUCTURE * number) as u64).to_le_bytes());
        }
    }
    for (pc, place) in PCS.iter().zip(name_places) {
        table.extend(pc.to_le_bytes());
        table.extend(place.to_le_bytes());
        table.extend([0; STRUCTURE - 12]);
    }
}

#[track_caller]
fn check(table: &[u8]) {
    let elf = program(table);
    let found = Table::find(&elf).unwrap().unwrap();
    let function = |number: usize| Some(Function { entry: Address(PCS[number]), end: Address(PCS[number + 1]) });
    let wanted = ["main.main", "gcMark", "runtime.gcMark", "absent", "runtime.gcMarkTermination"];
    assert_eq!(found.lookup(&elf, &wanted).unwrap(), [function(2), None, function(0), None, function(1)]);
    for len in 0..table.len() {
        let cut = program(&table[..len]);
        let _ = Table::find(&cut).map(|found| found.map(|found| found.lookup(&cut, &wanted)));
    }
}

#[test]
fn go_1_2_to_1_15() {
    let (names, places) = names();
    let mut table = b"\xfb\xff\xff\xff\x00\x00\x01\x08".to_vec();
    table.extend(3_u64.to_le_bytes());
    // Structures and names lie behind the index, all from the header.
    let structures = 16 + 7 * 8;
    let first_name = structures + 3 * STRUCTURE as u32;
    let places: Vec<u32> = places.iter().map(|place| place + first_name).collect();
    index(&mut table, structures.into(), &places);
    table.extend(names);
    check(&table);
}

/// With files and lines: of the second function `a.go:7` for 4 bytes, `b.go:9` for the other 28.
#[test]
fn go_1_16_and_1_17() {
    let (names, places) = names();
    let units: Vec<u8> = [u32::MAX, 0, 5].iter().flat_map(|place| place.to_le_bytes()).collect();
    let files = b"a.go\0b.go\0";
    // Of the files 0 and 1, counted from 1 of the units on; of the lines 7 and 9. A place of 0 is none.
    let pcs = [0, 2, 4, 2, 28, 0, 16, 4, 4, 28, 0];
    let mut table = b"\xfa\xff\xff\xff\x00\x00\x01\x08".to_vec();
    table.extend(3_u64.to_le_bytes());
    table.extend(2_u64.to_le_bytes());
    let mut end = 64;
    for bytes in [&names, &units, &files[..], &pcs[..], &[]] {
        table.extend(u64::to_le_bytes(end));
        end += bytes.len() as u64;
    }
    for bytes in [&names, &units, &files[..], &pcs[..]] {
        table.extend(bytes);
    }
    index(&mut table, 7 * 8, &places);
    // Of the second function: places of the pcs for files and lines, and the unit.
    let fields = table.len() - 2 * STRUCTURE + 8;
    table[fields + 16..][..16].copy_from_slice(&[1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    check(&table);
    let elf = program(&table);
    let found = Table::find(&elf).unwrap().unwrap();
    let at = [0x10, 0x13, 0x14, 0x2f].map(|bytes| Address(BASE + bytes));
    let told: Vec<(String, String, u32)> = found
        .functions_at(&elf, &at, None)
        .unwrap()
        .into_iter()
        .map(|(_, functions)| functions.into_iter().next().unwrap())
        .map(|function| (function.name, function.file, function.line))
        .collect();
    let name = NAMES[1].to_owned();
    let (first, second) = ((name.clone(), "a.go".to_owned(), 7), (name, "b.go".to_owned(), 9));
    assert_eq!(told, [first.clone(), first, second.clone(), second]);
}
