//! Which allocations are sampled: each byte is the start of a gap of exponential length, so an object of `size` bytes
//! is taken with the probability 1 - e^(-size / period), independent of every other.
//!
//! The decision keeps no state: threads, CPUs and interruptions cannot bias it. Whoever divides what an object stands
//! for by that probability gets unbiased sums.
//!
//! *Units.* Bytes. Probabilities are fixed-point numbers with [`CHANCE_BITS`] bits behind the point.

/// Bits behind the point of a probability.
pub const CHANCE_BITS: u32 = 40;
/// A certainty.
pub const CERTAIN: u64 = 1 << CHANCE_BITS;
/// The longest period, in bytes: 1 GiB.
pub const LONGEST_PERIOD: u64 = 1 << 30;

/// The series below holds up to here: a 256th of a period.
const SMALL_SHIFT: u32 = 8;
/// From 32 periods on the probability is nearer to 1 than a random number tells.
const SURE_SHIFT: u32 = 5;
/// Halvings that bring 32 periods to a 256th of one.
const MOST_HALVINGS: u32 = SMALL_SHIFT + SURE_SHIFT;

/// The probability with which an object of `size` bytes is sampled. A period of 0 samples everything; one above
/// [`LONGEST_PERIOD`] is not meant.
#[must_use]
#[inline(always)]
pub const fn chance(size: u64, period: u64) -> u64 {
    if period == 0 || size >> SURE_SHIFT >= period {
        return CERTAIN;
    }
    // e^-x is e^-(x / 2^n), squared n times. SANITY: the size is below 2^35, so no shift loses a bit.
    let mut halvings = 0;
    while halvings < MOST_HALVINGS && size << SMALL_SHIFT > period << halvings {
        halvings += 1;
    }
    let part = small((size << (CHANCE_BITS - SURE_SHIFT - SMALL_SHIFT) << (MOST_HALVINGS - halvings)) / period);
    if halvings == 0 {
        return part;
    }
    // With 32 bits behind the point, so that a square fits.
    let mut stays = (CERTAIN - part) >> (CHANCE_BITS - 32);
    let mut step = 0;
    while step < MOST_HALVINGS {
        if step < halvings {
            stays = (stays * stays) >> 32;
        }
        step += 1;
    }
    CERTAIN - (stays << (CHANCE_BITS - 32))
}

/// Whether an object of `size` bytes is sampled, given 64 random bits.
#[must_use]
#[inline(always)]
pub const fn is_sampled(size: u64, period: u64, random: u64) -> bool {
    random >> (64 - CHANCE_BITS) < chance(size, period)
}

/// 1 - e^-x for x of at most 2^-8: x - x^2/2 + x^3/6.
#[inline(always)]
const fn small(x: u64) -> u64 {
    // SANITY: x is at most 2^32, so a square of it with 8 bits less on one side fits.
    let square = (x * (x >> 8)) >> 32;
    let cube = (square * (x >> 8)) >> 32;
    x - square / 2 + cube / 6
}

#[cfg(test)]
mod tests {
    use super::{CERTAIN, LONGEST_PERIOD, chance, is_sampled};

    /// As near to 1 - e^(-size / period) as no estimate will ever notice.
    #[test]
    fn chances() {
        for period in [1, 7, 1024, 4096, 65_536, 512 << 10, 1 << 20, 64 << 20, LONGEST_PERIOD] {
            for size in (0..36).flat_map(|bit: u32| [1_u64 << bit, (1 << bit) + 1, (1 << bit) * 3 / 2]) {
                let truth = -(-(size as f64) / period as f64).exp_m1();
                let found = chance(size, period) as f64 / CERTAIN as f64;
                assert!((found / truth - 1.0).abs() < 1e-4, "{size} of {period}: {found} for {truth}");
            }
            assert_eq!(chance(0, period), 0);
            assert_eq!(chance(u64::MAX, period), CERTAIN);
        }
    }

    #[test]
    fn decisions() {
        assert!([0, 1, u64::MAX].iter().all(|random| is_sampled(0, 0, *random) && is_sampled(1 << 40, 1, *random)));
        // One of 65,536 bytes with a period of that many: 63.2 of 100.
        let samples = (0..100).filter(|part| is_sampled(65_536, 65_536, u64::MAX / 100 * part)).count();
        assert_eq!(samples, 64);
        assert!(!is_sampled(1, LONGEST_PERIOD, u64::MAX));
    }
}
