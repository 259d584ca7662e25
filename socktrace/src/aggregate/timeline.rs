//! How a session went: what happened between one reading of the kernel's totals and the next.
//!
//! Owns the intervals, how many are kept, and which totals are worth a reading: where intervals had to be joined, those
//! that follow are as long from the start; and who sends very many totals cannot make each of them look through all rows.
//! Sums over all of them are the report's totals, but for what happened before the first reading that the filters or
//! the tier could not see.

use std::collections::BTreeMap;

use crate::event::{Interval, WaitTotals};

/// Intervals that are kept; of more, each two become one.
const KEPT: usize = 512;
/// Rows and buckets that all intervals have together; of more, too, each two become one.
const CELLS: usize = 1 << 20;
/// Queues that are kept in an interval.
const QUEUES: usize = 2048;
/// Rows and buckets that readings may look at in any session, and for each row that was told besides.
const CREDIT: i64 = 1 << 24;
const CREDIT_OF_A_ROW: i64 = 16;

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
    /// Rows and buckets that were looked at for it.
    pub(super) cost: usize,
    pub(super) accepts: BTreeMap<u64, WaitTotals>,
    pub(super) drops: BTreeMap<u64, u64>,
    pub(super) connect_failures: BTreeMap<u32, u64>,
    pub(super) accept_errors: BTreeMap<u32, u64>,
}

/// Makes a [`Timeline`] of readings.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    timeline: Timeline,
    /// How often each two intervals became one.
    joined: u32,
    last: Reading,
    /// Queues as they were last seen, the empty ones left out.
    now: BTreeMap<u64, u32>,
    /// The most in each since the last reading.
    peaks: BTreeMap<u64, u32>,
    /// Whether the course was begun by another recorder.
    resumed: bool,
    /// Whether what came with that recorder is not in `last` yet.
    is_without_base: bool,
    /// When the latest totals were read, and how many there were since the last reading.
    seen_ns: u64,
    passed: u64,
    /// Whether they are in no interval yet.
    is_behind: bool,
    /// What was spent beyond what every session has.
    spent: i64,
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
        if self.now.len() < QUEUES || self.now.contains_key(&listener) {
            self.now.insert(listener, queue);
        }
        if self.peaks.len() < QUEUES || self.peaks.contains_key(&listener) {
            let most = self.peaks.entry(listener).or_default();
            *most = queue.max(*most);
        }
    }

    /// Notes totals of this moment, with so many rows; whether they are to be read.
    pub(super) fn is_due(&mut self, time_ns: u64, rows: usize) -> bool {
        self.spent -= CREDIT_OF_A_ROW.saturating_mul(i64::try_from(rows).unwrap_or(i64::MAX));
        if time_ns != self.seen_ns {
            self.seen_ns = time_ns;
            self.passed += 1;
        }
        // Totals that are told in pieces belong to one reading.
        let is_again = time_ns == self.last.time_ns;
        let is_due = is_again || self.passed >= self.totals_in_one();
        self.is_behind = !(is_due && self.spent < CREDIT);
        !self.is_behind
    }

    /// Whether the totals at this moment are to be the base of what follows, as another recorder had them.
    pub(super) fn takes_base(&mut self) -> bool {
        std::mem::take(&mut self.is_without_base) && self.spent < CREDIT
    }

    /// Whether the latest totals are in no interval.
    pub(super) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn pay(&mut self, reading: &Reading) {
        self.spent = self.spent.saturating_add(i64::try_from(reading.cost).unwrap_or(i64::MAX));
    }

    /// Takes new totals in.
    pub(super) fn read(&mut self, now: Reading) {
        self.pay(&now);
        (self.passed, self.is_behind) = (0, false);
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
            _ => self.push(interval),
        }
    }

    #[cfg(test)]
    const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    pub(super) fn into_timeline(self) -> Timeline {
        self.timeline
    }

    /// Goes on from a course that was recorded before, with the totals that it led to.
    pub(super) fn resume(&mut self, intervals: Vec<Interval>) {
        if !self.resumed {
            self.timeline = Timeline::default();
        }
        for interval in intervals {
            self.push(interval);
        }
        (self.resumed, self.is_without_base, self.is_behind) = (true, true, false);
    }

    fn push(&mut self, interval: Interval) {
        let intervals = &mut self.timeline.intervals;
        intervals.push(interval);
        let is_much = |all: &[Interval]| all.iter().map(cells).sum::<usize>() > CELLS;
        while intervals.len() > KEPT || intervals.len() > 1 && is_much(intervals) {
            let mut pairs = std::mem::take(intervals).into_iter();
            while let Some(mut first) = pairs.next() {
                if let Some(second) = pairs.next() {
                    first.join(second);
                }
                intervals.push(first);
            }
            self.joined += 1;
        }
    }

    /// How many totals the next interval is to be made of, so that it is as long as those before it.
    fn totals_in_one(&self) -> u64 {
        1_u64.checked_shl(self.joined).unwrap_or(u64::MAX)
    }

    /// The totals that the resumed course led to.
    pub(super) fn begin_at(&mut self, base: Reading) {
        self.pay(&base);
        self.last = base;
    }
}

