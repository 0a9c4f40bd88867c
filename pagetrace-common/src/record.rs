//! Records: one event of the kernel each, as a row of 64-bit words in the host's byte order.
//!
//! *Format.* Every record begins with [`HEAD_WORDS`] words:
//!
//! ```text
//! word 0   time: CLOCK_MONOTONIC ns, taken after the space in the ring was reserved
//! word 1   bits 0..8 kind, 8..16 flags, 16..32 CPU, 32..64 owner
//! word 2   bits 0..32 acting tid, 32..64 acting tgid
//! ```
//!
//! and goes on with the words of its kind, listed at the constants below. The number of words of a kind is fixed
//! ([`words_of`]). An *owner* is a number that stands for one address space from the record [`INTRO`] on.
//!
//! *Units.* Addresses and lengths in bytes, levels in base pages, times in ns.

/// Words before the payload.
pub const HEAD_WORDS: usize = 3;
/// Words of payload of a record that fills a cache line.
pub const PADDED_WORDS: usize = 5;
/// The longest record, in words, without its tail.
pub const MAX_WORDS: usize = HEAD_WORDS + 15;

/// Flag of any kind: the acting task is not of the owner's process. Its comm is in the last two words of the kinds
/// that have room for it ([`RSS_BY_OTHER`], [`SCAN`], [`CALL`], [`CALL_FILE`]).
pub const FLAG_OTHER: u8 = 0x80;

/// An address space came into view: `[mm, start_boottime, parent tgid, comm, comm, start_code, start_stack, tail]`; flags: a
/// `HOW_*`. The process is the acting one of word 2.
///
/// `tail`: bits 0..32 its bytes, which are there after an exec alone, bits 32..64 the mappings that it tells: the first of
/// [`IMAGE_ROWS`] rows `[start, end, vm_flags, bytes in the file]`. Bits 32..64 of `vm_flags` are 0 for no file, else one more
/// than the place of its file behind the rows: `[path, device, inode]` and [`PATH_WORDS`] words.
pub const INTRO: u8 = 1;
/// A process was made by the owner: `[child tgid, child comm, comm]`.
pub const FORK: u8 = 2;
/// The last thread of the owner's process ended: `[the kernel's exit code]`.
pub const EXIT: u8 = 3;
/// The address space was torn down: `[]`.
pub const MM_GONE: u8 = 4;
/// A page fault: `[address, instruction pointer]`; flags: `FAULT_*`.
pub const FAULT: u8 = 5;
/// A frame became resident: `[address of its first page, pfn, level after it]`; flags: order, and the member in
/// bits 4..6.
pub const FRAME: u8 = 6;
/// A frame went back: `[pfn]`; flags: order.
pub const FREE: u8 = 7;
/// A counter's new level: `[level]`; flags: member.
pub const RSS: u8 = 8;
/// The same by another task: `[level, comm, comm]`; flags: member.
pub const RSS_BY_OTHER: u8 = 9;
/// A look at pages: `[value, began or 0, comm, comm]`; flags: a `SCAN_*`.
pub const SCAN: u8 = 10;
/// A system call: `[began or 0, nr, 6 arguments, result, known, comm, comm]`. `known`: of `brk` the end of the heap
/// before it, of `shmat` the bytes of the segment (0: not found).
pub const CALL: u8 = 11;
/// An `mmap` of a file: as [`CALL`], then `[device, inode, path]`, and the path as its tail.
///
/// `path`: bits 0..32 its bytes. Its components follow each other from the last one outward, with a zero behind each; bit 32
/// ([`PATH_IS_WHOLE`]) says that they reach the root.
pub const CALL_FILE: u8 = 12;
/// A page heap did something: `[address, amount, who, goroutine, mheap]`; flags: a `HEAP_*`, and of [`HEAP_PHASE`]
/// which one in bits 3..7. What could not be read of the process is told by [`HEAP_UNREAD`].
///
/// `who`: bits 0..32 the P + 1, 0 for none; of [`HEAP_FREE`], [`HEAP_INIT`] and, where it is known, [`HEAP_ALLOC`] bits
/// 32..40 the type of the span + 1 and bits 40..48 its class. `mheap`: the address of the heap itself, of [`HEAP_ALLOC`], [`HEAP_FREE`] and [`HEAP_INIT`],
/// and of a [`HEAP_GROW`] with [`HEAP_TCMALLOC`].
pub const HEAP: u8 = 13;

/// A function of an allocator gave or took memory: `[address, bytes, who]`; flags: an `OBJECT_*` and [`OBJECT_MOVES`].
/// `who`: the call and the library as [`crate::control::object_cookie::who`] has them.
pub const OBJECT: u8 = 14;

/// Where the acting thread of the owner was in its own code, at the last record of the kind in the flags (`STACK_OF_*`) that
/// tells this thread: `[instruction pointer, stack pointer, frame pointer, tail, place, word, from]`, and then the tail.
///
/// `tail`: bits 0..32 its bytes, which are those of the thread's memory at `from` (the stack pointer, or the page above it); with bit 32 it is addresses of
/// instructions, the innermost first; with bit 33 the memory is all that there is of the stack;
/// with bit 34 the instruction pointer is where a call just returned to. Where `place` is not 0, the memory at this address holds the kernel's own address instead of
/// the return address `word`.
///
/// With bit 36 the tail is addresses of the kernel's own code instead, the innermost first, and the other words are 0: those of
/// the thread's next [`STACK`], which has bit 35 then. With bit 37 there is none: that is all that is told of this stack.
pub const STACK: u8 = 15;

