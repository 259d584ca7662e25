//! What a row is about, in words that outlive a session: no pid, no inode.
//!
//! Owns which rows of two sessions are the same thing. Rows of one session that are the same thing are
//! added up.

use std::collections::BTreeMap;

use super::figures::{Count, Found, Stalled};
use crate::{
    aggregate::{Drops, ProcessRow, Snapshot, Waits},
    event::{Address, Endpoint, Phrase},
    host::systemd_unit,
};

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessOf {
    /// Its `comm`, raw.
    pub comm: Option<Vec<u8>>,
    /// Its systemd unit, raw; `None` for a scope, too, which has another name every time.
    pub unit: Option<Vec<u8>>,
}

/// A listener's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerOf {
    /// Its address, which has its family; `None` where it is unknown.
    pub local: Option<Address>,
}

/// Connects of a program to a target that fail with an errno.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailureOf {
    /// Who.
    pub process: ProcessOf,
    /// Whereto.
    pub target: Option<Address>,
    /// The errno.
    pub errno: u32,
}

/// Connects of a program to a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectOf {
    /// Who.
    pub process: ProcessOf,
    /// Whereto.
    pub target: Option<Address>,
}

/// Accepts of a program on a listener that fail with an errno.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorOf {
    /// Who.
    pub process: ProcessOf,
    /// Where.
    pub listener: ListenerOf,
    /// The errno.
    pub errno: u32,
}

/// Connections that a listener throws away for a reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropOf {
    /// Which.
    pub listener: ListenerOf,
    /// Why.
    pub reason: Drops,
}

/// A finding of a rule about something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FindingOf {
    /// The rule.
    pub rule: String,
    /// What it is about.
    pub subject: Phrase,
}

fn process(row: &ProcessRow) -> ProcessOf {
    let unit = row.cgroup.as_deref().and_then(systemd_unit);
    let lasting = unit.filter(|unit| !unit.ends_with(b".scope"));
    ProcessOf { comm: row.comm.clone(), unit: lasting.map(<[u8]>::to_vec) }
}

fn listener(local: &Endpoint) -> ListenerOf {
    ListenerOf { local: local.address.clone() }
}

fn connect(row: &ProcessRow, target: &Endpoint) -> ConnectOf {
    ConnectOf { process: process(row), target: target.address.clone() }
}

pub(super) fn connect_failures(snapshot: &Snapshot) -> BTreeMap<FailureOf, Count> {
    let mut rows: BTreeMap<FailureOf, Count> = BTreeMap::new();
    for row in &snapshot.processes {
        for failure in &row.connect_failures {
            let target = failure.target.address.clone();
            let of = FailureOf { process: process(row), target, errno: failure.errno };
            rows.entry(of).or_default().0 += failure.count;
        }
    }
    rows
}

pub(super) fn connects_abandoned(snapshot: &Snapshot) -> BTreeMap<ConnectOf, Count> {
    let mut rows: BTreeMap<ConnectOf, Count> = BTreeMap::new();
    for row in &snapshot.processes {
        for abandoned in &row.connects_abandoned {
            rows.entry(connect(row, &abandoned.target)).or_default().0 += abandoned.count;
        }
    }
    rows
}

pub(super) fn connect_blocked(snapshot: &Snapshot) -> BTreeMap<ConnectOf, Waits> {
    let mut rows: BTreeMap<ConnectOf, Waits> = BTreeMap::new();
    for row in &snapshot.processes {
        for (target, waits) in &row.connect_blocked {
            rows.entry(connect(row, target)).or_default().join(waits);
        }
    }
    rows
}

pub(super) fn accept_errors(snapshot: &Snapshot) -> BTreeMap<ErrorOf, Count> {
    let mut rows: BTreeMap<ErrorOf, Count> = BTreeMap::new();
    for row in &snapshot.processes {
        for error in &row.accept_errors {
            let local = error.listener.as_ref().and_then(|local| local.address.clone());
            let listener = ListenerOf { local };
            let of = ErrorOf { process: process(row), listener, errno: error.errno };
            rows.entry(of).or_default().0 += error.count;
        }
    }
    rows
}

pub(super) fn accept_waits(snapshot: &Snapshot) -> BTreeMap<ListenerOf, Waits> {
    let mut rows: BTreeMap<ListenerOf, Waits> = BTreeMap::new();
    for row in snapshot.listeners.iter().filter(|row| row.accept.any()) {
        rows.entry(listener(&row.local)).or_default().join(&row.accept);
    }
    rows
}

pub(super) fn backlog_drops(snapshot: &Snapshot) -> BTreeMap<DropOf, Count> {
    let mut rows: BTreeMap<DropOf, Count> = BTreeMap::new();
    for row in &snapshot.listeners {
        for drop in &row.backlog_drops {
            let of = DropOf { listener: listener(&row.local), reason: drop.reason };
            rows.entry(of).or_default().0 += drop.count;
        }
    }
    rows
}

pub(super) fn stalls(snapshot: &Snapshot) -> BTreeMap<ListenerOf, Stalled> {
    let mut rows: BTreeMap<ListenerOf, Stalled> = BTreeMap::new();
    for stall in &snapshot.stalls {
        let row = rows.entry(listener(&stall.local)).or_default();
        row.count += 1;
        row.oldest_ns = row.oldest_ns.max(Some(stall.oldest_ns()));
    }
    rows
}

pub(super) fn findings(snapshot: &Snapshot) -> BTreeMap<FindingOf, Found> {
    let mut rows: BTreeMap<FindingOf, Found> = BTreeMap::new();
    for row in &snapshot.findings {
        let (rule, subject) = (row.finding.rule.to_string(), row.finding.subject.clone());
        let found = rows.entry(FindingOf { rule, subject }).or_default();
        let harm = row.finding.severity;
        found.severity = Some(found.severity.map_or(harm, |known| known.min(harm)));
        found.count += row.count;
    }
    rows
}
