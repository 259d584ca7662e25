//! What was found out of incidents, and how often each finding counts.
//!
//! Owns which failure has which diagnosis. A diagnosis is of a class of failures; which class a counted
//! failure belongs to, its event tells. One whose event was lost has no diagnosis.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};
use std::sync::Arc;

use socktrace_common::{DropReason, DropStage, TaskKey};

use super::snapshot::{DropRow, Drops, ListenerRow, ProcessRow};
use crate::{
    diagnose::{ListenerCase, Slept, Thrown, diagnose_listener, with_queue},
    event::{
        ClassOfFailure, Diagnosis, Endpoint, Event, FailureClass, Finding, Incident,
        MemoryCounters, Stall, StallChange,
    },
};

/// Failures of which the class is kept: as many as the kernel counts.
const MOST_FAILURES: usize = 16384;
/// Diagnoses that are kept.
const MOST_DIAGNOSES: usize = 4096;

/// A failure as it is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Failure {
    pub(super) task: TaskKey,
    pub(super) errno: u32,
    pub(super) uid: u32,
    pub(super) target: Endpoint,
}

/// Every diagnosis, and what it is of.
#[derive(Default)]
pub(super) struct Diagnoses {
    classes: HashMap<Failure, Arc<FailureClass>>,
    found: HashMap<Incident, Found>,
}

/// What was found of one incident.
struct Found {
    /// When, monotonic nanoseconds.
    time_ns: u64,
    /// inode of the listener that was met.
    listener: Option<u64>,
    findings: Arc<[Finding]>,
}

impl Diagnoses {
    /// Remembers the class of the failure that an event tells of: that of its latest event.
    pub(super) fn note(&mut self, event: &Event) {
        if let Some((class, actor)) = FailureClass::of(event).zip(event.actor.as_ref()) {
            self.note_class(actor.key, class);
        }
    }

