//! What no compiler checks: which module may know which, where `unsafe` stands, that nothing panics, that files stay
//! short, and that no path of a developer's machine gets in.
//!
//! The tables below are the rules. A change that breaks one for a good reason changes the table, with the reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules of pagetrace-user from bottom to top, and those that each may use. The recorder (`live`) and
/// the readers (`replay` and what shows it) meet only in the trace file, so neither may use the other.
const EDGES: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("ranges", &["units"]),
    ("picture", &[]),
    ("event", &["units"]),
    ("failure", &[]),
    ("options", &["units"]),
    // Of events, only what the functions of allocators are called.
    ("symbols", &["units", "event", "failure"]),
    ("host", &["units", "failure", "options"]),
    ("names", &["units", "event"]),
    ("format", &["units", "event", "failure", "names"]),
    ("store", &["units", "event", "failure", "options", "names", "format"]),
    ("live", &["units", "ranges", "event", "failure", "options", "symbols", "host", "names", "format", "store"]),
    ("input", &["units", "event", "failure", "names", "format", "store"]),
    ("naming", &["units", "event", "format", "symbols"]),
    ("replay", &["units", "ranges", "event", "names", "format"]),
    ("stacks", &["units", "event", "names", "format", "replay"]),
    ("diff", &["units", "replay", "stacks"]),
    ("leaks", &["units", "event", "replay", "stacks"]),
    ("frag", &["units", "event", "format", "replay", "stacks"]),
    ("report", &["units", "event", "failure", "names", "format", "store", "input", "replay", "stacks"]),
    ("rss", &["units", "event", "format", "replay", "stacks", "report"]),
    ("scav", &["units", "event", "format", "replay", "stacks", "report"]),
    ("dump", &["units", "event", "failure", "names", "format", "store", "input", "replay"]),
    ("check", &["units", "event", "failure", "names", "format", "store", "input", "replay"]),
    (
        "export",
        &["units", "picture", "event", "failure", "names", "format", "store", "input", "replay", "stacks", "dump"],
    ),
    ("heat", &["units", "picture", "event", "format", "replay", "report"]),
    ("html", &["units", "picture", "event", "format", "replay", "stacks", "leaks", "report", "heat"]),
    ("top", &["units", "event", "failure", "format", "input", "replay", "report", "rss", "html"]),
    ("doctor", &["units", "event", "failure", "options", "symbols", "host", "names", "live"]),
    (
        "cli",
        &[
            "units", "event", "failure", "options", "host", "names", "format", "store", "live", "input", "replay",
            "stacks", "diff", "leaks", "frag", "report", "rss", "scav", "dump", "check", "export", "picture", "heat",
            "html", "top", "doctor", "naming",
        ],
    ),
];

/// Where `unsafe` may stand, as a file or as a folder with a slash at its end, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("pagetrace-ebpf/src/", "programs read kernel memory through raw pointers"),
    ("pagetrace-user/src/live/calibrate.rs", "touches memory of its own to see what the kernel says of it"),
    ("pagetrace-user/src/live/frames.rs", "maps the kernel's table of owners"),
    ("pagetrace-user/src/live/load.rs", "a row of a kernel map as plain bytes"),
    ("pagetrace-user/src/live/pagemap.rs", "PAGEMAP_SCAN, which no crate has"),
    ("pagetrace-user/src/live/uprobe/sys.rs", "system calls that no crate has"),
];

/// Files of more than [`LONGEST`] lines, and what keeps them whole.
const LONG: &[(&str, &str)] = &[("xtask/tests/tidy.rs", "tables, and for each rule the samples that test it")];

/// Lines after which a file wants to be split by stage.
const LONGEST: usize = 400;

/// What ends a program instead of returning an error.
const PANICS: &[&str] = &[".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!"];

/// Starts of paths that exist on one machine only. In pieces, so that this file does not break its own rule.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

