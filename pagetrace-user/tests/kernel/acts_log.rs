//! The log of `acts.c` against a trace: what each thread did is exactly what the trace says it did.
//!
//! A thread's log begins and ends with an `mprotect` of a page that only it uses; between these two its events and
//! the log are the same sequence. Faults are compared inside the ranges that the program mapped for its acts: what
//! its stack and its libraries need is its own affair.

use std::collections::BTreeMap;
use std::path::Path;

use crate::trace::{Line, Trace};

const PAGE: u64 = 4096;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const PROT_EXEC: u64 = 4;

/// A vma event, as far as log and trace both tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct VmaAct {
    kind: &'static str,
    call: &'static str,
    addr: u64,
    npages: u64,
    detail: String,
}

/// A fault and the frame that it brought.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Touch {
    addr: u64,
    access: String,
    kernel: bool,
    /// `anon` or `shmem` for a new frame; `none`.
    frame: String,
}

#[derive(Debug, Default)]
struct ThreadLog {
    vma: Vec<VmaAct>,
    touches: Vec<Touch>,
}

/// Everything that a process logged.
#[derive(Debug, Default)]
pub struct ActsLog {
    threads: BTreeMap<u32, ThreadLog>,
    ranges: Vec<(u64, u64)>,
}

const CALLS: [&str; 8] = ["mmap", "munmap", "mremap", "brk", "madvise", "mprotect", "shmat", "shmdt"];
/// Bytes of the segments that `acts.c` attaches.
const SEGMENT: u64 = 3 * PAGE;

