//! The recorder on the real kernel: real programs, known acts, exact answers.
//!
//! Needs root, tracefs, and on the path: `cc`, `strace`, `bpftool`, `setpriv`, `mount`, `redis-server`, `redis-cli`, Debian's
//! `python3` and `postgresql`. `cargo xtask test` sees to all of it. A test that cannot run fails and says so; none
//! is skipped.
//!
//! *Order.* One test at a time on a machine: each holds a lock, so that recorders do not disturb each other, also
//! between processes ([`stage`]).
//!
//! *Waiting.* Nothing waits for a time to pass; every wait is for a condition, and gives up after two minutes. The
//! targets log what they did, stand still while they are looked at, and stop or go on when told to.
//!
//! *Oracles.* The Go runtime's own traces and `runtime.MemStats`, tcmalloc's own books and a library between it and its page
//! heap, the log of the program itself (`acts.c`, checked once against `perf record -e exceptions:*` on 5,621 faults of 67
//! threads and processes), `strace`, `/proc/PID/smaps_rollup`, `/proc/PID/pagemap`, and the recorder's own file descriptors.
//!
//! *Machine-wide settings* (khugepaged's pace, a tmpfs, a cgroup) are undone by a guard, also when a test fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

// What the tests stand on.
mod programs;
mod recorder;
mod stage;
mod trace;

mod accounts;
mod acts_log;
mod procfs;
mod texts;

// The tests.
mod exact;

mod calls;

mod rss;

mod top;

mod file_pages;
mod frames;

mod asleep;

mod scav;
mod select;
mod servers;

mod ends;

mod bad_input;

mod flood;

mod killed;

mod uprobes;

#[path = "../symbols/toolchain.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod toolchain;

mod go_heap;

mod objects;

mod stacks;

mod short_lives;

mod leaky;

mod container;

mod go_traces;

mod go_spans;

mod go_silence;

mod tcmalloc;

mod arenas;

mod jemalloc;

mod crowd;

mod attach_window;

mod damage;
