//! Capture: from the kernel's records to trace files. Needs root and a kernel; nothing here reads a trace.
//!
//! ```text
//! rings -> merge -> decode -> route -> target -> format::Encoder -> writer -> store
//!                                ^
//!                   reading: /proc between the events
//! ```

mod capture;
mod session;
mod summary;

mod attach;
pub mod uprobe;

mod calibrate;
mod frames;
mod layout;
mod load;

mod decode;
mod loss;
mod merge;
mod names;
mod route;
mod select;
mod target;
mod writer;

mod arenas;
mod heap;
mod objects;
mod silence;
mod spans;
mod tcmalloc;

mod stacks;

mod file_pages;
mod maps;
mod pagemap;
mod process;
mod reading;

mod clock;
mod command;
mod control;

pub use command::{STAGE as EXEC_STAGE, stage as stage_exec};
pub use layout::{STAGE as LAYOUT_STAGE, stage as stage_layout};
pub use objects::{Returns, mapped_programs, returns_of};
pub use session::record;
pub use stacks::KernelSymbols;
pub use tcmalloc::refusals;
