//! Capture: from the kernel's records to trace files.

pub mod layout;

pub mod load;

pub mod frames;