pub const STACK_OF_FAULT: u8 = 0;
pub const STACK_OF_CALL: u8 = 1;
pub const STACK_OF_HEAP: u8 = 2;
pub const STACK_OF_OBJECT: u8 = 3;
pub const STACK_KINDS: u32 = 4;
/// Bit of the word `tail` of a [`STACK`]: it is addresses.
pub const STACK_ADDRESSES: u64 = 1 << 32;
/// The same: the tail reaches to where the stack began.
pub const STACK_IS_WHOLE: u64 = 1 << 33;
/// The same: a call just returned to the instruction pointer.
pub const STACK_RETURNED: u64 = 1 << 34;
/// The same: what the thread did in the kernel stands in a record before this one.
pub const STACK_HAS_KERNEL: u64 = 1 << 35;
/// The same: addresses of the kernel.
pub const STACK_IS_KERNEL: u64 = 1 << 36;
/// The same: and nothing of the thread's own code comes.
pub const STACK_IS_ALONE: u64 = 1 << 37;
/// Words of the longest tail of a [`STACK`].
pub const STACK_WORDS: usize = 4096;

pub const HOW_RUNNING: u8 = 0;
pub const HOW_FORKED: u8 = 1;
pub const HOW_EXECUTED: u8 = 2;

pub const FAULT_WRITE: u8 = 1;
pub const FAULT_EXEC: u8 = 2;
/// Taken while the kernel ran.
pub const FAULT_KERNEL: u8 = 4;

pub const SCAN_COLLAPSE: u8 = 0;
pub const SCAN_KHUGEPAGED: u8 = 1;
pub const SCAN_DIRECT_RECLAIM: u8 = 2;
pub const SCAN_MEMCG_RECLAIM: u8 = 3;
pub const SCAN_MIGRATE: u8 = 4;
pub const SCAN_OOM_VICTIM: u8 = 5;

/// Pages handed out: first address, pages of the heap.
pub const HEAP_ALLOC: u8 = 0;
/// Pages taken back: as [`HEAP_ALLOC`].
pub const HEAP_FREE: u8 = 1;
/// Memory given back to the kernel: first address, bytes.
pub const HEAP_SCAV: u8 = 2;
/// Address space that the heap got: first address, bytes.
pub const HEAP_GROW: u8 = 3;
/// A phase of the collector.
pub const HEAP_PHASE: u8 = 4;
/// Pages handed out and what for: as [`HEAP_ALLOC`].
pub const HEAP_INIT: u8 = 5;
/// No record, only a point ([`crate::control::cookie`]): what the pages are for that the thread's next [`HEAP_ALLOC`] hands
/// out, which then tells it as [`HEAP_INIT`] does.
pub const HEAP_PURPOSE: u8 = 6;
/// The words of a [`HEAP`] record are 0: the memory that tells them could not be read.
pub const HEAP_UNREAD: u8 = 7;
/// The bits of the flags that hold a `HEAP_*`.
pub const HEAP_VERB: u8 = 7;
/// The heap is tcmalloc's, not Go's: there is no P, goroutine or type. Not of [`HEAP_PHASE`], whose bit this is.
pub const HEAP_TCMALLOC: u8 = 8;

/// Memory was given: its address, and the bytes that were asked for.
pub const OBJECT_ALLOC: u8 = 0;
/// Memory is about to be taken back; the bytes are 0 where the program that sees it does not know them.
pub const OBJECT_FREE: u8 = 1;
/// What the thread's last [`OBJECT_FREE`] with [`OBJECT_MOVES`] told did not happen.
pub const OBJECT_KEPT: u8 = 2;
/// The bits of the flags that hold an `OBJECT_*`.
pub const OBJECT_ACT: u8 = 3;
/// One call takes memory back and gives other for it.
pub const OBJECT_MOVES: u8 = 4;

/// Words of the head and payload of [`CALL`].
pub const CALL_WORDS: usize = HEAD_WORDS + 12;
/// The path of a file that is still there under it, from the root on.
pub const PATH_IS_WHOLE: u64 = 1 << 32;
/// Words of the longest path.
pub const PATH_WORDS: usize = 64;
/// Mappings that an [`INTRO`] tells at most, and files.
pub const IMAGE_ROWS: usize = 24;
pub const IMAGE_FILES: usize = 4;
/// Words of a mapping, and of a file without its path.
pub const IMAGE_ROW_WORDS: usize = 4;
pub const IMAGE_FILE_WORDS: usize = 3;

/// The number of words of a record of this kind, without its tail; `None` for an unknown kind.
#[must_use]
pub const fn words_of(kind: u8) -> Option<usize> {
    let payload = match kind {
        INTRO => 8,
        HEAP => 5,
        FORK => 3,
        EXIT | FREE | RSS => 1,
        MM_GONE => 0,
        FAULT => 2,
        FRAME | RSS_BY_OTHER | OBJECT => 3,
        SCAN => 4,
        STACK => 7,
        CALL => 12,
        CALL_FILE => 15,
        _ => return None,
    };
    Some(HEAD_WORDS + payload)
}

/// The word of the payload whose bits 0..32 are the bytes of the tail; `None` for a kind without one.
#[must_use]
pub const fn tail_of(kind: u8) -> Option<usize> {
    match kind {
        INTRO => Some(7),
        CALL_FILE => Some(14),
        STACK => Some(3),
        _ => None,
    }
}

/// Word 1 of a record.
#[must_use]
pub const fn head(kind: u8, flags: u8, cpu: u32, owner: u32) -> u64 {
    kind as u64 | (flags as u64) << 8 | ((cpu & 0xffff) as u64) << 16 | (owner as u64) << 32
}
