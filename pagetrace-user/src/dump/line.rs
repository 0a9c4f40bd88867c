//! One event as named values: the keys of `dump`, and the JSON line made of them.
//!
//! | kind | layer | values beside the common ones |
//! |---|---|---|
//! | `alloc` | vma | `addr` `bytes` `npages` `call` `prot` `flags` `path` `offset` `began` `replaced` (list of `{addr, bytes}`, for `MAP_FIXED`); `brk` up: `addr` `bytes` `npages` `call` `old_addr` `new_addr` |
//! | `alloc` | page | `addr` (absent where no fault tells it) `bytes` `npages` `pfn` `order` `member` `level_bytes` |
//! | `free` | vma | `addr` `bytes` `npages` `call` `began`; `brk` down: as up |
//! | `free` | page | `pfn` `order` `bytes` `npages` |
//! | `scav` | vma | advice that gives pages back: `addr` `bytes` `npages` `advice` `call` `began` |
//! | `advise` | vma | any other advice, the same values |
//! | `brk` | vma | the end of the heap was asked for or did not move: `addr` `bytes` (0) `npages` (0) `call` `old_addr` `new_addr` |
//! | `remap` | vma | `addr` `bytes` `npages` (new) `old_addr` `old_bytes` `flags` `call` `began` |
//! | `protect` | vma | `addr` `bytes` `npages` `prot` `call` |
//! | `failed` | vma | `addr` `bytes` `npages` `call` `errno` `error` (its name) |
//! | `mapfile` | vma | `id` `path` `whole` `dev` `ino` |
//! | `baseline` | vma | `addr` `bytes` `npages` `prot` `shared` `name` `path` `offset` |
//! | `baseline` | page | `addr` `bytes` `npages` `pfn` `file` `swapped` |
//! | `fault` | page | `addr` (exact) `ip` `access` `kernel` |
//! | `rss` | page | `member` `level_bytes` |
//! | `scan` | page | `phase` `value` `began` |
//! | `sync` | page | a reading begins: `why` `addr` `bytes` `npages` `maps` |
//! | `alloc` `free` `scav` `mark` | heap | `addr` `bytes` `npages` (of the header's `heap_page_bytes`) `p` (Go's P; -1: a thread without one) `goid` `span` `class` (where the source tells) |
//! | `scan` | heap | the collector of the process: `phase` `value` |
//! | `sync` | heap | a reading of the page heap begins: `why` |
//! | `baseline` | heap | `addr` `bytes` `npages` `span` (what it is in use for; `given_back`: free and without memory) |
//! | `use` | heap | what a run holds at this moment: `addr` `bytes` `npages` `object_bytes` (of each) `objects` (in use, as far as the last sweep tells) |
//! | `alloc` `free` `kept` | object | `addr` `bytes` (asked for; of a `free` 0 where every call is recorded) `call` `library` (id) `moves` (one half of a call like `realloc`); `kept`: the thread's last `free` that moves did not happen |
//! | `sync` | heap | the arenas of an allocator were read: `why` `name` `path` |
//! | `arena` | heap | `addr` (of its structure) `bytes` (of the kernel's) `whole` (it did not change meanwhile) `is_main` `in_use_count` `in_use_bytes` `cached_count` `cached_bytes` `fast_count` `fast_bytes` `free_count` `free_bytes` `top_bytes` |
//! | `baseline` | heap | pages of that arena: `addr` `bytes` `npages` (of 4096 bytes) `in_use_bytes` `kept_bytes` (cached and fast) `free_bytes` `trims` (the allocator gives them back if asked to) |
//! | `library` | object | `id` `name` `path` of an allocator; `whole`: recorded from the program's first call on, else from this line on |
//! | `calls` | object | `call` `library` `calls` `bytes` (asked for) `nested` (made by another function of an allocator) `failed`: of all calls, sampled or not |
//! | `node` | stack | the next one of the tree of calls, from 0 on: `parent` (absent: the thread began there), and its place: `path` `offset` in the file (of the kernel, `[kernel.kallsyms]`, from its start on), `addr` outside of files, or `cut` |
//! | `stack` | stack | `of` (`fault` `call` `heap` `object`: the thread's last one before this line) `stack` (the node where it ends) |
//! | `symbol` | stack | a place and its `functions`, innermost first: `name` `file` `line` |
//! | `build_id` | stack | `path` `id`; `addr`: what to add to an offset of its code to get the address that it is linked for |
//! | `start` `fork` `exec` `exit` `mm_gone` | task | `how` `parent`; `child` `child_comm`; `comm` `exe`; `code` `signal`; none |
//! | `lost` | that of the records | `from` `to` `count` |
//!
//! `actor` (`{tid, tgid, comm}`) stands on any line whose acting task is not of the process.

