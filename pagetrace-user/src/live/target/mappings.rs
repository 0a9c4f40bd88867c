//! What is mapped, on its way into a process's file: as /proc shows it, or as an exec left it.

use super::{NamedFile, Target};
use crate::event::{Body, Why};
use crate::live::decode::{FileKey, Image};
use crate::live::maps::{Mapping, Name, PROT_EXEC};
use crate::live::reading::word_of;
use crate::live::stacks::Unwinding;
use crate::live::writer::Writer;
use crate::units::{Nanos, Range};

impl Target {
    /// Puts in all mappings, as /proc shows them.
    pub fn mappings(&mut self, ts: Nanos, why: Why, mappings: Vec<Mapping>, writer: &Writer) {
        let mut rows = Vec::new();
        for mapping in mappings {
            if matches!(&mapping.name, Name::File { path, .. } if path.starts_with("/SYSV")) {
                self.segments.insert(mapping.range.start, mapping.range.bytes().0);
            }
            let name = word_of(&mapping.name);
            let file = match mapping.name {
                Name::File { dev, ino, path } => Some(self.file(ts, NamedFile { dev, ino, path, whole: true }, writer)),
                Name::Word(_) => None,
            };
            let (range, prot, shared, offset) = (mapping.range, mapping.prot, mapping.shared, mapping.offset);
            rows.push(Body::BaselineMap { range, prot, shared, file, offset, name });
        }
        self.map_rows(ts, why, rows, writer);
    }

    /// The same of an exec, whose code stacks may be in from now on. `true` when it is time to make the file.
    pub fn load(
        &mut self,
        ts: Nanos,
        image: Image,
        mut named: impl FnMut(Range, FileKey) -> NamedFile,
        shared: &mut Unwinding,
        writer: &Writer,
    ) -> bool {
        let (mut rows, mut code) = (Vec::new(), Vec::new());
        for row in image.rows {
            let (range, prot, offset) = (row.range, row.prot, row.offset);
            let file = row.file.map(|file| {
                let named = named(range, file);
                if prot & PROT_EXEC != 0 {
                    code.push((range, offset.0, named.clone()));
                }
                self.file(ts, named, writer)
            });
            rows.push(Body::BaselineMap { range, prot, shared: row.shared, file, offset, name: row.name.to_owned() });
        }
        self.stacks.loaded(shared, (self.identity.pid, self.parent), ts, &code);
        self.map_rows(ts, Why::Start, rows, writer)
    }

    fn map_rows(&mut self, ts: Nanos, why: Why, rows: Vec<Body>, writer: &Writer) -> bool {
        let mut full = self.push_own(ts, 0, Body::Reading { why, range: Range::default(), maps: true }, writer);
        for row in rows {
            full |= self.push_own(ts, 0, row, writer);
        }
        full
    }
}
