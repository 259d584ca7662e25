//! What is known of a listener beside its counts: where it is, whose it is, and what is found about it.

use std::collections::{BTreeMap, BTreeSet};

use socktrace_common::{Signal, TaskKey, Tier};

use super::super::{
    Aggregator, Selection,
    findings::{self, Around, FindingRow},
    snapshot::ListenerRow,
    waits::Waits,
};
use crate::diagnose::Slept;
use crate::event::{
    Endpoint, Listener, MemoryCounters, NamespaceCounters, Owner, Stall, StallChange, socket_unit,
};

impl Aggregator {
    /// Fills in everything but what was counted.
    pub(super) fn describe(&self, inode: u64, row: &mut ListenerRow) {
        let known = self.counters.listeners.get(&inode).or_else(|| self.named.get(&inode));
        let watched = self.watched.get(&inode);
        row.inode = inode;
        row.local = self.listener_address(inode).cloned().unwrap_or_default();
        row.netns = known
            .and_then(|known| known.netns)
            .or_else(|| watched.and_then(|watched| watched.last.netns));
        row.requested = known.and_then(|known| known.requested);
        let hooked = known.and_then(|known| known.effective);
        row.effective = effective(hooked, watched.and_then(|watched| watched.last.effective));
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
    pub(in crate::aggregate) fn owners_of(
        &self,
        inode: u64,
        known: Option<&Listener>,
    ) -> Vec<Owner> {
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

    /// Findings of the listeners in the report, and of those that only stalled.
    pub(super) fn findings_of(&self, listeners: &BTreeMap<u64, ListenerRow>) -> Vec<FindingRow> {
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
        let tier = self.session.tier(Signal::Accept);
        let sees_accepts = tier.is_some() && self.every(|selection| !is_filtered(selection));
        let sees_every_call = matches!(tier, Some(Tier::Fentry | Tier::Kprobe));
        let around = |row: &ListenerRow| Around {
            sees_accepts,
            sees_every_call,
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
        Some(stall.oldest_ns())
    }

    /// `net.core.somaxconn` is each namespace's own; that of others is not known.
    fn somaxconn_of(&self, row: &ListenerRow) -> Option<u32> {
        let is_here = row.netns.is_none_or(|netns| Some(u64::from(netns)) == self.session.netns);
        self.session.somaxconn.filter(|_| is_here)
    }
}

/// The backlog in force: as a hook saw it, or else as `listed` by `sock_diag`. A hook's 0 may be of a session from before hooks
/// read the inner socket of an MPTCP listener.
fn effective(hooked: Option<u32>, listed: Option<u32>) -> Option<u32> {
    hooked.filter(|hooked| *hooked != 0).or(listed).or(hooked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_of_nothing_is_one_only_where_the_list_of_sockets_has_no_other() {
        assert_eq!(effective(Some(0), Some(4096)), Some(4096));
        assert_eq!((effective(Some(0), Some(0)), effective(Some(0), None)), (Some(0), Some(0)));
        assert_eq!((effective(Some(8), Some(16)), effective(None, Some(16))), (Some(8), Some(16)));
    }
}
