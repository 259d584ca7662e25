//! Events as objects of the Trace Event Format, which the Perfetto UI and `chrome://tracing` show on a
//! time line.
//!
//! Owns what is shown where. A listener is a group of tracks with what waited in its queue, its stalls,
//! its drops, and the length of its queue; a process is one with what failed for it. Waits overlap, and
//! the format lets slices of one thread only nest, so they are asynchronous slices, each with an id.
//! `objects.rs` makes the objects, `groups.rs` knows the groups.
//!
//! A file is [`HEAD`], the objects with a comma between each two, and [`tail`].

mod groups;
mod objects;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use self::{
    groups::Groups,
    objects::{Span, counter, instant},
};
use super::{
    json::{self, family, put_bytes, put_endpoint, time},
    stalls,
};
use crate::{
    aggregate::{Aggregator, Drops, Snapshot},
    diagnose::errno_name,
    event::{Actor, Body, Endpoint, Event, Sightings, Stall, StallChange},
    transport::Clock,
};

/// What opens a file.
pub const HEAD: &str = "{\"traceEvents\":[";

/// Open stalls that are kept: what is beyond is shown when it is over.
const MOST_OPEN: usize = 4096;

/// What stands behind the objects: when it began in wall time, and how complete it is.
pub fn tail(snapshot: &Snapshot) -> String {
    let session = &snapshot.session;
    let other = json!({
        "schema_version": json::SCHEMA_VERSION,
        "started": time(session.started),
        "host": super::escape::escape(session.host.as_bytes()),
        "kernel": session.kernel,
        "verdict": snapshot.completeness.verdict.name(),
        "reasons": snapshot.completeness.reasons.join("; "),
    });
    format!("],\"displayTimeUnit\":\"ms\",\"otherData\":{other}}}")
}

/// Makes objects of what comes, and keeps only names and open stalls.
pub struct Trace {
    clock: Clock,
    groups: Groups,
    /// Ids of slices; none is used twice.
    next_id: u64,
    /// Ids of stalls that have not ended, by inode of the listener.
    open: HashMap<u64, u64>,
}

impl Trace {
    /// Times are counted from where the clock is anchored: the start of the session.
    pub fn new(clock: Clock) -> Self {
        Self { clock, groups: Groups::default(), next_id: 1, open: HashMap::new() }
    }

    /// One event.
    pub fn event(&mut self, event: &Event, so_far: &Aggregator) -> Vec<Value> {
        let mut out = Vec::new();
        let local = |inode: &Option<u64>| inode.and_then(|inode| so_far.listener_address(inode));
        let mut args = actor_args(event.actor.as_ref());
        let at = self.since_start(event.time_ns);
        match &event.body {
            Body::Accept { listener, wait_ns, peer } => {
                let group = self.groups.listener(*listener, local(listener), &mut out);
                put_endpoint(&mut args, "peer", peer);
                match wait_ns {
                    Some(wait_ns) => {
                        args.insert("wait_ns".into(), json!(wait_ns));
                        let span = self.span("wait", "accept", group);
                        out.extend(span.whole(at.saturating_sub(*wait_ns), at, args));
                    }
                    None => out.push(instant("accept", "accept", group, at, args)),
                }
            }
            Body::AcceptError { listener, errno } => {
                put_endpoint(&mut args, "listener", local(listener).unwrap_or(&UNKNOWN));
                let group = self.of_actor(event.actor.as_ref(), *listener, so_far, &mut out);
                out.push(failure("accept", "accept_error", group, at, (*errno, args)));
            }
            Body::ConnectFailure { errno, target, .. } => {
                put_target(&mut args, target);
                let group = self.of_actor(event.actor.as_ref(), None, so_far, &mut out);
                out.push(failure("connect", "connect_failure", group, at, (*errno, args)));
            }
            Body::ConnectBlocked { listener, target, wait_ns, errno } => {
                put_target(&mut args, target);
                args.insert("wait_ns".into(), json!(wait_ns));
                args.insert("errno".into(), json!(errno.map(errno_name)));
                let group = self.of_actor(event.actor.as_ref(), *listener, so_far, &mut out);
                let span = self.span("blocked connect", "connect_blocked", group);
                out.extend(span.whole(at.saturating_sub(*wait_ns), at, args));
            }
            Body::BacklogDrop { listener, reason, queue, limit, peer, .. } => {
                let group = self.groups.listener(*listener, local(listener), &mut out);
                put_endpoint(&mut args, "peer", peer);
                args.insert("queue".into(), json!(queue));
                args.insert("limit".into(), json!(limit));
                let name = format!("drop: {}", Drops::Tcp(*reason).name());
                out.push(instant(&name, "backlog_drop", group, at, args));
                out.extend(queue.and_then(|queue| self.queue(*listener, queue, at)));
            }
            Body::Listen { inode, listener } => {
                let group = self.groups.listener(Some(*inode), Some(&listener.local), &mut out);
                args.insert("requested".into(), json!(listener.requested));
                args.insert("effective".into(), json!(listener.effective));
                out.push(instant("listen", "listen", group, at, args));
            }
        }
        out
    }

