//! Gathers what a stall is told with. Thin: reads, and asks the pure parts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
};

use super::{
    deeds::read_activity,
    glance::Known,
    watch::{Change, Stalling, Watch},
};
use crate::{
    event::{
        Address, Endpoint, Hold, Listener, MOST_OWNERS, OWNERS_LOOKED_AT, Owner, Queued, Sighting,
        Sleeper, Stall, StallChange, Waiting,
    },
    host::{Host, sock_diag::tcp_clients},
    listener::read_owners,
    transport::Progress,
};

/// Clients that are named at most.
const NAMED: usize = 32;
/// Listeners whose owners are looked at, and stalls whose clients are looked for, in one look at most:
/// each is a pass over `/proc`, while nobody reads events.
const EXAMINED: usize = 16;

/// One look at everything that waits.
pub struct Sight<'a> {
    /// When it began, monotonic nanoseconds: before anything of it was read.
    pub began_ns: u64,
    /// When all was read, monotonic nanoseconds.
    pub now_ns: u64,
    /// What `sock_diag` lists.
    pub sightings: &'a HashMap<u64, Sighting>,
    /// What the kernel side has seen come.
    pub queued: &'a [Queued],
    /// Connects that sleep.
    pub sleepers: &'a [Sleeper],
    /// What had been accepted of each listener before `sightings` were made.
    pub accepted_before: &'a HashMap<u64, u64>,
    /// Whether listeners of a network namespace are missing in `sightings`, and hooks name all that
    /// waits there.
    pub unlooked: &'a dyn Fn(u32) -> bool,
    /// How far listeners have come.
    pub progress: &'a dyn Fn(u64) -> Progress,
    /// Names of listeners that `sock_diag` does not list here.
    pub named: &'a dyn Fn(u64) -> Option<Listener>,
}

impl<'a> Sight<'a> {
    fn known(&self) -> Known<'a> {
        Known::assign(self.queued, self.sleepers, self.sightings, self.now_ns)
    }
}

/// Who holds a listener.
#[derive(Default)]
struct Owners {
    all: Vec<Owner>,
    may_be_more: bool,
    /// Whether one that was looked at last did not tell what it does.
    is_one_silent: bool,
}

/// What the owners of each suspect do.
type Holds = HashMap<u64, (Option<Hold>, Option<String>)>;

/// Watches all listeners.
pub struct Scout {
    host: Host,
    watch: Watch,
    /// Times that the cgroup of an owner was throttled, as of the look before.
    throttled: HashMap<u32, u64>,
    /// Owners of listeners that are about to stall, or do.
    owners: HashMap<u64, Owners>,
    /// When the look before began, monotonic nanoseconds.
    began_ns: u64,
    /// Looks so far.
    looks: u64,
    /// The last one that was at the owners of a listener.
    looked_at: HashMap<u64, u64>,
    /// The stalls as they were last told, with what the looks since have counted.
    told: HashMap<u64, Stall>,
}

