//! Objects in a capture: attaching to the allocators of processes as they map them, and their counts at the end.

use pagetrace_common::control::object_cookie;

use crate::event::{Body, LibraryId, ObjectCall, Who};
use crate::live::capture::Capture;
use crate::live::clock;
use crate::live::objects::{Found, Library};
use crate::units::Nanos;

/// How often the samples of processes that are gone are forgotten.
const FORGET_PERIOD: Nanos = Nanos(10_000_000_000);

impl Capture {
    /// Attaches to the allocators of a process that came into view or mapped another program.
    pub(super) fn attend_objects(&mut self, index: u32) {
        let Some(target) = self.route.targets.get(&index).filter(|target| !target.has_ended()) else { return };
        let (pid, owner, is_go) = (target.identity.pid, target.owner, target.heap.is_go);
        if self.objects.period().is_none() {
            return;
        }
        if !is_go && self.kernel.take_returns(pid, Some(owner)).is_err() {
            self.route.notes.push(format!("objects of process {pid} are not recorded: no row is left for it"));
        }
        let libraries = self.objects.of_process(&mut self.kernel, pid, is_go);
        // Of what happened until now it is not known which allocator it was.
        let at = self.settle();
        let Some(target) = self.route.targets.get_mut(&index) else { return };
        for Found { library, whole } in libraries {
            let body = told(&library, whole);
            if target.libraries.insert(library.id, library).is_none() {
                target.push_own(at, 0, body, &self.route.writer);
            }
        }
    }

    /// What there is to say of the allocators whose functions are attached to.
    #[must_use]
    pub fn object_notes(&self) -> Vec<String> {
        let targets = self.route.targets.values().filter(|target| !target.has_ended());
        let told = targets.flat_map(|target| {
            let of = format!("{} ({})", target.comm, target.identity.pid);
            target.libraries.values().map(move |library| format!("{of}: {}", library.note))
        });
        told.collect()
    }

    /// Puts the counts of processes that have ended, or of all, into their files.
    pub(super) fn count_calls(&mut self, all: bool) {
        if self.objects.period().is_none() {
            return;
        }
        let mut done: Vec<(u32, u32)> = std::mem::take(&mut self.route.replaced);
        for (index, target) in &self.route.targets {
            if !target.has_ended() && (all || target.mm_gone || target.exited.is_some()) && !target.is_counted {
                done.push((*index, target.owner));
            }
        }
        for (index, owner) in done {
            let mut counts = Vec::new();
            // Who attached to it may have been another process that maps the same file.
            for library in (0..self.objects.libraries()).map(LibraryId) {
                let before = counts.len();
                for &call in ObjectCall::ALL {
                    let number = object_cookie::pack(call.code(), library.0);
                    if let Some(count) = self.kernel.take_calls(owner, number) {
                        counts.push(Body::Calls { who: Who { call, library }, count });
                    }
                }
                let target = self.route.targets.get(&index);
                let is_known = target.is_none_or(|target| target.libraries.contains_key(&library));
                // A process that was over before it was looked at.
                if counts.len() > before && !is_known {
                    counts.extend(self.objects.library(library).map(|library| told(&library, false)));
                }
            }
            let at = self.merge.last();
            self.gone_owners.insert(owner);
            let Some(target) = self.route.targets.get_mut(&index) else { continue };
            target.is_counted = target.owner == owner;
            for body in counts {
                target.push_own(at, 0, body, &self.route.writer);
            }
        }
        let now = clock::now();
        if now.since(self.forgot) >= FORGET_PERIOD && !self.gone_owners.is_empty() {
            self.forgot = now;
            let gone = std::mem::take(&mut self.gone_owners);
            self.kernel.forget_objects(|owner| gone.contains(&owner));
        }
    }
}

fn told(library: &Library, whole: bool) -> Body {
    Body::Library { id: library.id, whole, name: library.name.clone(), path: library.path.clone() }
}
