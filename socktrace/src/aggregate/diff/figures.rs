//! The numbers of a row, and when a difference between two of them is more than noise.

use socktrace_common::histogram::bucket;

use super::Change;
use crate::{aggregate::Waits, event::Severity};

/// A rate that changes by less than this share of it has not changed.
const RATE: f64 = 0.1;
/// Nor one that makes less than so many occurrences in the shorter session.
const OCCURRENCES: f64 = 2.0;
/// A wait that changes by no more than so many buckets of the histogram (6.25 % each) has not changed.
const BUCKETS: usize = 1;
/// Nor one that changes by less than this.
const LEAST_NS: u64 = 100_000;

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u64);

/// Stalls of one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalled {
    /// How many.
    pub count: u64,
    /// How long the oldest connection waited; `None` if there was no stall.
    pub oldest_ns: Option<u64>,
}

/// A finding, if it was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How much harm it tells of; `None` if it was not found.
    pub severity: Option<Severity>,
    /// Failures that it explains.
    pub count: u64,
}

/// Numbers that can be compared; the default is that nothing happened.
pub(super) trait Figures: Default {
    fn is_nothing(&self) -> bool;

    /// Where both are something.
    fn compare(&self, after: &Self, seconds: [f64; 2]) -> Change;

    /// What rows of one change are sorted by.
    fn weight(&self) -> u64;
}

pub(super) fn change<V: Figures>(before: &V, after: &V, seconds: [f64; 2]) -> Change {
    match (before.is_nothing(), after.is_nothing()) {
        (true, true) => Change::Same,
        (true, false) => Change::New,
        (false, true) => Change::Gone,
        (false, false) => before.compare(after, seconds),
    }
}

/// By rates, if both sessions had a length.
fn counts(before: u64, after: u64, seconds: [f64; 2]) -> Change {
    let [long_before, long_after] = seconds;
    let shorter = long_before.min(long_after);
    if shorter <= 0.0 {
        return if before == after { Change::Same } else { Change::Unknown };
    }
    let (was, is) = (before as f64 / long_before, after as f64 / long_after);
    let grown = is - was;
    if grown.abs() <= was * RATE || grown.abs() * shorter < OCCURRENCES {
        Change::Same
    } else if grown > 0.0 {
        Change::Worse
    } else {
        Change::Better
    }
}

fn waits(before: u64, after: u64) -> Change {
    let is_noise =
        bucket(before).abs_diff(bucket(after)) <= BUCKETS || before.abs_diff(after) < LEAST_NS;
    match after.cmp(&before) {
        _ if is_noise => Change::Same,
        std::cmp::Ordering::Greater => Change::Worse,
        _ => Change::Better,
    }
}

/// The first that changed.
fn first(changes: [Change; 2]) -> Change {
    changes.into_iter().find(|change| *change != Change::Same).unwrap_or(Change::Same)
}

impl Figures for Count {
    fn is_nothing(&self) -> bool {
        self.0 == 0
    }

    fn compare(&self, after: &Self, seconds: [f64; 2]) -> Change {
        counts(self.0, after.0, seconds)
    }

    fn weight(&self) -> u64 {
        self.0
    }
}

impl Figures for Waits {
    fn is_nothing(&self) -> bool {
        !self.any()
    }

    /// The 99th percentile; where that has not changed, the median.
    fn compare(&self, after: &Self, _: [f64; 2]) -> Change {
        first([990, 500].map(|it| waits(self.permille_ns(it), after.permille_ns(it))))
    }

    fn weight(&self) -> u64 {
        self.permille_ns(990)
    }
}

impl Figures for Stalled {
    fn is_nothing(&self) -> bool {
        self.count == 0
    }

    /// How many; where that has not changed, how long.
    fn compare(&self, after: &Self, seconds: [f64; 2]) -> Change {
        let [was, is] = [self, after].map(|it| it.oldest_ns.unwrap_or(0));
        first([counts(self.count, after.count, seconds), waits(was, is)])
    }

    fn weight(&self) -> u64 {
        self.oldest_ns.unwrap_or(0)
    }
}

impl Figures for Found {
    fn is_nothing(&self) -> bool {
        self.severity.is_none()
    }

    fn compare(&self, after: &Self, seconds: [f64; 2]) -> Change {
        counts(self.count, after.count, seconds)
    }

    fn weight(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_changes_by_a_tenth_and_by_two_occurrences() {
        let even = [10.0, 10.0];
        for (before, after, seconds, expected) in [
            (100, 111, even, Change::Worse),
            (100, 110, even, Change::Same),
            (100, 89, even, Change::Better),
            (3, 4, even, Change::Same),
            (3, 5, even, Change::Worse),
            (5, 3, even, Change::Better),
            (100, 1000, [10.0, 100.0], Change::Same),
            (100, 100, [10.0, 100.0], Change::Better),
            (2, 400, [1.0, 100.0], Change::Worse),
            (2, 300, [1.0, 100.0], Change::Same),
            (3, 9, [0.0, 10.0], Change::Unknown),
            (3, 3, [0.0, 0.0], Change::Same),
        ] {
            assert_eq!(counts(before, after, seconds), expected, "{before} {after} {seconds:?}");
        }
    }

    #[test]
    fn a_wait_changes_by_more_than_a_bucket_and_by_more_than_a_tenth_of_a_millisecond() {
        let ms = |ms: u64| ms * 1_000_000;
        assert_eq!(waits(ms(100), ms(104)), Change::Same);
        assert_eq!(waits(ms(100), ms(120)), Change::Worse);
        assert_eq!(waits(ms(120), ms(100)), Change::Better);
        assert_eq!(waits(5_000, 50_000), Change::Same, "microseconds are noise");
        assert_eq!(waits(u64::MAX, 0), Change::Better);
    }

    #[test]
    fn stalls_that_are_as_many_but_older_are_worse() {
        let stalled = |count, oldest: u64| Stalled { count, oldest_ns: Some(oldest * 1_000_000) };
        let even = [10.0, 10.0];
        assert_eq!(stalled(1, 1000).compare(&stalled(1, 9000), even), Change::Worse);
        assert_eq!(stalled(9, 1000).compare(&stalled(1, 9000), even), Change::Better);
        assert_eq!(change(&Stalled::default(), &stalled(1, 1), even), Change::New);
        assert_eq!(change(&stalled(1, 1), &Stalled::default(), even), Change::Gone);
    }
}
