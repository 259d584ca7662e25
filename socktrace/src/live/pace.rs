//! When listeners are looked at, when hooks are asked whether that is to be sooner, and when totals are told. Pure.

use std::time::{Duration, Instant};

/// How often listeners are looked at: twice within the threshold of a stall, in these limits.
const LIMITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// A look may use one in so many parts of a CPU's time; and half of the time that passes, so that the buffer is
/// drained in between.
const SHARE: u32 = 20;
/// One in so many, where a connection comes to stall its listener.
const DUE_SHARE: u32 = 5;
/// Where nothing happens, so many looks are one: whoever comes meanwhile is seen within the threshold
/// of a stall, and from then on as often as otherwise.
pub(super) const IDLE_STRETCH: u32 = 2;

/// Something that was done, and what it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) begin: Instant,
    /// CPU time.
    pub(super) effort: Duration,
    pub(super) passed: Duration,
}

impl Took {
    /// When it may be done again, after a `pause` at least, by one in so many `parts` of a CPU.
    fn again(&self, pause: Duration, parts: u32) -> Instant {
        self.begin + pause.max(self.effort * parts).max(self.passed * 2)
    }
}

/// Looks show everything, and take the more time the more listeners there are. Between those that are rare therefore, hooks are
/// asked for what has waited long: that takes little.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    next_look: Instant,
    /// When it would be, were the last look not of a host on which nothing happens.
    soonest_look: Instant,
    next_question: Instant,
}

impl Pace {
    /// A look is to be made at once.
    pub(super) fn new(stall: Duration, now: Instant) -> Self {
        Self {
            every: (stall / 2).clamp(LIMITS[0], LIMITS[1]),
            next_look: now,
            soonest_look: now,
            next_question: now,
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Instant {
        self.next_look.min(self.next_question)
    }

    pub(super) fn is_time_to_look(&self, now: Instant) -> bool {
        self.next_look <= now
    }

    pub(super) fn is_time_to_ask(&self, now: Instant) -> bool {
        self.next_question <= now
    }

    /// Something happens.
    pub(super) fn hasten(&mut self) {
        self.next_look = self.next_look.min(self.soonest_look);
    }

    /// After a look, at a host on which something happens, or that `idles`.
    pub(super) fn looked(&mut self, took: Took, idles: bool) {
        let pause = if idles { self.every * IDLE_STRETCH } else { self.every };
        self.soonest_look = took.again(self.every, SHARE);
        self.next_look = took.again(pause, SHARE);
        self.next_question = took.again(pause, DUE_SHARE);
    }

    /// After hooks were asked.
    pub(super) fn asked(&mut self, took: Took) {
        self.next_question = took.again(self.every, SHARE);
    }
}

/// CPU time that totals told in between may take: a share of the time that passes, also of what has passed unused. So one
/// that is dear, as the first is (its listeners are new), does not put off the next.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Until when the time that passes is used.
    used_until: Instant,
}

impl Allowance {
    /// One in so many parts of a CPU's time.
    const SHARE: u32 = 50;
    /// Of so much time it may be used at once: of a tenth of a second of a CPU.
    const AHEAD: Duration = Duration::from_secs(5);

    /// Nothing has been used lately.
    pub(super) fn new(now: Instant) -> Self {
        Self { used_until: now }
    }

    /// When totals may be told again, after a `pause` at least; half of the time is left to other things.
    pub(super) fn after(&mut self, took: Took, pause: Duration) -> Instant {
        self.used_until = self.used_until.max(took.begin) + took.effort * Self::SHARE;
        let ahead = self.used_until.saturating_duration_since(took.begin);
        took.begin + pause.max(ahead.saturating_sub(Self::AHEAD)).max(took.passed * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// After a look that took so many milliseconds of CPU and time: when the next one is, and the next question.
    fn after(cost_ms: u32, idles: bool) -> (Duration, Duration) {
        let begin = Instant::now();
        let mut pace = Pace::new(MS * 1000, begin);
        pace.looked(Took { begin, effort: MS * cost_ms, passed: MS * cost_ms }, idles);
        (pace.next_look - begin, pace.next_question - begin)
    }

    #[test]
    fn a_cheap_look_is_made_twice_within_the_threshold_and_nobody_is_asked_between() {
        assert_eq!(after(1, false), (MS * 500, MS * 500));
        assert_eq!(after(1, true), (MS * 1000, MS * 1000));
        assert_eq!(after(25, false), (MS * 500, MS * 500));
    }

    #[test]
    fn a_dear_look_keeps_to_its_share_and_what_is_due_to_a_greater_one() {
        assert_eq!(after(80, false), (MS * 1600, MS * 500));
        assert_eq!(after(1000, false), (MS * 20_000, MS * 5000));
        assert_eq!(after(1000, true), (MS * 20_000, MS * 5000));
    }

    #[test]
    fn a_question_that_takes_long_is_not_asked_again_at_once() {
        let begin = Instant::now();
        let mut pace = Pace::new(MS * 100, begin);
        pace.looked(Took { begin, effort: MS * 900, passed: MS * 900 }, false);
        for (effort, passed, pause) in [(1, 1, 50), (70, 70, 1400), (1, 70, 140)] {
            pace.asked(Took { begin, effort: MS * effort, passed: MS * passed });
            assert_eq!(pace.next_question - begin, MS * pause, "{effort} ms, {passed} ms");
        }
        assert_eq!(pace.next_look - begin, MS * 18_000, "not changed by that");
    }

    #[test]
    fn what_happens_ends_the_pause_of_an_idle_host_and_no_other() {
        let begin = Instant::now();
        let mut pace = Pace::new(MS * 1000, begin);
        pace.looked(Took { begin, effort: MS, passed: MS }, true);
        assert!(!pace.is_time_to_look(begin + MS * 500));
        pace.hasten();
        assert!(pace.is_time_to_look(begin + MS * 500));
        pace.looked(Took { begin, effort: MS * 100, passed: MS }, true);
        pace.hasten();
        assert_eq!((pace.next_look - begin, pace.next() - begin), (MS * 2000, MS * 1000));
        assert!(pace.is_time_to_ask(begin + MS * 1000) && !pace.is_time_to_look(begin + MS * 1000));
    }

    #[test]
    fn a_first_time_that_is_dear_does_not_put_off_the_next() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let took = |at_ms: u32, cost_ms: u32, passed_ms: u32| Took {
            begin: begin + MS * at_ms,
            effort: MS * cost_ms,
            passed: MS * passed_ms,
        };
        assert_eq!(allowance.after(took(0, 60, 60), MS * 200), begin + MS * 200);
        assert_eq!(
            allowance.after(took(200, 1, 150), MS * 200),
            begin + MS * 500,
            "half of the time"
        );
    }

    #[test]
    fn told_as_often_as_it_may_be_totals_take_their_share_and_no_more() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let (mut now, mut used) = (begin, Duration::ZERO);
        while now < begin + MS * 100_000 {
            let took = Took { begin: now, effort: MS * 8, passed: MS * 8 };
            used += took.effort;
            now = allowance.after(took, MS * 100);
        }
        assert!((MS * 2000..MS * 2120).contains(&used), "{used:?}");
        let took = Took { begin: now + MS * 60_000, effort: MS * 101, passed: MS };
        let next = allowance.after(took, MS * 10);
        assert_eq!(
            next - took.begin,
            MS * 50,
            "what a minute did not use is used up by a tenth of a second"
        );
    }
}
