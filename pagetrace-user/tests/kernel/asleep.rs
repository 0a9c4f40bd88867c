//! A process grows while it sleeps: the kernel's own threads and other processes, named in its file.

use serde_json::Value;

use crate::accounts::{Loss, close};
use crate::procfs::{range_bytes, rss_bytes};
use crate::programs::{Target, program, range_said};
use crate::recorder::{Recorder, report, run_command};
use crate::rss::compare;
use crate::scav::scav;
use crate::stage::{Setting, Stage, wait_for};
use crate::trace::{Line, Trace};

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;

/// Bytes that the report says this actor made resident.
fn bytes_of(report: &Value, actor: &str) -> u64 {
    let actors = report["actors"].as_array().unwrap();
    let own = actors.iter().filter(|row| row["actor"].as_str().is_some_and(|name| name.starts_with(actor)));
    let bytes: i64 = own.map(|row| row["bytes"].as_i64().unwrap()).sum();
    u64::try_from(bytes).unwrap()
}

fn by<'a>(trace: &'a Trace, comm: &'a str) -> impl Iterator<Item = &'a Line> {
    trace.lines.iter().filter(move |line| line.actor.as_ref().is_some_and(|actor| actor.comm == comm))
}

#[test]
fn khugepaged_fills_what_was_given_back() {
    const BLOCKS: u64 = 48;
    let stage = Stage::enter("asleep");
    let mut target = Target::start("asleep", [BLOCKS.to_string()]).ready();
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    let range = range_said(&target.act());

    let pace = "/sys/kernel/mm/transparent_hugepage/khugepaged";
    let _settings = [
        Setting::set(format!("{pace}/pages_to_scan"), "100000"),
        Setting::set(format!("{pace}/max_ptes_none"), "511"),
        Setting::set(format!("{pace}/alloc_sleep_millisecs"), "50"),
        Setting::set(format!("{pace}/scan_sleep_millisecs"), "50"),
    ];
    wait_for("khugepaged to fill every block", || {
        (range_bytes(target.pid(), range) == (BLOCKS * HUGE, BLOCKS * HUGE)).then_some(())
    });
    target.freeze();
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Nothing);
    compare(&recording, target.pid());

    // One page of each block was there, 511 are new.
    let grown = BLOCKS * (HUGE - PAGE);
    let report = report(&recording.file());
    assert_eq!(bytes_of(&report, "khugepaged"), grown, "khugepaged's amount: {}", report["actors"]);
    let returned: Vec<&Value> =
        report["returned"].as_array().unwrap().iter().filter(|line| line["by"] == "khugepaged").collect();
    assert_eq!(returned.len(), 1, "{returned:?}");
    assert_eq!(returned[0]["bytes"], grown, "all of it had been given back: {returned:?}");
    assert_eq!(returned[0]["addr"], format!("{:#x}", range.0 + PAGE));
    assert_eq!(returned[0]["runs"], BLOCKS);
    assert!(returned[0]["fix"].as_str().unwrap().contains("MADV_NOHUGEPAGE"));
    let giver = returned[0]["given_back_by"].as_array().unwrap();
    assert!(giver.iter().any(|frame| frame["name"] == "main" && frame["line"].as_u64() > Some(0)), "{giver:?}");
    let scav = scav(&recording);
    assert_eq!(scav["by"], serde_json::json!({ "khugepaged": grown }), "{scav:#}");
    assert_eq!((scav["given_bytes"].as_u64(), scav["faults"].as_u64()), (Some(grown), Some(0)), "{scav:#}");
    let collapses = traces[0].of("page", "scan").filter(|line| line.phase.as_deref() == Some("collapse"));
    assert!(collapses.count() as u64 >= BLOCKS, "a collapse for each block");
    for line in by(&traces[0], "khugepaged") {
        assert_eq!(line.actor.as_ref().map(|actor| actor.tid), Some(line.tid), "{line:?}");
        assert_ne!(line.actor.as_ref().map(|actor| actor.tgid), Some(target.pid()), "{line:?}");
    }
}

#[test]
fn another_process_writes_there() {
    const BYTES: u64 = 300 * PAGE;
    let stage = Stage::enter("asleep");
    let target = Target::start("touch", ["sleep", &(8 << 20).to_string()]);
    let range = range_said(&target.await_line("ready"));
    let before = rss_bytes(target.pid());
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());

    let mut writer = std::process::Command::new(program("remote"));
    writer.arg("write").arg(target.pid().to_string()).arg(format!("{:x}", range.0)).arg(BYTES.to_string());
    let ran = run_command(&mut writer);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(rss_bytes(target.pid()), before + BYTES);

    target.freeze();
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Nothing);
    compare(&recording, target.pid());
    let report = report(&recording.file());
    assert_eq!(bytes_of(&report, "remote"), BYTES, "the writer's amount: {}", report["actors"]);
    assert!(by(&traces[0], "remote").count() > 0, "events name the writer");
}

#[test]
fn another_process_advises() {
    const BYTES: u64 = 16 * PAGE;
    const MADV_COLD: &str = "20";
    const MADV_PAGEOUT: &str = "21";
    let stage = Stage::enter("asleep");
    let target = Target::start("touch", ["sleep", &(1 << 20).to_string()]);
    let range = range_said(&target.await_line("ready"));
    let recorder = Recorder::of_pid(&stage.join("traces"), target.pid());
    for advice in [MADV_COLD, MADV_PAGEOUT] {
        let mut adviser = std::process::Command::new(program("remote"));
        adviser
            .arg("advise")
            .arg(target.pid().to_string())
            .arg(format!("{:x}", range.0))
            .arg(BYTES.to_string())
            .arg(advice);
        let ran = run_command(&mut adviser);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let recording = recorder.interrupt();
    let traces = close(&recording, Loss::Nothing);
    let advised: Vec<&Line> =
        traces[0].lines.iter().filter(|line| line.call.as_deref() == Some("process_madvise")).collect();
    let told: Vec<_> = advised
        .iter()
        .map(|line| {
            let actor = line.actor.as_ref().map(|actor| actor.comm.as_str());
            (line.kind.as_str(), line.advice.as_deref(), line.addr, line.bytes, actor)
        })
        .collect();
    let (addr, bytes, actor) = (Some(range.0), Some(BYTES), Some("remote"));
    assert_eq!(told, [("advise", Some("cold"), addr, bytes, actor), ("scav", Some("pageout"), addr, bytes, actor)]);
}
