//! Connections that were accepted from a listener and are still open: whoever accepts has left some, mostly.

use crate::{
    evidence::Namespaces,
    host::sock_diag::{
        Dump, SockDiagError, States, TcpListener, TcpSocket, TcpState, UnixSocket, UnixState,
    },
};

/// Of a Unix listener; `None` where that could not be seen.
pub(super) fn of_unix(
    namespaces: &mut Namespaces,
    netns: u32,
    listener: &UnixSocket,
) -> Option<u64> {
    let states = States::of(&[UnixState::Established]);
    // They have its name; one that nobody has accepted yet has no inode.
    let is_its = |it: &UnixSocket| {
        it.inode.is_some() && it.name == listener.name && it.kind == listener.kind
    };
    listener.name.as_ref()?;
    counted(namespaces.of(netns)?.unix_sockets(states, is_its))
}

/// Of a TCP listener, with those of others on the same port.
pub(super) fn of_tcp(
    namespaces: &mut Namespaces,
    netns: u32,
    listener: &TcpListener,
) -> Option<u64> {
    let states = States::of(&[TcpState::Established, TcpState::CloseWait]);
    let is_its = |it: &TcpSocket| it.inode.is_some() && it.local.port() == listener.address.port();
    counted(namespaces.of(netns)?.tcp_sockets(states, is_its))
}

fn counted<T>(found: Result<Dump<T>, SockDiagError>) -> Option<u64> {
    let found = found.ok()?;
    (found.malformed == 0 && !found.interrupted).then_some(found.sockets.len() as u64)
}