use super::arena;
use super::stack;
use crate::event::{Actor, Body, Event, FileId, Function, Scan, Who};
use crate::replay::{base_pages, calls};
use crate::units::{HeapPages, PAGE_BYTES, Pages, Range, Tid};

/// A value of a line.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Number(u64),
    Signed(i64),
    Address(u64),
    Text(&'a str),
    Flag(bool),
    Ranges(&'a [Range]),
    Actor(Tid, Actor),
    Functions(&'a [Function]),
}

/// The event's kind, as `--kind` takes it.
#[must_use]
pub fn kind(body: &Body) -> &'static str {
    match body {
        Body::Heap(run) => run.act.word(),
        Body::Object(object) => object.act.word(),
        Body::ArenaReading { .. } => "sync",
        Body::Arena(_) => "arena",
        Body::ArenaPages(_) => "baseline",
        Body::Library { .. } => "library",
        Body::Calls { .. } => "calls",
        Body::Map { .. } | Body::Frame { .. } => "alloc",
        Body::Unmap { .. } | Body::Free { .. } => "free",
        Body::Brk { old, new } if new > old => "alloc",
        Body::Brk { old, new } if new < old => "free",
        Body::Brk { .. } => "brk",
        Body::Remap { .. } => "remap",
        Body::Advise { advice, .. } if calls::gives_back(*advice) => "scav",
        Body::Advise { .. } => "advise",
        Body::Protect { .. } => "protect",
        Body::Failed { .. } => "failed",
        Body::MapFile { .. } => "mapfile",
        Body::Fault { .. } => "fault",
        Body::Rss { .. } => "rss",
        Body::Scan(_) => "scan",
        Body::Start { .. } => "start",
        Body::Fork { .. } => "fork",
        Body::Exec { .. } => "exec",
        Body::Exit { .. } => "exit",
        Body::MmGone => "mm_gone",
        Body::Reading { .. } | Body::HeapReading { .. } => "sync",
        Body::BaselineMap { .. } | Body::BaselinePages { .. } | Body::BaselineHeap { .. } => "baseline",
        Body::SpanUse(_) => "use",
        Body::Stack { .. } => "stack",
        Body::StackNode { .. } => "node",
        Body::Symbol { .. } => "symbol",
        Body::BuildId { .. } => "build_id",
        Body::Lost { .. } => "lost",
    }
}

/// All kinds there are.
pub const KINDS: [&str; 30] = [
    "alloc", "free", "kept", "library", "calls", "scav", "mark", "advise", "brk", "remap", "protect", "failed",
    "mapfile", "baseline", "use", "arena", "fault", "rss", "scan", "sync", "start", "fork", "exec", "exit", "mm_gone",
    "stack", "node", "symbol", "build_id", "lost",
];

/// Gives `put` every value of the event beside the common ones, in the order of the table above.
pub fn describe<'a>(
    event: &'a Event,
    path: &impl Fn(FileId) -> Option<&'a str>,
    replaced: &'a [Range],
    put: &mut impl FnMut(&'static str, Value<'a>),
) {
    use Value::{Address, Flag, Number, Signed, Text};
    match &event.body {
        Body::Map { range, prot, flags, file, offset, call, began } => {
            put_range(*range, put);
            put("call", Text(call.word()));
            put("prot", Number(u64::from(*prot)));
            put("flags", Number(u64::from(*flags)));
            put_file(*file, offset.0, path, put);
            put("began", Number(began.0));
            if !replaced.is_empty() {
                put("replaced", Value::Ranges(replaced));
            }
        }
        Body::Unmap { range, call, began } => {
            put_range(*range, put);
            put("call", Text(call.word()));
            put("began", Number(began.0));
        }
        Body::Brk { old, new } => {
            put("addr", Address(*old.min(new)));
            put("bytes", Number(old.abs_diff(*new)));
            put("npages", Number(old.div_ceil(PAGE_BYTES).abs_diff(new.div_ceil(PAGE_BYTES))));
            put("call", Text("brk"));
            put("old_addr", Address(*old));
            put("new_addr", Address(*new));
        }
        Body::Remap { old, new, flags, began } => {
            put_range(*new, put);
            put("old_addr", Address(old.start));
            put("old_bytes", Number(old.bytes().0));
            put("flags", Number(u64::from(*flags)));
            put("call", Text("mremap"));
            put("began", Number(began.0));
        }
        Body::Advise { range, advice, call, began } => {
            put_range(*range, put);
            put("advice", calls::advice_name(*advice).map_or(Signed(i64::from(*advice)), Text));
            put("call", Text(call.word()));
            put("began", Number(began.0));
        }
        Body::Protect { range, prot } => {
            put_range(*range, put);
            put("prot", Number(u64::from(*prot)));
            put("call", Text("mprotect"));
        }
        Body::Failed { call, addr, bytes, errno } => {
            put("addr", Address(*addr));
            put("bytes", Number(bytes.0));
            put("npages", Number(bytes.0.div_ceil(PAGE_BYTES)));
            put("call", Text(call.word()));
            put("errno", Number(u64::from(*errno)));
            if let Some(name) = calls::errno_name(*errno) {
                put("error", Text(name));
            }
        }
        Body::MapFile { id, path, whole, dev, ino } => {
            put("id", Number(u64::from(id.0)));
            put("path", Text(path));
            put("whole", Flag(*whole));
            put("dev", Number(*dev));
            put("ino", Number(*ino));
        }
        Body::Fault { addr, ip, access, kernel } => {
            put("addr", Address(*addr));
            put("ip", Address(*ip));
            put("access", Text(access.word()));
            put("kernel", Flag(*kernel));
        }
        Body::Frame { addr, pfn, order, member, level } => {
            if let Some(addr) = addr {
                put("addr", Address(*addr));
            }
            put_frame(pfn.0, *order, put);
            put("member", Text(member.word()));
            put("level_bytes", Number(level.bytes().0));
        }
        Body::Free { pfn, order } => put_frame(pfn.0, *order, put),
        Body::Rss { member, level } => {
            put("member", Text(member.word()));
            put("level_bytes", Number(level.bytes().0));
        }
        Body::Scan(Scan { kind, value, began }) => {
            put("phase", Text(kind.word()));
            put("value", Number(*value));
            if let Some(began) = began {
                put("began", Number(began.0));
            }
        }
        Body::Start { how, parent } => {
            put("how", Text(how.word()));
            put("parent", Number(u64::from(parent.0)));
        }
        Body::Fork { child, .. } => put("child", Number(u64::from(child.0))),
        Body::Exec { exe, .. } => put("exe", Text(exe)),
        Body::Exit { code, signal } => {
            put("code", Number(u64::from(*code)));
            put("signal", Number(u64::from(*signal)));
        }
        Body::MmGone => {}
        Body::Heap(run) => {
            put_heap(run.addr, run.pages, put);
            put("p", Signed(run.p.map_or(-1, i64::from)));
            if let Some(goid) = run.goid {
                put("goid", Number(goid));
            }
            if let Some(span) = run.span {
                put("span", Text(span.kind.word()));
                put("class", Number(u64::from(span.class)));
            }
        }
        Body::Object(object) => {
            put("addr", Address(object.addr));
            put("bytes", Number(object.bytes.0));
            put_who(object.who, put);
            put("moves", Flag(object.moves));
        }
        Body::Library { id, whole, name, path } => {
            put("id", Number(u64::from(id.0)));
            put("whole", Flag(*whole));
            put("name", Text(name));
            put("path", Text(path));
        }
        Body::Calls { who, count } => {
            put_who(*who, put);
            put("calls", Number(count.calls));
            put("bytes", Number(count.bytes.0));
            put("nested", Number(count.nested));
            put("failed", Number(count.failed));
        }
        Body::HeapReading { why } => put("why", Text(why.word())),
        Body::BaselineHeap { addr, pages, state } => {
            put_heap(*addr, *pages, put);
            put("span", Text(state.word()));
        }
        Body::SpanUse(used) => {
            put_heap(used.addr, used.pages, put);
            put("object_bytes", Number(used.object_bytes));
            put("objects", Number(used.objects));
        }
        Body::ArenaReading { why, name, path } => {
            put("why", Text(why.word()));
            put("name", Text(name));
            put("path", Text(path));
        }
        Body::Arena(_) | Body::ArenaPages(_) => arena::describe(&event.body, put),
        Body::Reading { why, range, maps } => {
            put("why", Text(why.word()));
            put_range(*range, put);
            put("maps", Flag(*maps));
        }
        Body::BaselineMap { range, prot, shared, file, offset, name } => {
            put_range(*range, put);
            put("prot", Number(u64::from(*prot)));
            put("shared", Flag(*shared));
            if !name.is_empty() {
                put("name", Text(name));
            }
            put_file(*file, offset.0, path, put);
        }
        Body::BaselinePages { addr, pages, pfn, file, swapped } => {
            put_range(Range::of(*addr, pages.bytes().0), put);
            if let Some(pfn) = pfn {
                put("pfn", Number(pfn.0));
            }
            put("file", Flag(*file));
            put("swapped", Flag(*swapped));
        }
        Body::Stack { .. } | Body::StackNode { .. } | Body::Symbol { .. } | Body::BuildId { .. } => {
            stack::describe(&event.body, path, put);
        }
        Body::Lost { from, to, count, .. } => {
            put("from", Number(from.0));
            put("to", Number(to.0));
            put("count", Number(*count));
        }
    }
    if let Some(actor) = event.actor {
        put("actor", Value::Actor(event.tid, actor));
    }
}

