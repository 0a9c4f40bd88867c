//! The kernel ABI of pagetrace: what eBPF programs and the recorder share. Integers only, no layout of the host.
//!
//! [`record`]: what goes through the ring buffers. [`control`]: what the recorder tells the programs, and what
//! they count. [`sampling`]: which allocations are recorded.
#![no_std]
#![forbid(unsafe_code)]

pub mod record;

pub mod control;

pub mod sampling;
