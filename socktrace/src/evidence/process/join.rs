//! What two looks at the sockets tell together, with who holds the other ends.
//!
//! Owns the match of one look with the other, of a socket with its peer, and of both with processes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::{
    descriptors::Held,
    sockets::{Look, Row},
};
use crate::{
    diagnose::process::{
        Listener, ListenerAddress, Process, SocketFacts, TcpConnection, Twice, UnixConnection,
    },
    event::Phrase,
    evidence::Namespaces,
    host::{
        Host, PipeHolders, SocketOwners, SocketProtocol,
        sock_diag::{TcpListener, TcpSocket, UnixQueue, UnixSocket, UnixState},
    },
};

/// Holders of one socket that are kept.
const MOST_HOLDERS: usize = 4096;
/// Listeners on the same address that are kept for one.
const MOST_SHARDS: usize = 256;

/// The facts of all sockets, and who holds the process's pipes, which the same pass over all processes tells;
/// `second` is `None` where there was no second look.
pub(super) fn join(
    host: &Host,
    namespaces: &Namespaces,
    pid: u32,
    held: &Held,
    first: &Look,
    second: Option<&Look>,
) -> (SocketFacts, Option<PipeHolders>) {
    let mut facts = SocketFacts {
        complete: first.complete,
        left_out: held.more_sockets,
        refusals: first.refusals.iter().cloned().map(Phrase::from).collect(),
        ..SocketFacts::default()
    };
    count_others(&mut facts, held, first);
    let (known, pipes) = Known::read(host, namespaces, pid, held, first, second);
    facts.unreadable = known.owners.as_ref().map_or(0, |owners| owners.unreadable);
    for (netns, row) in first.rows.iter().filter(|(_, row)| first.is_own(row)) {
        match row {
            Row::Listener(it) => facts.listeners.push(known.tcp_listener(*netns, it)),
            Row::Tcp(it) => facts.tcp.push(known.tcp(*netns, it)),
            Row::Udp(it) => {
                let second = known.again(it.inode, |row| match row {
                    Row::Udp(it) => Some(it.clone()),
                    _ => None,
                });
                facts.udp.push(Twice { first: it.clone(), second });
            }
            Row::Unix(it) if it.state == UnixState::Listening => {
                facts.listeners.push(known.unix_listener(*netns, it));
            }
            Row::Unix(it) => facts.unix.push(known.unix(it)),
        }
    }
    (facts, pipes)
}

/// Sockets that no list has, and those of other protocols.
fn count_others(facts: &mut SocketFacts, held: &Held, first: &Look) {
    let listed: HashSet<u64> = first.rows.iter().filter_map(|(_, row)| row.inode()).collect();
    for (inode, protocol) in &held.sockets {
        let missing = u64::from(!listed.contains(inode));
        let name = match protocol {
            None => {
                facts.unlisted.unknown += missing;
                continue;
            }
            Some(SocketProtocol::Unix) => {
                facts.unlisted.unix += missing;
                continue;
            }
            Some(SocketProtocol::Tcp) => {
                facts.unlisted.tcp += missing;
                continue;
            }
            Some(SocketProtocol::Udp) => {
                facts.unlisted.udp += missing;
                continue;
            }
            Some(SocketProtocol::Mptcp) => {
                facts.mptcp += 1;
                continue;
            }
            Some(SocketProtocol::UdpLite) => "UDP-Lite",
            Some(SocketProtocol::Raw) => "raw IP",
            Some(SocketProtocol::Ping) => "ICMP echo",
            Some(SocketProtocol::Netlink) => "netlink",
            Some(SocketProtocol::Packet) => "packet",
            Some(SocketProtocol::Vsock) => "vsock",
            Some(SocketProtocol::Other(_)) => "another protocol",
        };
        *facts.others.entry(name.to_owned()).or_default() += 1;
    }
}

