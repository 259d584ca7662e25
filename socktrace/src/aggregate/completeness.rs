//! What is missing: the loss identity, checked, and the verdict that every report carries.

use socktrace_common::{Signal, Stage};

use crate::event::{ReaderLoss, Stages};

/// Where the occurrences of one signal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalStages {
    /// The signal.
    pub signal: Signal,
    /// It occurred.
    pub seen: u64,
    /// Not wanted by the filters.
    pub filtered: u64,
    /// Counted, too ordinary for an event.
    pub below_threshold: u64,
    /// Counted, its event over the budget.
    pub sampled_out: u64,
    /// Its event arrived.
    pub delivered: u64,
    /// Its event did not fit into the buffer.
    pub lost_buffer: u64,
    /// Its event arrived damaged.
    pub lost_decode: u64,
}

impl SignalStages {
    /// Whether every occurrence is accounted for.
    pub const fn adds_up(&self) -> bool {
        self.seen
            == self.filtered
                + self.below_threshold
                + self.sampled_out
                + self.delivered
                + self.lost_buffer
                + self.lost_decode
    }
}

/// How much of what happened is in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it.
    Complete,
    /// Something is missing, and it is known how much.
    Incomplete,
    /// Something may be missing, and it is not known how much.
    Unknown,
}

impl Verdict {
    /// As reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Unknown => "unknown",
        }
    }
}

/// The statement that closes every report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completeness {
    /// In one word.
    pub verdict: Verdict,
    /// Why not complete, one sentence each.
    pub reasons: Vec<String>,
    /// Per signal.
    pub signals: Vec<SignalStages>,
}

impl Completeness {
    /// Checks the kernel's counters against what arrived, per signal.
    pub fn check(
        stages: &Stages,
        delivered: &[u64; Signal::COUNT],
        reader: ReaderLoss,
        traced: &[Signal],
        unattributed: Option<u64>,
    ) -> Self {
        let mut undecodable = reader.undecodable;
        let signals: Vec<SignalStages> =
            traced.iter().map(|signal| row(*signal, stages, delivered, &mut undecodable)).collect();
        let mut reasons = Vec::new();
        let mut verdict = Verdict::Complete;
        for row in &signals {
            let lost = row.lost_buffer + row.lost_decode;
            if lost != 0 {
                verdict = Verdict::Incomplete;
                reasons.push(format!(
                    "{lost} {} events were lost (counts are exact, their detail is missing); \
                     raise --buffer-bytes or filter",
                    row.signal.name()
                ));
            }
        }
        let mut missing = |n: u64, sentence: String| {
            if n != 0 {
                verdict = Verdict::Incomplete;
                reasons.push(sentence);
            }
        };
        for signal in traced {
            let name = signal.name();
            let n = stages.get(*signal, Stage::LostTally);
            missing(n, format!("{n} {name} occurrences are in no total: a map was full"));
            let n = stages.get(*signal, Stage::LostPending);
            missing(n, format!("{n} starts of {name} were not remembered: a map was full"));
            let n = stages.get(*signal, Stage::LostName);
            missing(
                n,
                format!("{n} processes or listeners of {name} have no name: a map was full"),
            );
        }
        let n = unattributed.unwrap_or(0);
        missing(n, format!("{n} drops of this network namespace belong to no listener known here"));
        if signals.iter().any(|row| !row.adds_up()) || undecodable != 0 {
            verdict = Verdict::Unknown;
            reasons.push("the kernel's counters and the events that arrived do not add up".into());
        }
        for signal in Signal::ALL.iter().filter(|signal| !traced.contains(signal)) {
            verdict = Verdict::Unknown;
            reasons.push(format!("{} was not traced (see socktrace check)", signal.name()));
        }
        Self { verdict, reasons, signals }
    }

    /// Sum over all signals.
    pub fn seen(&self) -> u64 {
        self.signals.iter().map(|row| row.seen).sum()
    }

    /// Sum over all signals.
    pub fn delivered(&self) -> u64 {
        self.signals.iter().map(|row| row.delivered).sum()
    }

    /// Sum over all signals and stages.
    pub fn lost(&self) -> u64 {
        self.signals.iter().map(|row| row.lost_buffer + row.lost_decode).sum()
    }
}

/// Undecodable events have no signal that could be trusted: they are put where events are missing.
fn row(
    signal: Signal,
    stages: &Stages,
    delivered: &[u64; Signal::COUNT],
    undecodable: &mut u64,
) -> SignalStages {
    let arrived = delivered[signal as usize];
    let lost_decode =
        stages.get(signal, Stage::Submitted).saturating_sub(arrived).min(*undecodable);
    *undecodable -= lost_decode;
    SignalStages {
        signal,
        seen: stages.get(signal, Stage::Seen),
        filtered: stages.get(signal, Stage::Filtered),
        below_threshold: stages.get(signal, Stage::BelowThreshold),
        sampled_out: stages.get(signal, Stage::SampledOut),
        delivered: arrived,
        lost_buffer: stages.get(signal, Stage::LostBuffer),
        lost_decode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(counts: &[(Stage, u64)], delivered: u64, loss: ReaderLoss) -> Completeness {
        let mut stages = Stages::default();
        for (stage, n) in counts {
            stages.0[Signal::Listen as usize][*stage as usize] = *n;
        }
        let mut arrived = [0; Signal::COUNT];
        arrived[Signal::Listen as usize] = delivered;
        Completeness::check(&stages, &arrived, loss, &Signal::ALL, None)
    }

    #[test]
    fn all_accounted_for_is_complete() {
        let counts = [(Stage::Seen, 10), (Stage::Filtered, 3), (Stage::Submitted, 7)];
        assert_eq!(check(&counts, 7, ReaderLoss::default()).verdict, Verdict::Complete);
    }

    #[test]
    fn counted_loss_is_incomplete_with_its_number() {
        let counts = [(Stage::Seen, 10), (Stage::LostBuffer, 4), (Stage::Submitted, 6)];
        let checked = check(&counts, 6, ReaderLoss::default());
        assert_eq!((checked.verdict, checked.lost()), (Verdict::Incomplete, 4));
        assert!(checked.reasons[0].starts_with("4 listen events"));
    }

    #[test]
    fn a_damaged_event_is_lost_not_forgotten() {
        let counts = [(Stage::Seen, 10), (Stage::Submitted, 10)];
        let loss = ReaderLoss { undecodable: 1, perf_lost: 0 };
        let checked = check(&counts, 9, loss);
        assert_eq!((checked.verdict, checked.lost()), (Verdict::Incomplete, 1));
    }

    #[test]
    fn what_was_not_traced_is_unknown_and_what_has_no_listener_is_incomplete() {
        let check = |traced: &[Signal], unattributed| {
            let (stages, none) = (Stages::default(), [0; Signal::COUNT]);
            Completeness::check(&stages, &none, ReaderLoss::default(), traced, unattributed)
        };
        assert_eq!(check(&Signal::ALL, Some(0)).verdict, Verdict::Complete);
        assert_eq!(check(&Signal::ALL[1..], None).verdict, Verdict::Unknown);
        let missing = check(&Signal::ALL, Some(3));
        assert_eq!(missing.verdict, Verdict::Incomplete);
        assert!(missing.reasons[0].starts_with("3 drops"));
    }

    #[test]
    fn what_does_not_add_up_is_unknown() {
        let counts = [(Stage::Seen, 10), (Stage::Submitted, 10)];
        assert_eq!(check(&counts, 9, ReaderLoss::default()).verdict, Verdict::Unknown);
    }
}
