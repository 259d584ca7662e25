//! TCP listeners: address, accept queue, backlog, drops.
//!
//! Owns what the answer of `inet_diag` means for a listener.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::TCP_LISTEN;
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse, SocketId, StateFlags};

use super::inet::InetQuery;
use super::{Dump, SockDiag, SockDiagError, Subject};

/// A TCP socket in `LISTEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpListener {
    /// Where it listens; the family is that of the socket, so a dual-stack one is V6.
    pub address: SocketAddr,
    /// The interface it is bound to (`SO_BINDTODEVICE`), by index.
    pub interface: Option<u32>,
    /// The socket's inode; its `st_ino`.
    pub inode: u64,
    /// Connections in the accept queue now: `sk_ack_backlog` (`tcp_diag_get_info()`).
    pub queue: u32,
    /// The limit in effect, after the somaxconn cap: `sk_max_ack_backlog`. A connection is
    /// refused when the queue is *longer* than this (`sk_acceptq_is_full()`).
    pub backlog: u32,
    /// The owner of the socket's inode: who made it, unless fchown(2) said otherwise.
    pub uid: u32,
    /// What this socket dropped since it was made: `sk_drops`, SYNs and final ACKs for every
    /// reason.
    pub drops: Option<u32>,
    /// Whether IPv4 is left out (`IPV6_V6ONLY`); `None` for an IPv4 socket.
    pub v6only: Option<bool>,
}

/// Lists every TCP listener of the calling thread's network namespace.
pub fn tcp_listeners() -> Result<Dump<TcpListener>, SockDiagError> {
    SockDiag::open()?.tcp_listeners()
}

/// The sockets of this network namespace that are connected, or were, to `port`: local address and
/// inode. Of a listener on this host they are its local clients.
pub fn tcp_clients(port: u16) -> Result<Vec<(SocketAddr, u64)>, SockDiagError> {
    // The kernel compares the ports of a dump's request with each socket's (`inet_diag_dump_icsk`).
    let id = |id| SocketId { destination_port: port, ..id };
    let client = |response: &InetResponse| {
        let id = &response.header.socket_id;
        let local = SocketAddr::new(id.source_address.to_canonical(), id.source_port);
        Some((local, u64::from(response.header.inode)))
    };
    let query = InetQuery {
        subject: Subject::Tcp,
        extensions: ExtensionFlags::SKMEMINFO,
        states: StateFlags::all() & !StateFlags::LISTEN,
        ids: [id(SocketId::new_v4()), id(SocketId::new_v6())],
    };
    Ok(SockDiag::open()?.inet_sockets(&query, client)?.sockets)
}

impl SockDiag {
    /// Lists every TCP listener of its network namespace.
    pub fn tcp_listeners(&mut self) -> Result<Dump<TcpListener>, SockDiagError> {
        let query = InetQuery {
            subject: Subject::Tcp,
            extensions: ExtensionFlags::SKMEMINFO,
            states: StateFlags::LISTEN,
            ids: [SocketId::new_v4(), SocketId::new_v6()],
        };
        let listening = |it: &InetResponse| it.header.state == TCP_LISTEN;
        self.inet_sockets(&query, |it| listening(it).then(|| decode(it)))
    }
}

fn decode(response: &InetResponse) -> TcpListener {
    let header = &response.header;
    let id = &header.socket_id;
    let drops = response.nlas.iter().find_map(|attribute| match attribute {
        Nla::MemInfo(memory) => Some(memory.drops),
        _ => None,
    });
    let v6only = response.nlas.iter().find_map(|attribute| match attribute {
        Nla::SkV6Only(only) => Some(*only),
        _ => None,
    });
    TcpListener {
        address: SocketAddr::new(id.source_address, id.source_port),
        interface: (id.interface_id != 0).then_some(id.interface_id),
        inode: u64::from(header.inode),
        queue: header.recv_queue,
        backlog: header.send_queue,
        uid: header.uid,
        drops,
        v6only: v6only.filter(|_| matches!(id.source_address, IpAddr::V6(_))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
    use std::os::fd::OwnedFd;

    fn listener(address: SocketAddr, backlog: i32) -> (OwnedFd, SocketAddr) {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = socket(family, SocketType::STREAM, None).expect("a socket");
        bind(&fd, &address).expect("a free port");
        listen(&fd, backlog).expect("a listener");
        let bound = rustix::net::getsockname(&fd).expect("its name");
        (fd, bound.try_into().expect("an internet address"))
    }

    fn find(fd: &OwnedFd) -> TcpListener {
        let inode = rustix::fs::fstat(fd).expect("fstat").st_ino;
        let dump = tcp_listeners().expect("a dump");
        assert_eq!(dump.malformed, 0);
        let mut found = dump.sockets.into_iter().filter(|listener| listener.inode == inode);
        let first = found.next().expect("the listener");
        assert_eq!(found.next(), None, "listed once");
        first
    }

    #[test]
    fn an_ipv4_listener_is_listed_with_its_queue() {
        let (fd, address) = listener((Ipv4Addr::LOCALHOST, 0).into(), 3);
        let clients = [0; 2].map(|_| TcpStream::connect(address).expect("room in the queue"));
        let expected = TcpListener {
            address,
            interface: None,
            inode: rustix::fs::fstat(&fd).expect("fstat").st_ino,
            queue: 2,
            backlog: 3,
            uid: rustix::process::getuid().as_raw(),
            drops: Some(0),
            v6only: None,
        };
        assert_eq!(find(&fd), expected);
        drop(clients);
    }

    #[test]
    fn a_full_queue_holds_one_more_than_the_backlog_and_its_drops_are_counted() {
        let (fd, address) = listener((Ipv4Addr::LOCALHOST, 0).into(), 1);
        let queued = [0; 2].map(|_| TcpStream::connect(address).expect("room in the queue"));
        let timeout = std::time::Duration::from_millis(100);
        TcpStream::connect_timeout(&address, timeout).expect_err("the SYN is dropped");
        let found = find(&fd);
        assert_eq!((found.queue, found.backlog), (2, 1));
        assert!(found.drops > Some(0), "{found:?}");
        drop(queued);
    }

    #[test]
    fn an_ipv6_listener_says_whether_it_takes_ipv4() {
        for only in [true, false] {
            let fd = socket(AddressFamily::INET6, SocketType::STREAM, None).expect("a socket");
            sockopt::set_ipv6_v6only(&fd, only).expect("an option");
            bind(&fd, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).expect("a free port");
            listen(&fd, 5).expect("a listener");
            let found = find(&fd);
            assert_eq!((found.v6only, found.backlog, found.queue), (Some(only), 5, 0));
            assert_eq!(found.address.ip(), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        }
        let (fd, address) = listener((Ipv6Addr::LOCALHOST, 0).into(), 4);
        let client = TcpStream::connect(address).expect("room in the queue");
        let found = find(&fd);
        assert_eq!((found.address, found.queue, found.backlog), (address, 1, 4));
        drop(client);
    }

    #[test]
    fn a_backlog_above_somaxconn_is_listed_as_the_kernel_capped_it() {
        let (fd, _) = listener((Ipv4Addr::LOCALHOST, 0).into(), i32::MAX);
        let somaxconn = crate::host::Host::default().read_somaxconn().expect("somaxconn");
        assert_eq!(find(&fd).backlog, somaxconn);
    }
}