#[test]
fn the_workspace_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut complaints = Vec::new();
    let mut sources = 0;
    for path in files(root) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        complaints.extend(complaints_about(&name, &text));
        sources += usize::from(is_product(&name));
    }
    assert!(sources > 10, "looked at {sources} sources in {}", root.display());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Everything that breaks a rule in this file, a line each. `name` is its path from the root.
fn complaints_about(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    machine_paths(name, text, &mut found);
    if name.ends_with(".rs") {
        let lines = text.lines().count();
        if lines > LONGEST && !LONG.iter().any(|(long, _)| *long == name) {
            found.push(format!("{name}: {lines} lines: split it by stage, or list it in LONG with a reason"));
        }
    }
    if is_product(name) {
        let code = without_tests(&without_comments_and_strings(text));
        panics(name, &code, &mut found);
        unsafe_code(name, text, &code, &mut found);
        edges(name, &code, &mut found);
    }
    found
}

/// Whether the file is part of a program that users run, rather than of its tests.
fn is_product(name: &str) -> bool {
    let Some((package, rest)) = name.split_once("/src/") else { return name.ends_with("/build.rs") };
    !package.contains('/')
        && rest.ends_with(".rs")
        && !rest.ends_with("tests.rs")
        && !rest.split('/').any(|part| part == "tests")
}

fn panics(name: &str, code: &str, found: &mut Vec<String>) {
    for (index, line) in code.lines().enumerate() {
        for panic in PANICS {
            let starts_a_word = |at: usize| {
                panic.starts_with('.')
                    || !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            };
            if line.match_indices(panic).any(|(at, _)| starts_a_word(at)) {
                found.push(format!("{name}:{}: `{panic}` in product code", index + 1));
            }
        }
    }
}

fn unsafe_code(name: &str, text: &str, code: &str, found: &mut Vec<String>) {
    let listed = UNSAFE.iter().any(|(place, _)| *place == name || (place.ends_with('/') && name.starts_with(place)));
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in code.lines().enumerate() {
        // `unsafe(` is an attribute, `unsafe fn` a duty of the caller, whose calls stand in blocks.
        let Some(at) = words(line).find(|(_, word)| *word == "unsafe").map(|(at, _)| at) else { continue };
        let after = line[at + "unsafe".len()..].trim_start();
        if !listed {
            found.push(format!("{name}:{}: `unsafe` in a file that UNSAFE does not list", index + 1));
        } else if (after.is_empty() || after.starts_with('{') || after.starts_with("impl"))
            && !lines[index.saturating_sub(8)..=index].iter().any(|line| line.contains("SAFETY:"))
        {
            found.push(format!("{name}:{}: `unsafe` without a SAFETY comment above it", index + 1));
        }
    }
}

fn edges(name: &str, code: &str, found: &mut Vec<String>) {
    let Some(rest) = name.strip_prefix("pagetrace-user/src/") else { return };
    let module = rest.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if ["lib", "main"].contains(&module) {
        return;
    }
    let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == module) else {
        found.push(format!("{name}: module `{module}` is not in EDGES"));
        return;
    };
    for used in used_modules(code) {
        let is_module = EDGES.iter().any(|(known, _)| *known == used);
        if is_module && used != module && !allowed.contains(&used.as_str()) {
            found.push(format!("{name}: `{module}` may not use `{used}`"));
        }
    }
}

/// The first names after `crate::`, those in braces too.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            used.extend(words(rest).next().map(|(_, word)| word.to_owned()));
            continue;
        };
        let (mut depth, mut wanted) = (0, true);
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => wanted = true,
                _ if wanted && !character.is_whitespace() => {
                    used.extend(words(&list[at..]).next().map(|(_, word)| word.to_owned()));
                    wanted = false;
                }
                _ => {}
            }
        }
    }
    used
}

fn machine_paths(name: &str, text: &str, found: &mut Vec<String>) {
    for (index, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS {
            // Inside a longer path, as in a process's root under /proc, it is not the machine's own.
            let starts = |at: usize| {
                !line[..at].ends_with(|before: char| before.is_alphanumeric() || "})]>*._-".contains(before))
            };
            if line.match_indices(path).any(|(at, _)| starts(at)) {
                found.push(format!("{name}:{}: `{path}` exists on one machine only", index + 1));
            }
        }
    }
}

