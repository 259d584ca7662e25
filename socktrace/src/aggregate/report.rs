//! Makes a [`Snapshot`] of what the [`Aggregator`] holds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use socktrace_common::{ConnectFailureKey, DropReason, DropStage, Signal, TaskKey, Tier};

use super::{
    Aggregator, Selection,
    completeness::{Completeness, Evidence, Unattributed},
    drops::{self, Seen},
    findings::{self, Around, Failure, FindingRow},
    snapshot::{
        AbandonedRow, AcceptErrorRow, ConnectFailureRow, DropRow, Drops, ListenerRow, NamespaceRow,
        ProcessRow, Snapshot,
    },
    timeline::Reading,
    waits::Waits,
};
use crate::diagnose::Slept;
use crate::event::{
    Address, Counters, Damage, EAGAIN, Endpoint, Listener, MemoryCounters, NamespaceCounters,
    NetstatDelta, Owner, Stall, StallChange, Unread, socket_unit,
};

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
                unattributed: sum(&namespaces),
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

    /// The totals that the course of the session is made of.
    pub(super) fn reading(&self) -> Reading {
        let mut reading = Reading { time_ns: self.counters.time_ns, ..Reading::default() };
        let Counters { accepts, accept_errors, connect_failures, drops, listeners, .. } =
            &self.counters;
        reading.cost = accepts.values().map(|waits| 1 + waits.buckets.len()).sum::<usize>()
            + accept_errors.len()
            + connect_failures.len()
            + drops.len()
            + listeners.len()
            + self.watched.len();
        for (key, totals) in &self.counters.accepts {
            if self.wants_accepts(key) {
                reading.accepts.entry(key.listener).or_default().add(totals);
            }
        }
        for (key, count) in &self.counters.accept_errors {
            if key.errno != EAGAIN && self.wants_accept_errors(key) {
                *reading.accept_errors.entry(key.errno).or_default() += count;
            }
        }
        for (key, count) in &self.counters.connect_failures {
            if key.errno != ConnectFailureKey::ABANDONED
                && self.wants_failures(key, &(&key.target).into())
            {
                *reading.connect_failures.entry(key.errno).or_default() += count;
            }
        }
        for (inode, rows) in self.drops_by_listener() {
            let dropped: u64 =
                rows.iter().filter(|row| row.reason.is_drop()).map(|row| row.count).sum();
            if dropped != 0 && self.shows_drops_of(inode) {
                reading.drops.insert(inode, dropped);
            }
        }
        reading
    }

    /// Findings of the listeners in the report, and of those that only stalled.
    fn findings_of(&self, listeners: &BTreeMap<u64, ListenerRow>) -> Vec<FindingRow> {
        let stalled = self.stalls.iter().filter(|stall| !listeners.contains_key(&stall.listener));
        let only_stalled: BTreeMap<u64, ListenerRow> = stalled
            .map(|stall| {
                let mut row = ListenerRow::default();
                self.describe(stall.listener, &mut row);
                row.local = stall.local.clone();
                row.owners.clone_from(&stall.owners);
                (stall.listener, row)
            })
            .collect();
        let rows = listeners.values().chain(only_stalled.values());
        let slept = self.slept_by_listener();
        let memory = self.namespaces.iter().filter_map(|namespace| namespace.memory);
        let memory = memory.fold(MemoryCounters::default(), MemoryCounters::and);
        let is_filtered =
            |selection: &Selection| selection.selects_processes() || selection.only_errnos();
        let sees_accepts = self.session.tier(Signal::Accept).is_some()
            && self.every(|selection| !is_filtered(selection));
        let around = |row: &ListenerRow| Around {
            sees_accepts,
            slept: slept.get(&row.inode).copied().unwrap_or_default(),
            memory,
            syncookies: self.namespace_of(row).and_then(|namespace| namespace.syncookies),
        };
        rows.flat_map(|row| findings::of_listener(row, &self.stalls, around(row))).collect()
    }

    /// What is known of the network namespace of a listener; without one, it is in the tracer's own.
    fn namespace_of(&self, row: &ListenerRow) -> Option<&NamespaceCounters> {
        let is_its = |it: &&NamespaceCounters| row.netns.map_or(it.own, |netns| it.netns == netns);
        self.namespaces.iter().find(is_its)
    }

    /// Unix clients that slept in `connect()`, where the listener is known.
    fn slept_by_listener(&self) -> BTreeMap<u64, Slept> {
        let mut all: BTreeMap<u64, Waits> = BTreeMap::new();
        for (key, totals) in &self.counters.connect_blocked {
            if key.listener != 0 && self.wants_blocked(key, &Endpoint::from(&key.target)) {
                all.entry(key.listener).or_default().add(totals);
            }
        }
        let slept = |waits: Waits| Slept { count: waits.count(), longest_ns: waits.max_ns() };
        all.into_iter().map(|(inode, waits)| (inode, slept(waits))).collect()
    }

    /// How long the oldest connection has waited, where that is known: where it is long enough for a stall.
    fn pending_oldest_ns(&self, inode: u64) -> Option<u64> {
        let goes_on =
            |stall: &&Stall| stall.listener == inode && stall.change != StallChange::Closed;
        let stall = self.stalls.iter().rev().find(goes_on)?;
        Some(stall.time_ns.saturating_sub(stall.since_ns))
    }

    /// `net.core.somaxconn` is each namespace's own; that of others is not known.
    fn somaxconn_of(&self, row: &ListenerRow) -> Option<u32> {
        let is_here = row.netns.is_none_or(|netns| Some(u64::from(netns)) == self.session.netns);
        self.session.somaxconn.filter(|_| is_here)
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

    fn drops_by_listener(&self) -> BTreeMap<u64, Vec<DropRow>> {
        let tier = self.session.tier(Signal::BacklogDrop);
        if tier == Some(Tier::Tracepoint) {
            let mut rows = drops::infer(&self.drops_seen(), self.own_netstat());
            for (inode, counted) in self.drops_counted() {
                let closed = counted.into_iter().filter(|row| !row.reason.is_listen_drop());
                rows.entry(inode).or_default().extend(closed);
            }
            return rows;
        }
        let mut rows = self.drops_counted();
        if let (Some(Tier::Kprobe), Some(netstat)) = (tier, self.own_netstat()) {
            let elsewhere =
                rows.extract_if(.., |inode, _| !self.is_here(*inode)).collect::<Vec<_>>();
            let mut seen = self.drops_seen();
            seen.retain(|inode, _| self.is_here(*inode));
            drops::give_rest(&mut rows, &seen, netstat);
            if let Some(inode) = only(&self.tcp_listeners_here()) {
                drops::give_cookies(&mut rows, inode, netstat);
            }
            rows.extend(elsewhere);
        }
        rows
    }

    /// What the hooks counted.
    fn drops_counted(&self) -> BTreeMap<u64, Vec<DropRow>> {
        let mut rows: BTreeMap<u64, Vec<DropRow>> = BTreeMap::new();
        for (key, count) in &self.counters.drops {
            let Some(reason) = DropReason::ALL.get(key.reason as usize) else { continue };
            if *reason == DropReason::Discarded {
                continue;
            }
            let stage = DropStage::ALL.get(key.stage as usize).copied();
            let row = DropRow { reason: Drops::Tcp(*reason), stage, count: *count };
            rows.entry(key.listener).or_default().push(row);
        }
        for rows in rows.values_mut() {
            rows.sort_by_key(|row| (row.reason, row.stage));
        }
        rows
    }

    /// Whether a listener is in the tracer's own network namespace, for all that is known.
    fn is_here(&self, inode: u64) -> bool {
        let netns = self.netns_of(inode);
        netns.is_none() || netns.map(u64::from) == self.session.netns
    }

    /// The network namespace of a listener.
    fn netns_of(&self, inode: u64) -> Option<u32> {
        let counted = self.counters.listeners.get(&inode).and_then(|known| known.netns);
        counted.or_else(|| self.watched.get(&inode).and_then(|watched| watched.last.netns))
    }

    /// Every TCP listener that there was in the tracer's own network namespace.
    fn tcp_listeners_here(&self) -> BTreeSet<u64> {
        let counted = self.counters.listeners.iter().map(|(inode, it)| (*inode, &it.local));
        let seen = self.watched.iter().map(|(inode, it)| (*inode, &it.last.local));
        let is_tcp = |local: &Endpoint| matches!(local.address, Some(Address::Inet(_)));
        let tcp = counted.chain(seen).filter(|(_, local)| is_tcp(local));
        tcp.map(|(inode, _)| inode).filter(|inode| self.is_here(*inode)).collect()
    }

    fn drops_seen(&self) -> BTreeMap<u64, Seen> {
        let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
        for (inode, watched) in self.watched.iter().filter(|(inode, _)| self.is_here(**inode)) {
            let now = watched.last.drops.unwrap_or(0);
            seen.entry(*inode).or_default().sk_drops =
                u64::from(now.wrapping_sub(watched.drops_at_start));
        }
        for (inode, listener) in &self.counters.listeners {
            if let Some(at_close) = listener.drops_at_close {
                let start = self.watched.get(inode).map_or(0, |watched| watched.drops_at_start);
                seen.entry(*inode).or_default().sk_drops = u64::from(at_close.wrapping_sub(start));
            }
        }
        for (key, count) in &self.counters.drops {
            let seen = seen.entry(key.listener).or_default();
            match DropReason::ALL.get(key.reason as usize) {
                Some(DropReason::Discarded) => seen.discarded += count,
                Some(reason) if Drops::Tcp(*reason).is_listen_drop() => seen.hooked += count,
                _ => {}
            }
        }
        seen
    }

    /// What the tracer's own network namespace counted.
    fn own_netstat(&self) -> Option<NetstatDelta> {
        self.namespaces.iter().find(|namespace| namespace.own)?.counted
    }

    /// Each network namespace that counted a drop or a syncookie, and the own one; what no known
    /// listener explains.
    fn namespaces(&self, drops: &BTreeMap<u64, Vec<DropRow>>) -> Vec<NamespaceRow> {
        let counted_any = |row: &NamespaceCounters| {
            row.counted.is_some_and(|counted| counted.drops != 0 || counted.cookies != 0)
        };
        let shown = self.namespaces.iter().filter(|row| row.own || counted_any(row));
        shown
            .map(|row| NamespaceRow {
                netns: row.netns,
                own: row.own,
                counted: row.counted,
                unattributed: self.unattributed(row, drops),
            })
            .collect()
    }

    fn unattributed(
        &self,
        namespace: &NamespaceCounters,
        drops: &BTreeMap<u64, Vec<DropRow>>,
    ) -> Option<Unattributed> {
        let tier = self.session.tier(Signal::BacklogDrop)?;
        let counted = namespace.counted?;
        // A listener whose namespace is not known is taken for one of the own.
        let inside =
            |inode| self.netns_of(inode).map_or(namespace.own, |netns| netns == namespace.netns);
        let attributed = |wanted: &dyn Fn(Drops) -> bool| -> u64 {
            let rows = drops.iter().filter(|(inode, _)| inside(**inode));
            let rows = rows.flat_map(|(_, rows)| rows).filter(|row| wanted(row.reason));
            rows.map(|row| row.count).sum()
        };
        let cookie = Drops::Tcp(DropReason::SyncookieSent);
        let cookies = match tier {
            Tier::Tracepoint => 0,
            _ => counted.cookies.saturating_sub(attributed(&|reason| reason == cookie)),
        };
        // More than the namespace counted: what does not add up is not told.
        let drops = counted.drops.checked_sub(attributed(&Drops::is_listen_drop))?;
        Some(Unattributed { drops, cookies })
    }

    /// Fills in everything but what was counted.
    fn describe(&self, inode: u64, row: &mut ListenerRow) {
        let known = self.counters.listeners.get(&inode).or_else(|| self.named.get(&inode));
        let watched = self.watched.get(&inode);
        row.inode = inode;
        row.local = self.listener_address(inode).cloned().unwrap_or_default();
        row.netns = known
            .and_then(|known| known.netns)
            .or_else(|| watched.and_then(|watched| watched.last.netns));
        row.requested = known.and_then(|known| known.requested);
        row.effective = known
            .and_then(|known| known.effective)
            .or_else(|| watched.and_then(|watched| watched.last.effective));
        row.queue_now = watched.and_then(|watched| watched.last.queue);
        row.queue_peak = watched.and_then(|watched| watched.peak);
        row.owners = self.owners_of(inode, known);
        let unit = watched.and_then(|watched| watched.last.socket_unit.as_deref());
        let owners = row.owners.iter().map(|owner| (owner.pid, owner.comm.as_slice()));
        row.socket_unit = socket_unit(unit, owners).map(<[u8]>::to_vec);
        row.listened_by = known.and_then(|known| known.owner).map(|key| self.owner(key));
        row.somaxconn = self.somaxconn_of(row);
        row.pending_oldest_ns = self.pending_oldest_ns(inode);
        row.last_acceptor = known.and_then(|known| known.acceptor).map(|key| self.owner(key));
    }

    /// Everyone with evidence: who called `listen()`, who accepts, who holds the descriptor.
    pub(super) fn owners_of(&self, inode: u64, known: Option<&Listener>) -> Vec<Owner> {
        let mut owners: BTreeMap<u32, Owner> = BTreeMap::new();
        if inode == 0 {
            return Vec::new();
        }
        for owner in self.owners.get(&inode).into_iter().flatten() {
            owners.insert(owner.pid, owner.clone());
        }
        let acceptors = self.acceptors.get(&inode).into_iter().flatten().copied();
        // Of several processes that had one pid, always the same is taken.
        let tasks: BTreeSet<TaskKey> =
            acceptors.chain(known.and_then(|known| known.owner)).collect();
        for key in tasks {
            owners.entry(key.tgid).or_insert_with(|| self.owner(key));
        }
        owners.into_values().collect()
    }

    fn owner(&self, key: TaskKey) -> Owner {
        let task = self.counters.tasks.get(&key);
        Owner {
            pid: key.tgid,
            comm: task.map(|task| task.comm.clone()).unwrap_or_default(),
            uid: task.map(|task| task.uid),
            cgroup: task.and_then(|task| self.cgroups.get(&task.cgroup)).cloned(),
        }
    }

    /// A listener's drops are a process's where all evidence names it alone.
    fn give_drops_to_owners(
        &self,
        listeners: &BTreeMap<u64, ListenerRow>,
        processes: &mut BTreeMap<TaskKey, ProcessRow>,
    ) {
        let shown = by_pid(processes.keys());
        let named = by_pid(self.counters.tasks.keys());
        for row in listeners.values() {
            let [owner] = row.owners.as_slice() else { continue };
            let key = shown.get(&owner.pid).and_then(only);
            let key = key
                .or_else(|| named.get(&owner.pid).and_then(only))
                .unwrap_or(TaskKey { tgid: owner.pid, ..TaskKey::NONE });
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

/// What is unattributed anywhere.
fn sum(namespaces: &[NamespaceRow]) -> Unattributed {
    let known = namespaces.iter().filter_map(|namespace| namespace.unattributed);
    known.fold(Unattributed::default(), |all, one| Unattributed {
        drops: all.drops.saturating_add(one.drops),
        cookies: all.cookies.saturating_add(one.cookies),
    })
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
        aggregate::Session,
        event::{Counters, Record, Task},
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
        let other = TaskKey { start_ns: 99, ..listened_by };
        aggregator.apply(Record::Counters(Box::new(Counters {
            connect_failures: HashMap::from([(key, 3)]),
            listeners: HashMap::from([(7, known)]),
            tasks: [listened_by, other].map(|key| (key, task.clone())).into(),
            ..Counters::default()
        })));
        let report = aggregator.snapshot(Duration::ZERO);
        let rows = report.processes.iter().filter(|row| !row.backlog_drops.is_empty());
        rows.map(|row| (row.pid, row.start_time_ns.is_some())).collect()
    }

    fn stall(listener: u64, change: StallChange) -> Record {
        Record::Stall(Box::new(Stall {
            time_ns: 9,
            listener,
            local: Endpoint::default(),
            netns: None,
            selected: true,
            change,
            since_ns: 1,
            is_lower_bound: false,
            pending: 1,
            pending_peak: 1,
            blocked: 0,
            accepted_ns: None,
            owners: Vec::new(),
            hold: None,
            acceptor: None,
            clients: Vec::new(),
        }))
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
