//! TCP sockets that do not listen: both ends, state, queues, how the connection gets on.
//!
//! Owns what the answer of `inet_diag` means for a connection. Listeners are in `tcp`: their queues
//! mean something else. A socket that is neither bound nor connected is in none of the kernel's
//! tables, so nothing lists it.

use std::net::SocketAddr;

use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse};

use super::inet::{InetQuery, ends};
use super::memory::memory;
use super::{Dump, SkMemInfo, SockDiag, SockDiagError, States, Subject, TcpInfo, TcpState};

/// A TCP socket that does not listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its own end. An IPv4 address that an IPv6 socket uses is given as IPv4, here and in `remote`.
    pub local: SocketAddr,
    /// The peer's end; port 0 where there is none.
    pub remote: SocketAddr,
    /// The interface it is bound to (`SO_BINDTODEVICE`), by index.
    pub interface: Option<u32>,
    /// What it is in. `SynReceived` and `TimeWait` are entries of the kernel's without a socket.
    pub state: TcpState,
    /// The socket's inode; `None` for one that no process holds any more, or not yet: it waits in an
    /// accept queue, or was closed.
    pub inode: Option<u64>,
    /// The owner of the socket's inode; without an inode the kernel says 0, which says nothing.
    pub uid: Option<u32>,
    /// Bytes received and not read.
    pub receive_queue: u32,
    /// Bytes written and not acknowledged.
    pub send_queue: u32,
    /// How the connection gets on; `None` where there is no socket.
    pub info: Option<TcpInfo>,
    /// Its buffers; `None` where there is no socket.
    pub memory: Option<SkMemInfo>,
}

/// Lists the TCP sockets of the calling thread's network namespace that are in one of `states` and
/// that `keep` wants; listeners are never among them.
pub fn tcp_sockets(
    states: States,
    keep: impl Fn(&TcpSocket) -> bool,
) -> Result<Dump<TcpSocket>, SockDiagError> {
    SockDiag::open()?.tcp_sockets(states, keep)
}

impl SockDiag {
    /// Lists the TCP sockets of its network namespace that are in one of `states` and that `keep`
    /// wants. What is not kept takes no memory; `keep` may be asked more than once.
    pub fn tcp_sockets(
        &mut self,
        states: States,
        keep: impl Fn(&TcpSocket) -> bool,
    ) -> Result<Dump<TcpSocket>, SockDiagError> {
        let states = states.except(States::of(&[TcpState::Listen]));
        let extensions = ExtensionFlags::INFO | ExtensionFlags::SKMEMINFO;
        let query = InetQuery::all(Subject::Tcp, extensions, states.bits());
        self.inet_sockets(&query, |response| Some(decode(response)).filter(&keep))
    }
}

fn decode(response: &InetResponse) -> TcpSocket {
    let header = &response.header;
    let (local, remote) = ends(&header.socket_id);
    let info = response.nlas.iter().find_map(|attribute| match attribute {
        Nla::TcpInfo(bytes) => TcpInfo::parse(bytes),
        _ => None,
    });
    let interface = header.socket_id.interface_id;
    let has_inode = header.inode != 0;
    TcpSocket {
        local,
        remote,
        interface: (interface != 0).then_some(interface),
        state: header.state.into(),
        inode: has_inode.then_some(u64::from(header.inode)),
        uid: has_inode.then_some(header.uid),
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        info,
        memory: memory(&response.nlas),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn inode(of: &impl std::os::fd::AsFd) -> u64 {
        rustix::fs::fstat(of).expect("fstat").st_ino
    }

    fn find(wanted: u64) -> TcpSocket {
        let dump = tcp_sockets(States::ALL, |socket| socket.inode == Some(wanted)).expect("a dump");
        assert_eq!((dump.malformed, dump.sockets.len()), (0, 1), "{:?}", dump.sockets);
        dump.sockets.into_iter().next().expect("the socket")
    }

    #[test]
    fn both_ends_of_a_connection_read_alike_with_what_is_unread() {
        // A listener of both families: its end of the connection is an IPv6 socket.
        let listener = TcpListener::bind("[::]:0").expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        let (mut server, _) = listener.accept().expect("the connection");
        client.write_all(b"abc").expect("sent");
        let mut first = [0];
        server.read_exact(&mut first).expect("received");

        let (near, far) = (find(inode(&client)), find(inode(&server)));
        assert_eq!((near.local, near.remote), (far.remote, far.local));
        assert_eq!(near.local, client.local_addr().expect("its address"));
        assert_eq!((near.state, far.state), (TcpState::Established, TcpState::Established));
        assert_eq!((near.receive_queue, far.receive_queue), (0, 2));
        assert_eq!(near.uid, Some(rustix::process::getuid().as_raw()));
        let info = near.info.expect("tcp_info");
        assert_eq!((info.retransmits, info.total_retrans, info.lost), (0, 0, 0));
        assert!(info.rtt_us > 0 && info.rto_us >= 1000 && info.peer_window > Some(0), "{info:?}");
        let memory = far.memory.expect("its buffers");
        assert!(memory.receive_buffer > 0 && memory.send_buffer > 0 && memory.drops == 0);
    }

    #[test]
    fn a_peer_that_does_not_read_is_seen_by_its_window_and_the_send_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        client.set_nonblocking(true).expect("an option");
        let (server, _) = listener.accept().expect("the connection");
        let full = (0..1000).any(|_| {
            let written = client.write(&[0; 8192]);
            std::thread::sleep(std::time::Duration::from_millis(1));
            written.is_err()
                && find(inode(&client)).info.expect("tcp_info").peer_window < Some(65536)
        });
        let (near, far) = (find(inode(&client)), find(inode(&server)));
        assert!(full && near.send_queue > 0 && far.receive_queue > 0, "{near:?}");
        let memory = near.memory.expect("its buffers");
        assert!(memory.send_queued >= memory.send_buffer, "{memory:?}");
    }

    #[test]
    fn a_connection_that_nobody_accepted_or_holds_has_no_inode_and_no_listener_is_listed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let at = listener.local_addr().expect("its address");
        let client = TcpStream::connect(at).expect("a connection");
        let from = client.local_addr().expect("its address");
        // By both addresses: clients of an earlier listener may wait in TIME-WAIT for the same
        // port, which the kernel gives out again while they do.
        let between = |local, remote| {
            let ours = |socket: &TcpSocket| (socket.local, socket.remote) == (local, remote);
            tcp_sockets(States::ALL, ours).expect("a dump").sockets
        };
        let queued = between(at, from);
        assert_eq!(queued.len(), 1, "{queued:?}");
        assert_eq!((queued[0].inode, queued[0].uid), (None, None));
        drop(client);
        // Closed by the client first: its end stays, until the server closes, too.
        let closed = between(from, at);
        assert_eq!(closed.iter().map(|socket| socket.inode).collect::<Vec<_>>(), [None]);
        assert!(matches!(closed[0].state, TcpState::FinWait1 | TcpState::FinWait2), "{closed:?}");
    }

    #[test]
    fn only_the_states_that_are_asked_for_are_listed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let client =
            TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let ours = |socket: &TcpSocket| socket.inode == Some(inode(&client));
        let count = |states| tcp_sockets(states, ours).expect("a dump").sockets.len();
        let established = States::of(&[TcpState::Established]);
        assert_eq!((count(established), count(States::ALL.except(established))), (1, 0));
    }
}
