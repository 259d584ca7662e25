//! When listeners are looked at, when hooks are asked whether that is to be sooner, and when totals are told. Pure.

use std::time::{Duration, Instant};

/// How often listeners are looked at: twice within the threshold of a stall, in these limits.
const LIMITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// A look may use one in so many parts of a CPU's time.
const SHARE: u32 = 20;
/// One in so many, where a connection comes to stall its listener.
const DUE_SHARE: u32 = 5;
/// Totals that are told in between may use one in so many.
pub(super) const TOTALS_SHARE: u32 = 50;
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

/// CPU time that something may take: a share of the time that passes, also of what has passed unused. So what is dear once, as
/// the first time is on a cold machine, does not put off the next time.
#[derive(Debug)]
pub(super) struct Allowance {
    /// One in so many parts of a CPU's time.
    parts: u32,
    /// Until when the time that passes is used.
    used_until: Instant,
}

impl Allowance {
    /// Of so much time it may be used at once.
    const AHEAD: Duration = Duration::from_secs(5);

    /// Nothing has been used lately.
    pub(super) fn new(parts: u32, now: Instant) -> Self {
        Self { parts, used_until: now }
    }

    /// When it may be done again, after a `pause` at least; half of the time is left to other things. What others took before
    /// it can only use up what had passed unused, so that it is never put off for longer than by its own share.
    pub(super) fn after(&mut self, took: Took, pause: Duration) -> Instant {
        let using = took.effort * self.parts;
        let most = took.begin + Self::AHEAD;
        self.used_until = self.used_until.clamp(took.begin, most) + using;
        let ahead = self.used_until.saturating_duration_since(most);
        took.begin + pause.max(ahead).max(took.passed * 2)
    }
}

/// Looks show everything, and take the more time the more listeners there are. Between those that are rare therefore, hooks are
/// asked for what has waited long: that takes little.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    looks: Allowance,
    due_looks: Allowance,
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
            looks: Allowance::new(SHARE, now),
            due_looks: Allowance::new(DUE_SHARE, now),
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
        self.soonest_look = self.looks.after(took, self.every);
        self.next_look = self.soonest_look.max(took.begin + pause);
        self.next_question = self.due_looks.after(took, pause);
    }

    /// After hooks were asked.
    pub(super) fn asked(&mut self, took: Took) {
        let share = (took.effort * SHARE).max(took.passed * 2);
        self.next_question = took.begin + self.every.max(share);
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

    /// What took so many milliseconds of CPU and as much time, begun at another one.
    fn took(begin: Instant, cost_ms: u32) -> Took {
        Took { begin, effort: MS * cost_ms, passed: MS * cost_ms }
    }

    #[test]
    fn a_first_look_that_is_dear_does_not_put_off_the_next() {
        assert_eq!(after(250, false), (MS * 500, MS * 500));
        assert_eq!(after(250, true), (MS * 1000, MS * 1000));
        assert_eq!(after(1000, false), (MS * 15_000, MS * 2000));
    }

    #[test]
    fn looks_that_are_dear_keep_to_their_share_and_what_is_due_to_a_greater_one() {
        let mut now = Instant::now();
        let mut pace = Pace::new(MS * 1000, now);
        for _ in 0..4 {
            pace.looked(took(now, 300), false);
            now = pace.next_look;
        }
        pace.looked(took(now, 300), false);
        assert_eq!((pace.next_look - now, pace.next_question - now), (MS * 6000, MS * 600));
        // Where each is due, looks use more, and what they have used does not add up.
        for _ in 0..100 {
            now = pace.next_question;
            pace.looked(took(now, 300), false);
        }
        assert_eq!((pace.next_look - now, pace.next_question - now), (MS * 6000, MS * 1500));
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
        assert_eq!(pace.next_look - begin, MS * 13_000, "not changed by that");
    }

    #[test]
    fn what_happens_ends_the_pause_of_an_idle_host_and_no_other() {
        let begin = Instant::now();
        let mut pace = Pace::new(MS * 1000, begin);
        pace.looked(Took { begin, effort: MS, passed: MS }, true);
        assert!(!pace.is_time_to_look(begin + MS * 500));
        pace.hasten();
        assert!(pace.is_time_to_look(begin + MS * 500));
        pace.looked(Took { begin, effort: MS * 350, passed: MS }, true);
        pace.hasten();
        assert_eq!((pace.next_look - begin, pace.next() - begin), (MS * 2020, MS * 1000));
        assert!(pace.is_time_to_ask(begin + MS * 1000) && !pace.is_time_to_look(begin + MS * 1000));
    }

    #[test]
    fn half_of_the_time_is_left_to_other_things() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(TOTALS_SHARE, begin);
        let took = Took { begin, effort: MS, passed: MS * 150 };
        assert_eq!(allowance.after(took, MS * 200), begin + MS * 300);
    }

    #[test]
    fn told_as_often_as_they_may_be_totals_take_their_share_and_no_more() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(TOTALS_SHARE, begin);
        let (mut now, mut used) = (begin, Duration::ZERO);
        while now < begin + MS * 100_000 {
            used += MS * 8;
            now = allowance.after(took(now, 8), MS * 100);
        }
        assert!((MS * 2000..MS * 2120).contains(&used), "{used:?}");
        now += MS * 60_000;
        let took = Took { begin: now, effort: MS * 101, passed: MS };
        let next = allowance.after(took, MS * 10);
        assert_eq!(
            next - now,
            MS * 50,
            "what a minute did not use is used up by a tenth of a second"
        );
    }
}
