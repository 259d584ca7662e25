//! The kernel's totals as records: in each interval those that changed, and what else is told beside
//! them of programs, namespaces, owners and cgroups.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use socktrace_common::{DropKey, Signal};

use super::{Live, LiveError, drops::Moment, pace::Took};
use crate::{
    event::{
        Address, Counters, EAGAIN, Endpoint, MemoryCounters, NamespaceCounters, NetstatDelta,
        Record, Sighting, Unread,
    },
    host::{Effort, NetworkNamespace, TcpExt},
    listener::{Owners, read_owners},
    probe::read_runs,
    transport::{monotonic_now_ns, read_counters_of, read_stages},
};

impl Live {
    /// What happened so far, once in each interval: so much is saved if the tracer is killed.
    pub(super) fn checkpoint(&mut self, into: &mut Vec<Record>) -> Result<(), LiveError> {
        let begin = Instant::now();
        let Some(every) = self.checkpoint_every.filter(|_| begin >= self.next_checkpoint) else {
            return Ok(());
        };
        let effort = Effort::of_thread();
        let stages = read_stages(&self.ebpf)?;
        // What was counted when the last ones were read may have come into its total later.
        let moved = Signal::ALL.map(|it| stages.0[it as usize] != self.told_stages.0[it as usize]);
        let before = std::mem::replace(&mut self.moved, moved);
        let moved = |signal: Signal| moved[signal as usize] || before[signal as usize];
        if Signal::ALL.into_iter().any(moved) {
            self.told_stages = stages;
            // Who reads the session of a killed tracer has what explains these totals.
            let found = std::mem::take(&mut self.found);
            self.tell_findings(found, into);
            self.tell_totals(moved, into)?;
        } else {
            let time_ns = monotonic_now_ns();
            into.push(Record::Counters(Box::new(Counters {
                time_ns,
                stages,
                ..Counters::default()
            })));
        }
        let took = Took { begin, effort: effort.so_far(), passed: begin.elapsed() };
        self.next_checkpoint = self.allowance.after(took, every);
        Ok(())
    }

    /// The totals of the signals that `moved`: rows that are not told stay as they were.
    fn tell_totals(
        &mut self,
        moved: impl Fn(Signal) -> bool,
        into: &mut Vec<Record>,
    ) -> Result<(), LiveError> {
        let namespaces = self.namespaces_left()?;
        let now = self.drops_now(&namespaces)?;
        // With what their namespaces counted at that moment.
        let is_read = |signal| signal != Signal::BacklogDrop && moved(signal);
        let mut counters = read_counters_of(&self.ebpf, is_read)?;
        self.tell_programs(into);
        into.push(Record::Namespaces(self.counted(&namespaces, &now)));
        counters.drops = since(now.drops, &self.at_start.drops);
        let mut new = self.listeners_of(&counters);
        new.retain(|inode| self.owned.insert(*inode));
        if !new.is_empty() {
            into.push(Record::Owners(read_owners(&self.host, &new).unwrap_or_default().by_inode));
        }
        let unknown: HashSet<u64> =
            cgroups_of(&counters).filter(|id| self.known_cgroups.insert(*id)).collect();
        if !unknown.is_empty() {
            into.push(Record::Cgroups(self.cgroups(&unknown)));
        }
        into.push(Record::Loss(self.loss));
        into.push(Record::Counters(Box::new(counters)));
        Ok(())
    }

    /// What the kernel says of the programs themselves.
    pub(super) fn tell_programs(&self, into: &mut Vec<Record>) {
        into.push(Record::Misses(self.misses.read(&self.ebpf, &self.verdicts)));
        if self.timing.is_some() {
            into.push(Record::Runs(read_runs(&self.ebpf).since(&self.runs_before)));
        }
    }

    /// The network namespaces that there are now.
    pub(super) fn namespaces_left(&mut self) -> Result<Vec<NetworkNamespace>, LiveError> {
        let mut found = self.host.read_network_namespaces()?;
        found.keep_hidden(self.lookout.namespaces());
        self.at_start.keep_only(found.all.iter().map(|it| it.inode).collect());
        Ok(found.all)
    }

    /// What each network namespace counted since the start.
    pub(super) fn counted(
        &self,
        namespaces: &[NetworkNamespace],
        now: &Moment,
    ) -> Vec<NamespaceCounters> {
        let readings = |namespace: &NetworkNamespace| {
            let now = now.counted.get(&namespace.inode).copied().flatten()?;
            Some((now, self.at_start.before(namespace.inode, &now)?))
        };
        let row = |namespace: &NetworkNamespace| {
            let known = readings(namespace);
            let while_read = known.map(|(now, before)| now.meanwhile.and(before.meanwhile));
            let known = known.map(|(now, before)| (now.tcp_ext, before.tcp_ext));
            NamespaceCounters {
                netns: namespace.inode,
                own: namespace.is_own(),
                counted: known.as_ref().and_then(|(now, before)| delta(now, before)),
                while_read: while_read.unwrap_or_default(),
                memory: known.as_ref().map(|(now, before)| memory(now, before)),
                syncookies: None,
            }
        };
        let mut rows: Vec<NamespaceCounters> = namespaces.iter().map(row).collect();
        self.add_circumstances(&mut rows);
        rows
    }

