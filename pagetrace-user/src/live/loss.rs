//! Losses, as events: which CPU and layer, between which two looks, how many.

use pagetrace_common::control::{
    COLUMNS, COUNTER_WORDS, DROPPED, EMITTED, FILTERED, LAYER_HEAP, LAYER_OBJECT, LAYER_PAGE, LAYER_STACK, LAYER_TASK,
    LAYER_VMA, SEEN,
};

use crate::event::{Body, CounterRow, Layer};
use crate::live::load::Kernel;
use crate::units::Nanos;

const LAYERS: [(usize, Layer); 6] = [
    (LAYER_VMA, Layer::Vma),
    (LAYER_PAGE, Layer::Page),
    (LAYER_TASK, Layer::Task),
    (LAYER_HEAP, Layer::Heap),
    (LAYER_OBJECT, Layer::Object),
    (LAYER_STACK, Layer::Stack),
];

/// The programs' counters, as last seen.
pub struct Losses {
    cpus: u32,
    /// Dropped, by CPU and layer.
    known: Vec<[u64; LAYERS.len()]>,
    looked: Nanos,
}

/// A gap: the CPU, and the event that tells it.
pub type Gap = (u16, Body);

impl Losses {
    #[must_use]
    pub fn new(cpus: u32, now: Nanos) -> Losses {
        Losses { cpus, known: vec![[0; LAYERS.len()]; cpus as usize], looked: now }
    }

    /// What was dropped since the last look.
    pub fn look(&mut self, kernel: &Kernel, now: Nanos) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let from = self.looked;
        self.looked = now;
        for (cpu, known) in (0..self.cpus).zip(&mut self.known) {
            let row = kernel.counters(cpu);
            for ((index, layer), known) in LAYERS.iter().zip(known) {
                let dropped = column(&row, *index, DROPPED);
                let count = dropped.saturating_sub(*known);
                *known = dropped;
                if count > 0 {
                    gaps.push((cpu as u16, Body::Lost { layer: *layer, from, to: now, count }));
                }
            }
        }
        gaps
    }
}

/// Records that the programs put into the rings so far.
#[must_use]
pub fn emitted(kernel: &Kernel) -> u64 {
    (0..kernel.cpus)
        .map(|cpu| {
            let row = kernel.counters(cpu);
            LAYERS.iter().map(|(index, _)| column(&row, *index, EMITTED)).sum::<u64>()
        })
        .sum()
}

/// All counters, of the layers and CPUs where anything happened.
#[must_use]
pub fn rows(kernel: &Kernel) -> Vec<CounterRow> {
    let mut rows = Vec::new();
    for cpu in 0..kernel.cpus {
        let words = kernel.counters(cpu);
        for (index, layer) in LAYERS {
            let seen = column(&words, index, SEEN);
            if seen > 0 {
                rows.push(CounterRow {
                    cpu,
                    layer: layer.word().to_owned(),
                    seen,
                    emitted: column(&words, index, EMITTED),
                    filtered: column(&words, index, FILTERED),
                    dropped: column(&words, index, DROPPED),
                });
            }
        }
    }
    rows
}

fn column(row: &[u64; COUNTER_WORDS], layer: usize, column: usize) -> u64 {
    row.get(layer * COLUMNS + column).copied().unwrap_or(0)
}
