//! Makes a [`Snapshot`] of what the [`Aggregator`] holds.

mod backlog_drop;
mod listeners;
mod reading;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use socktrace_common::{ConnectFailureKey, Signal, TaskKey};

use self::backlog_drop::{surplus, unattributed};
use super::{
    Aggregator,
    completeness::{Completeness, Evidence},
    findings::{self, Failure},
    snapshot::{
        AbandonedRow, AcceptErrorRow, ConnectFailureRow, DropRow, Drops, ListenerRow, ProcessRow,
        Snapshot,
    },
    waits::Waits,
};
use crate::event::{Address, Damage, EAGAIN, Endpoint, Unread};

impl Aggregator {
    /// The report as of now.
    pub fn snapshot(&self, duration: Duration) -> Snapshot {
        let drops = self.drops_by_listener();
        let mut listeners: BTreeMap<u64, ListenerRow> = BTreeMap::new();
        let mut processes: BTreeMap<TaskKey, ProcessRow> = BTreeMap::new();
        self.add_accepts(&mut processes, &mut listeners);
        self.add_accept_errors(&mut processes);
        self.add_connect_failures(&mut processes);
        self.add_connect_blocked(&mut processes);
        self.add_listens(&mut listeners);
        for (inode, rows) in &drops {
            if self.shows_drops_of(*inode) {
                listeners.entry(*inode).or_default().backlog_drops.extend(rows);
            }
        }
        self.add_unix_drops(&mut listeners);
        for (inode, row) in &mut listeners {
            self.describe(*inode, row);
        }
        self.give_drops_to_owners(&listeners, &mut processes);
        let traced: Vec<Signal> = self
            .session
            .signals
            .iter()
            .filter(|row| row.tier.is_some())
            .map(|row| row.signal)
            .collect();
        let namespaces = self.namespaces(&drops);
        let processes = worst_first(processes);
        let of_listeners = self.findings_of(&listeners);
        Snapshot {
            session: self.session.clone(),
            duration,
            completeness: Completeness::check(&Evidence {
                stages: &self.counters.stages,
                delivered: &self.delivered,
                reader: self.loss,
                traced: &traced,
                unattributed: unattributed(&namespaces),
                surplus: surplus(&namespaces),
                misses: &self.misses,
                damage: self.damaged().as_ref(),
                started_ns: self.session.started_ns,
            }),
            runs: self.runs.clone(),
            findings: findings::fold(&processes, of_listeners),
            processes,
            listeners: listeners.into_values().collect(),
            stalls: self.stalls.clone(),
            stalls_left_out: self.stalls_left_out,
            abandoned_other: self
                .counters
                .connect_failures
                .get(&ConnectFailureKey::OTHERS_ABANDONED)
                .copied()
                .unwrap_or(0),
            namespaces,
            unread: self.unread.clone().map(|unread| Unread {
                uninvestigated: unread.uninvestigated.saturating_add(self.diagnoses_left_out),
                ..unread
            }),
            timeline: self.timeline(),
        }
    }

    /// What a saved session lacks, with what was too much of it.
    fn damaged(&self) -> Option<Damage> {
        let left_out = self.left_out;
        let damage = self.damage.clone();
        if left_out == 0 {
            return damage;
        }
        Some(Damage { left_out, ..damage.unwrap_or_default() })
    }