    /// The same of an event that another part of the session has.
    pub(super) fn note_class(&mut self, task: TaskKey, class: FailureClass) {
        let failure =
            Failure { task, errno: class.errno, uid: class.uid, target: class.target.clone() };
        let room = self.classes.len() < MOST_FAILURES;
        match self.classes.entry(failure) {
            Entry::Occupied(mut known) if **known.get() != class => {
                known.insert(Arc::new(class));
            }
            Entry::Vacant(new) if room => {
                new.insert(Arc::new(class));
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    /// Takes a diagnosis in; a newer one of the same incident replaces it. Says whether there was room.
    pub(super) fn take(&mut self, diagnosis: Diagnosis) -> bool {
        let room = self.found.len() < MOST_DIAGNOSES || self.found.contains_key(&diagnosis.of);
        if room {
            let Diagnosis { time_ns, of, listener, findings } = diagnosis;
            self.found.insert(of, Found { time_ns, listener, findings: findings.into() });
        }
        room
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Diagnosis> {
        let diagnosis = |(of, found): (&Incident, &Found)| Diagnosis {
            time_ns: found.time_ns,
            of: of.clone(),
            listener: found.listener,
            findings: found.findings.to_vec(),
        };
        self.found.iter().map(diagnosis)
    }

    /// Every failure whose class is known.
    pub(super) fn classes(&self) -> impl Iterator<Item = ClassOfFailure> {
        self.classes.iter().map(|(failure, class)| ClassOfFailure {
            task: failure.task,
            class: FailureClass::clone(class),
        })
    }

    /// What was found of a failed connect; where its listener did not accept at that time, with for how long.
    pub(super) fn of_failure(&self, failure: &Failure, stalls: &[Stall]) -> Option<Arc<[Finding]>> {
        let class = self.classes.get(failure)?;
        let found = self.found.get(&Incident::ConnectFailure(FailureClass::clone(class)))?;
        let told = with_stall(&found.findings, found.listener, found.time_ns, stalls);
        Some(told.map_or_else(|| found.findings.clone(), Arc::from))
    }

    /// What was found of a failed accept.
    pub(super) fn of_accept_error(
        &self,
        task: TaskKey,
        listener: u64,
        errno: u32,
    ) -> Option<Arc<[Finding]>> {
        let found = self.found.get(&Incident::AcceptError { task, listener, errno })?;
        Some(found.findings.clone())
    }
}

/// What was found of a failure at that time, with for how long the queue of the listener that it met has stood;
/// `None` where no stall of it is known to have gone on then.
pub(super) fn with_stall(
    findings: &[Finding],
    listener: Option<u64>,
    time_ns: u64,
    stalls: &[Stall],
) -> Option<Vec<Finding>> {
    let met = |stall: &&Stall| {
        let over = stall.change == StallChange::Closed && stall.time_ns < time_ns;
        Some(stall.listener) == listener && stall.since_ns <= time_ns && !over
    };
    stalls.iter().rev().find(met).map(|stall| with_queue(findings, stall))
}

/// One finding, and what it explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingRow {
    /// What was found.
    pub finding: Finding,
    /// Failures that it explains, or that it stands in the way of, too; of a listener, what it threw away.
    pub count: u64,
    /// Inode of the listener that it is about; `None` where it is about failures.
    pub listener: Option<u64>,
    /// Whether connections wait now.
    pub goes_on: bool,
    /// Pids of the processes that failed, or that hold the listener, ascending.
    pub pids: BTreeSet<u32>,
}

/// What was so around a listener.
#[derive(Clone, Copy, Default)]
pub(super) struct Around {
    /// Clients of its own that slept.
    pub(super) slept: Slept,
    /// Whether all accepts are counted, whoever made them.
    pub(super) sees_accepts: bool,
    /// Whether a listener's accepts show whatever they are made by, also what no tracepoint of system calls tells.
    pub(super) sees_every_call: bool,
    /// Memory, of the whole host.
    pub(super) memory: MemoryCounters,
    /// Of its network namespace.
    pub(super) syncookies: Option<u64>,
}

/// What is to be said of a listener.
pub(super) fn of_listener(row: &ListenerRow, stalls: &[Stall], around: Around) -> Vec<FindingRow> {
    let waits = &row.accept;
    let case = ListenerCase {
        local: row.local.clone(),
        owners: row.owners.clone(),
        listened_by: row.listened_by.clone(),
        requested: row.requested,
        effective: row.effective,
        somaxconn: row.somaxconn,
        peak: row.queue_peak,
        accepted: around.sees_accepts.then(|| waits.count()),
        every_accept_seen: around.sees_every_call,
        median_ns: waits.any().then(|| waits.permille_ns(500)),
        longest_ns: waits.any().then(|| waits.max_ns()),
        thrown: thrown(&row.backlog_drops),
        stalls: stalls.iter().filter(|stall| stall.listener == row.inode).cloned().collect(),
        slept: around.slept,
        memory: around.memory,
        syncookies: around.syncookies,
    };
    let lost: u64 =
        row.backlog_drops.iter().filter(|it| it.reason.is_drop()).map(|it| it.count).sum();
    let goes_on = case.stalls.iter().any(|stall| stall.change != StallChange::Closed);
    let row = |finding| FindingRow {
        finding,
        count: lost,
        listener: Some(row.inode),
        goes_on,
        pids: row.owners.iter().map(|owner| owner.pid).collect(),
    };
    diagnose_listener(&case).into_iter().map(row).collect()
}

fn thrown(drops: &[DropRow]) -> Thrown {
    let mut thrown = Thrown::default();
    for drop in drops {
        let slot = match drop.reason {
            Drops::Tcp(DropReason::AcceptQueueFull) => &mut thrown.accept_queue_full,
            Drops::Tcp(DropReason::SynQueueFull) => &mut thrown.syn_queue_full,
            Drops::Tcp(DropReason::SyncookieSent) => &mut thrown.syncookies,
            Drops::Tcp(DropReason::ListenerClosed) => &mut thrown.closed,
            Drops::Tcp(DropReason::Other) => {
                if matches!(drop.stage, Some(DropStage::Ack | DropStage::Cookie)) {
                    thrown.other_at_ack += drop.count;
                }
                &mut thrown.other
            }
            Drops::TcpUnknown => &mut thrown.unknown,
            Drops::UnixBacklogFull => &mut thrown.unix_backlog_full,
            // Packets, not connections.
            Drops::Tcp(DropReason::Discarded) => continue,
        };
        *slot += drop.count;
    }
    thrown
}

/// Findings of all processes, each once.
fn of_processes(processes: &[ProcessRow]) -> Vec<FindingRow> {
    let mut rows: HashMap<&Finding, (u64, BTreeSet<u32>)> = HashMap::new();
    for process in processes {
        let failures = process.connect_failures.iter().map(|row| (&row.findings, row.count));
        let errors = process.accept_errors.iter().map(|row| (&row.findings, row.count));
        for (findings, count) in failures.chain(errors) {
            for finding in findings.iter().flat_map(|found| found.iter()) {
                let (sum, pids) = rows.entry(finding).or_default();
                *sum += count;
                pids.extend(process.pid);
            }
        }
    }
    let row = |(finding, (count, pids)): (&Finding, _)| FindingRow {
        finding: finding.clone(),
        count,
        listener: None,
        goes_on: false,
        pids,
    };
    rows.into_iter().map(row).collect()
}

/// All findings, each once, the most harmful first.
pub(super) fn fold(processes: &[ProcessRow], of_listeners: Vec<FindingRow>) -> Vec<FindingRow> {
    let mut rows = of_processes(processes);
    rows.extend(of_listeners);
    rows.sort_by(|a, b| {
        let harm =
            |row: &FindingRow| (row.finding.severity, !row.goes_on, std::cmp::Reverse(row.count));
        harm(a).cmp(&harm(b)).then_with(|| a.finding.cmp(&b.finding))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::snapshot::ConnectFailureRow,
        event::{Certainty, Phrase, Severity},
    };

    fn finding(severity: Severity, rule: &'static str) -> Finding {
        Finding {
            severity,
            certainty: Certainty::Inferred,
            rule: rule.into(),
            subject: Phrase::default(),
            fact: rule.into(),
            consequence: Phrase::default(),
            fix: Phrase::default(),
            evidence: Vec::new(),
        }
    }

    fn process(pid: u32, count: u64, findings: &[Finding]) -> ProcessRow {
        let row = ConnectFailureRow {
            target: Endpoint::default(),
            errno: 13,
            uid: 0,
            count,
            findings: Some(findings.to_vec().into()),
        };
        ProcessRow { pid: Some(pid), connect_failures: vec![row], ..ProcessRow::default() }
    }

    #[test]
    fn the_same_finding_of_many_processes_is_one_with_their_sum_and_the_worst_comes_first() {
        let (file, advice) =
            (finding(Severity::Error, "file"), finding(Severity::Warning, "advice"));
        let processes = [
            process(7, 2, &[file.clone(), advice.clone()]),
            process(5, 3, std::slice::from_ref(&file)),
            process(9, 90, std::slice::from_ref(&advice)),
        ];
        let rows = fold(&processes, Vec::new());
        let told: Vec<_> = rows.iter().map(|row| (row.finding.rule.as_ref(), row.count)).collect();
        assert_eq!(told, [("file", 5), ("advice", 92)]);
        assert_eq!(rows[0].pids, BTreeSet::from([5, 7]));
    }
}
