//! What other people's files do to the libraries that read them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does something with a file that anybody may have written; `None` where the library that reads it gives up by a panic:
/// whoever asks goes on without what it would have told.
pub fn guarded<T>(act: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(act)).ok()
}
