//! Records to events: the only place that knows both the kernel's words and [`Body`].
//!
//! What needs more than the record (paths, the sizes of shared segments, names of actors) is asked of the caller
//! through [`Decoded`].

pub mod heap;
mod image;
mod object;
mod stack;

use pagetrace_common::record::{self, HEAD_WORDS};

use crate::event::{Access, Body, Call, HeapRun, Member, Scan, ScanKind, StackOf, Start};
use crate::live::merge::Words;
use crate::units::{Bytes, Comm, Nanos, Pages, Pfn, Pid, Range, Tid};
pub use image::{FileKey, Image};

/// Any record, decoded.
#[derive(Debug)]
pub struct Decoded {
    pub owner: u32,
    pub cpu: u16,
    pub tid: Tid,
    pub tgid: Pid,
    /// The acting task's name, where the record has it.
    pub comm: Option<Comm>,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// The owner came into view.
    Intro {
        mm: u64,
        start_boottime: u64,
        parent: Pid,
        comm: Comm,
        how: Start,
        /// What an exec left mapped, if the record tells it.
        image: Option<Image>,
    },
    /// An event as it is.
    Event(Body),
    /// A page heap did something; `heap` is the address of the heap itself, where the point tells it.
    Heap {
        run: HeapRun,
        heap: Option<u64>,
        /// It is the Go runtime's.
        is_go: bool,
    },
    /// An `mmap` of a file, which has to be named.
    MapOfFile {
        range: Range,
        prot: u32,
        flags: u32,
        offset: Bytes,
        began: Nanos,
        file: FileKey,
    },
    /// A shared segment came (of `bytes`; 0 where the kernel could not tell) or went.
    Attach {
        addr: u64,
        bytes: u64,
        prot: u32,
        fixed: bool,
        began: Nanos,
    },
    Detach {
        addr: u64,
        began: Nanos,
    },
    /// Where the thread was in its own code at its last record of the kind; what its stack holds is in the record's tail.
    Stack {
        of: StackOf,
        ip: u64,
        sp: u64,
        bp: u64,
        /// Where the memory lies that the tail is a copy of.
        from: u64,
        /// The tail is addresses of instructions.
        is_walked: bool,
        /// The tail is all that there is of the stack.
        is_whole: bool,
        /// A call just returned to the instruction pointer.
        has_returned: bool,
        /// What the thread did in the kernel came before it.
        has_kernel: bool,
        /// Where the memory holds an address of the kernel's own, and what the program had there.
        mended: Option<(u64, u64)>,
    },
    /// The same in the kernel: addresses in the record's tail. The thread's next stack goes on where this one begins, unless it
    /// is alone.
    KernelStack {
        of: StackOf,
        is_alone: bool,
    },
    /// A value that no event has: a defect of ours, or another version of the programs.
    Unknown,
}

/// Numbers of the calls on x86-64.
mod nr {
    pub const MMAP: u64 = 9;
    pub const MPROTECT: u64 = 10;
    pub const MUNMAP: u64 = 11;
    pub const BRK: u64 = 12;
    pub const MREMAP: u64 = 25;
    pub const MADVISE: u64 = 28;
    pub const SHMAT: u64 = 30;
    pub const SHMDT: u64 = 67;
    pub const PROCESS_MADVISE: u64 = 440;
}

const ENOMEM: u32 = 12;
/// include/uapi/linux/shm.h.
const SHM_RDONLY: u64 = 0o10000;
const SHM_REMAP: u64 = 0o40000;
/// The last page of addresses stands for errors (include/linux/err.h).
const MAX_ERRNO: u64 = 4095;

/// Decodes a record: its words, and its tail if its kind has one.
#[must_use]
pub fn decode(ts: Nanos, words: &Words, tail: &[u64]) -> Decoded {
    let [_, head, acting, ..] = *words;
    let kind = head as u8;
    let flags = (head >> 8) as u8;
    let word = |index: usize| words.get(HEAD_WORDS + index).copied().unwrap_or(0);
    let mut comm = None;
    let what = match kind {
        record::INTRO => What::Intro {
            mm: word(0),
            start_boottime: word(1),
            parent: Pid(word(2) as u32),
            comm: comm_of(word(3), word(4)),
            how: Start::try_from(flags).unwrap_or(Start::Running),
            image: Image::of((word(7) >> 32, word(5), word(6)), tail),
        },
        record::FORK => What::Event(Body::Fork { child: Pid(word(0) as u32), child_comm: comm_of(word(1), word(2)) }),
        record::EXIT => What::Event(Body::Exit { code: (word(0) >> 8) as u8, signal: (word(0) & 0x7f) as u8 }),
        record::MM_GONE => What::Event(Body::MmGone),
        record::FAULT => What::Event(Body::Fault {
            addr: word(0),
            ip: word(1),
            access: access_of(flags),
            kernel: flags & record::FAULT_KERNEL != 0,
        }),
        record::FRAME => What::Event(Body::Frame {
            addr: Some(word(0)),
            pfn: Pfn(word(1)),
            order: flags & 15,
            member: member_of(flags >> 4),
            level: Pages(word(2)),
        }),
        record::FREE => What::Event(Body::Free { pfn: Pfn(word(0)), order: flags & 15 }),
        record::RSS => What::Event(Body::Rss { member: member_of(flags), level: Pages(word(0)) }),
        record::RSS_BY_OTHER => {
            comm = Some(comm_of(word(1), word(2)));
            What::Event(Body::Rss { member: member_of(flags), level: Pages(word(0)) })
        }
        record::SCAN => {
            comm = named(flags, word(2), word(3));
            match ScanKind::try_from(flags & !record::FLAG_OTHER) {
                Ok(kind) => {
                    let began = (word(1) != 0).then_some(Nanos(word(1)));
                    What::Event(Body::Scan(Scan { kind, value: word(0), began }))
                }
                Err(_) => What::Unknown,
            }
        }
        record::CALL => {
            comm = named(flags, word(10), word(11));
            call(ts, &word)
        }
        record::CALL_FILE => map_of_file(ts, &word, tail),
        record::HEAP => heap::heap(flags, &word),
        record::OBJECT => object::object(flags, &word),
        record::STACK => stack::stack(flags, &word),
        _ => What::Unknown,
    };
    Decoded {
        owner: (head >> 32) as u32,
        cpu: (head >> 16) as u16,
        tid: Tid(acting as u32),
        tgid: Pid((acting >> 32) as u32),
        comm,
        what,
    }
}

