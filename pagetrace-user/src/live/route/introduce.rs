//! How a process comes into view, or another program takes its place.

use std::collections::BTreeMap;

use super::{CACHE_LIMIT, Route};
use crate::event::{Body, Event, Start, Why};
use crate::live::decode::Image;
use crate::live::process::Program;
use crate::live::target::{Identity, PageHeap, Target};
use crate::units::{Comm, Nanos, Pid, Tid};

/// An address space that came into view.
pub(super) struct Introduced {
    pub mm: u64,
    pub parent: Pid,
    pub comm: Comm,
    pub how: Start,
    pub image: Option<Image>,
}

impl Route {
    pub(super) fn introduce(
        &mut self,
        ts: Nanos,
        (owner, cpu, tid): (u32, u16, Tid),
        identity: Identity,
        new: Introduced,
    ) {
        self.last = None;
        self.last_came = ts;
        let parent = self.verdicts.get(&new.parent).copied();
        let admitted = self.rule.admits(identity.pid, new.comm, parent);
        if self.verdicts.len() >= CACHE_LIMIT {
            self.verdicts.clear();
        }
        self.verdicts.insert(identity.pid, admitted);
        self.names.learn(identity.pid, new.comm);
        if !admitted {
            self.to_mute.push((new.mm, owner));
        }
        let known = self.by_identity.get(&identity).copied();
        let program = if admitted || known.is_some() { self.program(identity, &new) } else { Program::default() };
        let body = match known.and_then(|index| self.targets.get(&index)) {
            // The same address space, brought into view twice at once: the second owner never acts.
            Some(target) if target.mm == new.mm && !target.mm_gone && new.how != Start::Executed => {
                self.skipped += 1;
                return;
            }
            // An exec; or its record was lost, and a walk found the new address space.
            Some(_) => Body::Exec { comm: new.comm, exe: program.exe.clone() },
            None if !admitted => {
                self.skipped += 1;
                return;
            }
            None => Body::Start { how: new.how, parent: new.parent },
        };
        if let Some(target) = known.and_then(|index| self.targets.get(&index)) {
            // What the old address space still does, where somebody holds it, is not the program's any more.
            self.by_owner.remove(&target.owner);
            self.replaced.extend(known.map(|index| (index, target.owner)));
        }
        // A child that was forked has what its parent has mapped.
        let is_fork = known.is_none() && new.how == Start::Forked;
        let parent = self.targets.values().find(|target| is_fork && target.identity.pid == new.parent);
        let of_parent = parent.map(|parent| parent.stacks.of_child());
        let index = known.unwrap_or(self.next);
        if known.is_none() {
            self.next += 1;
            self.by_identity.insert(identity, index);
            self.targets.insert(index, Target::new(identity, new.comm, new.parent, (new.mm, owner), ts));
        }
        self.by_owner.insert(owner, index);
        let Some(target) = self.targets.get_mut(&index) else { return };
        if !admitted {
            // It became a program that is not wanted: that is the end of what is recorded of it.
            target.exited = Some(ts);
            target.mm_gone = true;
            target.push(Event { ts, cpu, tid, actor: None, body }, &self.writer);
            self.written += 1;
            self.by_owner.remove(&owner);
            return;
        }
        match of_parent {
            Some(stacks) => target.stacks = stacks,
            None => target.stacks.replaced(),
        }
        target.mm = new.mm;
        target.owner = owner;
        target.mm_gone = false;
        target.comm = new.comm;
        target.program = program;
        target.heap = PageHeap { began: (new.how == Start::Executed).then_some(ts), ..PageHeap::default() };
        target.libraries = BTreeMap::new();
        target.is_counted = false;
        target.reading = None;
        target.due = Some((Why::Start, ts));
        target.segments.clear();
        target.levels = [0; 4];
        let mut full = target.push(Event { ts, cpu, tid, actor: None, body }, &self.writer);
        self.written += 1;
        if let Some(image) = new.image {
            let name = |range, file| self.names.file(ts, identity.pid, range, file);
            full |= target.load(ts, image, name, &mut self.unwinding, &self.writer);
        }
        if full {
            self.open(index);
        }
        self.to_attend.push((index, new.how));
    }

    /// What a process runs that came into view in this way.
    fn program(&mut self, identity: Identity, new: &Introduced) -> Program {
        let now = Program::of(identity.pid, identity.start_boottime);
        if new.how != Start::Executed {
            return now;
        }
        let started = self.started.take_if(|(pid, _)| *pid == identity.pid).map(|(_, started)| started);
        let told = new.image.as_ref().and_then(Image::program).filter(|file| file.is_whole).map(|file| &file.name);
        match told {
            // Asked now, it may run another one.
            Some(told) if now.exe != *told => started.unwrap_or_else(|| Program::of_file(told.clone())),
            _ if now.is_known() => now,
            _ => started.unwrap_or_default(),
        }
    }
}
