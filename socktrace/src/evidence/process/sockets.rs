//! The sockets of the process, as every network namespace lists them, at two looks.
//!
//! Owns what is asked for. What the two looks tell together, and who holds the other ends, is in `join`.
//! A process may hold sockets of other namespaces than its own: a service manager hands them over.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;

use super::descriptors::Held;
use crate::{
    evidence::Namespaces,
    host::{
        SocketProtocol,
        sock_diag::{
            Dump, SockDiag, SockDiagError, States, TcpListener, TcpSocket, TcpState, UdpSocket,
            UnixSocket,
        },
    },
};

/// What is asked for.
#[derive(Debug, Default)]
struct Wanted {
    /// The process's sockets.
    own: HashSet<u64>,
    /// Unix sockets at the other ends.
    peers: HashSet<u64>,
    /// TCP sockets at the other ends: their own end, and the process's.
    reversed: HashSet<(SocketAddr, SocketAddr)>,
    tcp: bool,
    udp: bool,
    unix: bool,
}

/// A socket of any kind.
#[derive(Debug)]
pub(super) enum Row {
    Listener(TcpListener),
    Tcp(TcpSocket),
    Udp(UdpSocket),
    Unix(UnixSocket),
}

/// What one look saw.
#[derive(Debug, Default)]
pub(super) struct Look {
    wanted: Wanted,
    /// With the namespace of each: the process's own, all TCP listeners, and at the second look the
    /// other ends.
    pub(super) rows: Vec<(u32, Row)>,
    /// Whether every namespace was looked into.
    pub(super) complete: bool,
    /// What could not be listed.
    pub(super) refusals: BTreeSet<String>,
}

/// The first look, into every namespace.
pub(super) fn look(namespaces: &mut Namespaces, held: &Held) -> Look {
    let wanted = Wanted::new(held);
    if !(wanted.tcp || wanted.udp || wanted.unix) {
        return Look { wanted, complete: true, ..Look::default() };
    }
    let refusals = RefCell::new(BTreeSet::new());
    let answers = namespaces.ask(|sockets| Ok(ask(sockets, &wanted, &refusals)));
    let complete = answers.complete && answers.unreadable == 0;
    Look { rows: answers.found, complete, refusals: refusals.into_inner(), wanted }
}

impl Look {
    /// Whether there is anything whose queue may move.
    pub(super) fn has_connections(&self) -> bool {
        self.rows.iter().any(|(_, row)| self.is_own(row))
    }

    /// Whether the process holds it.
    pub(super) fn is_own(&self, row: &Row) -> bool {
        row.inode().is_some_and(|inode| self.wanted.own.contains(&inode))
    }

    /// A second look, into the namespaces that have sockets of the process, with the other ends.
    pub(super) fn again(&self, namespaces: &mut Namespaces) -> Self {
        let mut look = Self { complete: true, ..Self::default() };
        look.wanted = self.wanted.with_other_ends(&self.rows);
        let refusals = RefCell::new(BTreeSet::new());
        let inodes: BTreeSet<u32> = self.rows.iter().map(|(netns, _)| *netns).collect();
        for netns in inodes {
            let Some(sockets) = namespaces.of(netns) else { continue };
            let found = ask(sockets, &look.wanted, &refusals).sockets;
            look.rows.extend(found.into_iter().map(|row| (netns, row)));
        }
        look
    }
}

impl Row {
    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            Self::Listener(it) => Some(it.inode),
            Self::Tcp(it) => it.inode,
            Self::Udp(it) => Some(it.inode),
            Self::Unix(it) => it.inode,
        }
    }
}

impl Wanted {
    fn new(held: &Held) -> Self {
        let has = |wanted: &[SocketProtocol]| {
            let may_be = |known: &Option<SocketProtocol>| {
                known.as_ref().is_none_or(|known| wanted.contains(known))
            };
            held.sockets.values().any(may_be)
        };
        Self {
            own: held.sockets.keys().copied().collect(),
            tcp: has(&[SocketProtocol::Tcp]),
            udp: has(&[SocketProtocol::Udp]),
            unix: has(&[SocketProtocol::Unix]),
            ..Self::default()
        }
    }

    fn with_other_ends(&self, rows: &[(u32, Row)]) -> Self {
        let mut wanted = Self {
            own: self.own.clone(),
            tcp: self.tcp,
            udp: self.udp,
            unix: self.unix,
            ..Self::default()
        };
        for (_, row) in rows {
            match row {
                Row::Unix(socket) => wanted.peers.extend(socket.peer.filter(|peer| *peer != 0)),
                Row::Tcp(socket) if is_slow(socket) => {
                    wanted.reversed.insert((socket.remote, socket.local));
                }
                _ => {}
            }
        }
        wanted
    }
}

/// Whether it matters who is at the other end.
fn is_slow(of: &TcpSocket) -> bool {
    of.send_queue != 0 || of.receive_queue != 0 || of.state != TcpState::Established
}

/// The sockets of one namespace that are wanted, of all kinds; what cannot be listed is named.
fn ask(sockets: &mut SockDiag, wanted: &Wanted, refusals: &RefCell<BTreeSet<String>>) -> Dump<Row> {
    let all = RefCell::new(Dump { sockets: Vec::new(), malformed: 0, interrupted: false });
    let is_own = |inode: Option<u64>| inode.is_some_and(|inode| wanted.own.contains(&inode));
    if wanted.tcp {
        // All of them: others on the same address share its connections.
        add(&all, refusals, sockets.tcp_listeners(), Row::Listener);
        let keep =
            |it: &TcpSocket| is_own(it.inode) || wanted.reversed.contains(&(it.local, it.remote));
        add(&all, refusals, sockets.tcp_sockets(with_inode(), keep), Row::Tcp);
    }
    if wanted.udp {
        let found = sockets.udp_sockets(|it| is_own(Some(it.inode)));
        add(&all, refusals, found, Row::Udp);
    }
    if wanted.unix {
        let keep = |it: &UnixSocket| {
            is_own(it.inode) || it.inode.is_some_and(|inode| wanted.peers.contains(&inode))
        };
        add(&all, refusals, sockets.unix_sockets(States::ALL, keep), Row::Unix);
    }
    all.into_inner()
}

/// States in which a process can hold a socket.
fn with_inode() -> States {
    States::ALL.except(States::of(&[TcpState::TimeWait, TcpState::SynReceived]))
}

fn add<T>(
    all: &RefCell<Dump<Row>>,
    refusals: &RefCell<BTreeSet<String>>,
    found: Result<Dump<T>, SockDiagError>,
    row: fn(T) -> Row,
) {
    match found {
        Ok(found) => {
            let mut all = all.borrow_mut();
            all.sockets.extend(found.sockets.into_iter().map(row));
            all.malformed += found.malformed;
            all.interrupted |= found.interrupted;
        }
        Err(error) => {
            refusals.borrow_mut().insert(error.to_string());
        }
    }
}
