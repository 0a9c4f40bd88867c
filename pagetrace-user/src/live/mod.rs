//! Capture: from the kernel's records to trace files. Needs root and a kernel; nothing here reads a trace.
//!
//! ```text
//! rings -> merge -> decode -> route -> target -> format::Encoder -> writer -> store
//!                                ^
//!                   reading: /proc between the events
//! ```

mod session;
mod summary;
mod capture;

mod layout;
mod load;
mod calibrate;
mod frames;

mod merge;
mod decode;
mod route;
mod select;
mod target;
mod writer;
mod loss;

mod reading;
mod maps;
mod pagemap;
mod process;

mod command;
mod clock;

pub use command::{STAGE as EXEC_STAGE, stage as stage_exec};
pub use layout::{STAGE as LAYOUT_STAGE, stage as stage_layout};
pub use session::record;
