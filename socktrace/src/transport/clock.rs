//! Kernel time to wall time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The last second of the year 9999: RFC 3339 has no later one.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Maps `CLOCK_MONOTONIC`, which the kernel stamps with, to wall time. Anchored once: a wall
/// clock that jumps later does not move events that happened before.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    monotonic_ns: u64,
    wall: SystemTime,
}

impl Clock {
    /// Anchors here and now.
    pub fn anchored_now() -> Self {
        Self { monotonic_ns: monotonic_now_ns(), wall: now() }
    }

    /// Anchors at known values, for replay and tests.
    pub const fn anchored_at(monotonic_ns: u64, wall: SystemTime) -> Self {
        Self { monotonic_ns, wall }
    }

    /// Nanoseconds from the anchor to a kernel time stamp; 0 for one before it.
    pub const fn since_anchor_ns(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_sub(self.monotonic_ns)
    }

    /// Wall time of a kernel time stamp. What a file says may be any number: a time that no calendar
    /// has is the nearest that one has.
    pub fn wall(&self, monotonic_ns: u64) -> SystemTime {
        let distance = Duration::from_nanos(monotonic_ns.abs_diff(self.monotonic_ns));
        if monotonic_ns >= self.monotonic_ns {
            let last = UNIX_EPOCH + LAST;
            self.wall.checked_add(distance).map_or(last, |wall| wall.min(last))
        } else {
            let wall = self.wall.checked_sub(distance);
            wall.map_or(UNIX_EPOCH, |wall| wall.max(UNIX_EPOCH))
        }
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds: the clock of `bpf_ktime_get_ns()`.
pub fn monotonic_now_ns() -> u64 {
    since_zero(ClockId::Monotonic)
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(since_zero(ClockId::Realtime))
}

fn since_zero(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is negative, nor lasts beyond 584 years.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_before_and_after_the_anchor_keep_their_distance() {
        let anchor = UNIX_EPOCH + Duration::from_secs(100);
        let clock = Clock::anchored_at(1_000, anchor);
        assert_eq!(clock.wall(1_500), anchor + Duration::from_nanos(500));
        assert_eq!(clock.wall(500), anchor - Duration::from_nanos(500));
        assert_eq!((clock.since_anchor_ns(1_500), clock.since_anchor_ns(500)), (500, 0));
    }

    #[test]
    fn a_time_that_no_calendar_has_is_the_nearest_that_one_has() {
        let clock = Clock::anchored_at(u64::MAX, UNIX_EPOCH + Duration::from_secs(100));
        assert_eq!(clock.wall(0), UNIX_EPOCH);
        let late = UNIX_EPOCH + LAST;
        assert_eq!(Clock::anchored_at(0, late).wall(u64::MAX), late);
        assert_eq!(humantime::format_rfc3339_nanos(late).to_string().len(), 30);
    }
}