/// Everything that a socket's facts are put together from.
struct Known<'a> {
    pid: u32,
    first: &'a Look,
    /// The second look, by inode.
    second: HashMap<u64, &'a Row>,
    /// Unix sockets of both looks, the later one, by inode.
    unix: HashMap<u64, &'a UnixSocket>,
    /// TCP sockets of both looks: namespace, own end, other end.
    tcp: HashMap<(u32, SocketAddr, SocketAddr), u64>,
    /// TCP listeners by namespace and address.
    listening: HashMap<(u32, SocketAddr), Vec<&'a TcpListener>>,
    /// `net.core.somaxconn` by namespace.
    somaxconn: HashMap<u32, Option<u64>>,
    /// `None` where processes could not be listed.
    owners: Option<SocketOwners>,
}

impl<'a> Known<'a> {
    fn read(
        host: &Host,
        namespaces: &Namespaces,
        pid: u32,
        held: &Held,
        first: &'a Look,
        second: Option<&'a Look>,
    ) -> (Self, Option<PipeHolders>) {
        let again = second.map(|look| look.rows.as_slice()).unwrap_or_default();
        let mut known = Self {
            pid,
            first,
            second: again.iter().filter_map(|(_, row)| Some((row.inode()?, row))).collect(),
            unix: HashMap::new(),
            tcp: HashMap::new(),
            listening: HashMap::new(),
            somaxconn: HashMap::new(),
            owners: None,
        };
        for (netns, row) in &first.rows {
            if let Row::Listener(it) = row {
                known.listening.entry((*netns, it.address)).or_default().push(it);
            }
        }
        for (netns, row) in first.rows.iter().chain(again) {
            match row {
                Row::Unix(it) => known.unix.extend(it.inode.map(|inode| (inode, it))),
                Row::Tcp(it) => {
                    let ends = (*netns, it.local, it.remote);
                    known.tcp.extend(it.inode.map(|inode| (ends, inode)));
                }
                _ => {}
            }
        }
        let wanted = known.other_ends();
        let pipes: HashSet<u64> = held.pipes.keys().copied().collect();
        let found = if wanted.is_empty() && pipes.is_empty() {
            Some((SocketOwners::default(), PipeHolders::default()))
        } else {
            host.read_holders(&wanted, &pipes).ok()
        };
        let (owners, pipes) = found.unzip();
        known.owners = owners;
        // Nobody was looked for, so nobody is missing.
        if wanted.is_empty() {
            known.owners = Some(SocketOwners::default());
        }
        known.somaxconn = read_somaxconn(host, namespaces, first);
        (known, pipes)
    }

    /// Sockets whose holders are looked for.
    fn other_ends(&self) -> HashSet<u64> {
        let mut wanted = HashSet::new();
        let addresses: HashSet<(u32, SocketAddr)> =
            self.own_tcp_listeners().map(|(netns, it)| (netns, it.address)).collect();
        for (netns, row) in &self.first.rows {
            match row {
                Row::Listener(it) if addresses.contains(&(*netns, it.address)) => {
                    wanted.insert(it.inode);
                }
                Row::Unix(it) if it.state == UnixState::Listening => wanted.extend(it.inode),
                Row::Unix(it) => wanted.extend(it.peer.filter(|peer| *peer != 0)),
                Row::Tcp(it) => wanted.extend(self.tcp.get(&(*netns, it.remote, it.local))),
                _ => {}
            }
        }
        wanted
    }

    fn own_tcp_listeners(&self) -> impl Iterator<Item = (u32, &'a TcpListener)> {
        let first = self.first;
        first.rows.iter().filter_map(move |(netns, row)| match row {
            Row::Listener(it) if first.is_own(row) => Some((*netns, it)),
            _ => None,
        })
    }

    fn again<T>(&self, inode: u64, of_kind: impl Fn(&Row) -> Option<T>) -> Option<T> {
        self.second.get(&inode).and_then(|row| of_kind(row))
    }

    /// Who holds a socket; `None` where somebody may and could not be seen.
    fn holders(&self, inode: u64) -> Option<Vec<Process>> {
        let owners = self.owners.as_ref()?;
        let process = |pid: &u32| Process {
            pid: *pid,
            comm: owners.processes.get(pid).map(|it| it.comm.clone()).unwrap_or_default(),
        };
        match owners.owners.get(&inode) {
            Some(pids) => Some(pids.iter().take(MOST_HOLDERS).map(process).collect()),
            None => (owners.unreadable == 0 && owners.left_out == 0).then(Vec::new),
        }
    }