/// The names that are not text in the event itself.
pub(crate) fn comm_of(body: &Body) -> Option<(&'static str, String)> {
    match body {
        Body::Fork { child_comm, .. } => Some(("child_comm", child_comm.to_text())),
        Body::Exec { comm, .. } => Some(("comm", comm.to_text())),
        Body::BuildId { id, .. } => Some(("id", stack::hex(id))),
        _ => None,
    }
}

fn put_range<'a>(range: Range, put: &mut impl FnMut(&'static str, Value<'a>)) {
    put("addr", Value::Address(range.start));
    put("bytes", Value::Number(range.bytes().0));
    put("npages", Value::Number(range.pages().0));
}

fn put_who<'a>(who: Who, put: &mut impl FnMut(&'static str, Value<'a>)) {
    put("call", Value::Text(who.call.word()));
    put("library", Value::Number(u64::from(who.library.0)));
}

fn put_heap<'a>(addr: u64, pages: HeapPages, put: &mut impl FnMut(&'static str, Value<'a>)) {
    put("addr", Value::Address(addr));
    put("bytes", Value::Number(pages.bytes().0));
    put("npages", Value::Number(pages.0));
}

fn put_frame<'a>(pfn: u64, order: u8, put: &mut impl FnMut(&'static str, Value<'a>)) {
    let pages = Pages(base_pages(order));
    put("bytes", Value::Number(pages.bytes().0));
    put("npages", Value::Number(pages.0));
    put("pfn", Value::Number(pfn));
    put("order", Value::Number(u64::from(order)));
}

fn put_file<'a>(
    file: Option<FileId>,
    offset: u64,
    path: &impl Fn(FileId) -> Option<&'a str>,
    put: &mut impl FnMut(&'static str, Value<'a>),
) {
    if let Some(id) = file {
        put("path", Value::Text(path(id).unwrap_or_default()));
        put("offset", Value::Number(offset));
    }
}
