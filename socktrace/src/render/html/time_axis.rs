//! The time axis that all charts share: where a moment lies, and what is written below.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    chart::{Tick, WIDTH},
    values,
};
use crate::aggregate::{Interval, Snapshot};

/// Columns that a chart has at most; more intervals are added up.
const COLUMNS: u64 = 240;
/// Labels below a chart.
const LABELS: u64 = 8;

const SECOND: u64 = 1_000_000_000;
/// Distances of labels, nanoseconds.
const STEPS: [u64; 23] = [
    1_000_000,
    5_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
    600 * SECOND,
    1_800 * SECOND,
    3_600 * SECOND,
    10_800 * SECOND,
    21_600 * SECOND,
    43_200 * SECOND,
    86_400 * SECOND,
];

/// From the start of a session to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeAxis {
    begin_ns: u64,
    end_ns: u64,
    started: SystemTime,
}

impl TimeAxis {
    /// `None` for a session without a course.
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        let begin_ns = snapshot.session.started_ns;
        let lasted = u64::try_from(snapshot.duration.as_nanos()).unwrap_or(u64::MAX);
        let last = snapshot.timeline.intervals.last().map_or(0, |last| last.end_ns);
        let end_ns = last.max(begin_ns.saturating_add(lasted));
        let axis = Self { begin_ns, end_ns, started: snapshot.session.started };
        (axis.length_ns() > 0).then_some(axis)
    }

    const fn length_ns(self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }

    /// Where a moment lies, from 0 to [`WIDTH`].
    pub(super) fn x(self, ns: u64) -> f64 {
        let at = ns.clamp(self.begin_ns, self.end_ns) - self.begin_ns;
        at as f64 / self.length_ns() as f64 * WIDTH
    }

    /// Intervals that are drawn as one column each, in order.
    pub(super) fn columns(self, intervals: &[Interval]) -> Vec<Column<'_>> {
        let narrowest = (self.length_ns() / COLUMNS).max(1);
        let mut columns: Vec<Column<'_>> = Vec::new();
        let mut start = 0;
        for (index, interval) in intervals.iter().enumerate() {
            if interval.end_ns.saturating_sub(intervals[start].begin_ns) >= narrowest {
                columns.push(Column(&intervals[start..=index]));
                start = index + 1;
            }
        }
        if start < intervals.len() {
            // What is left is too narrow to be a rate.
            let last = columns.pop().map_or(0, |last| last.0.len());
            columns.push(Column(&intervals[start - last..]));
        }
        columns
    }

    /// Labels at round times of the day (UTC); within seconds, at times since the start.
    pub(super) fn ticks(self) -> Vec<Tick> {
        let fits = |step: &&u64| self.length_ns() / **step < LABELS;
        let step = STEPS.iter().find(fits).copied().unwrap_or_else(|| {
            let days = self.length_ns() / LABELS / (86_400 * SECOND) + 1;
            days.saturating_mul(86_400 * SECOND)
        });
        let before = if step < SECOND { 0 } else { self.wall_ns(self.begin_ns) % u128::from(step) };
        let before = u64::try_from(before).unwrap_or(0);
        let first =
            if before == 0 { self.begin_ns } else { self.begin_ns.saturating_add(step - before) };
        let times = std::iter::successors(Some(first), |at| at.checked_add(step));
        let times = times.take_while(|at| *at <= self.end_ns).take(16);
        times
            .map(|at| Tick { at: self.x(at) / WIDTH * 100.0, label: self.label(at, step) })
            .collect()
    }

    fn label(self, at: u64, step: u64) -> String {
        if step < SECOND {
            return format!("+{} s", (at - self.begin_ns) as f64 / 1e9);
        }
        let time = self.time(at);
        let part = match step {
            day if day >= 86_400 * SECOND => 5..10,
            minutes if minutes % (60 * SECOND) == 0 => 11..16,
            _ => 11..19,
        };
        let part = time.get(part).unwrap_or_default();
        let of_many_days = self.length_ns() > 86_400 * SECOND && step < 86_400 * SECOND;
        if of_many_days {
            format!("{} {part}", time.get(5..10).unwrap_or_default())
        } else {
            part.to_owned()
        }
    }

    /// The time of the day, with milliseconds.
    pub(super) fn time_of_day(self, ns: u64) -> String {
        self.time(ns).get(11..23).unwrap_or_default().to_owned()
    }

    /// The whole time.
    pub(super) fn time(self, ns: u64) -> String {
        wall(self.started, self.begin_ns, ns)
    }

    fn wall_ns(self, ns: u64) -> u128 {
        let start = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        start.as_nanos() + u128::from(ns.saturating_sub(self.begin_ns))
    }
}

