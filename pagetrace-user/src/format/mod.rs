//! The trace file (`.pgt`): the specification, complete enough to write a reader from, and its writer and reader.
//!
//! # Shape
//!
//! ```text
//! file     := preamble block*          header blocks, then event blocks, then trailer blocks
//!
//! preamble    0       8       12      16
//!             | magic | version | crc |          magic 89 50 47 54 0D 0A 1A 0A; crc over the first 12 bytes
//!
//! block       0        4     8       12     13     14          16      20      28     36
//!             | length | crc | index | kind | more | cpu bytes | count | first | last | CPU set | payload |
//! ```
//!
//! All integers are little-endian and unsigned; fixed ones have the width that the picture shows (`length`, `crc`,
//! `index`, `count`, `version`: 4 bytes; `kind`, `more`: 1; `cpu bytes`: 2; `first`, `last`: 8).
//!
//! | field | meaning |
//! |---|---|
//! | `length` | bytes of the whole block, these 36 included: 36 to 65536 |
//! | `crc` | CRC-32C (Castagnoli) over the block without this field: bytes 0 to 4, then 8 to `length` |
//! | `index` | the block's number in the file, from 0, modulo 2^32 |
//! | `kind` | 1 header, 2 events, 3 trailer |
//! | `more` | 1: the text goes on in the next block (header and trailer only), else 0 |
//! | `cpu bytes` | length of the CPU set |
//! | `count` | events in the block (0 in header and trailer) |
//! | `first`, `last` | time of the first and the last event |
//! | CPU set | bit `n % 8` of byte `n / 8` is CPU `n`: the CPUs of the events, no zero byte at the end |
//!
//! Header and trailer are JSON objects with the fields of [`Header`](crate::event::Header) and
//! [`Trailer`](crate::event::Trailer): UTF-8, at most 16 MiB, cut into blocks anywhere. A reader ignores keys that
//! it does not know and takes zero or empty for those that are missing. The header comes first; after the trailer
//! nothing comes. A file without trailer was not finished.
//!
//! # Units
//!
//! Times are nanoseconds of the recording host's `CLOCK_MONOTONIC`; the header pins it to the wall clock once.
//! Addresses, lengths and offsets are bytes; levels and counts of pages are base pages of 4096 bytes, whatever
//! else the header says, and pages of 8192 bytes in events of the heap layer; frames are page frame numbers.
//!
//! # Pieces of a payload
//!
//! | piece | form |
//! |---|---|
//! | `u8` | one byte |
//! | `v` | varint: 7 bits a byte, low bits first, bit 7 set on all but the last; at most 64 bits |
//! | `s(x)` | varint of the zigzag of (value - `x` modulo 2^64): 0, -1, 1, -2 ... are 0, 1, 2, 3 ... |
//! | `a(x)` | an address against `x`: the difference in whole pages as varint of 2 * zigzag; if it is not whole, the byte 1 and then `s(x)` |
//! | `l` | a length: whole pages as varint of 2 * pages; if it is not whole, the byte 1 and then `v` |
//! | `r` | a range: `a(range_end)` for its start, `l` for its length; its end then is `range_end` |
//! | `f` | a file id: `v` of 0 for none, else of the id + 1 |
//! | `t` | text: `v` of its bytes (at most 16384), then as much UTF-8 |
//! | `b` | `began`, `from`, `to`: `v` of the zigzag of (event's time - value) |
//!
//! Enumerations are their integers in [`crate::event`] (`code`).
//!
//! # An event
//!
//! ```text
//! event   := tag [context] time fields
//! tag     := u8: bit 7 "a context follows", bits 0-6 the opcode
//! context := v index, and if no context of this block has that index (it is then the number of contexts so far):
//!            v cpu, v (2 * tid + has_actor), and with an actor: v tgid, u8 n, n bytes of comm (zeros to 16)
//! time    := v, nanoseconds since the event before (since `first` for the first one); not there for opcodes 104-111
//! ```
//!
//! The first event of a block has a context. Without one, CPU, thread and actor are those of the event before.
//!
//! | opcode | event | fields, in this order |
//! |---|---|---|
//! | 0-63 | `Frame` | bit 0: order 0 and member anon, else `v` 4 * order + member. Bit 1: level is `level[member]` + 2^order, else `s(level[member])`. Bits 2-3, frame: 0 `s(frame_next)`; 1 the one before the cursor of `freed`; 2 in `freed` at `s(cursor - 1)`; 3 `frame_next`. Bits 4-5, address: 0 none; 1 `fault_addr` rounded down to the size of the frame; 2 `frame_end`; 3 `a(frame_end)` |
//! | 64-95 | `Fault` | bits 3-4: access of a fault in user mode, 3: in the kernel, then `u8` access. Bit 0: address is `fault_addr` + 4096, else `s(fault_addr)`. Bits 1-2, instruction: 0 `fault_ip`; 1 `u8` slot of `ips`; 2 `s(fault_ip)` |
//! | 70 (no fault has it) | `Object` | `v` 8 * (64 * library + call) + 2 * act + moves, `s(object_addr)` address, `v` bytes |
//! | 71 (no fault has it) | `Stack` | `u8` of, `s(stack)` id |
//! | 96-103 | `Free` | bit 0: order 0, else `u8`. Bits 1-2, frame: 0 `s(last_freed)`; 1 at the cursor of `frames`; 2 in `frames` at `s(cursor)`; 3 `last_freed` + 1 |
//! | 104-111 | `BaselinePages`, resident, frame known, time of the event before | bit 0: address is `pages_end`, else `a(pages_end)`. Bit 1: one page, else `v` pages. Bit 2: `file`. `s(pages_pfn)` frame |
//! | 112-115 | `Rss` | member is bits 0-1; `s(level[member])` |
//! | 116 | `Map` | `u8` call, `r`, `v` prot, `v` flags, `f`, `l` offset, `b` |
//! | 117 | `Unmap` | `u8` call, `r`, `b` |
//! | 118 | `Brk` | `a(brk)` old, `a(old)` new |
//! | 119 | `Remap` | `r` old, `r` new, `v` flags, `b` |
//! | 120 | `Advise` | `u8` call, `r`, `s(0)` advice, `b` |
//! | 121 | `Protect` | `r`, `v` prot |
//! | 122 | `Failed` | `u8` call, `a(range_end)` address, `l` length, `v` errno |
//! | 123 | `Scan` | `u8` 2 * kind + has_began, `v` value, `b` if has_began |
//! | 124 | `BaselineMap` | `r`, `v` 2 * prot + shared, `f`, `l` offset, `t` name |
//! | 125 | `BaselinePages`, any | `u8` bit 0 frame known, bit 1 file, bit 2 swapped; `a(pages_end)`, `v` pages, `s(pages_pfn)` if known |
//! | 126 | `Heap` | `u8` bits 0-1 act, bit 2: P is `heap_p`, bit 3: address is `s(heap_end)`, bits 4-7 pages if 1 to 15; unless bit 2, `v` 0 for no P or P + 1; address, unless bit 3 `heap_end` + 8192 * `s(0)` modulo 2^64; unless 1 to 15, `v` pages |
//! | 127 | rare | `u8` kind, then: |
//! | 127, 0 | `MapFile` | `v` 2 * id + whole, `t` path, `v` device, `v` inode |
//! | 127, 1 | `Start` | `u8` how, `v` parent |
//! | 127, 2 | `Fork` | `v` child, 16 bytes comm |
//! | 127, 3 | `Exec` | 16 bytes comm, `t` exe |
//! | 127, 4 | `Exit` | `u8` code, `u8` signal |
//! | 127, 5 | `MmGone` | |
//! | 127, 6 | `Reading` | `u8` 2 * why + maps, `r` |
//! | 127, 7 | `Lost` | `u8` layer, `b` from, `b` to, `v` count |
//! | 127, 8 | `Heap` with a span or a goroutine | as opcode 126; `u8` bits 0-1: 0 no span, else its kind + 1, bit 2: it has a class, bit 3: it has a goroutine; `u8` class and `s(heap_goid)` goroutine as said |
//! | 127, 9 | `HeapReading` | `u8` why |
//! | 127, 10 | `BaselineHeap` | `u8` state, `s(heap_end)` address, `v` pages |
//! | 127, 11 | `Library` | `u8` id, `u8` whole, `t` name, `t` path |
//! | 127, 12 | `Calls` | `v` 64 * library + call, `v` calls, `v` bytes, `v` nested, `v` failed |
//! | 127, 13 | `StackNode` | `v` 0 for no parent, else its id + 1; place; its own id is the number of nodes before it in the file |
//! | 127, 14 | `Symbol` | place, `v` functions (at most 16), of each: `t` name and `t` file (at most 1024 bytes), `v` line |
//! | 127, 15 | `BuildId` | `v` file, `u8` bytes, as many |
//! | 127, 16 | `SpanUse` | `s(heap_end)` address, `v` pages, `v` bytes of an object, `v` objects |
//! | 127, 17 | `BuildId` with what to add to offsets | `v` that; as 127, 15 |
//! | 127, 20 | `ArenaReading` | `u8` why, `t` name, `t` path |
//! | 127, 21 | `Arena` | `u8` bit 0 main, bit 1 settled; `v` address, `v` size, of `in_use`, `cached`, `fast`, `free` each `v` count and `v` bytes, `v` top |
//! | 127, 22 | `ArenaPages` | `u8` trims, `s(arena_end)` address, `v` pages, `v` in use, `v` kept, `v` free |
//!
//! A place is `u8` 0: cut; 1: `v` address; 2: `v` file, `v` offset; 3: `v` bytes from the start of the kernel on.
//!
//! # What events are written against
//!
//! Anew in every block, all zero: `range_end`, `brk`, `last_freed`, `pages_end` (end of the last baseline run),
//! `pages_pfn` (frame after its last, of the last run with a frame), `heap_end` (address + 8192 * pages of the last `Heap`, `BaselineHeap` or `SpanUse`), `heap_goid` (of the last `Heap` that had one), `object_addr` (of the last `Object`), `stack` (of the last `Stack`), `arena_end` (of the last `ArenaPages`), `level` of each member (the last `Rss` or
//! `Frame`), and 256 `ips`: a fault puts its instruction address into slot
//! (address * 0x9E3779B97F4A7C15 modulo 2^64) / 2^56. `heap_p`, the P of the last `Heap`, is none.
//!
//! For each context: `fault_addr`, `fault_ip` (the last fault), `frame_end` (end of the pages of the last frame that
//! had an address), `frame_next` (the last frame + 2^order). A new context begins with those of the context before
//! it, the first of a block with zeros.
//!
//! As long as the file, because memory is given back in the order in which it was touched and the kernel hands out
//! first what came back last: `frames`, the last 131072 frames of `Frame` and `BaselinePages` (of a run: its first),
//! and `freed`, the last 65536 of `Free`. Each numbers its entries from 0, in order of the file, and has a cursor,
//! at first 0. A `Free` by way of `frames` sets its cursor after the entry taken. A `Frame` by way of `freed` sets its
//! cursor to the entry taken; every `Free` sets it to the end. These two tables are the only reason why a block
//! needs those before it.
//!
//! # Invariants
//!
//! Events are in time order; a writer moves one that comes late to the time of the one before. An event counts only
//! if the checksum of its block holds. A block whose head and events disagree, a value that no writer makes, a block
//! out of its place or bytes after the trailer are damage. A reader gives the longest prefix that is free of it, says
//! where and why it ended, and holds one block and bounded tables, whatever the bytes claim.
//!
//! # Version policy
//!
//! This is version 6. Whatever changes what bytes mean gets the next number; a key more in header or trailer does
//! not. A reader refuses newer versions, and reads all older ones.
//!
//! | version | differs from the one before |
//! |---|---|
//! | 1 | |
//! | 2 | opcode 126, the heap layer; a writer of version 1 never made it |
//! | 3 | spans, goroutines and readings of the heap layer (127, 8 to 10), growth of the heap (act 3), phases of a collector (scan 6 to 9) |
//! | 4 | the object layer (70; 127, 11 and 12) |
//! | 5 | the stack layer (71; 127, 13 to 15) |
//! | 6 | what the runs of a page heap hold (127, 16), arenas (127, 20 to 22), places in the kernel (3), 127, 17 |
//!
//! # Size
//!
//! A touched page is a `Fault` and a `Frame` of 3 bytes each when the kernel reuses what the process gave back, and
//! 3 more when its frame is new; giving it back is 2 to 3. `tests/format.rs` holds the bounds.

