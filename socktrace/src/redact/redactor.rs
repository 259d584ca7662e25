//! Goes through records, and replaces every name and address in them.
//!
//! Written field by field, without `..`: a field that is added later has to be decided on here.

use std::{collections::HashMap, hash::Hash};

use socktrace_common::{ConnectBlockedKey, ConnectFailureKey};

use super::{
    addresses::Addresses,
    keyed::Key,
    names::{name, socket_name},
};
use crate::event::{
    Actor, Address, Body, Carried, ClassOfFailure, Counters, Damage, Diagnosis, Endpoint, Event,
    FailureClass, Finding, Incident, Listener, Owner, Record, Sighting, Sightings, Stall, Task,
    WaitTotals, Waiting, WatchedListener,
};

/// Replaces what tells whose a session is. One for each session: its pseudonyms are the same
/// wherever a name stands, and nobody else's.
pub struct Redactor {
    pub(super) key: Key,
    pub(super) addresses: Addresses,
}

impl Redactor {
    /// With a key that is random and kept nowhere: who has it can try out which name gives a pseudonym.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key: Key::new(key), addresses: Addresses::default() }
    }

    /// One record.
    #[must_use]
    pub fn record(&mut self, record: Record) -> Record {
        match record {
            Record::Event(event) => Record::Event(self.event(event)),
            Record::Listener(inode, listener) => Record::Listener(inode, self.listener(listener)),
            Record::Counters(counters) => Record::Counters(Box::new(self.counters(*counters))),
            Record::Stall(stall) => Record::Stall(Box::new(self.stall(*stall))),
            Record::Diagnosis(of) => Record::Diagnosis(Box::new(self.diagnosis(*of))),
            Record::Sightings(Sightings { time_ns, baseline, changed, gone }) => {
                let changed = each(changed, |it| self.sighting(it));
                Record::Sightings(Sightings { time_ns, baseline, changed, gone })
            }
            Record::Owners(all) => Record::Owners(each(all, |owners| {
                owners.into_iter().map(|owner| self.owner(owner)).collect()
            })),
            Record::Cgroups(all) => Record::Cgroups(each(all, |path| self.name(&path))),
            Record::Carried(carried) => Record::Carried(Box::new(self.carried(*carried))),
            // Numbers, and names of socktrace's own programs.
            Record::Unread(_)
            | Record::Namespaces(_)
            | Record::Loss(_)
            | Record::Misses(_)
            | Record::Runs(_) => record,
            Record::Damage(damage) => {
                let cut = damage.cut.map(|why| self.message(&why));
                Record::Damage(Damage { cut, ..damage })
            }
        }
    }

    pub(super) fn name(&self, bytes: &[u8]) -> Vec<u8> {
        name(&self.key, bytes)
    }

    fn endpoint(&mut self, endpoint: Endpoint) -> Endpoint {
        let Endpoint { address, kind } = endpoint;
        let address = address.map(|address| match address {
            Address::Inet(socket) => Address::Inet(self.addresses.socket(&self.key, socket)),
            Address::Unix(path) => Address::Unix(socket_name(&self.key, &path)),
        });
        Endpoint { address, kind }
    }

    /// The same in a key of the kernel's. What makes no sense there is left out.
    fn wire(&mut self, endpoint: &socktrace_common::Endpoint) -> socktrace_common::Endpoint {
        (&self.endpoint(endpoint.into())).into()
    }

    fn task(&self, task: Task) -> Task {
        let Task { comm, uid, gid, cgroup } = task;
        Task { comm: self.name(&comm), uid, gid, cgroup }
    }

    fn owner(&self, owner: Owner) -> Owner {
        let Owner { pid, comm, uid, cgroup } = owner;
        Owner { pid, comm: self.name(&comm), uid, cgroup: cgroup.map(|path| self.name(&path)) }
    }

    fn event(&mut self, event: Event) -> Event {
        let Event { time_ns, actor, body } = event;
        let actor = actor.map(|Actor { key, tid, task }| Actor { key, tid, task: self.task(task) });
        Event { time_ns, actor, body: self.body(body) }
    }

    fn body(&mut self, body: Body) -> Body {
        match body {
            Body::Accept { listener, wait_ns, peer } => {
                Body::Accept { listener, wait_ns, peer: self.endpoint(peer) }
            }
            Body::AcceptError { listener, errno } => Body::AcceptError { listener, errno },
            Body::ConnectFailure { errno, target, credentials } => {
                Body::ConnectFailure { errno, target: self.endpoint(target), credentials }
            }
            Body::ConnectBlocked { listener, target, wait_ns, errno } => {
                let target = self.endpoint(target);
                Body::ConnectBlocked { listener, target, wait_ns, errno }
            }
            Body::BacklogDrop { listener, reason, stage, queue, limit, peer } => {
                let peer = self.endpoint(peer);
                Body::BacklogDrop { listener, reason, stage, queue, limit, peer }
            }
            Body::Listen { inode, listener } => {
                Body::Listen { inode, listener: self.listener(listener) }
            }
        }
    }

    fn listener(&mut self, listener: Listener) -> Listener {
        let Listener {
            local,
            local_is_inferred,
            netns,
            owner,
            acceptor,
            requested,
            effective,
            drops_at_close,
            selected,
        } = listener;
        Listener {
            local: self.endpoint(local),
            local_is_inferred,
            netns,
            owner,
            acceptor,
            requested,
            effective,
            drops_at_close,
            selected,
        }
    }

    fn sighting(&mut self, sighting: Sighting) -> Sighting {
        let Sighting { local, netns, queue, effective, drops, socket_unit, clients } = sighting;
        let socket_unit = socket_unit.map(|unit| self.name(&unit));
        let local = self.endpoint(local);
        Sighting { local, netns, queue, effective, drops, socket_unit, clients }
    }

    fn failure_class(&mut self, class: FailureClass) -> FailureClass {
        let FailureClass { errno, uid, target, credentials, task } = class;
        FailureClass { errno, uid, target: self.endpoint(target), credentials, task }
    }

    fn carried(&mut self, carried: Carried) -> Carried {
        let Carried {
            delivered,
            watched,
            classes,
            intervals,
            stalls_left_out,
            diagnoses_left_out,
            left_out,
        } = carried;
        let watched = watched.into_iter().map(|it| {
            let WatchedListener { inode, last, peak, drops_at_start, gone } = it;
            WatchedListener { inode, last: self.sighting(last), peak, drops_at_start, gone }
        });
        let watched = watched.collect();
        let classes = classes.into_iter().map(|ClassOfFailure { task, class }| ClassOfFailure {
            task,
            class: self.failure_class(class),
        });
        Carried {
            delivered,
            watched,
            classes: classes.collect(),
            intervals,
            stalls_left_out,
            diagnoses_left_out,
            left_out,
        }
    }

    fn counters(&mut self, counters: Counters) -> Counters {
        let Counters {
            time_ns,
            accepts,
            accept_errors,
            connect_failures,
            connect_blocked,
            drops,
            tasks,
            listeners,
            stages,
        } = counters;
        let mut failures: HashMap<ConnectFailureKey, u64> = HashMap::new();
        for (key, count) in connect_failures {
            let key = ConnectFailureKey { target: self.wire(&key.target), ..key };
            *failures.entry(key).or_default() += count;
        }
        let mut blocked: HashMap<ConnectBlockedKey, WaitTotals> = HashMap::new();
        for (key, totals) in connect_blocked {
            let key = ConnectBlockedKey { target: self.wire(&key.target), ..key };
            blocked.entry(key).or_default().add(&totals);
        }
        Counters {
            time_ns,
            accepts,
            accept_errors,
            connect_failures: failures,
            connect_blocked: blocked,
            drops,
            tasks: each(tasks, |task| self.task(task)),
            listeners: each(listeners, |listener| self.listener(listener)),
            stages,
        }
    }

    fn stall(&mut self, stall: Stall) -> Stall {
        let Stall {
            time_ns,
            listener,
            local,
            netns,
            selected,
            change,
            since_ns,
            longest_ns,
            is_lower_bound,
            pending,
            pending_peak,
            blocked,
            accepted_ns,
            owners,
            seen_in_part,
            hold,
            acceptor,
            clients,
        } = stall;
        Stall {
            time_ns,
            listener,
            local: self.endpoint(local),
            netns,
            selected,
            change,
            since_ns,
            longest_ns,
            is_lower_bound,
            pending,
            pending_peak,
            blocked,
            accepted_ns,
            owners: owners.into_iter().map(|owner| self.owner(owner)).collect(),
            seen_in_part,
            hold,
            acceptor: acceptor.map(|words| self.text(&words)),
            clients: clients.into_iter().map(|client| self.waiting(client)).collect(),
        }
    }

    fn waiting(&mut self, waiting: Waiting) -> Waiting {
        let Waiting { pid, comm, address, count } = waiting;
        Waiting {
            pid,
            comm: comm.map(|comm| self.name(&comm)),
            address: address.map(|ip| self.addresses.ip(&self.key, ip)),
            count,
        }
    }

    fn diagnosis(&mut self, diagnosis: Diagnosis) -> Diagnosis {
        let Diagnosis { time_ns, of, listener, findings } = diagnosis;
        let of = match of {
            Incident::ConnectFailure(class) => Incident::ConnectFailure(self.failure_class(class)),
            Incident::AcceptError { task, listener, errno } => {
                Incident::AcceptError { task, listener, errno }
            }
        };
        let findings = findings.into_iter().map(|finding| self.finding(finding)).collect();
        Diagnosis { time_ns, of, listener, findings }
    }

    fn finding(&mut self, finding: Finding) -> Finding {
        let Finding { severity, certainty, rule, subject, fact, consequence, fix, evidence } =
            finding;
        Finding {
            severity,
            certainty,
            rule,
            subject: self.phrase(subject),
            fact: self.phrase(fact),
            consequence: self.phrase(consequence),
            fix: self.phrase(fix),
            evidence: evidence.into_iter().map(|line| self.phrase(line)).collect(),
        }
    }
}

/// A map with its values replaced.
fn each<K: Eq + Hash, V, W>(map: HashMap<K, V>, mut replace: impl FnMut(V) -> W) -> HashMap<K, W> {
    map.into_iter().map(|(key, value)| (key, replace(value))).collect()
}
