//! Stacks on their way into a process's file.

use std::collections::BTreeMap;

use super::Target;
use crate::event::{Body, FileId, Function, Place, StackId};
use crate::live::stacks::{Namer, Unwinding, Walked};
use crate::live::writer::Writer;
use crate::units::Nanos;

impl Target {
    /// The number of a stack, with what the thread did in the kernel; events tell the nodes that are new, before it is used.
    pub fn stack(
        &mut self,
        ts: Nanos,
        (walked, kernel): (Walked<'_>, &[u64]),
        shared: &mut Unwinding,
        writer: &Writer,
    ) -> StackId {
        let mut stacks = std::mem::take(&mut self.stacks);
        let mut nodes: Vec<Body> = Vec::new();
        let (kernel, names) = stacks.kernel_places(shared, kernel);
        nodes.extend(names.into_iter().map(|(place, name)| Body::Symbol { place, functions: vec![name] }));
        let id = stacks.stack(
            shared,
            (self.identity.pid, ts),
            (walked, &kernel),
            &mut |named| self.file(ts, named.clone(), writer),
            &mut |parent, place| nodes.push(Body::StackNode { parent, place }),
        );
        self.stacks = stacks;
        for node in nodes {
            self.push_own(ts, 0, node, writer);
        }
        id
    }

    /// Puts the names of all places of its stacks into the file, and which build of each file they are of.
    pub fn name_places(&mut self, namer: &mut Namer, writer: &Writer) {
        let mut offsets: BTreeMap<FileId, Vec<u64>> = BTreeMap::new();
        let mut addresses = Vec::new();
        for place in self.stacks.all_places() {
            match place {
                Place::File { file, offset } => offsets.entry(file).or_default().push(offset),
                Place::Address(address) => addresses.push(address),
                Place::Cut | Place::Kernel(_) => {}
            }
        }
        let mut bodies = Vec::new();
        addresses.sort_unstable();
        addresses.dedup();
        for (address, name) in self.stacks.made_names(self.identity.pid, &addresses) {
            let functions = vec![Function { name, file: String::new(), line: 0 }];
            bodies.push(Body::Symbol { place: Place::Address(address), functions });
        }
        for (file, path, code) in self.stacks.files() {
            if !code.build_id.is_empty() {
                bodies.push(Body::BuildId { file, id: code.build_id.clone(), linked: code.linked() });
            }
            let mut offsets = offsets.remove(&file).unwrap_or_default();
            offsets.sort_unstable();
            offsets.dedup();
            for (offset, functions) in namer.names(path, code, &offsets) {
                bodies.push(Body::Symbol { place: Place::File { file, offset }, functions });
            }
        }
        let at = self.last;
        for body in bodies {
            self.push_own(at, 0, body, writer);
        }
    }
}
