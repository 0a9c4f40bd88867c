//! Where wanted names stand in a string table, so that a table of symbols can be read for them without following each
//! symbol's name: both tables are then read from end to end, once.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::SymbolError;
use super::image::{Image, Part};

/// The places of all wanted names that a table may have. A linker writes each name once or a few times, as the tail
/// of longer names too.
const MOST_PLACES: usize = 1 << 16;

/// For each place in the table (bytes from its start) at which one of `names` stands up to its zero byte: which one.
///
/// # Errors
/// When the table cannot be read, or repeats a name without end.
pub fn places(image: &Image, table: Part, names: &[&str]) -> Result<HashMap<u64, usize>, SymbolError> {
    let wanted: HashMap<&[u8], usize> = names.iter().enumerate().map(|(at, name)| (name.as_bytes(), at)).collect();
    let mut lengths: Vec<usize> = names.iter().map(|name| name.len()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let mut last_bytes = [false; 256];
    for name in names {
        let last = name.bytes().next_back().and_then(|byte| last_bytes.get_mut(usize::from(byte)));
        last.into_iter().for_each(|is_last| *is_last = true);
    }
    let overlap = lengths.last().map_or(0, |longest| longest + 1) as u64;
    let mut places = HashMap::new();
    image.pieces(table, overlap, |at, piece| {
        for end in memchr::memchr_iter(0, piece) {
            let Some(text) = piece.get(..end) else { continue };
            let is_last = text.last().and_then(|byte| last_bytes.get(usize::from(*byte)));
            if is_last != Some(&true) {
                continue;
            }
            for length in lengths.iter().take_while(|length| **length <= end) {
                let tail = text.get(end - length..).unwrap_or_default();
                if let Some(index) = wanted.get(tail) {
                    places.insert((at - table.start).saturating_add((end - length) as u64), *index);
                }
            }
            if places.len() > MOST_PLACES {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if places.len() > MOST_PLACES {
        return Err(SymbolError::Damaged("a string table repeats a name without end"));
    }
    Ok(places)
}
