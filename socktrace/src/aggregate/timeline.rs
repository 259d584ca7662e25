//! How a session went: what happened between one reading of the kernel's totals and the next.
//!
//! Owns the intervals and how many are kept. Sums over all of them are the report's totals, but for what
//! happened before the first reading that the filters or the tier could not see.

use std::collections::BTreeMap;

use crate::event::{Interval, WaitTotals};

/// Intervals that are kept; of more, each two become one.
const KEPT: usize = 512;

/// A session's course, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// One after the other, without gaps.
    pub intervals: Vec<Interval>,
}

/// Totals at one reading: what of [`Interval`] only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) time_ns: u64,
    pub(super) accepts: BTreeMap<u64, WaitTotals>,
    pub(super) drops: BTreeMap<u64, u64>,
    pub(super) connect_failures: BTreeMap<u32, u64>,
    pub(super) accept_errors: BTreeMap<u32, u64>,
}

/// Makes a [`Timeline`] of readings.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    timeline: Timeline,
    last: Reading,
    /// Queues as they were last seen, the empty ones left out.
    now: BTreeMap<u64, u32>,
    /// The most in each since the last reading.
    peaks: BTreeMap<u64, u32>,
    /// Whether the course was begun by another recorder.
    resumed: bool,
}

impl Recorder {
    /// Nothing was counted at `start_ns`.
    pub(super) fn new(start_ns: u64) -> Self {
        Self { last: Reading { time_ns: start_ns, ..Reading::default() }, ..Self::default() }
    }

    /// A queue as it is from now on.
    pub(super) fn saw_queue(&mut self, listener: u64, queue: u32) {
        if queue == 0 {
            self.now.remove(&listener);
            return;
        }
        self.now.insert(listener, queue);
        let most = self.peaks.entry(listener).or_default();
        *most = queue.max(*most);
    }

    /// Takes new totals in.
    pub(super) fn read(&mut self, now: Reading) {
        let before = &self.last;
        let interval = Interval {
            begin_ns: before.time_ns,
            end_ns: now.time_ns.max(before.time_ns),
            accepts: grown(&now.accepts, &before.accepts, waits_since),
            drops: grown(&now.drops, &before.drops, |now, before| count_since(*now, *before)),
            connect_failures: grown(
                &now.connect_failures,
                &before.connect_failures,
                |now, before| count_since(*now, *before),
            ),
            accept_errors: grown(&now.accept_errors, &before.accept_errors, |now, before| {
                count_since(*now, *before)
            }),
            queues: std::mem::replace(&mut self.peaks, self.now.clone()),
        };
        let again = now.time_ns == before.time_ns;
        self.last = now;
        match self.timeline.intervals.last_mut() {
            // Totals that are told in pieces.
            Some(last) if again => last.join(interval),
            _ => self.timeline.push(interval),
        }
    }

    pub(super) const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Goes on from a course that was recorded before, with the totals that it led to.
    pub(super) fn resume(&mut self, intervals: Vec<Interval>, last: Reading) {
        if self.resumed {
            self.timeline.intervals.extend(intervals);
        } else {
            self.timeline.intervals = intervals;
        }
        self.resumed = true;
        self.last = last;
    }
}

impl Timeline {
    fn push(&mut self, interval: Interval) {
        self.intervals.push(interval);
        if self.intervals.len() > KEPT {
            let mut pairs = std::mem::take(&mut self.intervals).into_iter();
            while let Some(mut first) = pairs.next() {
                if let Some(second) = pairs.next() {
                    first.join(second);
                }
                self.intervals.push(first);
            }
        }
    }
}

/// What came since, where anything did.
fn grown<K: Ord + Copy, V: Default>(
    now: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    since: impl Fn(&V, &V) -> Option<V>,
) -> BTreeMap<K, V> {
    let none = V::default();
    let rows = now.iter();
    rows.filter_map(|(key, now)| Some((*key, since(now, before.get(key).unwrap_or(&none))?)))
        .collect()
}

fn count_since(now: u64, before: u64) -> Option<u64> {
    now.checked_sub(before).filter(|count| *count != 0)
}

/// The maximum of an interval is only known where it is the highest so far; else its highest bucket
/// bounds it.
fn waits_since(now: &WaitTotals, before: &WaitTotals) -> Option<WaitTotals> {
    let count = now.count.checked_sub(before.count).filter(|count| *count != 0)?;
    let earlier = |bucket: &u16| before.buckets.get(bucket).copied().unwrap_or(0);
    let buckets: BTreeMap<u16, u64> = now
        .buckets
        .iter()
        .map(|(bucket, n)| (*bucket, n.saturating_sub(earlier(bucket))))
        .filter(|(_, n)| *n != 0)
        .collect();
    let highest = buckets
        .last_key_value()
        .map(|(bucket, _)| socktrace_common::histogram::bounds((*bucket).into()).1);
    Some(WaitTotals {
        count,
        waited: now.waited.saturating_sub(before.waited),
        sum_ns: now.sum_ns.saturating_sub(before.sum_ns),
        max_ns: highest.unwrap_or(0).min(now.max_ns),
        buckets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(time_ns: u64, accepts: u64, failures: u64) -> Reading {
        let waits = WaitTotals {
            count: accepts,
            waited: accepts,
            sum_ns: accepts * 8,
            max_ns: 8,
            buckets: BTreeMap::from([(8, accepts)]),
        };
        Reading {
            time_ns,
            accepts: BTreeMap::from([(7, waits)]),
            connect_failures: BTreeMap::from([(13, failures)]),
            ..Reading::default()
        }
    }

    #[test]
    fn an_interval_has_what_came_since_the_reading_before() {
        let mut recorder = Recorder::new(100);
        recorder.read(reading(200, 3, 1));
        recorder.saw_queue(7, 4);
        recorder.saw_queue(7, 2);
        recorder.read(reading(300, 8, 1));
        recorder.saw_queue(7, 0);
        recorder.read(reading(400, 8, 1));
        recorder.read(reading(500, 8, 1));
        let [first, second, third, fourth] = recorder.timeline().intervals.as_slice() else {
            unreachable!()
        };
        assert_eq!((first.begin_ns, first.end_ns, first.accepts[&7].count), (100, 200, 3));
        assert_eq!((second.begin_ns, second.end_ns, second.accepts[&7].count), (200, 300, 5));
        assert_eq!((second.accepts[&7].sum_ns, second.accepts[&7].buckets[&8]), (40, 5));
        assert_eq!(first.connect_failures, BTreeMap::from([(13, 1)]));
        assert_eq!((&second.connect_failures, second.queues[&7]), (&BTreeMap::new(), 4));
        // What stood in a queue when the interval began was there in it.
        assert_eq!((third.queues.get(&7), fourth.queues.get(&7)), (Some(&2), None));
    }

    #[test]
    fn a_long_session_keeps_its_sums_in_few_intervals() {
        let mut recorder = Recorder::new(0);
        (1..=10_000).for_each(|n| recorder.read(reading(n, n, n)));
        let intervals = &recorder.timeline().intervals;
        assert!(intervals.len() <= KEPT, "{}", intervals.len());
        let sum: u64 = intervals.iter().map(|interval| interval.accepts[&7].count).sum();
        assert_eq!(sum, 10_000);
        assert!(intervals.windows(2).all(|pair| pair[0].end_ns == pair[1].begin_ns));
    }
}