    fn process<'a>(
        &self,
        processes: &'a mut BTreeMap<TaskKey, ProcessRow>,
        key: TaskKey,
    ) -> &'a mut ProcessRow {
        processes.entry(key).or_insert_with(|| {
            let task = self.counters.tasks.get(&key);
            ProcessRow {
                pid: (key.tgid != 0).then_some(key.tgid),
                start_time_ns: (key.start_ns != 0).then_some(key.start_ns),
                comm: task.map(|task| task.comm.clone()),
                uid: task.map(|task| task.uid),
                cgroup: task.and_then(|task| self.cgroups.get(&task.cgroup)).cloned(),
                ..ProcessRow::default()
            }
        })
    }

    fn add_accepts(
        &self,
        processes: &mut BTreeMap<TaskKey, ProcessRow>,
        listeners: &mut BTreeMap<u64, ListenerRow>,
    ) {
        for (key, totals) in &self.counters.accepts {
            if !self.wants_accepts(key) {
                continue;
            }
            self.process(processes, key.task).accept.add(totals);
            listeners.entry(key.listener).or_default().accept.add(totals);
        }
    }

    fn add_accept_errors(&self, processes: &mut BTreeMap<TaskKey, ProcessRow>) {
        for (key, count) in &self.counters.accept_errors {
            if !self.wants_accept_errors(key) {
                continue;
            }
            let process = self.process(processes, key.task);
            if key.errno == EAGAIN {
                process.accept_would_block += count;
                continue;
            }
            let listener = self.listener_address(key.listener).cloned();
            process.accept_errors.push(AcceptErrorRow {
                errno: key.errno,
                listener,
                count: *count,
                findings: self.diagnoses.of_accept_error(key.task, key.listener, key.errno),
            });
        }
    }

    fn add_connect_failures(&self, processes: &mut BTreeMap<TaskKey, ProcessRow>) {
        for (key, count) in &self.counters.connect_failures {
            let (target, count) = (Endpoint::from(&key.target), *count);
            if !self.wants_failures(key, &target) {
                continue;
            }
            if key.errno == ConnectFailureKey::ABANDONED {
                let row = AbandonedRow { target, uid: key.uid, count };
                self.process(processes, key.task).connects_abandoned.push(row);
                continue;
            }
            let failure = Failure { task: key.task, errno: key.errno, uid: key.uid, target };
            let findings = self.diagnoses.of_failure(&failure, &self.stalls);
            let Failure { errno, uid, target, .. } = failure;
            let row = ConnectFailureRow { target, errno, uid, count, findings };
            self.process(processes, key.task).connect_failures.push(row);
        }
    }

    fn add_connect_blocked(&self, processes: &mut BTreeMap<TaskKey, ProcessRow>) {
        let mut at: HashMap<(TaskKey, Endpoint), usize> = HashMap::new();
        for (key, totals) in &self.counters.connect_blocked {
            let target = Endpoint::from(&key.target);
            if !self.wants_blocked(key, &target) {
                continue;
            }
            let blocked = &mut self.process(processes, key.task).connect_blocked;
            let at = *at.entry((key.task, target.clone())).or_insert_with(|| {
                blocked.push((target, Waits::default()));
                blocked.len() - 1
            });
            blocked[at].1.add(totals);
        }
    }

    /// Listeners that began in this session, whether or not anything came.
    fn add_listens(&self, listeners: &mut BTreeMap<u64, ListenerRow>) {
        for (inode, listener) in &self.counters.listeners {
            if listener.requested.is_some() && self.wants_listener(*inode, &listener.local) {
                listeners.entry(*inode).or_default();
            }
        }
    }

    /// A connect that did not want to wait for room is the listener's drop, if the path names
    /// exactly one listener.
    fn add_unix_drops(&self, listeners: &mut BTreeMap<u64, ListenerRow>) {
        let mut by_name: HashMap<Vec<u8>, BTreeSet<u64>> = HashMap::new();
        let known = self.counters.listeners.iter().map(|(inode, it)| (*inode, &it.local));
        let seen = self.watched.iter().map(|(inode, it)| (*inode, &it.last.local));
        for (inode, local) in known.chain(seen) {
            if let Some(Address::Unix(name)) = &local.address {
                by_name.entry(name.clone()).or_default().insert(inode);
            }
        }
        for (key, count) in &self.counters.connect_failures {
            let target = Endpoint::from(&key.target);
            let Some(Address::Unix(name)) = &target.address else { continue };
            if key.errno != EAGAIN || !self.every(|selection| selection.wants_end(&target)) {
                continue;
            }
            let Some(inode) = by_name.get(name).and_then(only) else { continue };
            if !self.wants_failures(key, &target) && !self.shows_drops_of(inode) {
                continue;
            }
            let row = listeners.entry(inode).or_default();
            let reason = Drops::UnixBacklogFull;
            match row.backlog_drops.iter_mut().find(|drop| drop.reason == reason) {
                Some(drop) => drop.count += count,
                None => row.backlog_drops.push(DropRow { reason, stage: None, count: *count }),
            }
        }
    }

    /// A listener's drops are a process's where all evidence names it alone.
    fn give_drops_to_owners(
        &self,
        listeners: &BTreeMap<u64, ListenerRow>,
        processes: &mut BTreeMap<TaskKey, ProcessRow>,
    ) {
        let by_pid = by_pid(processes.keys().chain(self.counters.tasks.keys()));
        for row in listeners.values() {
            let [owner] = row.owners.as_slice() else { continue };
            let key = by_pid.get(&owner.pid).and_then(only);
            let key = key.unwrap_or(TaskKey { tgid: owner.pid, ..TaskKey::NONE });
            for drop in &row.backlog_drops {
                let process = self.process(processes, key);
                process.comm.get_or_insert_with(|| owner.comm.clone());
                process.backlog_drops.push((row.local.clone(), *drop));
            }
        }
    }
}