mod arena;
mod block;
mod decode;
mod encode;
mod encoder;
pub mod go;
mod heap;
mod object;
mod reader;
mod recent;
mod stack;
mod state;
mod task;
mod wire;

pub use encoder::Encoder;
pub use reader::{Damage, FormatError, Outcome, Reader};

use crate::event::{Event, Header};

/// Events of one process in time order, from whatever form of file.
pub trait Trace {
    fn header(&self) -> &Header;

    /// The next event, lent until the one after it; `None` at the end of the valid prefix, and ever after.
    ///
    /// # Errors
    /// When the source cannot be read. Damage is not an error: it is in the outcome.
    fn next_event(&mut self) -> std::io::Result<Option<&Event>>;

    /// How the reading ended: complete once [`Trace::next_event`] gave `None`.
    fn outcome(&self) -> Outcome;
}

/// The first eight bytes of every trace file.
pub const MAGIC: [u8; 8] = *b"\x89PGT\r\n\x1a\n";

/// The version of the format that this module writes, and the newest that it reads.
pub const VERSION: u32 = 6;

/// No block is longer than this, its head included.
pub const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// The fixed part at the start of every block.
pub const HEAD_BYTES: usize = 36;

/// No text in an event is longer than this; a writer cuts longer ones.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// No header or trailer is longer than this (8192 CPUs make a trailer of 5 MiB).
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Numbers kept of the frames that became resident.
const FRAMES_KEPT: u64 = 1 << 17;

/// Numbers kept of the frames that were given back.
const FREED_KEPT: u64 = 1 << 16;
