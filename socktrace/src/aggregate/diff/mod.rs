//! Two sessions side by side: what got worse or better, what is new, and what is gone.
//!
//! Owns the rows and their verdicts. Which rows of two sessions are the same thing is decided in
//! `identity.rs`; when a difference is more than noise, in `figures.rs`. Sessions last differently long,
//! so occurrences are compared by their rates.

mod figures;
mod identity;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use socktrace_common::{Signal, Tier};

pub use figures::{Count, Found, Stalled};
pub use identity::{ConnectOf, DropOf, ErrorOf, FailureOf, FindingOf, ListenerOf, ProcessOf};

use super::{Snapshot, Verdict, Waits};
use figures::Figures;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// More of it, or longer.
    Worse,
    /// It happened after only.
    New,
    /// It cannot be told, because one of the sessions did not look.
    Unknown,
    /// It happened before only.
    Gone,
    /// Less of it, or shorter.
    Better,
    /// No difference beyond noise.
    Same,
}

impl Change {
    /// As reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::New => "new",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
            Self::Better => "better",
            Self::Same => "same",
        }
    }
}

/// One thing in both sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<K, V> {
    /// What it is about.
    pub of: K,
    /// What became of it.
    pub change: Change,
    /// How it was; `None` if that session did not look.
    pub before: Option<V>,
    /// How it is.
    pub after: Option<V>,
}

/// One of the two sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Wall time of its start.
    pub started: SystemTime,
    /// How long it was.
    pub duration: Duration,
    /// Host name.
    pub host: String,
    /// `uname -r`.
    pub kernel: String,
    /// How complete it is.
    pub verdict: Verdict,
    /// Why it is not.
    pub reasons: Vec<String>,
    /// Stalls that are not among its rows.
    pub stalls_left_out: u64,
}

/// A signal that the two sessions observed differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierChange {
    /// The signal.
    pub signal: Signal,
    /// Its tier; `None` if it was not traced.
    pub before: Option<Tier>,
    /// The same of the later session.
    pub after: Option<Tier>,
}

/// The difference between two sessions: rows with the worst first.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The earlier session.
    pub before: Side,
    /// The later one.
    pub after: Side,
    /// Signals of which the two saw different parts.
    pub tiers: Vec<TierChange>,
    /// Connects that failed.
    pub connect_failures: Vec<Row<FailureOf, Count>>,
    /// Connects that were taken back before there was an answer.
    pub connects_abandoned: Vec<Row<ConnectOf, Count>>,
    /// Connects that slept on a full backlog.
    pub connect_blocked: Vec<Row<ConnectOf, Waits>>,
    /// Accepts that failed.
    pub accept_errors: Vec<Row<ErrorOf, Count>>,
    /// Waits of accepted connections.
    pub accept_waits: Vec<Row<ListenerOf, Waits>>,
    /// Connections thrown away.
    pub backlog_drops: Vec<Row<DropOf, Count>>,
    /// Stalls.
    pub stalls: Vec<Row<ListenerOf, Stalled>>,
    /// Findings.
    pub findings: Vec<Row<FindingOf, Found>>,
}

impl Diff {
    /// Compares two sessions.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let pair = Pair { before, after };
        Self {
            before: side(before),
            after: side(after),
            tiers: Signal::ALL.into_iter().filter_map(|signal| pair.tier_change(signal)).collect(),
            connect_failures: pair.rows(Some(Signal::ConnectFailure), identity::connect_failures),
            connects_abandoned: pair
                .rows(Some(Signal::ConnectFailure), identity::connects_abandoned),
            connect_blocked: pair.rows(Some(Signal::ConnectBlocked), identity::connect_blocked),
            accept_errors: pair.rows(Some(Signal::AcceptError), identity::accept_errors),
            accept_waits: pair.rows(Some(Signal::Accept), identity::accept_waits),
            backlog_drops: pair.rows(Some(Signal::BacklogDrop), identity::backlog_drops),
            stalls: pair.rows(None, identity::stalls),
            findings: pair.rows(None, identity::findings),
        }
    }
}

fn side(snapshot: &Snapshot) -> Side {
    let Snapshot { session, completeness, .. } = snapshot;
    Side {
        started: session.started,
        duration: snapshot.duration,
        host: session.host.clone(),
        kernel: session.kernel.clone(),
        verdict: completeness.verdict,
        reasons: completeness.reasons.clone(),
        stalls_left_out: snapshot.stalls_left_out,
    }
}

/// Two sessions.
#[derive(Clone, Copy)]
struct Pair<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
}

impl Pair<'_> {
    fn tier_change(self, signal: Signal) -> Option<TierChange> {
        let [before, after] = [self.before, self.after].map(|it| it.session.tier(signal));
        (before != after).then_some(TierChange { signal, before, after })
    }

    /// Rows of one kind, matched by what they are about.
    fn rows<K: Ord + Clone, V: Figures>(
        self,
        signal: Option<Signal>,
        take: fn(&Snapshot) -> BTreeMap<K, V>,
    ) -> Vec<Row<K, V>> {
        let looked = |it: &Snapshot| signal.is_none_or(|signal| it.session.tier(signal).is_some());
        let [mut before, mut after] = [self.before, self.after].map(take);
        let seconds = [self.before, self.after].map(|it| it.duration.as_secs_f64());
        let keys: BTreeSet<K> = before.keys().chain(after.keys()).cloned().collect();
        let row = |of: K| {
            let was = looked(self.before).then(|| before.remove(&of).unwrap_or_default());
            let is = looked(self.after).then(|| after.remove(&of).unwrap_or_default());
            let change = match (&was, &is) {
                (Some(was), Some(is)) => figures::change(was, is, seconds),
                _ => Change::Unknown,
            };
            Row { of, change, before: was, after: is }
        };
        let mut rows: Vec<Row<K, V>> = keys.into_iter().map(row).collect();
        let weight = |row: &Row<K, V>| {
            let sides = [&row.before, &row.after].into_iter().flatten();
            std::cmp::Reverse(sides.map(Figures::weight).max())
        };
        rows.sort_by_key(|row| (row.change, weight(row)));
        rows
    }
}

#[cfg(test)]
mod tests;
