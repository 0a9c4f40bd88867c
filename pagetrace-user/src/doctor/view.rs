//! A report as text and as JSON.

use std::fmt::Write;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::doctor::{Check, Lack, Looked, Report, Status, allocators, page_heap};
use crate::failure::Code;
use crate::host::process::{Process, Width};

/// A table, and a sentence that sums it up.
pub fn text(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for check in &report.checks {
        table.add_row([status_word(check.status), check.name, &with_fix(&check.found, &check.fix)]);
    }
    for Looked { pid, found, page_heap, page_heaps, allocators } in &report.targets {
        let (word, said) = match found {
            Ok(process) => {
                let heap = page_heap.as_ref().map(page_heap::text).unwrap_or_default();
                let heaps = page_heap::text_of_libraries(page_heaps, page_heap.is_some());
                let objects: String = allocators.iter().map(allocators::text).collect();
                ("ok", process_text(process) + &printable(&(heap + &heaps + &objects)))
            }
            Err(unfit) => ("MISSING", with_fix(&unfit.why(), &unfit.fix())),
        };
        table.add_row([word, &format!("process {pid}"), &said]);
    }
    let mut text = table.trim_fmt();
    let sum = match report.code() {
        Code::Complete => "Recording can work on this host.".to_owned(),
        code => format!("Recording cannot work: see what is MISSING (exit code {}).", code as u8),
    };
    // Writing to a String does not fail.
    let _ = writeln!(text, "\n\n{sum}");
    text
}

/// What was found, and under it what mends it.
fn with_fix(found: &str, fix: &str) -> String {
    let found = printable(found);
    if fix.is_empty() { found } else { format!("{found}\nfix: {}", printable(fix)) }
}

fn process_text(process: &Process) -> String {
    let mut text = printable(&process.comm);
    let exe = process.exe.as_ref().map(|exe| printable(&exe.to_string_lossy()));
    let _ = write!(text, ", {}", exe.as_deref().unwrap_or("exe not readable"));
    if let Some(rss) = process.rss {
        let _ = write!(text, ", {rss} resident");
    }
    if process.width == Some(Width::Bits32) {
        text.push_str("\n32-bit: its system calls are not seen, its pages are");
    }
    text
}

/// The same without control characters, new lines excepted: names are the processes' own choice.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Note => "note",
        Status::Missing(_) => "MISSING",
    }
}

/// One object on one line.
pub fn json(report: &Report) -> String {
    let targets: Vec<Value> = report.targets.iter().map(target_json).collect();
    let checks: Vec<Value> = report.checks.iter().map(check_json).collect();
    let code = report.code();
    let whole = json!({
        "kind": "doctor",
        "can_record": code == Code::Complete,
        "exit_code": code as u8,
        "kernel": report.kernel,
        "boot_id": report.boot_id,
        "checks": checks,
        "targets": targets,
    });
    format!("{whole}\n")
}

fn check_json(check: &Check) -> Value {
    let lacks = match check.status {
        Status::Missing(Lack::Kernel) => Some("kernel"),
        Status::Missing(Lack::Privilege) => Some("privilege"),
        Status::Missing(Lack::SetUp) => Some("set-up"),
        Status::Ok | Status::Note => None,
    };
    let status = status_word(check.status).to_lowercase();
    json!({ "check": check.name, "status": status, "lacks": lacks, "found": check.found, "fix": check.fix })
}

fn target_json(Looked { pid, found, page_heap, page_heaps, allocators }: &Looked) -> Value {
    match found {
        Ok(process) => json!({
            "tgid": pid.0,
            "status": "ok",
            "comm": process.comm,
            "exe": process.exe.as_ref().map(|exe| exe.to_string_lossy()),
            "rss_bytes": process.rss.map(|rss| rss.0),
            "bits": process.width.map(Width::bits),
            "page_heap": page_heap.as_ref().map(page_heap::value),
            "page_heaps": page_heaps.iter().map(page_heap::value_of_library).collect::<Vec<_>>(),
            "allocators": allocators.iter().map(allocators::value).collect::<Vec<_>>(),
        }),
        Err(unfit) => json!({ "tgid": pid.0, "status": "missing", "why": unfit.why(), "fix": unfit.fix() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::host::process::Unfit;
    use crate::units::{Bytes, Pid};

    fn report() -> Report {
        Report {
            kernel: "6.12.1".into(),
            boot_id: "id".into(),
            checks: vec![
                Check::ok("kernel", "6.12.1"),
                Check::missing("tracefs", Lack::SetUp, "not mounted", "mount it"),
            ],
            targets: vec![
                Looked {
                    pid: Pid(7),
                    found: Ok(Process {
                        pid: Pid(7),
                        comm: "ev\u{1b}il".into(),
                        exe: Some("/bin/evil".into()),
                        rss: Some(Bytes(4096)),
                        width: Some(Width::Bits32),
                    }),
                    page_heap: None,
                    page_heaps: Vec::new(),
                    allocators: Vec::new(),
                },
                Looked {
                    pid: Pid(8),
                    found: Err(Unfit::Absent),
                    page_heap: None,
                    page_heaps: Vec::new(),
                    allocators: Vec::new(),
                },
            ],
        }
    }

    #[test]
    fn text_shows_every_row_its_remedy_and_the_sum() {
        let text = text(&report());
        for part in ["kernel", "6.12.1", "MISSING", "fix: mount it", "process 7", "32-bit", "process 8", "exit code 3"]
        {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "names do not reach the terminal raw");
    }

    #[test]
    fn json_has_stable_keys() {
        let text = json(&report());
        assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["can_record"], false);
        assert_eq!(value["exit_code"], 3);
        assert_eq!(value["checks"][0], json!({"check":"kernel","status":"ok","lacks":null,"found":"6.12.1","fix":""}));
        assert_eq!(value["checks"][1]["lacks"], "set-up");
        assert_eq!(value["targets"][0]["rss_bytes"], 4096);
        assert_eq!(value["targets"][0]["bits"], 32);
        assert_eq!(value["targets"][1]["status"], "missing");
    }
}
