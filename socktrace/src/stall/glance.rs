//! From what `sock_diag` lists and what the kernel side has seen come: how each queue stands. Pure.

use std::collections::HashMap;

use super::watch::{Asleep, Glance};
use crate::{
    event::{Address, Queued, Sighting, Sleeper},
    transport::Progress,
};

/// How long a connect of the tracepoint tier, which does not see it sleep, is under way before it is
/// taken to sleep: others return much sooner.
const SURELY_ASLEEP_NS: u64 = 100_000_000;

/// The connections that the kernel side knows of, by listener.
pub(super) struct Known<'a> {
    queued: HashMap<u64, Vec<&'a Queued>>,
    asleep: HashMap<u64, Vec<&'a Sleeper>>,
}

impl<'a> Known<'a> {
    /// Gives each connection to its listener.
    pub(super) fn assign(
        queued: &'a [Queued],
        sleepers: &'a [Sleeper],
        sightings: &HashMap<u64, Sighting>,
        now_ns: u64,
    ) -> Self {
        Self {
            queued: assign_queued(queued, sightings),
            asleep: assign_sleepers(sleepers, sightings, now_ns),
        }
    }

    /// The connections in the queue of one listener.
    pub(super) fn queued_at(&self, listener: u64) -> &[&'a Queued] {
        self.queued.get(&listener).map_or(&[], Vec::as_slice)
    }

    /// The connects that sleep until one listener has room.
    pub(super) fn asleep_on(&self, listener: u64) -> &[&'a Sleeper] {
        self.asleep.get(&listener).map_or(&[], Vec::as_slice)
    }

    /// Every listener with a queue, or with clients that sleep, and how it stands.
    pub(super) fn glances(
        &self,
        sightings: &HashMap<u64, Sighting>,
        accepted_before: &HashMap<u64, u64>,
        unlooked: impl Fn(u32) -> bool,
        progress: impl Fn(u64) -> Progress,
    ) -> HashMap<u64, Glance> {
        let seen = sightings.iter().filter_map(|(inode, it)| Some((*inode, it.queue?)));
        // Of a namespace that cannot be looked into, only what hooks named is known.
        let is_unseen = |known: &[&Queued]| known.iter().all(|it| it.netns.is_some_and(&unlooked));
        let unseen = self.queued.iter().filter(|(_, known)| is_unseen(known));
        let unseen = unseen.filter(|(inode, _)| !sightings.contains_key(*inode));
        let unseen = unseen.map(|(inode, known)| (*inode, small(known.len())));
        let waits = |(inode, queue): &(u64, u32)| *queue != 0 || !self.asleep_on(*inode).is_empty();
        let queues = seen.chain(unseen).filter(waits);
        let before = |inode| accepted_before.get(&inode).copied().unwrap_or(0);
        let limit = |inode| sightings.get(&inode).and_then(|sighting| sighting.effective);
        queues
            .map(|(inode, queue)| {
                let glance = self.glance(inode, queue, before(inode), progress(inode));
                (inode, Glance { asleep: self.asleep(inode, queue, limit(inode)), ..glance })
            })
            .collect()
    }

    /// Since when clients sleep. Where the limit is not known, each is taken at its word.
    fn asleep(&self, listener: u64, queue: u32, limit: Option<u32>) -> Asleep {
        let mut since: Vec<u64> = self.asleep_on(listener).iter().map(|it| it.since_ns).collect();
        since.sort_unstable();
        let room = limit.map_or(0, |limit| (u64::from(limit) + 1).saturating_sub(queue.into()));
        let without_room = usize::try_from(room).ok().and_then(|room| since.get(room));
        Asleep { first_ns: since.first().copied(), without_room_ns: without_room.copied() }
    }