fn cells(interval: &Interval) -> usize {
    let Interval { accepts, drops, connect_failures, accept_errors, queues, .. } = interval;
    let buckets: usize = accepts.values().map(|waits| 1 + waits.buckets.len()).sum();
    buckets + drops.len() + connect_failures.len() + accept_errors.len() + queues.len()
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

    #[test]
    fn the_longer_a_session_is_the_fewer_of_its_totals_are_read() {
        let mut recorder = Recorder::new(0);
        let mut readings = 0_u64;
        for n in 1..=100_000 {
            if recorder.is_due(n, 1) {
                recorder.read(reading(n, n, n));
                readings += 1;
            }
        }
        assert!((500..3000).contains(&readings), "{readings}");
        let lengths = recorder.timeline().intervals.iter().map(|it| it.end_ns - it.begin_ns);
        let (shortest, longest) = lengths
            .fold((u64::MAX, 0), |(least, most), length| (least.min(length), most.max(length)));
        assert!(longest <= 2 * shortest, "{shortest} to {longest}");
    }

    #[test]
    fn totals_without_rows_cannot_make_everything_be_looked_at_without_end() {
        let mut recorder = Recorder::new(0);
        let mut looked_at = 0;
        for n in 1..=1_000_000 {
            if recorder.is_due(n, 0) {
                recorder.read(Reading { cost: 100_000, ..reading(n, 1, 1) });
                looked_at += 100_000;
            }
        }
        assert!(looked_at <= CREDIT + 100_000, "{looked_at}");
        assert!(recorder.is_behind());
    }

    #[test]
    fn what_was_not_read_is_in_the_course_all_the_same() {
        use std::{collections::HashMap, time::Duration};

        use socktrace_common::{ConnectFailureKey, TaskKey};

        use crate::{
            aggregate::{Aggregator, Selection, Snapshot},
            event::{Counters, Endpoint, Record},
        };
        let mut aggregator = Aggregator::new(Snapshot::of_nothing().session, Selection::default());
        let task = TaskKey { tgid: 7, ..TaskKey::NONE };
        let target = (&Endpoint::default()).into();
        let key = ConnectFailureKey { task, errno: 13, uid: 0, target };
        for time_ns in 1..=5000 {
            let connect_failures = HashMap::from([(key, time_ns)]);
            aggregator.apply(Record::Counters(Box::new(Counters {
                time_ns,
                connect_failures,
                ..Counters::default()
            })));
        }
        assert!(aggregator.course.is_behind(), "the last totals were read");
        let intervals = aggregator.snapshot(Duration::ZERO).timeline.intervals;
        let sum: u64 = intervals.iter().filter_map(|it| it.connect_failures.get(&13)).sum();
        assert_eq!((sum, intervals.last().map(|it| it.end_ns)), (5000, Some(5000)));
    }
}
