//! How a sound file is made to lie, and how long an answer about it may take.

use std::ops::Range;
use std::time::{Duration, Instant};

/// The longest that any file may take, in an unoptimised build on a busy machine: a sound one takes some milliseconds,
/// and one that makes the reader go on until it gives up some seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// What a word is changed to.
const EXTREMES: [u32; 4] = [0, 1, 0x7fff_ffff, u32::MAX];

/// The answer, unless it comes too late.
pub fn soon<T>(ask: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let answer = ask();
    assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
    answer
}

/// The file again and again, each time with one word of this part at an extreme.
pub fn each_word_at_its_extremes(file: &[u8], part: Range<usize>) -> impl Iterator<Item = Vec<u8>> {
    part.step_by(4).take_while(|at| at + 4 <= file.len()).flat_map(|at| {
        EXTREMES.map(|value| {
            let mut bytes = file.to_vec();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes
        })
    })
}
