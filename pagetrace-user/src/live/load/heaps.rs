//! What the programs on page heaps need of the kernel: attaching, and the table of Go's layouts.

use std::io;

use pagetrace_common::control::{HEAP_LAYOUTS, heap_layout};

use super::{HeapLayout, Kernel, failed, object};
use crate::event::Probe;
use crate::failure::Failure;
use crate::live::uprobe::{Point, Program, StateDirectory, Target, UprobeSet, Way};

const GO: &str = "pt_heap";
const TCMALLOC: &str = "pt_tcmalloc";

impl Kernel {
    /// Attaches to points of a Go program's page heap, whose cookies name a layout, until this is dropped. What came of
    /// each.
    ///
    /// *Errors.* Those of [`UprobeSet::attach`].
    pub fn attach_heap(&mut self, target: &Target, points: &[Point], way: Way) -> Result<Vec<Probe>, Failure> {
        let program = Program::of_object(object(), GO, self.maps.clone());
        let program = program.map_err(|error| failed("find the program for page heaps", &error))?;
        let set = UprobeSet::attach(&program, target, points, way, &StateDirectory::default())?;
        let probes = set.probes().to_vec();
        self.uprobes.push(set);
        Ok(probes)
    }

    /// The same of tcmalloc's, whose cookies tell all.
    ///
    /// *Errors.* As there.
    pub fn attach_tcmalloc(&mut self, target: &Target, points: &[Point]) -> Result<Vec<Probe>, Failure> {
        let program = match self.tcmalloc.take() {
            Some(program) => program,
            None => Program::of_object(object(), TCMALLOC, self.maps.clone())
                .map_err(|error: io::Error| failed("find the program for tcmalloc's page heap", &error))?,
        };
        let program = self.tcmalloc.insert(program);
        let set = UprobeSet::attach(program, target, points, Way::best(), &StateDirectory::default())?;
        let probes = set.probes().to_vec();
        self.uprobes.push(set);
        Ok(probes)
    }

    /// The number by which cookies name this layout. Equal ones have the same.
    ///
    /// *Errors.* It says nothing of where a `g` has its `m`; more different ones than the programs' table holds.
    pub fn heap_layout(&mut self, layout: HeapLayout) -> Result<u32, Failure> {
        let known = self.layouts_known.iter().position(|known| *known == layout);
        let row = u32::try_from(known.unwrap_or(self.layouts_known.len())).unwrap_or(u32::MAX);
        if known.is_none() {
            if row >= HEAP_LAYOUTS || layout.get(heap_layout::G_M) == Some(&0) {
                return Err(failed("note the layout of a Go runtime", "the table is full, or the layout unknown"));
            }
            let set = self.heap_layouts.set(row, layout, 0);
            set.map_err(|error| failed("note the layout of a Go runtime", &error))?;
            self.layouts_known.push(layout);
        }
        Ok(row)
    }
}
