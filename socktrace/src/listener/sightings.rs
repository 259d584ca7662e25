//! One look at every listener of every network namespace.
//!
//! Owns what a look brings and what it misses: nothing that could not be read is left out silently.

use std::collections::HashMap;

use crate::{
    event::{Address, Endpoint, Sighting, SocketKind},
    host::{
        EnterError, Host, NamespaceWindow, NetworkNamespace, TcpExt,
        sock_diag::{
            Dump, SockDiagError, TcpListener, UnixKind, UnixListener, tcp_listeners, unix_listeners,
        },
    },
};

/// What a look brought.
#[derive(Debug, Default)]
pub struct Look {
    /// The listeners, by inode: sockets of all namespaces are numbered together.
    pub sightings: HashMap<u64, Sighting>,
    /// The namespaces that were looked into.
    pub namespaces: Vec<NamespaceSighting>,
    /// What it could not see.
    pub unseen: Unseen,
}

/// What a namespace says of its listeners together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceSighting {
    /// Its inode; `None` where `/proc` does not tell.
    pub inode: Option<u32>,
    /// Its `net.core.somaxconn`; `None` where it could not be read.
    pub somaxconn: Option<u32>,
    /// Its counters, read right behind the listeners; `None` where they could not be read.
    pub tcp_ext: Option<TcpExt>,
}

/// What a look could not see.
#[derive(Debug, Default)]
pub struct Unseen {
    /// Namespaces that could not be entered: no listener of theirs is listed.
    pub not_entered: Vec<EnterError>,
    /// Lists that a namespace did not give.
    pub not_listed: Vec<(Option<u32>, SockDiagError)>,
    /// Answers of the kernel that could not be decoded: a listener each is missing.
    pub malformed: u32,
    /// Lists whose table changed while they were made, every time: a listener may be missing.
    pub interrupted: u32,
}

/// What one namespace answered.
struct Answer {
    namespace: NamespaceSighting,
    tcp: Result<Dump<TcpListener>, SockDiagError>,
    unix: Result<Dump<UnixListener>, SockDiagError>,
}

/// Looks into each of `namespaces`; one that has gone meanwhile has no listeners.
pub fn read_sightings<'a>(
    host: &Host,
    namespaces: impl IntoIterator<Item = &'a NetworkNamespace>,
) -> Look {
    let mut look = Look::default();
    for namespace in namespaces {
        look.enter(host, namespace);
    }
    look
}

/// Looks into the calling thread's namespace only, whichever it is.
pub fn read_own_sightings(host: &Host) -> Look {
    let mut look = Look::default();
    look.take(read_here(host, None));
    look
}

fn read_here(host: &Host, inode: Option<u32>) -> Answer {
    let (tcp, unix) = (tcp_listeners(), unix_listeners());
    let namespace = NamespaceSighting {
        inode,
        somaxconn: host.read_somaxconn().ok(),
        tcp_ext: host.read_tcp_ext(None).ok(),
    };
    Answer { namespace, tcp, unix }
}

impl Look {
    /// Looks into a namespace from inside.
    pub(super) fn enter(&mut self, host: &Host, namespace: &NetworkNamespace) {
        match namespace.enter(|| read_here(host, Some(namespace.inode))) {
            Ok(answer) => self.take(answer),
            Err(error) if error.is_gone() => {}
            Err(error) => self.unseen.not_entered.push(error),
        }
    }

    /// Looks into a namespace from here. Says whether it showed everything it was asked for.
    pub(super) fn look_through(
        &mut self,
        window: &mut NamespaceWindow,
        namespace: &NetworkNamespace,
    ) -> bool {
        let (tcp, unix) = (window.tcp_listeners(), window.unix_listeners());
        let shown = tcp.is_ok() && unix.is_ok();
        let seen = NamespaceSighting {
            inode: Some(namespace.inode),
            somaxconn: window.read_somaxconn(),
            tcp_ext: namespace.read_tcp_ext(),
        };
        self.take(Answer { namespace: seen, tcp, unix });
        shown
    }