    /// One change of a stall: a slice from when its oldest connection was queued until it is over.
    pub fn stall(&mut self, stall: &Stall) -> Vec<Value> {
        let mut out = Vec::new();
        let group = self.groups.listener(Some(stall.listener), Some(&stall.local), &mut out);
        let (since, now) = (self.since_start(stall.since_ns), self.since_start(stall.time_ns));
        let args = stalls::object(stall, &self.clock);
        let known = self.open.get(&stall.listener).copied();
        let of = |id: u64| Span { name: "stall", cat: "stall", group, id };
        match (known, stall.change) {
            (Some(id), StallChange::Closed) => {
                self.open.remove(&stall.listener);
                out.push(of(id).end(now, args));
            }
            (Some(id), _) => out.push(of(id).mark(now, args)),
            (None, StallChange::Closed) => {
                let id = self.id();
                out.extend(of(id).whole(since, now, args));
            }
            (None, _) if self.open.len() < MOST_OPEN => {
                let id = self.id();
                self.open.insert(stall.listener, id);
                out.push(of(id).begin(since, args));
            }
            (None, _) => {}
        }
        out.extend(self.queue(Some(stall.listener), stall.pending, now));
        out
    }

    /// Queues that changed, of the listeners that are wanted. Those that were always empty get no
    /// track.
    pub fn sightings(&mut self, seen: &Sightings, so_far: &Aggregator) -> Vec<Value> {
        let mut out = Vec::new();
        let at = self.since_start(seen.time_ns);
        let mut inodes: Vec<&u64> = seen.changed.keys().collect();
        inodes.sort_unstable();
        for inode in inodes {
            let Some((sighting, queue)) =
                seen.changed.get(inode).and_then(|it| Some((it, it.queue?)))
            else {
                continue;
            };
            if !so_far.wants_listener(*inode, &sighting.local) {
                continue;
            }
            if queue != 0 || self.groups.knows(*inode) {
                self.groups.listener(Some(*inode), Some(&sighting.local), &mut out);
                out.extend(self.queue(Some(*inode), queue, at));
            }
        }
        let gone = seen.gone.iter().filter(|inode| self.groups.knows(**inode));
        for inode in gone.copied().collect::<Vec<u64>>() {
            out.extend(self.queue(Some(inode), 0, at));
        }
        out
    }

    /// Ends what is still open, and names what had no name before.
    pub fn end(&mut self, snapshot: &Snapshot) -> Vec<Value> {
        let mut out = Vec::new();
        let lasting = snapshot.stalls.iter().filter(|stall| stall.change != StallChange::Closed);
        for stall in lasting {
            let goes_on = Stall { change: StallChange::Closed, ..stall.clone() };
            out.extend(self.stall(&goes_on));
        }
        let until = u64::try_from(snapshot.duration.as_nanos()).unwrap_or(u64::MAX);
        let mut left: Vec<(u64, u64)> = self.open.drain().collect();
        left.sort_unstable();
        for (listener, id) in left {
            let group = self.groups.listener(Some(listener), None, &mut out);
            let span = Span { name: "stall", cat: "stall", group, id };
            out.push(span.end(until, Map::new()));
        }
        for row in &snapshot.listeners {
            if self.groups.knows(row.inode) {
                self.groups.listener(Some(row.inode), Some(&row.local), &mut out);
            }
        }
        out
    }

    fn since_start(&self, time_ns: u64) -> u64 {
        self.clock.since_anchor_ns(time_ns)
    }

    const fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    const fn span(&mut self, name: &'static str, cat: &'static str, group: u32) -> Span {
        Span { name, cat, group, id: self.id() }
    }

    /// The group of who did it; where nobody knows who, that of the listener.
    fn of_actor(
        &mut self,
        actor: Option<&Actor>,
        listener: Option<u64>,
        so_far: &Aggregator,
        out: &mut Vec<Value>,
    ) -> u32 {
        let local = listener.and_then(|inode| so_far.listener_address(inode));
        match actor {
            Some(actor) => self.groups.process(actor, out),
            None => self.groups.listener(listener, local, out),
        }
    }

    /// The length of a queue, where it is another than before.
    fn queue(&mut self, listener: Option<u64>, queue: u32, at: u64) -> Option<Value> {
        let group = self.groups.queue_changed(listener?, queue)?;
        Some(counter("accept queue", group, at, "waiting", queue))
    }
}

/// A call that failed, named by its errno.
fn failure(
    call: &str,
    cat: &'static str,
    group: u32,
    at: u64,
    (errno, mut args): (u32, Map<String, Value>),
) -> Value {
    let errno = errno_name(errno);
    let name = format!("{call}: {errno}");
    args.insert("errno".into(), json!(errno));
    instant(&name, cat, group, at, args)
}

const UNKNOWN: Endpoint = Endpoint { address: None, kind: None };

fn actor_args(actor: Option<&Actor>) -> Map<String, Value> {
    let mut args = Map::new();
    if let Some(actor) = actor {
        args.insert("pid".into(), json!(actor.key.tgid));
        args.insert("tid".into(), json!(actor.tid));
        put_bytes(&mut args, "comm", Some(&actor.task.comm));
        args.insert("uid".into(), json!(actor.task.uid));
    }
    args
}

fn put_target(args: &mut Map<String, Value>, target: &Endpoint) {
    args.insert("family".into(), json!(family(target)));
    put_endpoint(args, "target", target);
}

#[cfg(test)]
mod tests;
