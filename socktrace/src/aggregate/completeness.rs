//! What is missing: the loss identity, checked, and the verdict that every report carries.

use socktrace_common::{Signal, Stage};

use crate::event::{Damage, Misses, ReaderLoss, Stages};

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
    /// Ends of waits whose start was not seen.
    pub unpaired: u64,
    /// Occurrences in no total, because a map was full.
    pub full_tally: u64,
    /// Beginnings that were not remembered, because a map was full.
    pub full_pending: u64,
    /// Processes and listeners without a name, because a map was full.
    pub full_name: u64,
}

#[cfg(test)]
impl SignalStages {
    /// It never occurred.
    pub(crate) const fn nothing_of(signal: Signal) -> Self {
        Self {
            signal,
            seen: 0,
            filtered: 0,
            below_threshold: 0,
            sampled_out: 0,
            delivered: 0,
            lost_buffer: 0,
            lost_decode: 0,
            unpaired: 0,
            full_tally: 0,
            full_pending: 0,
            full_name: 0,
        }
    }
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
    /// Runs of programs that the kernel skipped.
    pub misses: Misses,
}

/// What completeness is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The kernel's counters.
    pub stages: &'a Stages,
    /// Events that arrived, by signal.
    pub delivered: &'a [u64; Signal::COUNT],
    /// What the reader lost.
    pub reader: ReaderLoss,
    /// Signals that have a tier.
    pub traced: &'a [Signal],
    /// What network namespaces counted and no listener explains.
    pub unattributed: Unattributed,
    /// Drops and syncookies that were found and that no network namespace counted.
    pub surplus: u64,
    /// What the kernel skipped.
    pub misses: &'a Misses,
    /// What a saved session lacks.
    pub damage: Option<&'a Damage>,
    /// When the session began, monotonic nanoseconds.
    pub started_ns: u64,
}

/// What network namespaces counted beyond what their known listeners explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unattributed {
    /// Of `ListenDrops`.
    pub drops: u64,
    /// Of `TCPReqQFullDoCookies`; 0 in a tier that sees no SYN.
    pub cookies: u64,
}

impl Completeness {
    /// Checks the kernel's counters against what arrived, per signal.
    pub fn check(evidence: &Evidence<'_>) -> Self {
        let Evidence {
            stages,
            delivered,
            reader,
            traced,
            unattributed,
            surplus,
            misses,
            damage,
            started_ns,
        } = *evidence;
        let mut undecodable = reader.undecodable;
        let signals: Vec<SignalStages> =
            traced.iter().map(|signal| row(*signal, stages, delivered, &mut undecodable)).collect();
        let mut reasons: Vec<String> = signals.iter().filter_map(lost_events).collect();
        reasons.extend(signals.iter().flat_map(full_maps));
        reasons.extend(without_listener(unattributed));
        reasons.extend(misses.unseen.iter().map(|(what, n)| {
            format!("up to {n} {what} were not seen: the kernel skipped socktrace's hook")
        }));
        reasons.extend(damage.into_iter().flat_map(|damage| damaged(damage, started_ns)));
        let mut verdict = if reasons.is_empty() { Verdict::Complete } else { Verdict::Incomplete };
        // Of a damaged session, events or the totals that they are compared with may be what is missing.
        let adds_up = signals.iter().all(SignalStages::adds_up) && undecodable == 0;
        if !damage.is_some_and(Damage::lacks_records) && !adds_up {
            verdict = Verdict::Unknown;
            reasons.push("the kernel's counters and the events that arrived do not add up".into());
        }
        if surplus != 0 {
            verdict = Verdict::Unknown;
            reasons.push(format!(
                "{surplus} drops more were found than the network namespaces of their listeners counted"
            ));
        }
        for signal in Signal::ALL.iter().filter(|signal| !traced.contains(signal)) {
            verdict = Verdict::Unknown;
            reasons.push(format!("{} was not traced (see socktrace check)", signal.name()));
        }
        Self { verdict, reasons, signals, misses: misses.clone() }
    }

    /// Sum over all signals.
    pub fn seen(&self) -> u64 {
        self.signals.iter().map(|row| row.seen).sum()
    }

    /// Sum over all signals.
    pub fn delivered(&self) -> u64 {
        self.signals.iter().map(|row| row.delivered).sum()
    }

    /// Occurrences that are in no row: their process, target or listener had no room in a full map.
    pub fn other(&self, signal: Signal) -> u64 {
        self.signals.iter().filter(|row| row.signal == signal).map(|row| row.full_tally).sum()
    }

    /// Sum over all signals and stages.
    pub fn lost(&self) -> u64 {
        self.signals.iter().map(|row| row.lost_buffer + row.lost_decode).sum()
    }
}

fn lost_events(row: &SignalStages) -> Option<String> {
    let lost = row.lost_buffer + row.lost_decode;
    (lost != 0).then(|| {
        format!(
            "{lost} {} events were lost (counts are exact, their detail is missing); \
             raise --buffer-bytes or filter",
            row.signal.name()
        )
    })
}

fn full_maps(row: &SignalStages) -> impl Iterator<Item = String> {
    let name = row.signal.name();
    let told = [
        (row.full_tally, format!("{name} occurrences are in no total: a map was full")),
        (row.full_pending, format!("starts of {name} were not remembered: a map was full")),
        (row.full_name, format!("processes or listeners of {name} have no name: a map was full")),
    ];
    told.into_iter().filter(|(n, _)| *n != 0).map(|(n, words)| format!("{n} {words}"))
}