/// Processes that had the same pid.
fn by_pid<'a>(keys: impl Iterator<Item = &'a TaskKey>) -> HashMap<u32, BTreeSet<TaskKey>> {
    let mut by_pid: HashMap<u32, BTreeSet<TaskKey>> = HashMap::new();
    for key in keys {
        by_pid.entry(key.tgid).or_default().insert(*key);
    }
    by_pid
}

/// The element of a set that has only one.
fn only<T: Copy + Ord>(set: &BTreeSet<T>) -> Option<T> {
    match (set.len(), set.first()) {
        (1, first) => first.copied(),
        _ => None,
    }
}

/// By failures, then drops, then accepts.
fn worst_first(processes: BTreeMap<TaskKey, ProcessRow>) -> Vec<ProcessRow> {
    let mut rows: Vec<ProcessRow> = processes.into_values().collect();
    for row in &mut rows {
        row.connect_failures
            .sort_by_cached_key(|row| (Reverse(row.count), row.target.clone(), row.errno, row.uid));
        row.accept_errors
            .sort_by_cached_key(|row| (Reverse(row.count), row.errno, row.listener.clone()));
        row.connect_blocked.sort_by(|(a, _), (b, _)| a.cmp(b));
        row.connects_abandoned
            .sort_by_cached_key(|row| (Reverse(row.count), row.target.clone(), row.uid));
    }
    let failures = |row: &ProcessRow| -> u64 {
        row.connect_failures.iter().map(|failure| failure.count).sum::<u64>()
            + row.accept_errors.iter().map(|error| error.count).sum::<u64>()
            + row.backlog_drops.iter().map(|(_, drop)| drop.count).sum::<u64>()
            + row.connect_blocked.iter().map(|(_, waits)| waits.count()).sum::<u64>()
    };
    rows.sort_by(|a, b| {
        failures(b)
            .cmp(&failures(a))
            .then(b.accept.count().cmp(&a.accept.count()))
            .then(a.pid.cmp(&b.pid))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::{Selection, Session},
        event::{Counters, Listener, Owner, Record, Stall, StallChange, Task},
    };

    fn session() -> Session {
        Session {
            started: std::time::UNIX_EPOCH,
            started_ns: 0,
            host: String::new(),
            kernel: String::new(),
            command: Vec::new(),
            signals: Vec::new(),
            untested: None,
            somaxconn: None,
            netns: None,
        }
    }

    fn endpoint(name: &[u8]) -> Endpoint {
        Endpoint { address: Some(Address::Unix(name.to_vec())), kind: None }
    }

    fn listener(name: &[u8], selected: bool) -> Listener {
        Listener { local: endpoint(name), selected, ..Listener::default() }
    }

    /// Three EAGAINs of clients that the filters do not want, and these listeners by inode.
    fn report(listeners: Vec<(u64, Listener)>) -> Snapshot {
        let selection = Selection { pids: vec![1], in_kernel: true, ..Selection::default() };
        let mut aggregator = Aggregator::new(session(), selection);
        let key = ConnectFailureKey {
            task: TaskKey::NONE,
            errno: EAGAIN,
            uid: 0,
            target: (&endpoint(b"/run/a")).into(),
        };
        aggregator.apply(Record::Counters(Box::new(Counters {
            connect_failures: HashMap::from([(key, 3)]),
            listeners: listeners.into_iter().collect(),
            ..Counters::default()
        })));
        aggregator.snapshot(Duration::ZERO)
    }

    #[test]
    fn a_client_outside_the_filters_counts_for_the_selected_listener_and_for_no_process() {
        let report = report(vec![(7, listener(b"/run/a", true))]);
        let drops: Vec<u64> =
            report.listeners.iter().flat_map(|row| &row.backlog_drops).map(|d| d.count).collect();
        assert_eq!(drops, [3]);
        assert!(report.processes.is_empty(), "{:?}", report.processes);
    }

    #[test]
    fn a_listener_that_the_filters_do_not_select_gets_no_drop() {
        let report = report(vec![(7, listener(b"/run/a", false))]);
        assert!(report.listeners.iter().all(|row| row.backlog_drops.is_empty()));
    }

    /// Three drops of a listener that `listen` was called for by one process and that these hold, and who has
    /// them in the report: pid and whether it is known which process of that pid.
    fn given(listened_by: TaskKey, holders: &[u32]) -> Vec<(Option<u32>, bool)> {
        given_beside(listened_by, holders, None)
    }

    /// The same, where another process has failed to connect, too.
    fn given_beside(
        listened_by: TaskKey,
        holders: &[u32],
        client: Option<TaskKey>,
    ) -> Vec<(Option<u32>, bool)> {
        let mut aggregator = Aggregator::new(session(), Selection::default());
        let owner = (listened_by != TaskKey::NONE).then_some(listened_by);
        let known = Listener { owner, ..listener(b"/run/a", false) };
        let key = ConnectFailureKey {
            task: TaskKey::NONE,
            errno: EAGAIN,
            uid: 0,
            target: (&endpoint(b"/run/a")).into(),
        };
        let holder =
            |pid: &u32| Owner { pid: *pid, comm: b"server".to_vec(), uid: None, cgroup: None };
        let holders = holders.iter().map(holder).collect();
        aggregator.apply(Record::Owners(HashMap::from([(7, holders)])));
        let task = Task { comm: b"server".to_vec(), uid: 0, gid: 0, cgroup: 0 };
        let other = client.unwrap_or(TaskKey { start_ns: 99, ..listened_by });
        let elsewhere = client.map(|task| {
            let target = (&endpoint(b"/run/elsewhere")).into();
            (ConnectFailureKey { task, errno: 2, target, ..key }, 1)
        });
        aggregator.apply(Record::Counters(Box::new(Counters {
            connect_failures: [(key, 3)].into_iter().chain(elsewhere).collect(),
            listeners: HashMap::from([(7, known)]),
            tasks: [listened_by, other].map(|key| (key, task.clone())).into(),
            ..Counters::default()
        })));
        let report = aggregator.snapshot(Duration::ZERO);
        let rows = report.processes.iter().filter(|row| !row.backlog_drops.is_empty());
        rows.map(|row| (row.pid, row.start_time_ns.is_some())).collect()
    }

    fn stall(listener: u64, change: StallChange) -> Record {
        let stall = Stall::of_listener(listener);
        Record::Stall(Box::new(Stall { time_ns: 9, change, since_ns: 1, ..stall }))
    }

    #[test]
    fn a_stall_that_is_one_too_many_is_counted_once() {
        let mut aggregator = Aggregator::new(session(), Selection::default());
        for change in [StallChange::Opened, StallChange::Grown, StallChange::Closed] {
            for listener in 1..=1002 {
                aggregator.apply(stall(listener, change));
            }
        }
        let report = aggregator.snapshot(Duration::ZERO);
        assert_eq!((report.stalls.len(), report.stalls_left_out), (1000, 2));
        assert!(report.stalls.iter().all(|stall| stall.change == StallChange::Closed));
    }

    #[test]
    fn drops_are_a_processs_only_where_all_evidence_names_it_alone() {
        let server = TaskKey { tgid: 5, start_ns: 1, ..TaskKey::NONE };
        assert_eq!(
            given(server, &[5]),
            [(Some(5), false)],
            "two had that pid, one after the other"
        );
        let later = TaskKey { start_ns: 99, ..server };
        let drops = given_beside(server, &[5], Some(later));
        assert_eq!(drops, [(Some(5), false)], "the later one is in the report for something else");
        assert_eq!(given(server, &[5, 6]), [], "two hold it");
        assert_eq!(given(server, &[6]), [], "one called listen(), another holds it");
        assert_eq!(given(TaskKey::NONE, &[]), [], "nobody is known");
    }

    #[test]
    fn a_name_that_two_listeners_have_names_neither() {
        let both = vec![(7, listener(b"/run/a", true)), (8, listener(b"/run/a", true))];
        assert!(report(both).listeners.iter().all(|row| row.backlog_drops.is_empty()));
    }
}
