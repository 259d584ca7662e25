//! Reads what is under way out of the kernel's maps: connections that wait, and connects that sleep.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use aya::{
    Ebpf, Pod,
    maps::{HashMap as BpfHashMap, MapError},
};
use socktrace_common::{AcceptStart, BlockedCall, ListenerInfo, UnixMeeting};

use super::{
    counters::{self, CountersError, map},
    turn::Turn,
};
use crate::event::{Actor, Listener, Queued, Sleeper, Task};

/// How far a listener has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Connections accepted from it.
    pub accepted: u64,
    /// When the last of them was, monotonic nanoseconds; `None` before the first.
    pub accepted_ns: Option<u64>,
    /// Whether the filters select it.
    pub selected: bool,
}

/// Every connection in an accept queue that the kernel side has seen come.
pub fn read_queued(ebpf: &Ebpf) -> Result<Vec<Queued>, CountersError> {
    let mut all = Vec::new();
    // 0 once it is accepted.
    each(ebpf, "ACCEPT_STARTS", |start: AcceptStart| {
        all.extend((start.time_ns != 0).then(|| queued(&start)));
    })?;
    each(ebpf, "UNIX_MEETINGS", |met: UnixMeeting| {
        let waits = met.acceptor.task.tgid == 0;
        all.extend(waits.then(|| Queued {
            since_ns: met.time_ns,
            client: known(met.client),
            ..Queued::default()
        }));
    })?;
    Ok(all)
}

/// Every Unix connect that sleeps; in the tracepoint tier every one that has not returned.
pub fn read_sleepers(ebpf: &Ebpf) -> Result<Vec<Sleeper>, CountersError> {
    let mut all = Vec::new();
    each(ebpf, "BLOCKED_CALLS", |call: BlockedCall| {
        let event = &call.event;
        // One that has come through sleeps no more.
        all.extend((event.wait_ns == 0).then(|| Sleeper {
            since_ns: event.header.time_ns,
            listener: known(event.key.listener),
            actor: actor(&event.header.actor),
            target: (&event.key.target).into(),
        }));
    })?;
    Ok(all)
}

/// How many connections were accepted of each listener.
pub fn read_accepted(ebpf: &Ebpf) -> Result<HashMap<u64, u64>, CountersError> {
    let mut all = HashMap::new();
    counters::each(ebpf, "LISTENERS", |inode, info: ListenerInfo| {
        all.insert(inode, info.accepted);
    })?;
    Ok(all)
}

/// How far this listener has come; nothing, if nothing of it was seen.
pub fn read_progress(ebpf: &Ebpf, listener: u64) -> Result<Progress, CountersError> {
    let info = lookup(ebpf, listener)?;
    Ok(info.map_or_else(Progress::default, |info| Progress {
        accepted: info.accepted,
        accepted_ns: known(info.accepted_ns),
        selected: info.selected != 0,
    }))
}

/// What is known of this listener.
pub fn read_listener(ebpf: &Ebpf, listener: u64) -> Result<Option<Listener>, CountersError> {
    Ok(lookup(ebpf, listener)?.as_ref().map(Listener::from))
}

fn lookup(ebpf: &Ebpf, listener: u64) -> Result<Option<ListenerInfo>, CountersError> {
    let failed = |source| CountersError { map: "LISTENERS", source };
    let listeners = BpfHashMap::<_, u64, ListenerInfo>::try_from(map(ebpf, "LISTENERS")?);
    let listeners = listeners.map_err(failed)?;
    let _turn = Turn::begin();
    match listeners.get(&listener, 0) {
        Ok(info) => Ok(Some(info)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

/// Hands every value of a hash map over, each once: where the entry under the cursor goes away, the
/// kernel begins again at the first.
fn each<V: Pod>(ebpf: &Ebpf, name: &'static str, take: impl FnMut(V)) -> Result<(), CountersError> {
    let mut all = HashMap::<u64, V>::new();
    counters::each(ebpf, name, |key, value| {
        all.insert(key, value);
    })?;
    all.into_values().for_each(take);
    Ok(())
}

fn known(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

fn queued(start: &AcceptStart) -> Queued {
    let unix = start.family == 1;
    Queued {
        since_ns: start.time_ns,
        listener: known(start.listener),
        netns: (start.netns != 0).then_some(start.netns),
        port: (!unix).then_some(start.port),
        client: known(start.client),
        pid: (start.pid != 0).then_some(start.pid),
        peer: peer(start),
    }
}

fn peer(start: &AcceptStart) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = start.peer;
    let address: IpAddr = match start.family {
        2 => [a, b, c, d].into(),
        10 => start.peer.into(),
        _ => return None,
    };
    (start.peer_port != 0).then(|| SocketAddr::new(address.to_canonical(), start.peer_port))
}

fn actor(wire: &socktrace_common::Actor) -> Actor {
    Actor {
        key: wire.task,
        tid: wire.tid,
        task: Task::from_wire(wire.comm, wire.uid, wire.gid, wire.cgroup),
    }
}
