//! Frame numbers are true: the last one that a trace tells for a page is the one in `/proc/PID/pagemap`.

use std::collections::{BTreeMap, BTreeSet};

use crate::accounts::{Loss, close};
use crate::procfs::{frames, mappings};
use crate::programs::{Target, children_said, range_said};
use crate::recorder::Recorder;
use crate::stage::Stage;
use crate::trace::Trace;

const PAGE: u64 = 4096;

/// Address and frame number of every page that an event of the kernel tells; readings of /proc are left out.
fn from_events(trace: &Trace) -> BTreeMap<u64, u64> {
    let mut pages = BTreeMap::new();
    for line in trace.of("page", "alloc") {
        if let (Some(addr), Some(pfn), Some(count)) = (line.addr, line.pfn, line.npages) {
            pages.extend((0..count).map(|i| (addr + i * PAGE, pfn + i)));
        }
    }
    pages
}

/// The same from the reading at the start.
fn from_baseline(trace: &Trace) -> BTreeMap<u64, u64> {
    let mut readings = trace.of("page", "sync").filter(|line| line.why.as_deref() == Some("start"));
    let start = readings.find(|line| line.maps == Some(false)).expect("a reading of the pages at the start");
    let mut pages = BTreeMap::new();
    for line in trace.of("page", "baseline").filter(|line| line.ts == start.ts && line.swapped != Some(true)) {
        let (addr, pfn) = (line.addr.unwrap(), line.pfn.expect("root may read frame numbers"));
        pages.extend((0..line.npages.unwrap()).map(|i| (addr + i * PAGE, pfn + i)));
    }
    pages
}

/// Asserts that the trace knows every resident page of a range by the same frame as the kernel.
fn assert_true(known: &BTreeMap<u64, u64>, kernel: &BTreeMap<u64, u64>, what: &str) {
    let wrong: Vec<_> = kernel
        .iter()
        .filter(|(addr, pfn)| known.get(addr) != Some(pfn))
        .map(|(addr, pfn)| format!("{addr:#x}: {:?}, pagemap {pfn:#x}", known.get(addr)))
        .collect();
    assert!(wrong.is_empty(), "{what}: {} of {} pages: {:#?}", wrong.len(), kernel.len(), &wrong[..wrong.len().min(8)]);
}

/// No frame goes back that was not known to be the process's.
fn assert_frees_are_owned(trace: &Trace) {
    let mut known: BTreeSet<u64> = BTreeSet::new();
    for line in &trace.lines {
        let Some(pfn) = line.pfn else { continue };
        let run = pfn..pfn + line.npages.unwrap();
        match line.kind.as_str() {
            "alloc" | "baseline" => known.extend(run),
            "free" => assert!(run.clone().any(|pfn| known.contains(&pfn)), "never the process's: {line:?}"),
            _ => {}
        }
    }
}

fn check(mode: &str) {
    let stage = Stage::enter("frames");
    let mut target = Target::start("touch", [mode.as_ref(), stage.path().as_os_str()]).ready();
    let recorder = Recorder::start(&stage.join("traces"), ["-f", "--pid", &target.pid().to_string()]);
    let said = target.act();
    target.freeze();
    let recording = recorder.interrupt();
    close(&recording, Loss::Nothing);

    let trace = Trace::dump(&recording.file_of(target.pid()));
    let (start, end) = range_said(&said);
    let kernel = frames(target.pid(), (start, end));
    assert_eq!(kernel.len() as u64, (end - start) / PAGE, "all of the range is resident");
    assert!(kernel.values().all(|pfn| *pfn != 0), "root may read frame numbers");
    assert_true(&from_events(&trace), &kernel, mode);
    assert_frees_are_owned(&trace);

    for child in children_said(&said) {
        // What it has from its parent is its baseline; what it copied, and what its parent left to it, is in events or
        // there.
        let trace = Trace::dump(&recording.file_of(child));
        let mut known = from_baseline(&trace);
        let copied = from_events(&trace);
        assert!(copied.keys().filter(|addr| (start..end).contains(*addr)).count() >= 512, "the child's own copies");
        known.extend(copied);
        assert_true(&known, &frames(child, (start, end)), "the child");
    }
}

#[test]
fn of_base_pages() {
    check("mixed");
}

#[test]
fn of_huge_pages() {
    check("thp");
}

#[test]
fn of_shared_memory() {
    check("shmem");
}

#[test]
fn of_copied_pages() {
    check("cow");
}

#[test]
fn of_everything_that_was_there_at_the_start() {
    let stage = Stage::enter("frames");
    let mut target = Target::start("touch", ["mixed".as_ref(), stage.path().as_os_str()]).ready();
    target.act();
    target.freeze();
    let recording = Recorder::of_pid(&stage.join("traces"), target.pid()).interrupt();
    let traces = close(&recording, Loss::Nothing);

    let known = from_baseline(&traces[0]);
    let mut pages = 0;
    for (range, name) in mappings(target.pid()) {
        // The kernel's own pages, in every process.
        if ["[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"].contains(&name.as_str()) {
            continue;
        }
        // The zero page is not resident: nobody's, and not in the counters.
        let kernel: BTreeMap<u64, u64> = frames(target.pid(), range)
            .into_iter()
            .filter(|(addr, pfn)| known.contains_key(addr) || !is_zero_page(*pfn))
            .collect();
        assert_true(&known, &kernel, &name);
        pages += kernel.len();
    }
    assert!(pages > 1000, "{pages} pages compared");
}

/// Whether a frame is the kernel's page of zeros, by `/proc/kpageflags`.
fn is_zero_page(pfn: u64) -> bool {
    use std::os::unix::fs::FileExt;
    const KPF_ZERO_PAGE: u32 = 24;
    let mut flags = [0; 8];
    std::fs::File::open("/proc/kpageflags").unwrap().read_exact_at(&mut flags, pfn * 8).unwrap();
    u64::from_le_bytes(flags) >> KPF_ZERO_PAGE & 1 == 1
}
