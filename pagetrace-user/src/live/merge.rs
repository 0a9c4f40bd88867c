//! Drain and merge: records of every ring, in the order of their times.
//!
//! *Invariant.* A record leaves only when every ring has been read past its time. A record's time is taken after its
//! space in the ring is reserved: so a ring that was found empty at a time T holds nothing older afterwards, and a
//! record still being written stops the reading of its ring.
//! *Bound.* At most [`ROUND_RECORDS`] of each ring a round are held, and what the rings held past the watermark.
//! *Late.* Where a ring was not read to its end, a record may have been written by an interrupt in the middle of
//! another's: microseconds out of order. Such a record is moved forward to the last time given out, and counted.

use pagetrace_common::record::{self, HEAD_WORDS, MAX_WORDS, words_of};

use crate::live::clock;
use crate::live::load::Ring;
use crate::units::Nanos;

/// Records taken from one ring in one round.
const ROUND_RECORDS: usize = 32 << 10;

/// A record's words, in a row of their own, without its tail.
pub type Words = [u64; MAX_WORDS];

/// What gets the records: their time, their words and their tail, which most do not have.
pub type Give<'a> = dyn FnMut(Nanos, &Words, &[u64]) + 'a;

/// The `index`th word of a record's bytes; 0 beyond them.
#[must_use]
pub fn word_of(bytes: &[u8], index: usize) -> u64 {
    match bytes.get(index * 8..index * 8 + 8).map(<[u8; 8]>::try_from) {
        Some(Ok(word)) => u64::from_ne_bytes(word),
        _ => 0,
    }
}

/// What a round brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    pub records: usize,
    /// The rings hold more.
    pub more: bool,
}

/// A record among the words held.
#[derive(Clone, Copy)]
struct Held {
    ts: u64,
    /// Where its words begin, how many they are, and how many the tail behind them has.
    at: u32,
    count: u8,
    tail: u16,
}

impl Held {
    /// Its words and its tail.
    fn words(self, all: &[u64]) -> (&[u64], &[u64]) {
        let at = self.at as usize;
        let words = all.get(at..at + usize::from(self.count) + usize::from(self.tail)).unwrap_or_default();
        words.split_at_checked(usize::from(self.count)).unwrap_or_default()
    }
}

/// The merge of all rings.
pub struct Merge {
    rings: Vec<Ring>,
    /// Words of the records held, one after the other.
    words: Vec<u64>,
    held: Vec<Held>,
    last: u64,
    watermark: u64,
    /// Records decoded so far, and those whose time was moved.
    pub decoded: u64,
    pub late: u64,
    /// Records whose kind or length is unknown: a defect, and counted as decoded.
    pub unknown: u64,
}

impl Merge {
    #[must_use]
    pub fn new(rings: Vec<Ring>) -> Merge {
        Merge { rings, words: Vec::new(), held: Vec::new(), last: 0, watermark: 0, decoded: 0, late: 0, unknown: 0 }
    }

    /// Reads each ring to its end, or to the bound, and gives out what is before the watermark.
    pub fn round(&mut self, give: &mut Give<'_>) -> Round {
        let mut watermark = clock::now().0;
        let mut round = Round::default();
        for ring in &mut self.rings {
            let mut taken = 0;
            let mut latest = 0;
            while taken < ROUND_RECORDS
                && let Some(item) = ring.next()
            {
                taken += 1;
                let ts = word_of(&item, 0);
                latest = ts.max(latest);
                let kind = (word_of(&item, 1) & 0xff) as u8;
                let at = self.words.len() as u32;
                match words_of(kind) {
                    Some(count) if item.len() >= count * 8 => {
                        let tail = record::tail_of(kind).map_or(0, |index| tail_words(&item, index));
                        self.words.extend((0..count + tail).map(|index| word_of(&item, index)));
                        self.held.push(Held { ts, at, count: count as u8, tail: tail as u16 });
                    }
                    _ => self.unknown += 1,
                }
            }
            round.records += taken;
            if taken == ROUND_RECORDS {
                round.more = true;
                watermark = watermark.min(latest);
            }
        }
        self.decoded += round.records as u64;
        self.watermark = self.watermark.max(watermark);
        self.give_out(watermark, give);
        round
    }

    fn give_out(&mut self, watermark: u64, give: &mut Give<'_>) {
        self.held.sort_by_key(|held| held.ts);
        let ready = self.held.partition_point(|held| held.ts < watermark);
        for held in self.held.iter().take(ready) {
            let mut words = [0; MAX_WORDS];
            let (fixed, tail) = held.words(&self.words);
            for (to, from) in words.iter_mut().zip(fixed) {
                *to = *from;
            }
            if held.ts < self.last {
                self.late += 1;
            }
            self.last = self.last.max(held.ts);
            give(Nanos(self.last), &words, tail);
        }
        // What stays behind moves to the front.
        let mut kept = Vec::new();
        let mut stay = Vec::new();
        for held in self.held.iter().skip(ready) {
            let place = kept.len() as u32;
            let (fixed, tail) = held.words(&self.words);
            kept.extend_from_slice(fixed);
            kept.extend_from_slice(tail);
            stay.push(Held { at: place, ..*held });
        }
        self.words.clear();
        self.words.extend_from_slice(&kept);
        self.held = stay;
    }

    /// The last time given out.
    #[must_use]
    pub fn last(&self) -> Nanos {
        Nanos(self.last)
    }

    /// Reads until every event before a time is given out, and none after: that time, which is not before the call.
    pub fn settle(&mut self, give: &mut Give<'_>) -> Nanos {
        let called = clock::now().0;
        while self.round(give).more && self.watermark < called {}
        // What comes in later and is older would be late from here on.
        self.last = self.last.max(self.watermark);
        Nanos(self.last)
    }
}

/// Words of the tail, whose bytes this word of the payload tells.
fn tail_words(item: &[u8], index: usize) -> usize {
    let bytes = word_of(item, HEAD_WORDS + index) & 0xffff_ffff;
    usize::try_from(bytes).unwrap_or(0).div_ceil(8).min(record::STACK_WORDS)
}