    fn glance(&self, inode: u64, queue: u32, before: u64, progress: Progress) -> Glance {
        let known = self.queued_at(inode);
        // More than there are: some were accepted in a way that this tier does not see.
        let trusted = small(known.len()) <= queue;
        let oldest = known.iter().map(|connection| connection.since_ns).min();
        Glance {
            queue,
            accepted_before: before.min(progress.accepted),
            accepted: progress.accepted,
            oldest_known_ns: oldest.filter(|_| trusted),
            known: if trusted { small(known.len()) } else { 0 },
            asleep: Asleep::default(),
        }
    }
}

/// Of those in a queue: to the listener that a hook named; for Unix to the one whose queue has the client; for TCP to
/// the only one with that port in that namespace.
fn assign_queued<'a>(
    queued: &'a [Queued],
    sightings: &HashMap<u64, Sighting>,
) -> HashMap<u64, Vec<&'a Queued>> {
    let (by_client, by_port) = (by_client(sightings), by_port(sightings));
    let mut known: HashMap<u64, Vec<&Queued>> = HashMap::new();
    for connection in queued {
        let of_client = || by_client.get(&connection.client?).copied();
        let of_port = || only(by_port.get(&(connection.netns?, connection.port?))?);
        if let Some(listener) = connection.listener.or_else(of_client).or_else(of_port) {
            known.entry(listener).or_default().push(connection);
        }
    }
    known
}

/// Of those that sleep: to the listener that a hook named, or (tracepoint tier) to the only one of that name, if
/// they are under way for so long that they surely do.
fn assign_sleepers<'a>(
    sleepers: &'a [Sleeper],
    sightings: &HashMap<u64, Sighting>,
    now_ns: u64,
) -> HashMap<u64, Vec<&'a Sleeper>> {
    let by_name = if sleepers.is_empty() { HashMap::new() } else { by_name(sightings) };
    let mut known: HashMap<u64, Vec<&Sleeper>> = HashMap::new();
    for sleeper in sleepers {
        let of_name = || {
            let surely = now_ns.saturating_sub(sleeper.since_ns) > SURELY_ASLEEP_NS;
            only(by_name.get(sleeper.target.address.as_ref().filter(|_| surely)?)?)
        };
        if let Some(listener) = sleeper.listener.or_else(of_name) {
            known.entry(listener).or_default().push(sleeper);
        }
    }
    known
}

