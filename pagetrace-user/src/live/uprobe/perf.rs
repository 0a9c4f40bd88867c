//! One perf event and one link a point: on kernels whose links do not take several.
//!
//! *Cost.* Two descriptors a point. Each detach waits for every CPU; the waits overlap.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::program::Loaded;
use super::{Point, Scope, sys};

/// Points that are detached at the same time.
const TOGETHER: usize = 128;
/// The number by which the kernel knows this kind of event.
const KIND: &str = "/sys/bus/event_source/devices/uprobe/type";

/// A point that is attached, by its link and its event, in the order of their ends.
pub struct Attached {
    _link: Option<OwnedFd>,
    _event: OwnedFd,
}

/// Attaches the points that can be had, and tells what came of each.
pub fn attach(loaded: &Loaded, path: &str, scope: Scope, points: &[Point]) -> (Vec<Attached>, Vec<io::Result<()>>) {
    let mut links = Vec::new();
    let outcomes = points.iter().map(|point| {
        let event = open(path, scope, point.offset)?;
        let link = sys::link_event(loaded.fd(), event.as_fd(), point.cookie)?;
        links.push(Attached { _link: Some(link), _event: event });
        Ok(())
    });
    let outcomes = outcomes.collect();
    (links, outcomes)
}

/// The event: with it the breakpoint stands.
fn open(path: &str, scope: Scope, offset: u64) -> io::Result<OwnedFd> {
    let kind = fs::read_to_string(KIND)?.trim().parse().map_err(io::Error::other)?;
    let pid = match scope {
        Scope::Process(pid) => Some(pid.0),
        Scope::Everyone => None,
    };
    sys::uprobe_event(kind, sys::c_path(path)?.as_c_str(), offset, pid)
}

/// Detaches all.
pub fn detach(mut links: Vec<Attached>) {
    while !links.is_empty() {
        let some = links.split_off(links.len().saturating_sub(TOGETHER));
        std::thread::scope(|scope| {
            for link in some {
                // Without a thread the link is dropped here, with what the thread was to do.
                let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(link));
            }
        });
    }
}
