//! The attach points: which program hooks where, and taking all of them away again.

use aya::Ebpf;
use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::trace_point::TracePointLink;
use aya::programs::{RawTracePoint, TracePoint};

use crate::event::Probe;
use crate::failure::Failure;
use crate::live::load::{failed, program};

/// Raw tracepoints: program, tracepoint, whether recording makes no sense without it.
const RAW: &[(&str, &str, bool)] = &[
    ("pt_fault_user", "page_fault_user", true),
    ("pt_fault_kernel", "page_fault_kernel", true),
    ("pt_page_alloc", "mm_page_alloc", true),
    ("pt_page_free", "mm_page_free", true),
    ("pt_rss_stat", "rss_stat", true),
    ("pt_fork", "sched_process_fork", true),
    ("pt_exec", "sched_process_exec", true),
    ("pt_exit", "sched_process_exit", true),
    ("pt_exit_mmap", "exit_mmap", true),
    ("pt_collapse", "mm_collapse_huge_page", false),
    ("pt_khugepaged", "mm_khugepaged_scan_pmd", false),
    ("pt_reclaim_begin", "mm_vmscan_direct_reclaim_begin", false),
    ("pt_reclaim_end", "mm_vmscan_direct_reclaim_end", false),
    ("pt_memcg_reclaim_begin", "mm_vmscan_memcg_reclaim_begin", false),
    ("pt_memcg_reclaim_end", "mm_vmscan_memcg_reclaim_end", false),
    ("pt_migrate", "mm_migrate_pages", false),
    ("pt_oom", "mark_victim", false),
];

/// System calls of the vma layer: the two programs are attached at each one's entry and exit.
const CALLS: &[&str] = &["mmap", "munmap", "mremap", "brk", "madvise", "process_madvise", "mprotect", "shmat", "shmdt"];
const CALL_ENTER: &str = "pt_call_enter";
const CALL_EXIT: &str = "pt_call_exit";
/// An attach point: dropping it detaches.
enum Attached {
    Raw(#[expect(dead_code, reason = "held for its end")] RawTracePointLink),
    Call(#[expect(dead_code, reason = "held for its end")] TracePointLink),
}

/// Everything that is attached. Dropping it detaches.
pub struct AttachPoints {
    links: Vec<Attached>,
    probes: Vec<Probe>,
}

impl AttachPoints {
    /// Loads the programs and attaches them.
    ///
    /// *Errors.* One that recording cannot do without is refused; of the others [`AttachPoints::probes`] tells why.
    pub fn all(ebpf: &mut Ebpf) -> Result<AttachPoints, Failure> {
        let mut links = Vec::new();
        let mut probes = attach_raw(ebpf, &mut links)?;
        probes.extend(attach_calls(ebpf, &mut links)?);
        Ok(AttachPoints { links, probes })
    }

    #[must_use]
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }
}

impl Drop for AttachPoints {
    /// Detaches from all at once: the kernel waits for every CPU at each, and the waits overlap.
    fn drop(&mut self) {
        let links = std::mem::take(&mut self.links);
        std::thread::scope(|scope| {
            for link in links {
                // Without a thread the link is dropped here, with what the thread was to do.
                let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(link));
            }
        });
    }
}

fn attach_raw(ebpf: &mut Ebpf, links: &mut Vec<Attached>) -> Result<Vec<Probe>, Failure> {
    let mut probes = Vec::new();
    for (name, tracepoint, needed) in RAW {
        let program: &mut RawTracePoint = program(ebpf, name)?;
        let attached = program.load().and_then(|()| program.attach(tracepoint)).and_then(|id| program.take_link(id));
        match attached.map(|link| links.push(Attached::Raw(link))) {
            Ok(()) => probes.push(Probe { name: (*tracepoint).to_owned(), attached: true, reason: String::new() }),
            Err(error) if *needed => return Err(failed(&format!("attach to the tracepoint {tracepoint}"), &error)),
            Err(error) => {
                probes.push(Probe { name: (*tracepoint).to_owned(), attached: false, reason: reason(&error) });
            }
        }
    }
    Ok(probes)
}

fn attach_calls(ebpf: &mut Ebpf, links: &mut Vec<Attached>) -> Result<Vec<Probe>, Failure> {
    let mut probes = Vec::new();
    for (name, prefix) in [(CALL_ENTER, "sys_enter"), (CALL_EXIT, "sys_exit")] {
        let program: &mut TracePoint = program(ebpf, name)?;
        program.load().map_err(|error| failed("load the programs for system calls", &error))?;
        for call in CALLS {
            let tracepoint = format!("{prefix}_{call}");
            let attached = program.attach("syscalls", &tracepoint).and_then(|id| program.take_link(id));
            match attached.map(|link| links.push(Attached::Call(link))) {
                Ok(()) => probes.push(Probe { name: tracepoint, attached: true, reason: String::new() }),
                Err(error) if *call == "mmap" => {
                    return Err(failed(&format!("attach to the tracepoint syscalls:{tracepoint}"), &error));
                }
                Err(error) => probes.push(Probe { name: tracepoint, attached: false, reason: reason(&error) }),
            }
        }
    }
    Ok(probes)
}

/// An error with all its causes, in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}