    fn take(&mut self, answer: Answer) {
        let Answer { namespace, tcp, unix } = answer;
        self.namespaces.push(namespace);
        self.take_dump(namespace.inode, tcp, tcp_sighting);
        self.take_dump(namespace.inode, unix, unix_sighting);
    }

    fn take_dump<T>(
        &mut self,
        netns: Option<u32>,
        dump: Result<Dump<T>, SockDiagError>,
        sighting: impl Fn(&T) -> (u64, Sighting),
    ) {
        match dump {
            Ok(Dump { sockets, malformed, interrupted }) => {
                self.unseen.malformed += malformed;
                self.unseen.interrupted += u32::from(interrupted);
                let found = sockets.iter().map(sighting);
                self.sightings
                    .extend(found.map(|(inode, seen)| (inode, Sighting { netns, ..seen })));
            }
            Err(error) => self.unseen.not_listed.push((netns, error)),
        }
    }
}

fn tcp_sighting(found: &TcpListener) -> (u64, Sighting) {
    let address = Some(Address::Inet(found.address));
    let sighting = Sighting {
        local: Endpoint { address, kind: Some(SocketKind::Stream) },
        netns: None,
        queue: Some(found.queue),
        effective: Some(found.backlog),
        drops: found.drops,
        socket_unit: None,
        clients: None,
    };
    (found.inode, sighting)
}

fn unix_sighting(found: &UnixListener) -> (u64, Sighting) {
    let kind = match found.kind {
        UnixKind::Stream => SocketKind::Stream,
        UnixKind::Seqpacket => SocketKind::Seqpacket,
    };
    let sighting = Sighting {
        local: Endpoint { address: found.name.clone().map(Address::Unix), kind: Some(kind) },
        netns: None,
        queue: found.queue,
        effective: found.backlog,
        drops: None,
        socket_unit: None,
        clients: found.pending.clone(),
    };
    (found.inode, sighting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tcp: Result<Dump<TcpListener>, SockDiagError>) -> Answer {
        let namespace = NamespaceSighting { inode: Some(7), somaxconn: Some(128), tcp_ext: None };
        let unix = Dump { sockets: Vec::new(), malformed: 2, interrupted: true };
        Answer { namespace, tcp, unix: Ok(unix) }
    }

    #[test]
    fn what_a_list_lost_and_a_list_that_was_refused_are_told() {
        let mut look = Look::default();
        let subject = crate::host::sock_diag::Subject::Tcp;
        look.take(answer(Err(SockDiagError::NoHandler { subject })));
        assert_eq!((look.unseen.malformed, look.unseen.interrupted), (2, 1));
        assert!(matches!(look.unseen.not_listed.as_slice(), [(Some(7), _)]));
        assert!(look.sightings.is_empty());
        assert_eq!(look.namespaces[0].somaxconn, Some(128));
    }

    #[test]
    fn a_listener_is_seen_with_its_namespace() {
        let listener = TcpListener {
            address: ([127, 0, 0, 1], 80).into(),
            interface: None,
            inode: 9,
            queue: 1,
            backlog: 2,
            uid: 0,
            drops: Some(3),
            v6only: None,
        };
        let mut look = Look::default();
        look.take(answer(Ok(Dump { sockets: vec![listener], malformed: 0, interrupted: false })));
        let seen = &look.sightings[&9];
        assert_eq!((seen.netns, seen.queue, seen.drops), (Some(7), Some(1), Some(3)));
    }

    #[test]
    fn this_thread_looks_into_every_namespace_that_it_may_enter() {
        let host = Host::default();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let inode = rustix::fs::fstat(&socket).expect("fstat").st_ino;
        let namespaces = host.read_network_namespaces().expect("namespaces");
        let look = read_sightings(&host, &namespaces.all);
        assert_eq!(look.sightings[&inode].netns, Some(namespaces.all[0].inode));
        let own = look.namespaces[0];
        assert!(own.somaxconn.is_some() && own.tcp_ext.is_some(), "{own:?}");
        assert_eq!(read_own_sightings(&host).sightings[&inode].netns, None);
    }
}
