//! Unix sockets of every kind and state: name, peer, queue.
//!
//! Owns what the answer of `unix_diag` means for a socket that need not listen. The clients that
//! wait for a listener are in `unix`.

use std::collections::HashSet;

use netlink_packet_core::Nla as _;
use netlink_packet_sock_diag::unix::nlas::Nla;
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse};
use netlink_packet_sock_diag::{SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SockDiagMessage};

use super::unix::{file_id, name_bytes};
use super::{Dump, FileId, SockDiag, SockDiagError, States, Subject, UnixState};

/// `UDIAG_SHOW_UID` and its answer `UNIX_DIAG_UID` (`include/uapi/linux/unix_diag.h`), since Linux 5.3.
const SHOW_UID: u32 = 0x40;
const UID: u16 = 7;

/// The kinds of Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnixSocketKind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Datagram,
    /// `SOCK_SEQPACKET`
    Seqpacket,
}

/// What is queued; the same two numbers mean one or the other (`sk_diag_show_rqlen()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixQueue {
    /// Of a listener.
    Accept {
        /// Connections in the accept queue.
        connections: u32,
        /// The limit in effect; a client blocks when the queue is *longer*.
        backlog: u32,
    },
    /// Of any other socket.
    Data {
        /// Bytes that wait to be read here. Of a datagram socket, those of the first datagram only
        /// (`unix_inq_len()`): how many wait, and their limit, the kernel does not tell.
        unread: u32,
        /// Memory of what was sent from here and not read by the receivers, bytes
        /// (`sk_wmem_alloc`): a sender blocks where it goes over the send buffer.
        sent: u32,
    },
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// The socket's inode; `None` for one that no process holds: it waits in an accept queue.
    pub inode: Option<u64>,
    /// Its kind.
    pub kind: UnixSocketKind,
    /// Its state.
    pub state: UnixState,
    /// The name it was bound to, a path as it was given to bind(2), or an abstract name with its
    /// leading NUL; that of its listener for an accepted one.
    pub name: Option<Vec<u8>>,
    /// The socket file, whether or not its path still leads to it.
    pub file: Option<FileId>,
    /// The inode of the socket that it is connected to; 0 for one that was not accepted yet. `None`
    /// where it is connected to none, or to one that was closed.
    pub peer: Option<u64>,
    /// What is queued.
    pub queue: Option<UnixQueue>,
    /// The limit of what may be sent and not read: `SO_SNDBUF`.
    pub send_buffer: Option<u32>,
    /// What shutdown(2) ended: 1 receiving, 2 sending, 3 both. The peer's end sets it here, too.
    pub shutdown: Option<u8>,
    /// The owner of the socket's inode, in the reader's user namespace.
    pub uid: Option<u32>,
}

/// Lists the Unix sockets of the calling thread's network namespace that are in one of `states` and
/// that `keep` wants.
pub fn unix_sockets(
    states: States,
    keep: impl Fn(&UnixSocket) -> bool,
) -> Result<Dump<UnixSocket>, SockDiagError> {
    SockDiag::open()?.unix_sockets(states, keep)
}

/// Sockets and the cookies they are known by.
#[derive(Default)]
struct Kept {
    sockets: Vec<UnixSocket>,
    cookies: HashSet<[u8; 8]>,
}

impl SockDiag {
    /// Lists the Unix sockets of its network namespace that are in one of `states` and that `keep`
    /// wants. What is not kept takes no memory; `keep` may be asked more than once.
    pub fn unix_sockets(
        &mut self,
        states: States,
        keep: impl Fn(&UnixSocket) -> bool,
    ) -> Result<Dump<UnixSocket>, SockDiagError> {
        let found = self.fold(Subject::Unix, &request(states), |kept: &mut Kept, message| {
            let SockDiagMessage::UnixResponse(response) = message else { return false };
            let Some(socket) = decode(&response) else { return false };
            if keep(&socket) && kept.cookies.insert(response.header.cookie) {
                kept.sockets.push(socket);
            }
            true
        })?;
        Ok(Dump {
            sockets: found.state.sockets,
            malformed: found.malformed,
            interrupted: found.interrupted,
        })
    }
}

fn request(states: States) -> SockDiagMessage {
    let shown = ShowFlags::NAME
        | ShowFlags::VFS
        | ShowFlags::PEER
        | ShowFlags::RQLEN
        | ShowFlags::MEMINFO
        | ShowFlags::from_bits_retain(SHOW_UID);
    SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: StateFlags::from_bits_retain(states.bits()),
        inode: 0,
        show_flags: shown,
        cookie: [0xff; 8],
    })
}

