//! What the runs of a page heap hold.

use crate::units::HeapPages;

/// A run of a page heap that is divided into objects of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanUse {
    pub addr: u64,
    pub pages: HeapPages,
    /// Of each object.
    pub object_bytes: u64,
    /// Those in use: given, and not found dead by the last sweep of the run.
    pub objects: u64,
}