fn without_listener(rest: Unattributed) -> impl Iterator<Item = String> {
    let told = [(rest.drops, "drops"), (rest.cookies, "syncookies")];
    told.into_iter().filter(|(n, _)| *n != 0).map(|(n, what)| {
        format!("{n} {what} that the kernel counted belong to no listener known here")
    })
}

fn damaged(damage: &Damage, started_ns: u64) -> impl Iterator<Item = String> {
    let Damage { unfinished, ref cut, last_ns, lost_bytes, malformed, left_out } = *damage;
    let seconds = last_ns.saturating_sub(started_ns) as f64 / 1e9;
    let ended = unfinished.then(|| {
        format!(
            "the file has no end: the tracer was killed, or the end was cut off; what happened later than \
             {seconds:.1} s after the start is missing"
        )
    });
    let cut = cut.as_ref().map(|why| format!("the file was cut short: {why}"));
    let bytes = (lost_bytes != 0).then(|| format!("{lost_bytes} bytes of the file are damaged"));
    let lines = (malformed != 0).then(|| format!("{malformed} lines of the file are no records"));
    let rows = (left_out != 0).then(|| format!("{left_out} rows were too many to keep"));
    [ended, cut, bytes, lines, rows].into_iter().flatten()
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
        unpaired: stages.get(signal, Stage::Unpaired),
        full_tally: stages.get(signal, Stage::LostTally),
        full_pending: stages.get(signal, Stage::LostPending),
        full_name: stages.get(signal, Stage::LostName),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(counts: &[(Stage, u64)], delivered: u64, loss: ReaderLoss) -> Completeness {
        let mut stages = Stages::default();
        for (stage, n) in counts {
            stages.0[Signal::Listen as usize][*stage as usize] = *n;
        }
        let mut arrived = [0; Signal::COUNT];
        arrived[Signal::Listen as usize] = delivered;
        Completeness::check(&Evidence {
            stages: &stages,
            delivered: &arrived,
            reader: loss,
            ..NONE
        })
    }

    const NONE: Evidence<'static> = Evidence {
        stages: &Stages([[0; Stage::COUNT]; Signal::COUNT]),
        delivered: &[0; Signal::COUNT],
        reader: ReaderLoss { undecodable: 0, perf_lost: 0 },
        traced: &Signal::ALL,
        unattributed: Unattributed { drops: 0, cookies: 0 },
        surplus: 0,
        misses: &Misses { programs: BTreeMap::new(), unseen: BTreeMap::new() },
        damage: None,
        started_ns: 0,
    };

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
        let without = |drops| Unattributed { drops, cookies: 0 };
        let check =
            |traced, unattributed| Completeness::check(&Evidence { traced, unattributed, ..NONE });
        assert_eq!(check(&Signal::ALL, without(0)).verdict, Verdict::Complete);
        assert_eq!(check(&Signal::ALL[1..], without(0)).verdict, Verdict::Unknown);
        let missing = check(&Signal::ALL, without(3));
        assert_eq!(missing.verdict, Verdict::Incomplete);
        assert!(missing.reasons[0].starts_with("3 drops"));
    }

    #[test]
    fn more_drops_than_the_kernel_counted_are_unknown() {
        let checked = Completeness::check(&Evidence { surplus: 3, ..NONE });
        assert_eq!(checked.verdict, Verdict::Unknown);
        assert!(checked.reasons[0].starts_with("3 drops more"));
    }

    #[test]
    fn what_the_kernel_skipped_for_good_is_incomplete() {
        let skipped = |unseen: &[(&str, u64)]| Misses {
            programs: BTreeMap::from([("hook".into(), Some(9))]),
            unseen: unseen.iter().map(|(what, n)| ((*what).to_owned(), *n)).collect(),
        };
        let check = |misses: Misses| Completeness::check(&Evidence { misses: &misses, ..NONE });
        assert_eq!(check(skipped(&[])).verdict, Verdict::Complete);
        let missing = check(skipped(&[("accepted connections", 2)]));
        assert_eq!(missing.verdict, Verdict::Incomplete);
        assert!(missing.reasons[0].starts_with("up to 2 accepted connections"));
    }

    #[test]
    fn a_session_without_its_end_is_incomplete_whatever_adds_up() {
        let damage = Damage { unfinished: true, last_ns: 2_500_000_000, ..Damage::default() };
        let mut stages = Stages::default();
        stages.0[Signal::Listen as usize][Stage::Seen as usize] = 3;
        let evidence = Evidence { damage: Some(&damage), stages: &stages, ..NONE };
        let checked = Completeness::check(&evidence);
        assert_eq!((checked.verdict, checked.reasons.len()), (Verdict::Incomplete, 1));
        assert!(checked.reasons[0].contains("later than 2.5 s"), "{:?}", checked.reasons);
    }

    #[test]
    fn what_does_not_add_up_is_unknown() {
        let counts = [(Stage::Seen, 10), (Stage::Submitted, 10)];
        assert_eq!(check(&counts, 9, ReaderLoss::default()).verdict, Verdict::Unknown);
    }
}
