//! The smallest pieces of a payload: varints, signed differences, page-aligned differences, text.
//!
//! *Format.* As in the module doc of [`super`]; [`Out`] writes what [`In`] reads.
//! *Errors.* Reading past the end, a varint of more than 64 bits, an impossible value: [`Corrupt`], never a panic.

use super::MAX_TEXT_BYTES;
use crate::units::PAGE_BYTES;

/// Why bytes cannot be what a writer made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt(pub &'static str);

/// A growing payload.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub bytes: Vec<u8>,
}

impl Out {
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// LEB128: 7 bits a byte, low bits first, bit 7 set on all but the last.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// `to - from` modulo 2^64, zigzag.
    pub fn signed(&mut self, from: u64, to: u64) {
        self.varint(zigzag(to.wrapping_sub(from)));
    }

    /// `to - from` modulo 2^64 in pages where it is a whole number of them.
    pub fn address(&mut self, from: u64, to: u64) {
        let difference = to.wrapping_sub(from);
        if difference.is_multiple_of(PAGE_BYTES) {
            self.varint(zigzag((difference as i64 >> 12) as u64) << 1);
        } else {
            self.varint(1);
            self.varint(zigzag(difference));
        }
    }

    /// A length of bytes, in pages where it is a whole number of them.
    pub fn length(&mut self, bytes: u64) {
        if bytes.is_multiple_of(PAGE_BYTES) {
            self.varint((bytes >> 12) << 1);
        } else {
            self.varint(1);
            self.varint(bytes);
        }
    }

    /// At most [`MAX_TEXT_BYTES`] of `text`, cut between characters.
    pub fn text(&mut self, text: &str) {
        self.text_within(text, MAX_TEXT_BYTES);
    }

    /// The same with another bound, below that one.
    pub fn text_within(&mut self, text: &str, most: usize) {
        let text = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
        self.varint(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

/// How many bytes [`Out::signed`] takes.
pub(super) fn signed_len(from: u64, to: u64) -> u32 {
    let bits = 64 - zigzag(to.wrapping_sub(from)).leading_zeros();
    bits.div_ceil(7).max(1)
}

/// The rest of a payload.
#[derive(Debug)]
pub(super) struct In<'a> {
    pub rest: &'a [u8],
}

impl<'a> In<'a> {
    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&first, rest) = self.rest.split_first().ok_or(Corrupt("an event goes past the end of its block"))?;
        self.rest = rest;
        Ok(first)
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(Corrupt("an event goes past the end of its block"))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, Corrupt> {
        // Most numbers are differences of neighbours: one byte, or two for most times.
        match *self.rest {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Corrupt> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Corrupt("a number of more than 64 bits"))
    }

    /// A varint that must fit a narrower type.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Corrupt> {
        T::try_from(self.varint()?).map_err(|_| Corrupt("a number beyond its field"))
    }

    pub fn signed(&mut self, from: u64) -> Result<u64, Corrupt> {
        Ok(from.wrapping_add(unzigzag(self.varint()?)))
    }

    pub fn address(&mut self, from: u64) -> Result<u64, Corrupt> {
        match self.varint()? {
            1 => self.signed(from),
            odd if odd & 1 == 1 => Err(Corrupt("an address of no known form")),
            even => Ok(from.wrapping_add(unzigzag(even >> 1).wrapping_mul(PAGE_BYTES))),
        }
    }

    pub fn length(&mut self) -> Result<u64, Corrupt> {
        match self.varint()? {
            1 => self.varint(),
            odd if odd & 1 == 1 => Err(Corrupt("a length of no known form")),
            even => (even >> 1).checked_mul(PAGE_BYTES).ok_or(Corrupt("a length beyond 64 bits")),
        }
    }

    pub fn text(&mut self) -> Result<String, Corrupt> {
        let count: usize = self.narrow()?;
        if count > MAX_TEXT_BYTES {
            return Err(Corrupt("a text beyond its limit"));
        }
        let text = str::from_utf8(self.bytes(count)?).map_err(|_| Corrupt("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ ((difference as i64 >> 63) as u64)
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}