/// `None` for a kind that no known kernel has.
fn decode(response: &UnixResponse) -> Option<UnixSocket> {
    let header = &response.header;
    let kind = match header.kind {
        SOCK_STREAM => UnixSocketKind::Stream,
        SOCK_DGRAM => UnixSocketKind::Datagram,
        SOCK_SEQPACKET => UnixSocketKind::Seqpacket,
        _ => return None,
    };
    let state = UnixState::from(header.state);
    let mut socket = UnixSocket {
        inode: (header.inode != 0).then_some(u64::from(header.inode)),
        kind,
        state,
        name: None,
        file: None,
        peer: None,
        queue: None,
        send_buffer: None,
        shutdown: None,
        uid: None,
    };
    for attribute in &response.nlas {
        match attribute {
            Nla::Name(name) => socket.name = Some(name_bytes(name)),
            Nla::Vfs(vfs) => socket.file = Some(file_id(vfs)),
            Nla::Peer(inode) => socket.peer = Some(u64::from(*inode)),
            Nla::ReceiveQueueLength(first, second) => {
                socket.queue = Some(queue(state, *first, *second));
            }
            Nla::MemInfo(memory) => socket.send_buffer = Some(memory.max_datagram_size),
            Nla::Shutdown(ended) => socket.shutdown = Some(*ended),
            Nla::Other(other) if other.kind() == UID => socket.uid = word(other),
            _ => {}
        }
    }
    Some(socket)
}

fn queue(state: UnixState, first: u32, second: u32) -> UnixQueue {
    if state == UnixState::Listening {
        UnixQueue::Accept { connections: first, backlog: second }
    } else {
        UnixQueue::Data { unread: first, sent: second }
    }
}

fn word(attribute: &netlink_packet_core::DefaultNla) -> Option<u32> {
    let mut bytes = [0; 4];
    if attribute.value_len() != bytes.len() {
        return None;
    }
    attribute.emit_value(&mut bytes);
    Some(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn inode(of: &impl AsFd) -> u64 {
        rustix::fs::fstat(of).expect("fstat").st_ino
    }

    fn find(of: &impl AsFd) -> UnixSocket {
        let wanted = inode(of);
        let keep = |socket: &UnixSocket| socket.inode == Some(wanted);
        let dump = unix_sockets(States::ALL, keep).expect("a dump");
        assert_eq!((dump.malformed, dump.sockets.len()), (0, 1), "{:?}", dump.sockets);
        dump.sockets.into_iter().next().expect("the socket")
    }

    #[test]
    fn a_pair_names_each_other_with_what_is_unread_and_what_is_shut() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        near.write_all(b"abc").expect("sent");
        far.shutdown(Shutdown::Write).expect("shut");
        let (a, b) = (find(&near), find(&far));
        assert_eq!((a.peer, b.peer), (Some(inode(&far)), Some(inode(&near))));
        assert_eq!((a.kind, a.state), (UnixSocketKind::Stream, UnixState::Established));
        assert_eq!((a.shutdown, b.shutdown), (Some(1), Some(2)));
        assert!(a.name.is_none() && a.file.is_none());
        assert_eq!(a.uid, Some(rustix::process::getuid().as_raw()));
        assert!(matches!(b.queue, Some(UnixQueue::Data { unread: 3, .. })), "{:?}", b.queue);
        let charged = |sent| sent > 0 && a.send_buffer > Some(sent);
        let sent = matches!(a.queue, Some(UnixQueue::Data { unread: 0, sent }) if charged(sent));
        assert!(sent, "{a:?}");
    }

    #[test]
    fn an_accepted_socket_has_the_listeners_name_and_a_waiting_client_a_peer_without_inode() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("a listener");
        let client = UnixStream::connect(&path).expect("room in the queue");
        assert_eq!((find(&client).peer, find(&client).state), (Some(0), UnixState::Established));
        let seen = find(&listener);
        assert_eq!(seen.state, UnixState::Listening);
        assert!(matches!(seen.queue, Some(UnixQueue::Accept { connections: 1, .. })));
        let (server, _) = listener.accept().expect("the connection");
        assert_eq!(find(&client).peer, Some(inode(&server)));
        assert_eq!(find(&server).name.as_deref(), Some(path.as_os_str().as_bytes()));
        assert_eq!(find(&server).file, seen.file);
        let listening = States::of(&[UnixState::Listening]);
        let here = |socket: &UnixSocket| socket.file == seen.file;
        let found = unix_sockets(listening, here).expect("a dump").sockets;
        assert_eq!(found, [find(&listener)]);
    }

    #[test]
    fn a_datagram_socket_tells_its_first_datagram_and_a_client_its_peer() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("d");
        let server = UnixDatagram::bind(&path).expect("a socket");
        let client = UnixDatagram::unbound().expect("a socket");
        assert_eq!(find(&client).state, UnixState::Unconnected);
        client.connect(&path).expect("a peer");
        for _ in 0..2 {
            client.send(b"four").expect("sent");
        }
        assert_eq!((find(&client).peer, find(&server).peer), (Some(inode(&server)), None));
        assert_eq!(find(&server).kind, UnixSocketKind::Datagram);
        let queue = find(&server).queue;
        assert!(matches!(queue, Some(UnixQueue::Data { unread: 4, .. })), "{queue:?}");
    }
}