    /// What may explain drops for another reason than room; not read where there are none.
    fn add_circumstances(&self, rows: &mut [NamespaceCounters]) {
        if !rows.iter().any(|row| row.counted.is_some_and(|counted| counted.other() != 0)) {
            return;
        }
        let Some(own) = rows.iter_mut().find(|row| row.own) else { return };
        let tcp = self.host.read_socket_memory(None).map(|sockets| sockets.tcp).unwrap_or_default();
        let memory = own.memory.get_or_insert_default();
        (memory.tcp_pages, memory.tcp_pressure) = (tcp.pages_used, tcp.pressure);
        own.syncookies = self.host.read_tcp_syncookies();
    }

    /// Holders of the listeners that something happened to, and what could not be read.
    pub(super) fn add_owners(
        &self,
        counters: &Counters,
        uninvestigated: u64,
        into: &mut Vec<Record>,
    ) {
        let inodes = self.listeners_of(counters);
        let owners = if inodes.is_empty() {
            Ok(Owners::default())
        } else {
            read_owners(&self.host, &inodes)
        };
        let descriptors_of = owners.as_ref().ok().map(|owners| owners.unreadable);
        let Owners { by_inode, left_out, .. } = owners.unwrap_or_default();
        into.push(Record::Owners(by_inode));
        let unread = self.lookout.unread();
        into.push(Record::Unread(Unread {
            descriptors_of,
            owners_left_out: left_out,
            uninvestigated,
            ..unread
        }));
    }

    /// Every listener that a total, a name or its own `sk_drops` tells of, or that a Unix client met full.
    fn listeners_of(&self, counters: &Counters) -> HashSet<u64> {
        let accepting = counters.accepts.keys().map(|key| key.listener);
        let dropping = counters.drops.keys().map(|key| key.listener);
        let mut inodes: HashSet<u64> = counters.listeners.keys().copied().collect();
        inodes.extend(accepting.chain(dropping).chain(self.dropping.iter().copied()));
        let turned_away = counters.connect_failures.keys().filter(|key| key.errno == EAGAIN);
        let full: HashSet<Address> =
            turned_away.filter_map(|key| Endpoint::from(&key.target).address).collect();
        let is_full = |it: &Sighting| it.local.address.as_ref().is_some_and(|at| full.contains(at));
        let met = self.seen.iter().filter(|(_, sighting)| is_full(sighting));
        inodes.extend(met.map(|(inode, _)| *inode));
        inodes.remove(&0);
        inodes
    }

    pub(super) fn cgroups(&self, ids: &HashSet<u64>) -> HashMap<u64, Vec<u8>> {
        let Ok(mut cgroups) = self.host.open_cgroups() else { return HashMap::new() };
        cgroups.refresh();
        ids.iter().copied().filter_map(|id| Some((id, cgroups.path(id)?.to_vec()))).collect()
    }
}

pub(super) fn cgroups_of(counters: &Counters) -> impl Iterator<Item = u64> {
    counters.tasks.values().map(|task| task.cgroup)
}

/// `None` where the kernel lacks one of the counters.
fn delta(now: &TcpExt, before: &TcpExt) -> Option<NetstatDelta> {
    let delta = |now: Option<u64>, before: Option<u64>| now?.checked_sub(before?);
    Some(NetstatDelta {
        overflows: delta(now.listen_overflows, before.listen_overflows)?,
        drops: delta(now.listen_drops, before.listen_drops)?,
        syn_queue: delta(now.req_q_full_drop, before.req_q_full_drop)?,
        cookies: delta(now.req_q_full_do_cookies, before.req_q_full_do_cookies)?,
    })
}

fn memory(now: &TcpExt, before: &TcpExt) -> MemoryCounters {
    let delta = |now: Option<u64>, before: Option<u64>| now?.checked_sub(before?);
    MemoryCounters {
        reserve_drops: delta(now.pf_memalloc_drop, before.pf_memalloc_drop),
        pressures: delta(now.memory_pressures, before.memory_pressures),
        aborts: delta(now.abort_on_memory, before.abort_on_memory),
        ..MemoryCounters::default()
    }
}

/// What was counted since the start.
pub(super) fn since(
    mut now: HashMap<DropKey, u64>,
    start: &HashMap<DropKey, u64>,
) -> HashMap<DropKey, u64> {
    for (key, count) in &mut now {
        *count -= start.get(key).copied().unwrap_or(0).min(*count);
    }
    now.retain(|_, count| *count != 0);
    now
}