impl ActsLog {
    /// Reads `DIRECTORY/PID.log`.
    pub fn read(directory: &Path, pid: u32) -> ActsLog {
        let path = directory.join(format!("{pid}.log"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut log = ActsLog::default();
        let mut heap_end = 0;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let tid: u32 = words[1].parse().unwrap();
            let number = |at: usize| u64::from_str_radix(words[at], 16).unwrap();
            match words[0] {
                "C" => {
                    let args = [5, 6, 7, 8, 9, 10].map(number);
                    let result = words[11]
                        .strip_prefix('-')
                        .map_or_else(|| Ok(number(11)), |errno| Err(errno.parse::<i64>().unwrap()));
                    let call = CALLS.into_iter().find(|call| *call == words[4]).unwrap();
                    if let Ok(made) = result {
                        match call {
                            "mmap" => log.ranges.push((made, made + up(args[1]))),
                            "mremap" => log.ranges.push((made, made + up(args[2]))),
                            "shmat" => log.ranges.push((made, made + SEGMENT)),
                            "brk" if heap_end != 0 && made > heap_end => log.ranges.push((heap_end, made)),
                            _ => {}
                        }
                    }
                    let act = expected(call, args, result, &mut heap_end);
                    log.threads.entry(tid).or_default().vma.push(act);
                }
                "T" => {
                    let frame = if words[7] == "file" { "none" } else { words[7] };
                    let touch = Touch {
                        addr: number(4),
                        access: words[5].to_owned(),
                        kernel: words[6] == "k",
                        frame: frame.to_owned(),
                    };
                    log.threads.entry(tid).or_default().touches.push(touch);
                }
                other => panic!("{other} in {}", path.display()),
            }
        }
        assert!(!log.threads.is_empty(), "{} is empty", path.display());
        log
    }

    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Asserts that the trace tells exactly this.
    pub fn assert_told_by(&self, trace: &Trace) {
        for (&tid, thread) in &self.threads {
            let of_thread: Vec<&Line> =
                trace.lines.iter().filter(|line| line.tid == tid && line.actor.is_none()).collect();
            let told: Vec<(u64, VmaAct)> = of_thread.iter().filter_map(|line| Some((line.ts, told(line)?))).collect();
            let first = told.iter().position(|(_, act)| Some(act) == thread.vma.first());
            let last = told.iter().rposition(|(_, act)| Some(act) == thread.vma.last());
            let (Some(first), Some(last)) = (first, last) else {
                panic!("thread {tid}: no marks {:?} in {told:#?}", (thread.vma.first(), thread.vma.last()));
            };
            let (begin, end) = (told[first].0, told[last].0);
            let mut traced: Vec<VmaAct> = told[first..=last].iter().map(|(_, act)| act.clone()).collect();
            let mut logged = thread.vma.clone();
            // What a mapping replaced is derived from the mappings known at that point. A reading among the acts (a
            // child acts as soon as it is) may know the mappings of a later moment.
            if trace.of("page", "sync").any(|line| line.maps == Some(true) && begin <= line.ts && line.ts <= end) {
                for act in traced.iter_mut().chain(&mut logged) {
                    act.detail.truncate(act.detail.find(" in place of ").unwrap_or(act.detail.len()));
                }
            }
            assert_same(&format!("vma events of thread {tid}"), &logged, &traced);

            let inside: Vec<&Line> = of_thread
                .into_iter()
                .filter(|line| begin <= line.ts && line.ts <= end && line.layer == "page" && self.covers(line.addr))
                .collect();
            let touches = touches_told(&inside);
            assert_same(
                &format!("faults of thread {tid}, and their frames"),
                &thread.touches.iter().collect::<Vec<_>>(),
                &touches.iter().collect::<Vec<_>>(),
            );
        }
    }

    fn covers(&self, addr: Option<u64>) -> bool {
        addr.is_some_and(|addr| self.ranges.iter().any(|(start, end)| *start <= addr && addr < *end))
    }
}

/// Asserts that two sequences are one, and shows the first place where they part.
fn assert_same<T: PartialEq + std::fmt::Debug>(what: &str, logged: &[T], traced: &[T]) {
    if logged == traced {
        return;
    }
    let at = logged.iter().zip(traced).take_while(|(a, b)| a == b).count();
    let near = |all: &[T]| format!("{:#?}", &all[at.saturating_sub(1).min(all.len())..(at + 3).min(all.len())]);
    panic!(
        "{what}: {} logged, {} traced; they part at {at}\nlogged: {}\ntraced: {}",
        logged.len(),
        traced.len(),
        near(logged),
        near(traced)
    );
}

fn up(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}

/// The event that a call must give. `heap_end` is where the last `brk` left the heap's end.
fn expected(call: &'static str, args: [u64; 6], result: Result<u64, i64>, heap_end: &mut u64) -> VmaAct {
    let act = |kind, addr, bytes: u64, detail| VmaAct { kind, call, addr, npages: bytes.div_ceil(PAGE), detail };
    let made = match result {
        Ok(made) => made,
        Err(errno) => {
            // As asked: shmat takes the address second, and of shmat and shmdt nobody tells a length.
            let (addr, bytes) = match call {
                "shmat" => (args[1], 0),
                "shmdt" => (args[0], 0),
                _ => (args[0], args[1]),
            };
            return act("failed", addr, bytes, format!("errno {errno}"));
        }
    };
    match call {
        "mmap" => {
            let file = if args[3] & MAP_ANONYMOUS != 0 {
                String::new()
            } else if args[2] & PROT_EXEC != 0 {
                format!(" of code at {}", args[5])
            } else {
                format!(" of data at {}", args[5])
            };
            let replaced =
                if args[3] & MAP_FIXED != 0 { format!(" in place of {}", up(args[1])) } else { String::new() };
            act("alloc", made, args[1], format!("prot {}{file}{replaced}", args[2]))
        }
        "munmap" => act("free", args[0], args[1], String::new()),
        "mremap" => act("remap", made, args[2], format!("from {:x} {}", args[0], up(args[1]))),
        "brk" => {
            let asked = args[0];
            if asked != 0 && made != asked {
                // The kernel answers with the end as it is; the C library makes ENOMEM of it.
                return act("failed", asked, 0, "errno 12".to_owned());
            }
            let old = if *heap_end == 0 { made } else { *heap_end };
            *heap_end = made;
            let kind = if made > old {
                "alloc"
            } else if made < old {
                "free"
            } else {
                "brk"
            };
            let pages = old.div_ceil(PAGE).abs_diff(made.div_ceil(PAGE));
            act(kind, old.min(made), pages * PAGE, format!("{old:x} to {made:x}"))
        }
        "madvise" => {
            let (kind, name) = match args[2] {
                0 => ("advise", "normal"),
                1 => ("advise", "random"),
                3 => ("advise", "willneed"),
                4 => ("scav", "dontneed"),
                8 => ("scav", "free"),
                9 => ("scav", "remove"),
                20 => ("advise", "cold"),
                24 => ("scav", "dontneed_locked"),
                other => panic!("advice {other} is not known here"),
            };
            act(kind, args[0], args[1], name.to_owned())
        }
        "mprotect" => act("protect", args[0], args[1], format!("prot {}", args[2])),
        "shmat" => act("alloc", made, SEGMENT, String::new()),
        "shmdt" => act("free", args[0], SEGMENT, String::new()),
        other => panic!("call {other} is not known here"),
    }
}

/// What a line of the trace tells; `None` for what is no call.
fn told(line: &Line) -> Option<VmaAct> {
    const KINDS: [&str; 8] = ["alloc", "free", "scav", "advise", "brk", "remap", "protect", "failed"];
    if line.layer != "vma" {
        return None;
    }
    let kind = KINDS.into_iter().find(|kind| *kind == line.kind)?;
    let call = CALLS.into_iter().find(|call| Some(*call) == line.call.as_deref())?;
    let detail = match (kind, call) {
        ("failed", _) => format!("errno {}", line.errno?),
        ("alloc", "mmap") => {
            let file = match line.path.as_deref() {
                None => String::new(),
                Some(path) if path.contains("memfd:acts-code") => format!(" of code at {}", line.offset?),
                Some(path) if path.ends_with("/data") => format!(" of data at {}", line.offset?),
                Some(other) => format!(" of {other} at {}", line.offset?),
            };
            let replaced = line.replaced.as_ref().map_or_else(String::new, |ranges| {
                format!(" in place of {}", ranges.iter().map(|range| range["bytes"].as_u64().unwrap()).sum::<u64>())
            });
            format!("prot {}{file}{replaced}", line.prot?)
        }
        (_, "mremap") => format!("from {:x} {}", line.old_addr?, line.old_bytes?),
        (_, "brk") => format!("{:x} to {:x}", line.old_addr?, line.new_addr?),
        (_, "madvise") => line.advice.clone()?,
        (_, "mprotect") => format!("prot {}", line.prot?),
        _ => String::new(),
    };
    Some(VmaAct { kind, call, addr: line.addr?, npages: line.npages?, detail })
}

/// Each fault with the frame that follows it before the thread's next fault.
fn touches_told(lines: &[&Line]) -> Vec<Touch> {
    let mut touches: Vec<Touch> = Vec::new();
    for line in lines {
        match line.kind.as_str() {
            "fault" => touches.push(Touch {
                addr: line.addr.unwrap(),
                access: line.access.clone().unwrap(),
                kernel: line.kernel.unwrap(),
                frame: "none".to_owned(),
            }),
            "alloc" => {
                let page = line.addr.unwrap();
                let fault =
                    touches.last_mut().unwrap_or_else(|| panic!("a frame with an address before any fault: {line:?}"));
                assert_eq!(page, fault.addr & !(PAGE - 1), "the frame's page is the fault's: {fault:?} {line:?}");
                assert_eq!(fault.frame, "none", "one frame a fault: {fault:?} {line:?}");
                assert_eq!((line.order, line.npages), (Some(0), Some(1)), "one base page: {line:?}");
                assert!(line.pfn.is_some_and(|pfn| pfn != 0), "a frame has a number: {line:?}");
                fault.frame = line.member.clone().unwrap();
            }
            _ => {}
        }
    }
    touches
}

/// Calls and failed calls of each kind in a trace, from the first instruction of the last program it ran.
pub fn count_calls(trace: &Trace, counts: &mut BTreeMap<String, (u64, u64)>) {
    let from = trace.lines.iter().rposition(|line| line.kind == "exec").unwrap_or(0);
    for line in &trace.lines[from..] {
        let Some(call) = line.call.as_ref().filter(|_| line.layer == "vma") else { continue };
        let (calls, errors) = counts.entry(call.clone()).or_default();
        *calls += 1;
        // A refused brk is an answer, not an error, to strace.
        *errors += u64::from(line.kind == "failed" && call != "brk");
    }
}

/// The same, from the table of `strace -c`.
pub fn count_strace(table: &str) -> BTreeMap<String, (u64, u64)> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut counts = BTreeMap::new();
    for row in rows.filter(|row| row.last().is_some_and(|name| CALLS.contains(name))) {
        let errors = if row.len() == 6 { row[4].parse().unwrap() } else { 0 };
        counts.insert(row[row.len() - 1].to_owned(), (row[3].parse().unwrap(), errors));
    }
    counts
}
