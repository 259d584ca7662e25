//! What a condition can measure: the table of metrics, with unit, source and filters of each.
//!
//! Owns the table. How a metric is taken from a report is decided in `measure.rs`.

use socktrace_common::Signal;

use super::filter::Key;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Occurrences.
    Count,
    /// Nanoseconds.
    Duration,
    /// Hundredths of a percent.
    Percent,
}

/// Which rows of the report are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// What each process accepted.
    AcceptsOfProcesses,
    /// What was accepted from each listener.
    AcceptsOfListeners,
    /// Failed accepts of each process, by errno and listener.
    AcceptErrors,
    /// Failed connects of each process, by errno and target.
    ConnectFailures,
    /// TCP connects of each process that it closed before there was an answer, by target.
    ConnectsAbandoned,
    /// Unix connects of each process that slept on a full backlog, by target.
    ConnectBlocked,
    /// What each listener threw away, by reason.
    Drops,
    /// Each stall.
    Stalls,
    /// The fullest queue of each listener and of each stall, connections.
    Queues,
    /// The same of each listener as a share of its backlog.
    Fills,
    /// Each finding.
    Findings,
    /// Events that were lost, all together.
    EventsLost,
}

/// How rows become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    /// All of them together.
    Sum,
    /// The largest.
    Max,
    /// The wait that this share (in thousandths) of all connections did not exceed.
    Permille(u64),
    /// The longest wait.
    Longest,
}

/// What it means that there is nothing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nothing {
    /// Nothing happened, so no condition is met.
    IsKnown,
    /// It cannot be told; why.
    IsUnknown(&'static str),
}

/// Rows, and the filters that they have.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The rows.
    pub rows: Rows,
    /// What they can be filtered by.
    pub keys: &'static [Key],
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// As conditions name it.
    pub name: &'static str,
    /// What its number counts.
    pub unit: Unit,
    /// What it is.
    pub about: &'static str,
    /// Where it comes from: the first whose keys are those of a condition.
    pub from: &'static [Origin],
    /// What must have been traced for it.
    pub signal: Option<Signal>,
    pub(super) fold: Fold,
    pub(super) nothing: Nothing,
}

const ACCEPTS: &[Origin] = &[
    Origin { rows: Rows::AcceptsOfProcesses, keys: &[Key::Pid, Key::Comm, Key::Uid] },
    Origin { rows: Rows::AcceptsOfListeners, keys: &[Key::Listener] },
];
const BLOCKED: &[Origin] =
    &[Origin { rows: Rows::ConnectBlocked, keys: &[Key::Pid, Key::Comm, Key::Uid, Key::Target] }];
const STALLS: &[Origin] =
    &[Origin { rows: Rows::Stalls, keys: &[Key::Pid, Key::Comm, Key::Listener] }];

const NO_WAIT: Nothing = Nothing::IsUnknown("no connection was accepted whose wait is known");
const NO_QUEUE: Nothing = Nothing::IsUnknown("no listener's queue was looked at");

const fn accept_wait(name: &'static str, about: &'static str, fold: Fold) -> Metric {
    let (unit, signal) = (Unit::Duration, Some(Signal::Accept));
    Metric { name, unit, about, from: ACCEPTS, signal, fold, nothing: NO_WAIT }
}

const fn count(
    name: &'static str,
    about: &'static str,
    signal: Option<Signal>,
    from: &'static [Origin],
) -> Metric {
    let (unit, fold, nothing) = (Unit::Count, Fold::Sum, Nothing::IsKnown);
    Metric { name, unit, about, from, signal, fold, nothing }
}

