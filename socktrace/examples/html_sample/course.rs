//! What happened when, and sums of it.

use std::time::Duration;

use socktrace::aggregate::{Interval, Timeline, Waits};
use socktrace::event::WaitTotals;
use socktrace_common::histogram::bucket;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const BEGIN: u64 = 84_213 * SECOND;
/// Readings, twice a second.
pub(crate) const READINGS: u64 = 360;

pub(crate) const WEB: u64 = 41_207;
pub(crate) const TLS: u64 = 41_208;
pub(crate) const APP: u64 = 52_919;
pub(crate) const DATABASE: u64 = 60_004;

/// A generator that always makes the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Around `median`, most of it within a factor of three, some of it far above.
    fn wait(&mut self, median: u64) -> u64 {
        let halves = (0..4).map(|_| self.below(1_000) as f64 / 1_000.0).sum::<f64>() - 2.0;
        let tail = if self.below(220) == 0 { 6.0 + self.below(30) as f64 } else { 1.0 };
        let wait = Duration::from_nanos(median).mul_f64(2.4_f64.powf(halves * 1.6) * tail);
        u64::try_from(wait.as_nanos()).unwrap_or(0)
    }
}

pub(crate) fn put(totals: &mut WaitTotals, ns: u64, times: u64) {
    totals.count += times;
    totals.waited += times;
    totals.sum_ns += ns * times;
    totals.max_ns = totals.max_ns.max(ns);
    let bucket = u16::try_from(bucket(ns)).unwrap_or(0);
    *totals.buckets.entry(bucket).or_default() += times;
}

pub(crate) fn timeline() -> Timeline {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let interval = |n: u64| {
        let mut it = Interval {
            begin_ns: BEGIN + n * SECOND / 2,
            end_ns: BEGIN + (n + 1) * SECOND / 2,
            ..Interval::default()
        };
        // From reading 150 on the application behind is slow; from 210 on it is stopped for a while.
        let burst = (150..205).contains(&n);
        let stopped = (210..246).contains(&n);
        let slowness = if burst { 1 << ((n - 150).min(40) / 4) } else { 1 };
        for (inode, median, many) in [(WEB, 70_000, 90), (TLS, 160_000, 60), (APP, 24_000, 40)] {
            if inode == APP && stopped {
                continue;
            }
            let mut totals = WaitTotals::default();
            let slow = if inode == WEB || inode == APP { slowness } else { 1 };
            for _ in 0..many / 3 + random.below(many) {
                put(&mut totals, random.wait(median * slow), 1 + random.below(3));
            }
            it.accepts.insert(inode, totals);
        }
        if n.is_multiple_of(6) {
            let mut totals = WaitTotals::default();
            put(&mut totals, random.wait(9_000), 1);
            it.accepts.insert(DATABASE, totals);
        }
        let queue = if burst { 40 + u32::try_from((n - 150) * 9).unwrap_or(0) } else { 0 };
        it.queues.insert(WEB, (queue + u32::try_from(random.below(6)).unwrap_or(0)).min(511));
        if stopped {
            it.queues.insert(APP, u32::try_from((n - 209) * 5).unwrap_or(0).min(129));
        }
        if n.is_multiple_of(11) {
            it.queues.insert(TLS, 2);
        }
        if (185..206).contains(&n) {
            it.drops.insert(WEB, 20 + random.below(160));
            it.drops.insert(TLS, random.below(24));
        }
        if stopped && n > 232 {
            it.drops.insert(APP, 6 + random.below(20));
            it.connect_failures.insert(11, 6 + random.below(20));
        }
        if n.is_multiple_of(3) {
            it.connect_failures.insert(13, 1 + random.below(4));
        }
        if (90..130).contains(&n) && n.is_multiple_of(2) {
            it.connect_failures.insert(111, 3 + random.below(9));
        }
        if (196..204).contains(&n) {
            it.accept_errors.insert(24, 10 + random.below(50));
        }
        it
    };
    let mut interval = interval;
    Timeline { intervals: (0..READINGS).map(&mut interval).collect() }
}

/// What was accepted from a listener in the whole session.
pub(crate) fn accepted(timeline: &Timeline, inode: u64) -> Waits {
    let mut waits = Waits::default();
    timeline.intervals.iter().filter_map(|it| it.accepts.get(&inode)).for_each(|it| waits.add(it));
    waits
}

pub(crate) fn total(timeline: &Timeline, of: impl Fn(&Interval) -> Option<u64>) -> u64 {
    timeline.intervals.iter().filter_map(of).sum()
}

pub(crate) fn dropped(timeline: &Timeline, inode: u64) -> u64 {
    total(timeline, |it| it.drops.get(&inode).copied())
}

pub(crate) fn failed(timeline: &Timeline, errno: u32) -> u64 {
    total(timeline, |it| it.connect_failures.get(&errno).copied())
}
