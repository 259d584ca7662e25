//! Distributions of waits, merged from the kernel's buckets.

use socktrace_common::histogram::bounds;

use crate::event::WaitTotals;

/// Waits of accepted connections. A percentile is the upper end of its bucket, capped by the
/// maximum: never below the true value, and at most 6.25 % above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    totals: WaitTotals,
}

impl Waits {
    /// Adds the totals of one process on one listener.
    pub fn add(&mut self, other: &WaitTotals) {
        self.totals.add(other);
    }

    /// Adds all of another distribution.
    pub fn join(&mut self, other: &Self) {
        self.totals.add(&other.totals);
    }

    /// Connections.
    pub const fn count(&self) -> u64 {
        self.totals.count
    }

    /// Of them, those whose wait is not known.
    pub const fn unknown(&self) -> u64 {
        self.totals.count.saturating_sub(self.totals.waited)
    }

    /// Whether any wait is known.
    pub const fn any(&self) -> bool {
        self.totals.waited != 0
    }

    /// Sum of known waits, nanoseconds.
    pub const fn sum_ns(&self) -> u64 {
        self.totals.sum_ns
    }

    /// Largest known wait. Two CPUs that raced for the kernel's maximum may have left the smaller
    /// one; the highest bucket then bounds the larger from above.
    pub fn max_ns(&self) -> u64 {
        let highest =
            self.totals.buckets.last_key_value().map(|(bucket, _)| bounds((*bucket).into()));
        match highest {
            Some((low, high)) if self.totals.max_ns < low => high,
            _ => self.totals.max_ns,
        }
    }

    /// The wait that this share (in thousandths) of connections did not exceed.
    pub fn permille_ns(&self, permille: u64) -> u64 {
        let rank = (self.totals.waited * permille).div_ceil(1000).max(1);
        let mut below = 0;
        for (bucket, n) in &self.totals.buckets {
            below += n;
            if below >= rank {
                return bounds((*bucket).into()).1.min(self.max_ns());
            }
        }
        self.max_ns()
    }
}

#[cfg(test)]
mod tests {
    use socktrace_common::histogram::bucket;

    use super::*;

    fn waits(values: &[u64]) -> Waits {
        let mut totals = WaitTotals::default();
        for value in values {
            totals.count += 1;
            totals.waited += 1;
            totals.sum_ns += value;
            totals.max_ns = totals.max_ns.max(*value);
            let index = u16::try_from(bucket(*value)).expect("there are 624");
            *totals.buckets.entry(index).or_default() += 1;
        }
        let mut waits = Waits::default();
        waits.add(&totals);
        waits
    }

    #[test]
    fn percentiles_are_never_below_the_true_value_and_within_a_sixteenth_above() {
        let values: Vec<u64> = (1..=1000).map(|n| n * 10_007).collect();
        let waits = waits(&values);
        for permille in [500, 900, 990, 999, 1000] {
            let exact = values[usize::try_from(permille).expect("small") - 1];
            let told = waits.permille_ns(permille);
            assert!(told >= exact && told <= exact + exact / 16, "{permille}: {exact} {told}");
        }
        assert_eq!(waits.max_ns(), 10_007_000);
    }

    #[test]
    fn a_maximum_lost_to_a_race_is_bounded_by_its_bucket() {
        let mut lost = waits(&[5_000_000]);
        lost.totals.max_ns = 3;
        assert!(lost.max_ns() >= 5_000_000 && lost.max_ns() <= 5_000_000 / 16 * 17);
    }

    #[test]
    fn buckets_are_those_of_the_histogram_crate() {
        for exponent in 0..42 {
            for value in [1_u64 << exponent, (1 << exponent) + 1, (1 << exponent) * 3 / 2] {
                let mut theirs = histogram::Histogram::new(4, 42).expect("these powers are valid");
                theirs.increment(value).expect("it is below 2^42");
                let (index, found) = theirs
                    .into_iter()
                    .enumerate()
                    .find(|(_, found)| found.count() == 1)
                    .expect("one bucket counts it");
                assert_eq!(bucket(value), index, "{value}");
                assert_eq!(bounds(index), found.range().into_inner(), "{value}");
            }
        }
    }

    #[test]
    fn no_known_wait_is_said_to_be_none() {
        let mut unknown = Waits::default();
        unknown.add(&WaitTotals { count: 3, ..WaitTotals::default() });
        assert_eq!((unknown.count(), unknown.unknown(), unknown.any()), (3, 3, false));
        assert_eq!(unknown.permille_ns(990), 0);
    }
}
