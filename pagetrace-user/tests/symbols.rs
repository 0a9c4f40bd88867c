//! The look at a program's file: real Go programs by every toolchain that `cargo xtask test` installs, and files that
//! lie.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "symbols/toolchain.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod toolchain;

#[path = "symbols/go_programs.rs"]
mod go_programs;

#[path = "symbols/go_offsets.rs"]
mod go_offsets;

#[path = "symbols/go_lines.rs"]
mod go_lines;

#[path = "symbols/old_tables.rs"]
mod old_tables;

#[path = "symbols/elf_symbols.rs"]
mod elf_symbols;

#[path = "symbols/lies.rs"]
mod lies;

#[path = "symbols/hostile.rs"]
mod hostile;

#[path = "symbols/allocator_files.rs"]
mod allocator_files;

#[path = "symbols/tcmalloc_files.rs"]
mod tcmalloc_files;
