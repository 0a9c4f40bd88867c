//! Names that the recording could not find, from debug files that were kept elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use pagetrace_user::naming::Named;
use pagetrace_user::symbols::elf::Elf;
use pagetrace_user::symbols::image::Image;
use serde_json::Value;

use super::{names_in, names_of, opened, recorded_rooms, same_as_addr2line};
use crate::objects::compiled;
use crate::recorder::{run, run_command};
use crate::stage::Stage;

fn objcopy(option: &str, from: &Path, to: &Path) {
    let ran = run_command(Command::new("objcopy").arg(option).args([from, to]));
    assert_eq!(ran.code, Some(0), "{option}: {}", ran.stderr);
}

/// A stripped program, recorded; its debug information, where debuginfod would have it; the program itself, under another
/// name, beside one that is another build.
#[test]
fn debug_files_name_what_a_recording_could_not() {
    let stage = Stage::enter("stacks-debug-files");
    for flags in [&["-O2", "-fomit-frame-pointer"][..], &["-O2", "-no-pie"]] {
        let what = flags.join("");
        let whole = compiled("cc", flags, "rooms.c", "rooms-apart");
        let stripped = stage.directory(&format!("bin{what}")).join("rooms");
        objcopy("--strip-all", &whole, &stripped);
        let file = recorded_rooms(&stage.directory(&format!("traces{what}")), &stripped, "user");
        let lines = |names: &[pagetrace_user::event::Function]| names.iter().any(|function| function.line != 0);
        assert!(!names_of(&file, &stripped).values().any(|names| lines(names)), "{what}: nothing to find");

        let id = Elf::parse(Image::open(&stripped).unwrap()).unwrap().build_id().unwrap();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let usual = stage.directory(&format!("usual{what}"));
        let folder = usual.join(".build-id").join(&id[..2]);
        fs::create_dir_all(&folder).unwrap();
        objcopy("--only-keep-debug", &whole, &folder.join(format!("{}.debug", &id[2..])));
        let other = stage.directory(&format!("other{what}"));
        fs::create_dir_all(other.join("a/b")).unwrap();
        fs::copy(&whole, other.join("a/b/kept")).unwrap();
        fs::copy("/bin/true", other.join("a/rooms")).unwrap();
        fs::write(other.join("notes"), "no program").unwrap();
        let nothing = stage.directory(&format!("nothing{what}"));
        fs::copy("/bin/true", nothing.join("rooms")).unwrap();

        for directory in [&usual, &other] {
            let names = names_in(&mut Named::new(opened(&file), Some(directory)), &stripped);
            same_as_addr2line(names, &whole);
            assert_eq!(pages_under(&file, Some(directory), "fill_north"), 200, "{what}: {}", directory.display());
            assert_eq!(pages_under(&file, Some(directory), "fill_again"), 16, "{what}: {}", directory.display());
        }
        for directory in [None, Some(nothing.as_path())] {
            assert_eq!(pages_under(&file, directory, "fill_north"), 0, "{what}");
        }
    }
}

/// Pages that a function touched first, as the command says.
fn pages_under(file: &Path, symbols: Option<&Path>, function: &str) -> u64 {
    let (file, directory) = (file.display().to_string(), symbols.map(|path| path.display().to_string()));
    let mut words = vec!["stacks", "--json", &file];
    words.extend(directory.iter().flat_map(|directory| ["--symbols", directory.as_str()]));
    let ran = run(words);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let profile: Value = serde_json::from_str(&ran.stdout).unwrap();
    let name = |frame: &Value| profile["frames"][frame.as_u64().unwrap() as usize]["name"].as_str().unwrap().to_owned();
    let samples = profile["samples"].as_array().unwrap().iter();
    let under =
        samples.filter(|sample| sample["frames"].as_array().unwrap().iter().any(|frame| name(frame) == function));
    under.map(|sample| sample["value"].as_u64().unwrap() / 4096).sum()
}
