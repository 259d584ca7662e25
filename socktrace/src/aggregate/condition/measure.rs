//! Takes a metric from a report: the rows that it looks at, and what they amount to together.

use super::{
    filter::{Who, Whose},
    metric::{Fold, Rows},
};
use crate::{
    aggregate::{
        AbandonedRow, AcceptErrorRow, ConnectFailureRow, FindingRow, ListenerRow, ProcessRow,
        Snapshot, Waits,
    },
    event::{Owner, Stall},
};

/// What one row has.
#[derive(Clone, Debug)]
pub(super) enum Amount {
    /// A number.
    Number(u64),
    /// Connections and how long they waited.
    Waits(Waits),
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) whose: Whose,
    pub(super) amount: Amount,
}

/// All rows of a kind. Of drops, those that really are drops, unless `every_reason` is asked for.
pub(super) fn parts(rows: Rows, snapshot: &Snapshot, every_reason: bool) -> Vec<Part> {
    let of_processes = |take: fn(&ProcessRow) -> Vec<Part>| -> Vec<Part> {
        snapshot.processes.iter().flat_map(take).collect()
    };
    let of_listeners = |take: &dyn Fn(&ListenerRow) -> Vec<Part>| -> Vec<Part> {
        snapshot.listeners.iter().flat_map(take).collect()
    };
    match rows {
        Rows::AcceptsOfProcesses => of_processes(|row| vec![waits(of_process(row), &row.accept)]),
        Rows::AcceptsOfListeners => of_listeners(&|row| vec![waits(of_listener(row), &row.accept)]),
        Rows::AcceptErrors => of_processes(accept_errors),
        Rows::ConnectFailures => of_processes(connect_failures),
        Rows::ConnectsAbandoned => of_processes(connects_abandoned),
        Rows::ConnectBlocked => of_processes(connect_blocked),
        Rows::Drops => of_listeners(&|row| drops(row, every_reason)),
        Rows::Stalls => snapshot.stalls.iter().map(age).collect(),
        Rows::Queues => queues(snapshot),
        Rows::Fills => of_listeners(&|row| fill(row).into_iter().collect()),
        Rows::Findings => findings(snapshot),
        Rows::EventsLost => vec![number(Whose::default(), snapshot.completeness.lost())],
    }
}

/// What rows amount to; `None` where there is nothing to measure.
pub(super) fn fold<'a>(fold: Fold, parts: impl Iterator<Item = &'a Part>) -> Option<u64> {
    match fold {
        Fold::Sum => Some(parts.map(|part| part.amount.count()).fold(0, u64::saturating_add)),
        Fold::Max => parts.map(|part| part.amount.count()).max(),
        Fold::Permille(permille) => merged(parts).map(|waits| waits.permille_ns(permille)),
        Fold::Longest => merged(parts).map(|waits| waits.max_ns()),
    }
}

fn merged<'a>(parts: impl Iterator<Item = &'a Part>) -> Option<Waits> {
    let mut all = Waits::default();
    for part in parts {
        if let Amount::Waits(waits) = &part.amount {
            all.join(waits);
        }
    }
    all.any().then_some(all)
}

impl Amount {
    const fn count(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Waits(waits) => waits.count(),
        }
    }
}

const fn number(whose: Whose, number: u64) -> Part {
    Part { whose, amount: Amount::Number(number) }
}

fn waits(whose: Whose, waits: &Waits) -> Part {
    Part { whose, amount: Amount::Waits(waits.clone()) }
}

fn of_process(row: &ProcessRow) -> Whose {
    let who = Who { pid: row.pid, comm: row.comm.clone() };
    Whose { processes: vec![who], uid: row.uid, ..Whose::default() }
}

fn holders(owners: &[Owner]) -> Vec<Who> {
    let who = |owner: &Owner| Who { pid: Some(owner.pid), comm: Some(owner.comm.clone()) };
    owners.iter().map(who).collect()
}

fn of_listener(row: &ListenerRow) -> Whose {
    let processes = holders(&row.owners);
    Whose { processes, listener: Some(row.local.clone()), ..Whose::default() }
}

fn of_stall(stall: &Stall) -> Whose {
    let processes = holders(&stall.owners);
    Whose { processes, listener: Some(stall.local.clone()), ..Whose::default() }
}

fn accept_errors(process: &ProcessRow) -> Vec<Part> {
    let part = |row: &AcceptErrorRow| {
        let (errno, listener) = (Some(row.errno), row.listener.clone());
        number(Whose { errno, listener, ..of_process(process) }, row.count)
    };
    process.accept_errors.iter().map(part).collect()
}

fn connect_failures(process: &ProcessRow) -> Vec<Part> {
    let part = |row: &ConnectFailureRow| {
        let (uid, errno, target) = (Some(row.uid), Some(row.errno), Some(row.target.clone()));
        number(Whose { uid, errno, target, ..of_process(process) }, row.count)
    };
    process.connect_failures.iter().map(part).collect()
}

fn connects_abandoned(process: &ProcessRow) -> Vec<Part> {
    let part = |row: &AbandonedRow| {
        let (uid, target) = (Some(row.uid), Some(row.target.clone()));
        number(Whose { uid, target, ..of_process(process) }, row.count)
    };
    process.connects_abandoned.iter().map(part).collect()
}

fn connect_blocked(process: &ProcessRow) -> Vec<Part> {
    let blocked = process.connect_blocked.iter();
    blocked
        .map(|(target, slept)| {
            waits(Whose { target: Some(target.clone()), ..of_process(process) }, slept)
        })
        .collect()
}

fn drops(listener: &ListenerRow, every_reason: bool) -> Vec<Part> {
    let wanted = listener.backlog_drops.iter().filter(|row| every_reason || row.reason.is_drop());
    wanted
        .map(|row| number(Whose { reason: Some(row.reason), ..of_listener(listener) }, row.count))
        .collect()
}

/// How long its oldest connection has waited.
fn age(stall: &Stall) -> Part {
    number(of_stall(stall), stall.oldest_ns())
}

/// A listener that accepts nothing has no row, only its stall.
fn queues(snapshot: &Snapshot) -> Vec<Part> {
    let peak = |row: &ListenerRow| Some(number(of_listener(row), row.queue_peak?.into()));
    let stalled =
        snapshot.stalls.iter().map(|stall| number(of_stall(stall), stall.pending_peak.into()));
    snapshot.listeners.iter().filter_map(peak).chain(stalled).collect()
}

/// In hundredths of a percent; a backlog of 0 has no share.
fn fill(row: &ListenerRow) -> Option<Part> {
    let (peak, room) = (u64::from(row.queue_peak?), u64::from(row.effective?));
    Some(number(of_listener(row), (peak * 10_000).checked_div(room)?))
}

fn findings(snapshot: &Snapshot) -> Vec<Part> {
    let part = |row: &FindingRow| {
        let (severity, rule) = (Some(row.finding.severity), Some(row.finding.rule.to_string()));
        number(Whose { severity, rule, ..Whose::default() }, 1)
    };
    snapshot.findings.iter().map(part).collect()
}