    fn others(&self, inode: u64) -> Option<Vec<Process>> {
        let mut holders = self.holders(inode)?;
        holders.retain(|holder| holder.pid != self.pid);
        Some(holders)
    }

    fn tcp_listener(&self, netns: u32, first: &TcpListener) -> Listener {
        let second = self.again(first.inode, |row| match row {
            Row::Listener(it) => Some(it.clone()),
            _ => None,
        });
        let last = second.as_ref().unwrap_or(first);
        let there = self.listening.get(&(netns, first.address)).map(Vec::as_slice);
        let shards = there
            .unwrap_or_default()
            .iter()
            .filter(|it| it.interface == first.interface && it.inode != first.inode);
        let shards = shards.take(MOST_SHARDS);
        Listener {
            address: ListenerAddress::Tcp(first.address),
            queue: Some((last.queue, last.backlog)),
            drops: first.drops.map(|drops| Twice {
                first: drops,
                second: second.as_ref().and_then(|it| it.drops),
            }),
            somaxconn: self.somaxconn.get(&netns).copied().flatten(),
            others: self.others(first.inode),
            shards: shards.map(|it| self.holders(it.inode).unwrap_or_default()).collect(),
        }
    }

    fn unix_listener(&self, netns: u32, first: &UnixSocket) -> Listener {
        let inode = first.inode.unwrap_or_default();
        let last = self.unix.get(&inode).copied().unwrap_or(first);
        Listener {
            address: ListenerAddress::Unix(first.name.clone()),
            queue: match last.queue {
                Some(UnixQueue::Accept { connections, backlog }) => Some((connections, backlog)),
                _ => None,
            },
            drops: None,
            somaxconn: self.somaxconn.get(&netns).copied().flatten(),
            others: self.others(inode),
            shards: Vec::new(),
        }
    }

    fn tcp(&self, netns: u32, first: &TcpSocket) -> TcpConnection {
        let second = first.inode.and_then(|inode| {
            self.again(inode, |row| match row {
                Row::Tcp(it) => Some(it.clone()),
                _ => None,
            })
        });
        let connected = first.remote.port() != 0;
        let other = self.tcp.get(&(netns, first.remote, first.local)).filter(|_| connected);
        let holders = other.and_then(|other| self.holders(*other)).unwrap_or_default();
        TcpConnection { seen: Twice { first: first.clone(), second }, holders }
    }

    fn unix(&self, first: &UnixSocket) -> UnixConnection {
        let second = first.inode.and_then(|inode| {
            self.again(inode, |row| match row {
                Row::Unix(it) => Some(it.clone()),
                _ => None,
            })
        });
        let peer = first.peer.filter(|peer| *peer != 0);
        UnixConnection {
            seen: Twice { first: first.clone(), second },
            peer: peer.and_then(|peer| self.unix.get(&peer).copied().cloned()),
            holders: peer.and_then(|peer| self.holders(peer)),
        }
    }
}

/// The cap of the namespaces that the process listens in. That of another is read by entering it.
fn read_somaxconn(host: &Host, namespaces: &Namespaces, first: &Look) -> HashMap<u32, Option<u64>> {
    let listens = |row: &Row| match row {
        Row::Listener(_) => first.is_own(row),
        Row::Unix(it) => it.state == UnixState::Listening && first.is_own(row),
        _ => false,
    };
    let listening = first.rows.iter().filter(|(_, row)| listens(row)).map(|(netns, _)| *netns);
    let listening: HashSet<u32> = listening.collect();
    let others = if listening.iter().any(|netns| Some(*netns) != namespaces.own()) {
        host.read_network_namespaces().map(|found| found.all).unwrap_or_default()
    } else {
        Vec::new()
    };
    let cap = |netns: u32| {
        if Some(netns) == namespaces.own() {
            return host.read_somaxconn().ok().map(u64::from);
        }
        let namespace = others.iter().find(|namespace| namespace.inode == netns)?;
        host.read_network_settings_in(namespace).ok()?.somaxconn
    };
    listening.into_iter().map(|netns| (netns, cap(netns))).collect()
}
