//! UDP sockets: both ends, queues, drops.
//!
//! Owns what the answer of `udp_diag` means. A socket that is neither bound nor connected is not in
//! the kernel's table, so nothing lists it.

use std::net::SocketAddr;

use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse};

use super::inet::{InetQuery, ends};
use super::memory::memory;
use super::{Dump, SkMemInfo, SockDiag, SockDiagError, States, Subject};

/// A UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSocket {
    /// Its own end. An IPv4 address that an IPv6 socket uses is given as IPv4, here and in `remote`.
    pub local: SocketAddr,
    /// Whom connect(2) named; `None` for a socket that takes datagrams from anybody.
    pub remote: Option<SocketAddr>,
    /// The interface it is bound to (`SO_BINDTODEVICE`), by index.
    pub interface: Option<u32>,
    /// The socket's inode.
    pub inode: u64,
    /// The owner of the socket's inode.
    pub uid: u32,
    /// Memory of what was received and not read, bytes (`udp_rqueue_get()`).
    pub receive_queue: u32,
    /// Memory of what was written and not sent, bytes.
    pub send_queue: u32,
    /// Its buffers, with what it dropped.
    pub memory: Option<SkMemInfo>,
}

/// Lists the UDP sockets of the calling thread's network namespace that `keep` wants.
pub fn udp_sockets(keep: impl Fn(&UdpSocket) -> bool) -> Result<Dump<UdpSocket>, SockDiagError> {
    SockDiag::open()?.udp_sockets(keep)
}

impl SockDiag {
    /// Lists the UDP sockets of its network namespace that `keep` wants. What is not kept takes no
    /// memory; `keep` may be asked more than once.
    pub fn udp_sockets(
        &mut self,
        keep: impl Fn(&UdpSocket) -> bool,
    ) -> Result<Dump<UdpSocket>, SockDiagError> {
        let extensions = ExtensionFlags::SKMEMINFO;
        let query = InetQuery::all(Subject::Udp, extensions, States::ALL.bits());
        self.inet_sockets(&query, |response| Some(decode(response)).filter(&keep))
    }
}

fn decode(response: &InetResponse) -> UdpSocket {
    let header = &response.header;
    let (local, remote) = ends(&header.socket_id);
    let interface = header.socket_id.interface_id;
    UdpSocket {
        local,
        remote: (remote.port() != 0).then_some(remote),
        interface: (interface != 0).then_some(interface),
        inode: u64::from(header.inode),
        uid: header.uid,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        memory: memory(&response.nlas),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Socket;

    #[test]
    fn a_socket_that_is_not_read_is_listed_with_its_queue_and_drops() {
        let receiver = Socket::bind("127.0.0.1:0").expect("a socket");
        let sender = Socket::bind("127.0.0.1:0").expect("a socket");
        let at = receiver.local_addr().expect("its address");
        sender.connect(at).expect("a peer");
        for _ in 0..2000 {
            sender.send(&[0; 1000]).expect("sent");
        }
        let find = |socket: &Socket| {
            let inode = rustix::fs::fstat(socket).expect("fstat").st_ino;
            let found = udp_sockets(|socket| socket.inode == inode).expect("a dump").sockets;
            assert_eq!(found.len(), 1, "{found:?}");
            found.into_iter().next().expect("the socket")
        };
        let (near, far) = (find(&sender), find(&receiver));
        assert_eq!((near.remote, far.remote), (Some(at), None));
        assert_eq!((far.local, near.receive_queue), (at, 0));
        let memory = far.memory.expect("its buffers");
        assert!(memory.drops > 0 && far.receive_queue > 0, "{far:?}");
    }
}
