//! pagetrace: every page of a live process, recorded to a file and read back as the truth.
//!
//! Two halves meet only in the trace file: `live` captures (root, a kernel), `replay` and the views read
//! (any host, any user).

pub mod units;

pub mod ranges;

pub mod picture;

pub mod event;

pub mod failure;
pub mod host;
pub mod options;
pub mod symbols;

pub mod format;
pub mod input;
pub mod naming;
pub mod store;

pub mod live;

pub mod diff;
pub mod frag;
pub mod heat;
pub mod leaks;
pub mod replay;
pub mod stacks;

pub mod check;
pub mod dump;
pub mod export;
pub mod html;
pub mod report;
pub mod rss;
pub mod scav;
pub mod top;

pub mod doctor;

pub mod cli;