fn named(flags: u8, first: u64, second: u64) -> Option<Comm> {
    (flags & record::FLAG_OTHER != 0).then(|| comm_of(first, second))
}

fn comm_of(first: u64, second: u64) -> Comm {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(first.to_ne_bytes().into_iter().chain(second.to_ne_bytes())) {
        *to = from;
    }
    Comm(bytes)
}

fn access_of(flags: u8) -> Access {
    if flags & record::FAULT_EXEC != 0 {
        Access::Exec
    } else if flags & record::FAULT_WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

fn member_of(flags: u8) -> Member {
    match flags & 3 {
        0 => Member::File,
        1 => Member::Anon,
        2 => Member::Swap,
        _ => Member::Shmem,
    }
}

/// The words of a call: began, number, arguments, result, end of the heap before it.
fn call(ts: Nanos, word: &dyn Fn(usize) -> u64) -> What {
    let began = if word(0) == 0 { ts } else { Nanos(word(0)) };
    let number = word(1);
    let arg = |index: usize| word(2 + index);
    let result = word(8);
    let call = match number {
        nr::MMAP => Call::Mmap,
        nr::MPROTECT => Call::Mprotect,
        nr::MUNMAP => Call::Munmap,
        nr::BRK => Call::Brk,
        nr::MREMAP => Call::Mremap,
        nr::MADVISE => Call::Madvise,
        nr::SHMAT => Call::Shmat,
        nr::SHMDT => Call::Shmdt,
        nr::PROCESS_MADVISE => Call::ProcessMadvise,
        _ => return What::Unknown,
    };
    if number == nr::BRK {
        return brk(arg(0), word(9), result);
    }
    if result > u64::MAX - MAX_ERRNO {
        let errno = result.wrapping_neg() as u32;
        let (addr, bytes) = match call {
            Call::Shmat => (arg(1), 0),
            Call::Shmdt => (arg(0), 0),
            _ => (arg(0), arg(1)),
        };
        return What::Event(Body::Failed { call, addr, bytes: Bytes(bytes), errno });
    }
    let asked = Range::of_pages(arg(0), arg(1));
    What::Event(match call {
        Call::Mmap => Body::Map {
            range: Range::of_pages(result, arg(1)),
            prot: arg(2) as u32,
            flags: arg(3) as u32,
            file: None,
            offset: Bytes(arg(5)),
            call,
            began,
        },
        Call::Munmap => Body::Unmap { range: asked, call, began },
        Call::Mremap => Body::Remap { old: asked, new: Range::of_pages(result, arg(2)), flags: arg(3) as u32, began },
        Call::Madvise | Call::ProcessMadvise => {
            let advice = arg(2) as i32;
            Body::Advise { range: asked, advice, call, began }
        }
        Call::Mprotect => Body::Protect { range: asked, prot: arg(2) as u32 },
        Call::Shmat => {
            let prot = if arg(2) & SHM_RDONLY != 0 { 1 } else { 3 };
            return What::Attach { addr: result, bytes: word(9), prot, fixed: arg(2) & SHM_REMAP != 0, began };
        }
        Call::Shmdt => return What::Detach { addr: arg(0), began },
        Call::Brk => return What::Unknown,
    })
}

/// `brk` gives the end of the heap whatever happens: unchanged means that it failed, unless that was all it asked.
fn brk(asked: u64, before: u64, result: u64) -> What {
    What::Event(if asked != 0 && asked != result {
        let bytes = Bytes(asked.saturating_sub(result));
        Body::Failed { call: Call::Brk, addr: asked, bytes, errno: ENOMEM }
    } else {
        // A call whose entry was not seen tells its result only.
        Body::Brk { old: if before == 0 { result } else { before }, new: result }
    })
}

fn map_of_file(ts: Nanos, word: &dyn Fn(usize) -> u64, tail: &[u64]) -> What {
    What::MapOfFile {
        range: Range::of_pages(word(8), word(3)),
        prot: word(4) as u32,
        flags: word(5) as u32,
        offset: Bytes(word(7)),
        began: if word(0) == 0 { ts } else { Nanos(word(0)) },
        file: FileKey::of([word(14), word(12), word(13)], tail),
    }
}
