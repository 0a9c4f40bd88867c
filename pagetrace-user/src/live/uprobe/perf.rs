//! One perf event and one link a point: on kernels whose links do not take several.
//!
//! *Cost.* Two descriptors a point, and a wait for every CPU at each one's detach, under a lock of the kernel's: threads
//! that detach side by side wait for each other (measured on 6.18 with 2 CPUs: 90 ms a point, by one thread or many).

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::program::Loaded;
use super::{Point, Scope, Way, sys};

/// The number by which the kernel knows this kind of event.
const KIND: &str = "/sys/bus/event_source/devices/uprobe/type";

/// A point that is attached, by its link and its event, in the order of their ends.
pub struct Attached {
    _link: Option<OwnedFd>,
    _event: OwnedFd,
}

/// Attaches the points that can be had, and tells what came of each.
pub fn attach(
    loaded: &Loaded,
    path: &str,
    scope: Scope,
    points: &[Point],
    way: Way,
) -> (Vec<Attached>, Vec<io::Result<()>>) {
    let mut links = Vec::new();
    let outcomes = points.iter().map(|point| {
        let event = open(path, scope, point.offset, way)?;
        let link = sys::link_event(loaded.fd(), event.as_fd(), point.cookie)?;
        links.push(Attached { _link: Some(link), _event: event });
        Ok(())
    });
    let outcomes = outcomes.collect();
    (links, outcomes)
}

/// The event: with it the breakpoint stands.
fn open(path: &str, scope: Scope, offset: u64, way: Way) -> io::Result<OwnedFd> {
    let kind = fs::read_to_string(KIND)?.trim().parse().map_err(io::Error::other)?;
    let place = (sys::c_path(path)?, offset);
    sys::uprobe_event(kind, (&place.0, place.1), way.takes_returns(), scope.filter())
}