impl Scout {
    /// Nothing was seen yet.
    pub fn new(host: Host, threshold_ns: u64) -> Self {
        Self {
            host,
            watch: Watch::new(threshold_ns),
            throttled: HashMap::new(),
            owners: HashMap::new(),
            began_ns: 0,
            looks: 0,
            looked_at: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// Whether a listener had a queue at the look before.
    pub fn is_watching(&self) -> bool {
        self.watch.is_watching()
    }

    /// Whether a connection that hooks know of has waited, since the look at `looked_ns`, for so long that its listener is
    /// to be looked at.
    pub fn has_due(
        &self,
        queued: &[Queued],
        sleepers: &[Sleeper],
        looked_ns: u64,
        now_ns: u64,
    ) -> bool {
        let queued = queued.iter().map(|it| (it.listener, it.since_ns));
        let asleep = sleepers.iter().map(|it| (it.listener, it.since_ns));
        let is_due =
            |(listener, since_ns)| self.watch.is_due(listener, since_ns, looked_ns, now_ns);
        queued.chain(asleep).any(is_due)
    }

    /// Takes in one look; returns the stalls that changed.
    pub fn look(&mut self, sight: &Sight<'_>) -> Vec<Stall> {
        self.look_closely(sight).0
    }

    /// As [`Scout::look`], with what the owners of each suspect do.
    fn look_closely(&mut self, sight: &Sight<'_>) -> (Vec<Stall>, Holds) {
        let known = sight.known();
        let glances =
            known.glances(sight.sightings, sight.accepted_before, sight.unlooked, sight.progress);
        let changes: HashMap<u64, (Change, Stalling)> = self
            .watch
            .look(sight.now_ns, &glances)
            .into_iter()
            .map(|(inode, change, stalling)| (inode, (change, stalling)))
            .collect();
        self.find_owners(&changes);
        let holds = self.look_at_owners(&changes);
        let mut stalls = Vec::new();
        let stalling: Vec<(u64, Stalling)> = self.watch.stalling().collect();
        for (inode, now) in stalling {
            let (hold, words) = holds.get(&inode).cloned().unwrap_or_default();
            let change = match changes.get(&inode) {
                Some((Change::Opened, _)) => StallChange::Opened,
                Some(_) => StallChange::Grown,
                // Only what holds it up from outside: between running and sleeping it may go to and fro.
                None if self.told.get(&inode).is_none_or(|told| told.hold != hold)
                    && hold.is_some_and(|hold| hold < Hold::Running) =>
                {
                    StallChange::Grown
                }
                None => {
                    if let Some(told) = self.told.get_mut(&inode) {
                        recount(told, sight, &known, now);
                        if told.acceptor.is_none() {
                            // Its turn to be looked at had not come when it was told.
                            (told.hold, told.acceptor) = (hold, words);
                        }
                    }
                    continue;
                }
            };
            let mut stall = self.describe(sight, &known, inode, now, change, (hold, words));
            if stalls.len() < EXAMINED {
                stall.clients = self.clients(sight, &known, &stall);
            }
            self.told.insert(inode, stall.clone());
            stalls.push(stall);
        }
        for (inode, (change, was)) in &changes {
            if *change == Change::Closed {
                let none = (None, None);
                let closed = StallChange::Closed;
                stalls.push(self.describe(sight, &known, *inode, *was, closed, none));
                self.told.remove(inode);
                self.owners.remove(inode);
            }
        }
        self.began_ns = sight.began_ns;
        stalls.sort_by_key(|stall| stall.listener);
        (stalls, holds)
    }

    /// Every listener that stalls, as it is now.
    pub fn last_look(&mut self, sight: &Sight<'_>) -> Vec<Stall> {
        let (mut stalls, holds) = self.look_closely(sight);
        let told: HashSet<u64> = stalls.iter().map(|stall| stall.listener).collect();
        let known = sight.known();
        let still: Vec<(u64, Stalling)> =
            self.watch.stalling().filter(|(inode, _)| !told.contains(inode)).collect();
        for (inode, now) in still {
            let holds = self.hold_of(inode, &holds);
            let change = StallChange::Still;
            let mut last = self.describe(sight, &known, inode, now, change, holds);
            if stalls.len() < EXAMINED {
                last.clients = self.clients(sight, &known, &last);
            }
            stalls.push(last);
        }
        stalls
    }

    /// What the owners of a listener do; of one whose turn this look was not, what they did when it was.
    fn hold_of(&self, inode: u64, holds: &Holds) -> (Option<Hold>, Option<String>) {
        let before = || self.told.get(&inode).map(|told| (told.hold, told.acceptor.clone()));
        holds.get(&inode).cloned().or_else(before).unwrap_or_default()
    }

    /// A listener that stalled at the look before, as it was then.
    pub fn still(&self, inode: u64) -> Option<Stall> {
        Some(Stall { change: StallChange::Still, ..self.told.get(&inode)?.clone() })
    }

    /// Owners are looked for when a listener may soon stall, and once more when it does.
    fn find_owners(&mut self, changes: &HashMap<u64, (Change, Stalling)>) {
        let suspects: HashSet<u64> = self.watch.suspects().collect();
        self.owners.retain(|inode, _| suspects.contains(inode) || changes.contains_key(inode));
        let opened = changes.iter().filter(|(_, (change, _))| *change == Change::Opened);
        let opened: HashSet<u64> = opened.map(|(inode, _)| *inode).collect();
        let wanted: HashSet<u64> = suspects
            .into_iter()
            .filter(|inode| opened.contains(inode) || !self.owners.contains_key(inode))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let found = read_owners(&self.host, &wanted);
        let may_be_more = !found.as_ref().is_ok_and(|it| it.unreadable == 0 && it.left_out == 0);
        let mut found = found.unwrap_or_default().by_inode;
        for inode in wanted {
            let mut all = found.remove(&inode).unwrap_or_default();
            let may_be_more = may_be_more || all.len() > MOST_OWNERS;
            all.truncate(MOST_OWNERS);
            all.shrink_to_fit();
            self.owners.insert(inode, Owners { all, may_be_more, is_one_silent: false });
        }
    }

    /// What the owners of suspects do now: of those of which something is to be told first, then of those that were not
    /// looked at for longest.
    fn look_at_owners(&mut self, changes: &HashMap<u64, (Change, Stalling)>) -> Holds {
        self.looks += 1;
        self.looked_at.retain(|inode, _| self.owners.contains_key(inode));
        let mut suspects: Vec<u64> = self.owners.keys().copied().collect();
        suspects.sort_by_key(|inode| {
            (!changes.contains_key(inode), self.looked_at.get(inode).copied(), *inode)
        });
        suspects.truncate(EXAMINED);
        let mut throttled = HashMap::new();
        let mut holds = HashMap::new();
        for inode in &suspects {
            let Some(owners) = self.owners.get_mut(inode) else { continue };
            self.looked_at.insert(*inode, self.looks);
            owners.is_one_silent = false;
            let mut words = Vec::new();
            let mut hold = None;
            for owner in owners.all.iter().take(OWNERS_LOOKED_AT) {
                let before = self.throttled.get(&owner.pid).copied();
                let activity = read_activity(&self.host, owner.pid, before);
                throttled.extend(activity.throttled_times.map(|times| (owner.pid, times)));
                let does = activity.hold();
                owners.is_one_silent |= does.is_none();
                hold = hold.max(does);
                let Some(described) = activity.describe() else { continue };
                words.push(match owners.all.len() {
                    1 => described,
                    _ => format!("{}: {described}", owner.pid),
                });
            }
            let words = (!words.is_empty()).then(|| words.join("; "));
            holds.insert(*inode, (hold, words));
        }
        let owners = self.owners.values().flat_map(|owners| &owners.all);
        let owners: HashSet<u32> = owners.map(|it| it.pid).collect();
        self.throttled.retain(|pid, _| owners.contains(pid));
        self.throttled.extend(throttled);
        holds
    }

    /// A stall as it is told, without its clients.
    fn describe(
        &self,
        sight: &Sight<'_>,
        known: &Known<'_>,
        inode: u64,
        now: Stalling,
        change: StallChange,
        (hold, acceptor): (Option<Hold>, Option<String>),
    ) -> Stall {
        let seen = sight.sightings.get(&inode);
        let named = if seen.is_none() { (sight.named)(inode) } else { None };
        let named = named.map(|named| (named.local, named.netns));
        let seen_at = seen.map(|seen| (seen.local.clone(), seen.netns));
        // A listener that is gone, and that no hook has named, was told when its stall began.
        let told = || self.told.get(&inode).map(|told| (told.local.clone(), told.netns));
        let (local, netns) = seen_at.or(named).or_else(told).unwrap_or_default();
        let progress = (sight.progress)(inode);
        let owners = self.owners.get(&inode);
        let time_ns = match change {
            StallChange::Closed => {
                ended_ns(now.since_ns.max(self.began_ns), progress.accepted_ns, sight.now_ns)
            }
            _ => sight.now_ns,
        };
        Stall {
            time_ns,
            listener: inode,
            local,
            netns,
            selected: progress.selected,
            change,
            since_ns: now.since_ns,
            longest_ns: now.longest_ns.max(time_ns.saturating_sub(now.since_ns)),
            is_lower_bound: now.is_lower_bound,
            pending: if change == StallChange::Closed { 0 } else { now.pending },
            pending_peak: now.pending_peak,
            blocked: asleep(known, inode),
            accepted_ns: progress.accepted_ns,
            owners: owners.map(|owners| owners.all.clone()).unwrap_or_default(),
            seen_in_part: owners.is_none_or(|owners| owners.may_be_more || owners.is_one_silent),
            hold,
            acceptor,
            clients: Vec::new(),
        }
    }

    /// Who waits: local ones by process, others by address, most connections first.
    fn clients(&self, sight: &Sight<'_>, known: &Known<'_>, stall: &Stall) -> Vec<Waiting> {
        let mut by_pid: BTreeMap<u32, u32> = BTreeMap::new();
        let mut by_address = BTreeMap::new();
        let sleepers = known.asleep_on(stall.listener);
        for sleeper in sleepers {
            *by_pid.entry(sleeper.actor.key.tgid).or_default() += 1;
        }
        let seen = sight.sightings.get(&stall.listener);
        let unix = seen.and_then(|seen| seen.clients.clone()).unwrap_or_default();
        let known = known.queued_at(stall.listener);
        let inet = local_peers(&stall.local, known);
        let inodes: HashSet<u64> = unix.iter().chain(inet.values()).copied().collect();
        let holders = if inodes.is_empty() {
            HashMap::new()
        } else {
            read_owners(&self.host, &inodes).unwrap_or_default().by_inode
        };
        let pid_of = |inode: &u64| Some(holders.get(inode)?.first()?.pid);
        for inode in unix.iter().filter(|inode| **inode != 0) {
            let named = known.iter().find(|it| it.client == Some(*inode)).and_then(|it| it.pid);
            if let Some(pid) = pid_of(inode).or(named) {
                *by_pid.entry(pid).or_default() += 1;
            }
        }
        for peer in known.iter().filter_map(|connection| connection.peer) {
            match inet.get(&peer).and_then(pid_of) {
                Some(pid) => *by_pid.entry(pid).or_default() += 1,
                None => *by_address.entry(peer.ip()).or_default() += 1,
            }
        }
        // One that sleeps may have ended since it was read.
        let asleep = |pid| sleepers.iter().find(|sleeper| sleeper.actor.key.tgid == pid);
        let noted = |pid| asleep(pid).map(|sleeper| sleeper.actor.task.comm.clone());
        let comm = |pid| self.host.read_comm(pid).ok().or_else(|| noted(pid));
        let local = by_pid.into_iter().map(|(pid, count)| Waiting {
            pid: Some(pid),
            comm: comm(pid),
            address: None,
            count,
        });
        let remote = by_address.into_iter().map(|(address, count)| Waiting {
            pid: None,
            comm: None,
            address: Some(address),
            count,
        });
        let mut clients: Vec<Waiting> = local.chain(remote).collect();
        clients.sort_by_key(|client| std::cmp::Reverse(client.count));
        clients.truncate(NAMED);
        clients
    }
}

/// What a look counts anew of a stall of which it has nothing to tell.
fn recount(told: &mut Stall, sight: &Sight<'_>, known: &Known<'_>, now: Stalling) {
    told.time_ns = sight.now_ns;
    told.since_ns = now.since_ns;
    told.longest_ns = now.longest_ns;
    told.is_lower_bound = now.is_lower_bound;
    told.pending = now.pending;
    told.pending_peak = now.pending_peak;
    told.accepted_ns = (sight.progress)(told.listener).accepted_ns;
    told.blocked = asleep(known, told.listener);
}

fn asleep(known: &Known<'_>, listener: u64) -> u32 {
    u32::try_from(known.asleep_on(listener).len()).unwrap_or(u32::MAX)
}

/// When a stall that is over ended, which the look that began at `seen_ns` had seen: a look comes later. Its oldest connection
/// was taken out no later than the last one that was; where none was since, it went away otherwise.
fn ended_ns(seen_ns: u64, accepted_ns: Option<u64>, now_ns: u64) -> u64 {
    accepted_ns.filter(|accepted_ns| (seen_ns..now_ns).contains(accepted_ns)).unwrap_or(now_ns)
}

/// Inodes of the sockets at the other ends of TCP connections, where they are in this network
/// namespace.
fn local_peers(local: &Endpoint, known: &[&Queued]) -> HashMap<SocketAddr, u64> {
    let Some(Address::Inet(at)) = &local.address else { return HashMap::new() };
    if known.iter().all(|connection| connection.peer.is_none()) {
        return HashMap::new();
    }
    tcp_clients(at.port()).unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_ends_with_the_last_accept_and_else_with_the_look_that_finds_it_over() {
        assert_eq!(ended_ns(100, Some(250), 400), 250);
        assert_eq!(ended_ns(100, Some(90), 400), 400);
        assert_eq!(ended_ns(100, None, 400), 400);
    }

    /// A listener of nobody, with two connections in its queue of which one was accepted at `accepted_ns`.
    fn sight_at<R>(now_ns: u64, accepted_ns: Option<u64>, then: impl FnOnce(&Sight<'_>) -> R) -> R {
        let sighting = Sighting { queue: Some(2), ..Sighting::default() };
        let progress = Progress { accepted_ns, ..Progress::default() };
        then(&Sight {
            began_ns: now_ns,
            now_ns,
            sightings: &HashMap::from([(7, sighting)]),
            queued: &[],
            sleepers: &[],
            accepted_before: &HashMap::new(),
            unlooked: &|_| false,
            progress: &|_| progress,
            named: &|_| None,
        })
    }

    #[test]
    fn a_stall_of_which_nothing_new_is_to_be_told_is_known_as_the_last_look_saw_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut scout = Scout::new(Host::at(dir.path()), 100);
        let look = |scout: &mut Scout, now_ns, accepted_ns| {
            sight_at(now_ns, accepted_ns, |sight| scout.look(sight)).len()
        };
        assert_eq!(look(&mut scout, 1000, None), 0);
        assert_eq!(scout.still(7), None, "it does not stall yet");
        assert_eq!(look(&mut scout, 1100, None), 1);
        assert_eq!(look(&mut scout, 1150, Some(900)), 0, "nothing to be told");
        let still = scout.still(7).expect("it stalls");
        assert_eq!((still.change, still.time_ns), (StallChange::Still, 1150));
        assert_eq!((still.since_ns, still.accepted_ns), (1000, Some(900)));
        assert_eq!(scout.still(8), None, "another one");
    }

    #[test]
    fn the_end_of_a_stall_has_the_name_of_a_listener_that_is_gone_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut scout = Scout::new(Host::at(dir.path()), 100);
        let named =
            Endpoint { address: Some(Address::Unix(b"/run/a".to_vec())), ..Endpoint::default() };
        let there = Sighting { queue: Some(2), local: named.clone(), ..Sighting::default() };
        let there = HashMap::from([(7, there)]);
        let mut look = |now_ns, sightings: &HashMap<u64, Sighting>| {
            sight_at(now_ns, None, |sight| scout.look(&Sight { sightings, ..*sight }))
        };
        assert!(look(1000, &there).is_empty());
        assert_eq!(look(1100, &there).len(), 1);
        let ended = look(1200, &HashMap::new());
        let told: Vec<_> = ended.iter().map(|stall| (stall.change, &stall.local)).collect();
        assert_eq!(told, [(StallChange::Closed, &named)]);
    }

    #[test]
    fn owners_of_more_listeners_than_one_look_examines_are_looked_at_in_turn() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut scout = Scout::new(Host::at(dir.path()), 100);
        let all = 1..=u64::try_from(EXAMINED).expect("a number") * 2 + 1;
        scout.owners = all.clone().map(|inode| (inode, Owners::default())).collect();
        let mut seen: Vec<u64> = Vec::new();
        for _ in 0..3 {
            seen.extend(scout.look_at_owners(&HashMap::new()).into_keys());
        }
        let once: HashSet<u64> = seen.iter().copied().collect();
        assert_eq!((once, seen.len()), (all.collect(), EXAMINED * 3));
        let last = *seen.last().expect("one was looked at just now");
        let stalling = Stalling {
            since_ns: 1,
            longest_ns: 1,
            is_lower_bound: false,
            pending: 1,
            pending_peak: 1,
        };
        let opened = HashMap::from([(last, (Change::Opened, stalling))]);
        assert!(scout.look_at_owners(&opened).contains_key(&last), "it is to be told");
    }
}