/// The words of a text, each with its place.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let inside = |character: char| character.is_alphanumeric() || character == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(inside)?;
        let length = text[start..].find(|character| !inside(character)).unwrap_or(text.len() - start);
        at = start + length;
        Some((start, &text[start..at]))
    })
}

/// The same text with every comment, string and character blanked out: same lines, same columns in bytes.
fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let preceded_by_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let hashes = rest.strip_prefix('r').map_or(0, |rest| rest.len() - rest.trim_start_matches('#').len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if !preceded_by_word && rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[2 + hashes..].find(&end).map_or(rest.len(), |found| 2 + hashes + found + end.len())
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with('\'') && is_character(rest) {
            quoted(rest, '\'')
        } else {
            // Past this character.
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        for byte in &mut code[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length;
    }
    String::from_utf8(code).unwrap()
}

/// Whether a quote starts a character rather than a lifetime.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    characters.next() == Some('\\') || characters.next() == Some('\'')
}

/// The length of a string or character with its quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The same code with every item under `#[cfg(test)]` blanked out.
fn without_tests(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut result = code.to_owned();
    while let Some(start) = result.find(ATTRIBUTE) {
        let mut depth = 0;
        let item = &result[start + ATTRIBUTE.len()..];
        let length = item
            .char_indices()
            .find_map(|(at, character)| {
                match character {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                (depth == 0 && matches!(character, '}' | ';')).then_some(at + 1)
            })
            .unwrap_or(item.len());
        let end = start + ATTRIBUTE.len() + length;
        let blank: String = result[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        result.replace_range(start..end, &blank);
    }
    result
}

/// Checks that this file draws exactly one complaint with these words, or none where there are no words.
#[track_caller]
fn check(name: &str, text: &str, expected: &str) {
    let complaints = complaints_about(name, text);
    let fits = if expected.is_empty() {
        complaints.is_empty()
    } else {
        complaints.len() == 1 && complaints[0].contains(expected)
    };
    assert!(fits, "{name}: {text:?}\n  expected {expected:?}\n  got {complaints:?}");
}

#[test]
fn module_edges() {
    check("pagetrace-user/src/replay/mod.rs", "use crate::live::drain;", "`replay` may not use `live`");
    check("pagetrace-user/src/live/route.rs", "use crate::{event::Event, replay};", "`live` may not use `replay`");
    check("pagetrace-user/src/live/route.rs", "use crate::{event::{self, replay}, units::Pid};", "");
    check("pagetrace-user/src/live.rs", "fn f() { crate::report::show() }", "`live` may not use `report`");
    check("pagetrace-user/src/units.rs", "use crate::event::Event;", "`units` may not use `event`");
    check("pagetrace-user/src/format/writer.rs", "use crate::format::block;", "");
    check("pagetrace-user/src/replay/mod.rs", "//! Never uses [`crate::live`].", "");
    check("pagetrace-user/src/utils.rs", "", "is not in EDGES");
    check("pagetrace-user/src/main.rs", "use crate::live;", "");
    for (module, uses) in EDGES {
        let below = EDGES.iter().take_while(|(known, _)| known != module).count();
        for used in *uses {
            let place = EDGES.iter().position(|(known, _)| known == used);
            assert!(place.is_some_and(|place| place < below), "{module} uses {used}, which does not stand below it");
        }
    }
}

#[test]
fn panics_in_product_code() {
    check("pagetrace-user/src/units.rs", "fn f() { g().unwrap(); }", "units.rs:1: `.unwrap()`");
    check("pagetrace-user/src/units.rs", "\nfn f() { g().expect(\"x\"); }", "units.rs:2: `.expect(`");
    check("pagetrace-common/src/lib.rs", "fn f() { todo!() }", "`todo!`");
    check("pagetrace-user/build.rs", "fn f() { panic!() }", "`panic!`");
    check("pagetrace-user/src/units.rs", "fn f() { g().unwrap_or(1); dont_panic!(); }", "");
    check("pagetrace-user/src/units.rs", "// panic!\nconst A: &str = \"todo!\"; /* a.unwrap() */", "");
    check("pagetrace-user/src/units.rs", "const A: char = '\"'; fn f() { g().unwrap() } // \"", "`.unwrap()`");
    check("pagetrace-user/src/units.rs", "const A: &str = r#\"\" a.unwrap() \"#;", "");
    check("pagetrace-user/src/units.rs", "fn f<'a>(x: &'a str) { x.unwrap() }", "`.unwrap()`");
    check("pagetrace-user/src/units.rs", "#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }", "");
    check(
        "pagetrace-user/src/units.rs",
        "#[cfg(test)]\nmod tests;\nfn f() { g().unwrap() }",
        "units.rs:3: `.unwrap()`",
    );
    check("pagetrace-user/src/format/tests.rs", "fn f() { g().unwrap() }", "");
    check("pagetrace-user/tests/cli.rs", "fn f() { g().unwrap() }", "");
}

#[test]
fn unsafe_places() {
    let with_comment = "// SAFETY: checked above.\nunsafe { f() }";
    check("pagetrace-user/src/units.rs", with_comment, "UNSAFE does not list");
    check("pagetrace-ebpf/src/maps.rs", with_comment, "");
    check("pagetrace-ebpf/src/maps.rs", "fn g() { unsafe { f() } }", "without a SAFETY comment");
    check("pagetrace-ebpf/src/maps.rs", "unsafe impl Sync for A {}", "without a SAFETY comment");
    check("pagetrace-ebpf/src/maps.rs", "#[unsafe(no_mangle)]\nunsafe fn f() {}", "");
    check("pagetrace-user/src/units.rs", "// unsafe\nfn not_unsafe_code() {}", "");
}

#[test]
fn long_files() {
    check("pagetrace-user/src/units.rs", &"\n".repeat(LONGEST), "");
    check("pagetrace-user/src/units.rs", &"\n".repeat(LONGEST + 1), "401 lines");
    check("pagetrace-user/tests/cli.rs", &"\n".repeat(LONGEST + 1), "401 lines");
    check("README.md", &"\n".repeat(LONGEST + 1), "");
}

#[test]
fn paths_of_one_machine() {
    let home = MACHINE_PATHS[1];
    check("README.md", &format!("see {home}x"), "exists on one machine only");
    check("xtask/tests/tidy.rs", &format!("\"{}x\"", MACHINE_PATHS[0]), "exists on one machine only");
    check("README.md", &format!("/proc/PID{home}x and /proc/{{pid}}{home}x"), "");
}

/// Pictures of the README are there, say in words what they show, and are small enough to load at once.
#[test]
fn pictures_of_the_readme() {
    const MOST_BYTES: u64 = 150 << 10;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    let pictures: Vec<(&str, &str)> = (text.split("![").skip(1))
        .map(|rest| rest.split_once("](").map(|(words, path)| (words, path.split(')').next().unwrap())).unwrap())
        .collect();
    let names: Vec<&str> = pictures.iter().map(|(_, path)| path.strip_prefix(".pictures/").unwrap()).collect();
    for (words, path) in &pictures {
        let bytes = fs::metadata(root.join(path)).unwrap().len();
        assert!(words.split(' ').count() > 5 && bytes <= MOST_BYTES, "{path}: {bytes} bytes, {words:?}");
    }
    let mut there: Vec<String> = files(&root.join(".pictures"))
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    there.retain(|name| !names.contains(&name.as_str()));
    assert!(!pictures.is_empty() && there.is_empty(), "shown nowhere: {there:?}");
}

/// The workspace's own files: not what is built, recorded or git's.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || ["target", ".git", "traces"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
