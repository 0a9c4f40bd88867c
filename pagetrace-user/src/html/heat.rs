//! Addresses over time, as the page's script draws them: how much of which part of the address space was resident when.

use serde::Serialize;

use crate::heat::Map;
use crate::units::PAGE_BYTES;

/// A map, as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heat {
    /// The time of a column; the first begins with the recording.
    pub width_ns: u64,
    pub columns: usize,
    /// Pages of a row's addresses.
    pub row_pages: u64,
    /// Neighbouring rows of one name, by rising address.
    pub blocks: Vec<Rows>,
}

/// Rows side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Of the first.
    pub addr: String,
    pub label: String,
    /// Each as runs of equal cells: resident pages, and how many columns.
    pub rows: Vec<Vec<[u64; 2]>>,
}

impl Heat {
    pub(super) fn of(map: Map) -> Heat {
        Heat {
            width_ns: map.width.0,
            columns: map.moments.len(),
            row_pages: map.row.0 / PAGE_BYTES,
            blocks: (map.blocks.into_iter())
                .map(|block| Rows {
                    addr: format!("{:#x}", block.range.start),
                    label: block.label,
                    rows: block.rows.iter().map(|row| runs(row.iter().map(|cell| cell.resident))).collect(),
                })
                .collect(),
        }
    }
}

/// Equal neighbours as value and number.
fn runs(cells: impl Iterator<Item = u64>) -> Vec<[u64; 2]> {
    let mut runs: Vec<[u64; 2]> = Vec::new();
    for cell in cells {
        match runs.last_mut() {
            Some([value, times]) if *value == cell => *times = times.saturating_add(1),
            _ => runs.push([cell, 1]),
        }
    }
    runs
}
