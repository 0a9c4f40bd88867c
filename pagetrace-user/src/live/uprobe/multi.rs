//! All points of a file by one link, which the kernel attaches and detaches at once (6.6).
//!
//! *Whose processes.* The link names a process, so that no breakpoint is put into others. Kernels before 6.10 took the
//! name for a single thread's; they are told apart as libbpf does, and count as having no such links at all.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use super::program::{Loaded, Program};
use super::{Point, Scope, Way, sys};

/// Whether the kernel has such links, and they filter by process.
pub fn is_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        let Ok(loaded) = Program::nothing().load(Way::Multi) else { return false };
        // NOTE: the process -1 is refused as such since 6.10; before, the path, which is a directory, was looked at
        // first, or the process was not found.
        let refused = sys::link_multi(loaded.fd(), Way::Multi, c"/", (&[0], &[0]), u32::MAX);
        refused.err().and_then(|error| error.raw_os_error()) == Some(libc::EINVAL)
    })
}

/// Whether the kernel has links whose programs run at a function's return too if they choose.
pub fn has_sessions() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| Program::nothing().load(Way::Session).is_ok())
}

/// Links the points that can be had, and tells what came of each.
pub fn attach(
    loaded: &Loaded,
    path: &str,
    scope: Scope,
    points: &[Point],
    way: Way,
) -> (Option<OwnedFd>, Vec<io::Result<()>>) {
    let pid = scope.filter().unwrap_or(0);
    let link = |points: &mut dyn Iterator<Item = &Point>| {
        let (offsets, cookies): (Vec<u64>, Vec<u64>) = points.map(|point| (point.offset, point.cookie)).unzip();
        sys::link_multi(loaded.fd(), way, sys::c_path(path)?.as_c_str(), (&offsets, &cookies), pid)
    };
    if points.is_empty() {
        return (None, Vec::new());
    }
    if let Ok(whole) = link(&mut points.iter()) {
        return (Some(whole), points.iter().map(|_| Ok(())).collect());
    }
    // The kernel takes all or none, and does not say which it minds.
    let mut outcomes: Vec<io::Result<()>> =
        points.iter().map(|point| link(&mut std::iter::once(point)).map(drop)).collect();
    let good = points.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(point, _)| point);
    let mut good = good.peekable();
    if good.peek().is_none() {
        return (None, outcomes);
    }
    match link(&mut good) {
        Ok(link) => (Some(link), outcomes),
        Err(error) => {
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                *outcome = Err(io::Error::new(error.kind(), error.to_string()));
            }
            (None, outcomes)
        }
    }
}