fn only(listeners: &[u64]) -> Option<u64> {
    <[u64; 1]>::try_from(listeners).ok().map(|[only]| only)
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn by_client(sightings: &HashMap<u64, Sighting>) -> HashMap<u64, u64> {
    let clients = |sighting: &Sighting| sighting.clients.clone().unwrap_or_default();
    let pairs = sightings
        .iter()
        .flat_map(|(inode, it)| clients(it).into_iter().map(|client| (client, *inode)));
    pairs.filter(|(client, _)| *client != 0).collect()
}

fn by_port(sightings: &HashMap<u64, Sighting>) -> HashMap<(u32, u16), Vec<u64>> {
    let mut listeners: HashMap<_, Vec<u64>> = HashMap::new();
    for (inode, sighting) in sightings {
        if let (Some(netns), Some(Address::Inet(at))) = (sighting.netns, &sighting.local.address) {
            listeners.entry((netns, at.port())).or_default().push(*inode);
        }
    }
    listeners
}

fn by_name(sightings: &HashMap<u64, Sighting>) -> HashMap<&Address, Vec<u64>> {
    let mut listeners: HashMap<_, Vec<u64>> = HashMap::new();
    for (inode, sighting) in sightings {
        if let Some(name) = &sighting.local.address {
            listeners.entry(name).or_default().push(*inode);
        }
    }
    listeners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Actor, Endpoint, Task};
    use socktrace_common::TaskKey;

    fn tcp(port: u16, queue: u32) -> Sighting {
        let address = Some(Address::Inet(([127, 0, 0, 1], port).into()));
        let local = Endpoint { address, kind: None };
        Sighting { local, netns: Some(1), queue: Some(queue), ..Sighting::default() }
    }

    fn to_port(port: u16, since_ns: u64) -> Queued {
        Queued { since_ns, netns: Some(1), port: Some(port), ..Queued::default() }
    }

    fn glance(queued: &[Queued], sightings: &[(u64, Sighting)]) -> HashMap<u64, Glance> {
        let sightings = sightings.iter().cloned().collect();
        let known = Known::assign(queued, &[], &sightings, 0);
        known.glances(&sightings, &HashMap::new(), |netns| netns == 9, |_| Progress::default())
    }

    #[test]
    fn a_port_names_its_only_listener_and_of_two_neither() {
        let queued = [to_port(80, 5)];
        let one = glance(&queued, &[(7, tcp(80, 1)), (8, tcp(81, 1))]);
        assert_eq!((one[&7].oldest_known_ns, one[&8].oldest_known_ns), (Some(5), None));
        let two = glance(&queued, &[(7, tcp(80, 1)), (8, tcp(80, 1))]);
        assert_eq!((two[&7].known, two[&8].known), (0, 0));
    }

    #[test]
    fn a_unix_connection_belongs_to_the_queue_that_has_its_client() {
        let unix = Sighting { queue: Some(2), clients: Some(vec![0, 33]), ..Sighting::default() };
        let queued = [Queued { since_ns: 9, client: Some(33), ..Queued::default() }];
        let found = glance(&queued, &[(7, unix)]);
        assert_eq!((found[&7].known, found[&7].oldest_known_ns), (1, Some(9)));
    }

    #[test]
    fn a_connect_sleeps_on_the_listener_that_a_hook_named_or_on_the_only_one_of_that_name() {
        let name = |bytes: &[u8]| {
            let address = Some(Address::Unix(bytes.to_vec()));
            Endpoint { address, kind: None }
        };
        let listener = |local| Sighting { local, queue: Some(1), ..Sighting::default() };
        let sightings = [(7, name(b"/run/a")), (8, name(b"/run/b")), (9, name(b"/run/b"))];
        let sightings = sightings.map(|(inode, local)| (inode, listener(local))).into();
        let task = Task { comm: b"web".to_vec(), uid: 0, gid: 0, cgroup: 0 };
        let actor = Actor { key: TaskKey::NONE, tid: 0, task };
        let asleep = |since_ns, listener, target| Sleeper {
            since_ns,
            listener,
            actor: actor.clone(),
            target,
        };
        let sleepers = [
            asleep(5, Some(9), name(b"/run/a")),
            asleep(6, None, name(b"/run/a")),
            asleep(7, None, name(b"/run/b")),
            // It may be about to return.
            asleep(1_000_000_000, None, name(b"/run/a")),
            asleep(8, None, Endpoint::default()),
        ];
        let known = Known::assign(&[], &sleepers, &sightings, 1_000_000_001);
        let since = |listener| known.asleep_on(listener).iter().map(|it| it.since_ns).collect();
        let all: [Vec<u64>; 3] = [7, 8, 9].map(since);
        assert_eq!(all, [vec![6], vec![], vec![5]]);
        let glances =
            known.glances(&sightings, &HashMap::new(), |_| false, |_| Progress::default());
        let asleep = |it| glances.get(&it).map(|glance: &Glance| glance.asleep.without_room_ns);
        assert_eq!([7, 8, 9].map(asleep), [Some(Some(6)), Some(None), Some(Some(5))]);
    }

    #[test]
    fn more_known_than_queued_is_not_believed() {
        let found = glance(&[to_port(80, 5), to_port(80, 6)], &[(7, tcp(80, 1))]);
        assert_eq!((found[&7].known, found[&7].oldest_known_ns), (0, None));
    }

    #[test]
    fn a_listener_that_cannot_be_looked_at_has_the_queue_that_hooks_know() {
        let queued = |netns| {
            [Queued { since_ns: 4, listener: Some(9), netns: Some(netns), ..Queued::default() }]
        };
        assert_eq!(glance(&queued(9), &[])[&9].queue, 1);
        // Where all listeners are listed, one that is not is none any more.
        assert!(glance(&queued(1), &[]).is_empty());
        assert!(glance(&[], &[(7, tcp(80, 0))]).is_empty());
    }
}