/// Wall time of a monotonic one, in UTC: `2026-03-11 14:02:11.250`.
pub(super) fn wall(started: SystemTime, started_ns: u64, ns: u64) -> String {
    let at = if ns >= started_ns {
        started.checked_add(Duration::from_nanos(ns - started_ns))
    } else {
        started.checked_sub(Duration::from_nanos(started_ns - ns))
    };
    let time = values::time(at.unwrap_or(UNIX_EPOCH));
    time.trim_end_matches('Z').replace('T', " ")
}

/// Intervals that are drawn as one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column<'a>(&'a [Interval]);

impl<'a> Column<'a> {
    pub(super) fn begin_ns(self) -> u64 {
        self.0.first().map_or(0, |first| first.begin_ns)
    }

    pub(super) fn end_ns(self) -> u64 {
        self.0.last().map_or(0, |last| last.end_ns)
    }

    pub(super) fn intervals(self) -> std::slice::Iter<'a, Interval> {
        self.0.iter()
    }

    /// So many in this column are how many in a second.
    pub(super) fn per_second(self, count: u64) -> f64 {
        let length = self.end_ns().saturating_sub(self.begin_ns()).max(1_000_000);
        count as f64 * 1e9 / length as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(seconds: u64) -> TimeAxis {
        // 2026-03-11T14:02:11Z
        let started = UNIX_EPOCH + Duration::from_secs(1_773_237_731);
        TimeAxis { begin_ns: 7 * SECOND, end_ns: (7 + seconds) * SECOND, started }
    }

    fn labels(axis: TimeAxis) -> Vec<String> {
        axis.ticks().into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn labels_are_round_times_of_the_day() {
        assert_eq!(labels(axis(60))[..2], ["14:02:20", "14:02:30"]);
        assert_eq!(labels(axis(3_600))[..2], ["14:10", "14:20"]);
        assert_eq!(labels(axis(100_000))[0], "03-11 18:00");
        assert_eq!(labels(axis(100 * 86_400))[0], "03-15");
        assert_eq!(labels(axis(1))[..2], ["+0 s", "+0.2 s"]);
    }

    #[test]
    fn a_moment_outside_is_drawn_at_the_edge() {
        let axis = axis(10);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(axis.x(0), 0.0);
        near(axis.x(12 * SECOND), WIDTH / 2.0);
        near(axis.x(u64::MAX), WIDTH);
    }

    #[test]
    fn columns_have_every_interval_once_and_none_is_too_narrow() {
        let axis = axis(1_000);
        let at = |n: u64| 7 * SECOND + n * SECOND;
        let intervals: Vec<Interval> = (0..1_000)
            .map(|n| Interval { begin_ns: at(n), end_ns: at(n + 1), ..Interval::default() })
            .collect();
        let columns = axis.columns(&intervals);
        assert!(columns.len() <= 240 && columns.len() > 100, "{}", columns.len());
        let whole: Vec<&Interval> = columns.iter().flat_map(|column| column.intervals()).collect();
        assert_eq!(whole, intervals.iter().collect::<Vec<_>>());
        assert!(columns.iter().all(|column| column.end_ns() - column.begin_ns() >= 4 * SECOND));
    }
}
