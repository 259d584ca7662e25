//! Random numbers for tests, from a seed that is printed: with `SOCKTRACE_SEED` the same come again.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A generator (`SplitMix64`).
pub struct Chance(u64);

impl Chance {
    /// Seeded by `SOCKTRACE_SEED`, or by the clock; says by what.
    pub fn told() -> Self {
        let given = std::env::var("SOCKTRACE_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seed = given.unwrap_or_else(|| u64::from(clock().subsec_nanos()));
        println!("SOCKTRACE_SEED={seed}");
        Self(seed)
    }

    /// Always the same numbers.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range that is not empty.
    pub fn of(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start).max(1)
    }

    /// An index of something that has `length` elements, and at least one.
    pub fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.of(0..length)).unwrap_or(0)
    }

    /// A time of a range of milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.of(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_all_of_them_are_in_the_range() {
        let numbers = |seed| {
            let mut chance = Chance::seeded(seed);
            (0..1000).map(|_| chance.of(3..7)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        let found: std::collections::BTreeSet<u64> = numbers(1).into_iter().collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
    }
}