/// Every metric, in the order in which docs and errors name them.
pub const METRICS: &[Metric] = &[
    count("accepts", "connections that were accepted", Some(Signal::Accept), ACCEPTS),
    accept_wait(
        "accept_wait_p50",
        "the wait in the accept queue that half of the accepted connections did not exceed; of several \
         rows, that of all their connections together",
        Fold::Permille(500),
    ),
    accept_wait("accept_wait_p90", "the same for 90 % of them", Fold::Permille(900)),
    accept_wait("accept_wait_p99", "the same for 99 % of them", Fold::Permille(990)),
    accept_wait("accept_wait_p999", "the same for 99.9 % of them", Fold::Permille(999)),
    accept_wait("accept_wait_max", "the longest of these waits", Fold::Longest),
    count(
        "accept_errors",
        "calls of accept() that failed; EAGAIN is no failure",
        Some(Signal::AcceptError),
        &[Origin {
            rows: Rows::AcceptErrors,
            keys: &[Key::Pid, Key::Comm, Key::Uid, Key::Errno, Key::Listener],
        }],
    ),
    count(
        "connect_failures",
        "attempts to connect that failed",
        Some(Signal::ConnectFailure),
        &[Origin {
            rows: Rows::ConnectFailures,
            keys: &[Key::Pid, Key::Comm, Key::Uid, Key::Errno, Key::Target],
        }],
    ),
    count(
        "connects_abandoned",
        "TCP connects that the program closed before there was an answer; no failures",
        Some(Signal::ConnectFailure),
        &[Origin {
            rows: Rows::ConnectsAbandoned,
            keys: &[Key::Pid, Key::Comm, Key::Uid, Key::Target],
        }],
    ),
    count(
        "connect_blocked",
        "Unix connects that slept on a full backlog",
        Some(Signal::ConnectBlocked),
        BLOCKED,
    ),
    Metric {
        name: "connect_blocked_max",
        unit: Unit::Duration,
        about: "the longest of these sleeps",
        from: BLOCKED,
        signal: Some(Signal::ConnectBlocked),
        fold: Fold::Longest,
        nothing: Nothing::IsKnown,
    },
    count(
        "backlog_drops",
        "connections that listeners threw away; with `reason=syncookie_sent`, the syncookies, which \
         are no drops",
        Some(Signal::BacklogDrop),
        &[Origin { rows: Rows::Drops, keys: &[Key::Pid, Key::Comm, Key::Listener, Key::Reason] }],
    ),
    count("stalls", "stalls, those that are over included", None, STALLS),
    Metric {
        name: "stall_max",
        unit: Unit::Duration,
        about: "how long the oldest connection of a stall waited, or has waited so far",
        from: STALLS,
        signal: None,
        fold: Fold::Max,
        nothing: Nothing::IsKnown,
    },
    Metric {
        name: "queue_peak",
        unit: Unit::Count,
        about: "the most connections that were seen in an accept queue",
        from: &[Origin { rows: Rows::Queues, keys: &[Key::Pid, Key::Comm, Key::Listener] }],
        signal: None,
        fold: Fold::Max,
        nothing: NO_QUEUE,
    },
    Metric {
        name: "queue_fill",
        unit: Unit::Percent,
        about: "the same as a share of the backlog that applies; TCP queues hold one more",
        from: &[Origin { rows: Rows::Fills, keys: &[Key::Pid, Key::Comm, Key::Listener] }],
        signal: None,
        fold: Fold::Max,
        nothing: NO_QUEUE,
    },
    count(
        "findings",
        "findings of the report, each once",
        None,
        &[Origin { rows: Rows::Findings, keys: &[Key::Severity, Key::Rule] }],
    ),
    count(
        "events_lost",
        "events whose detail is missing in the report; counts are exact all the same",
        None,
        &[Origin { rows: Rows::EventsLost, keys: &[] }],
    ),
];

impl Metric {
    /// The metric of this name.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// Whether any of its rows can be filtered by this.
    pub(super) fn takes(&self, key: Key) -> bool {
        self.from.iter().any(|from| from.keys.contains(&key))
    }

    /// The rows that can be filtered by all of these.
    pub(super) fn rows_with(&self, keys: &[Key]) -> Option<Rows> {
        let has_all = |from: &&Origin| keys.iter().all(|key| from.keys.contains(key));
        self.from.iter().find(has_all).map(|from| from.rows)
    }

    /// Its filters in words: those that go together, and the others behind `or`.
    pub fn filters(&self) -> String {
        let names = |from: &Origin| {
            let names: Vec<&str> = from.keys.iter().map(|key| key.name()).collect();
            names.join(", ")
        };
        self.from.iter().map(names).collect::<Vec<_>>().join(" or ")
    }
}
