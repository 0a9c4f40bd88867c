//! Where wanted names stand in a string table, so that a table of symbols can be read for them without following each
//! symbol's name: both tables are then read from end to end, once.

use std::collections::HashMap;
use std::ops::ControlFlow;

use memchr::memmem::Finder;

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
    let needles: Vec<Vec<u8>> = names.iter().map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    let finders: Vec<Finder> = needles.iter().map(Finder::new).collect();
    let overlap = needles.iter().map(Vec::len).max().unwrap_or(0) as u64;
    let mut places = HashMap::new();
    image.pieces(table, overlap, |at, piece| {
        for (index, finder) in finders.iter().enumerate() {
            for found in finder.find_iter(piece) {
                places.insert((at - table.start).saturating_add(found as u64), index);
                if places.len() > MOST_PLACES {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    if places.len() > MOST_PLACES {
        return Err(SymbolError::Damaged("a string table repeats a name without end"));
    }
    Ok(places)
}
