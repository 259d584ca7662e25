//! Unix listeners: name, queue, backlog, the clients that wait.
//!
//! Owns the `unix_diag` requests and what their answers mean for a listener.
//!
//! Two dumps, because one can hide listeners: the clients of a listener are one attribute, and when
//! it does not fit into an empty datagram `unix_diag_dump()` returns no bytes, which
//! `netlink_dump()` takes for the end. The first dump therefore asks for no clients. The second
//! asks for clients alone, in the 32 KiB datagrams that the first one earned its socket; whatever
//! it does not reach is unknown.

use std::collections::{HashMap, hash_map::Entry};
use std::os::unix::ffi::OsStringExt;

use netlink_packet_core::Emitable;
use netlink_packet_sock_diag::unix::nlas::{Nla, UnixDiagName, Vfs};
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse};
use netlink_packet_sock_diag::{SOCK_SEQPACKET, SOCK_STREAM, SockDiagMessage, TCP_LISTEN};

use super::{Dump, SockDiag, SockDiagError, Subject};

/// The two kinds of Unix socket that can listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixKind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_SEQPACKET`
    Seqpacket,
}

/// The socket file that a listener was bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// `s_dev` of its filesystem, written as stat(2) writes `st_dev`. Where a filesystem makes up
    /// a device per subvolume (btrfs), stat(2) shows another.
    pub dev: u64,
    /// The low 32 bits of its inode: `unix_diag_vfs` has no room for more.
    pub inode_low: u32,
}

/// A Unix socket in `LISTEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListener {
    /// Stream or seqpacket.
    pub kind: UnixKind,
    /// The socket's inode; its `st_ino`.
    pub inode: u64,
    /// The name it was bound to: a path as it was given to bind(2), or an abstract name with its
    /// leading NUL. `unix_listen()` refuses an unbound socket, so `None` is a kernel that does not
    /// say.
    pub name: Option<Vec<u8>>,
    /// Connections in the accept queue now: `sk_receive_queue.qlen` (`sk_diag_show_rqlen()`).
    pub queue: Option<u32>,
    /// The limit in effect, after the somaxconn cap: `sk_max_ack_backlog`. A client blocks when
    /// the queue is *longer* than this (`unix_recvq_full()`).
    pub backlog: Option<u32>,
    /// The inodes of the clients in the queue, oldest first; 0 for one that closed while it
    /// waited. Read after `queue`, so their number may differ. `None` when the kernel did not give
    /// them: a list of more than about 8000 clients does not fit its datagram, and ends the dump
    /// of lists.
    pub pending: Option<Vec<u64>>,
    /// The socket file, whether or not its path still leads to it. `None` for an abstract name.
    pub file: Option<FileId>,
}

/// Lists every Unix listener of the calling thread's network namespace.
pub fn unix_listeners() -> Result<Dump<UnixListener>, SockDiagError> {
    SockDiag::open()?.unix_listeners()
}

/// The listeners of a dump, and where each is by its cookie.
#[derive(Default)]
struct Listeners {
    all: Vec<UnixListener>,
    by_cookie: HashMap<[u8; 8], usize>,
}

impl SockDiag {
    /// Lists every Unix listener of its network namespace.
    pub fn unix_listeners(&mut self) -> Result<Dump<UnixListener>, SockDiagError> {
        let shown = request(ShowFlags::NAME | ShowFlags::VFS | ShowFlags::RQLEN);
        let found = self.fold(Subject::Unix, &shown, |listeners: &mut Listeners, message| {
            with_listener(message, |response| listeners.take(response))
        })?;
        let Listeners { mut all, by_cookie } = found.state;
        let mut malformed = found.malformed;
        if all.iter().any(|listener| listener.queue != Some(0)) {
            let shown = request(ShowFlags::ICONS);
            let clients = self.fold(Subject::Unix, &shown, |lists: &mut Vec<_>, message| {
                with_listener(message, |response| {
                    let known = by_cookie.get(&response.header.cookie);
                    lists.extend(known.map(|&index| (index, pending(response))));
                    true
                })
            })?;
            malformed += clients.malformed;
            for (index, pending) in clients.state {
                if let Some(listener) = all.get_mut(index) {
                    listener.pending = pending;
                }
            }
        }
        Ok(Dump { sockets: all, malformed, interrupted: found.interrupted })
    }
}

impl Listeners {
    /// Only stream and seqpacket sockets listen: another kind would be another kernel's.
    fn take(&mut self, response: &UnixResponse) -> bool {
        let Some(listener) = decode(response) else { return false };
        if let Entry::Vacant(new) = self.by_cookie.entry(response.header.cookie) {
            new.insert(self.all.len());
            self.all.push(listener);
        }
        true
    }
}

/// Hands on the answer if it is a listener's; says whether it could be understood.
fn with_listener(message: SockDiagMessage, take: impl FnOnce(&UnixResponse) -> bool) -> bool {
    match message {
        SockDiagMessage::UnixResponse(response) if response.header.state == TCP_LISTEN => {
            take(&response)
        }
        SockDiagMessage::UnixResponse(_) => true,
        _ => false,
    }
}

fn request(show_flags: ShowFlags) -> SockDiagMessage {
    SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: StateFlags::LISTEN,
        inode: 0,
        show_flags,
        cookie: [0xff; 8],
    })
}

fn decode(response: &UnixResponse) -> Option<UnixListener> {
    let kind = match response.header.kind {
        SOCK_STREAM => UnixKind::Stream,
        SOCK_SEQPACKET => UnixKind::Seqpacket,
        _ => return None,
    };
    let queue = response.number_of_pending_connection();
    Some(UnixListener {
        kind,
        inode: u64::from(response.header.inode),
        name: response.name().map(name_bytes),
        queue,
        backlog: response.max_number_of_pending_connection(),
        pending: (queue == Some(0)).then(Vec::new),
        file: response.nlas.iter().find_map(|attribute| match attribute {
            Nla::Vfs(vfs) => Some(file_id(vfs)),
            _ => None,
        }),
    })
}

fn pending(response: &UnixResponse) -> Option<Vec<u64>> {
    let inodes = response.pending_connections()?;
    Some(inodes.iter().copied().map(u64::from).collect())
}

pub(super) fn name_bytes(name: &UnixDiagName) -> Vec<u8> {
    match name {
        UnixDiagName::Pathname(path) => path.clone().into_vec(),
        UnixDiagName::Abstract(name) => [&[0], name.as_slice()].concat(),
    }
}

/// `struct unix_diag_vfs` by its bytes, as the crate keeps its fields private. The device is the
/// kernel's own number: 20 bits of minor below the major (`MINORBITS`).
pub(super) fn file_id(vfs: &Vfs) -> FileId {
    let mut bytes = [0; 8];
    vfs.emit(&mut bytes);
    let [i0, i1, i2, i3, d0, d1, d2, d3] = bytes;
    let device = u32::from_ne_bytes([d0, d1, d2, d3]);
    FileId {
        dev: libc::makedev(device >> 20, device & 0xf_ffff),
        inode_low: u32::from_ne_bytes([i0, i1, i2, i3]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::OwnedFd;
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    };
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    const STREAM: SocketType = SocketType::STREAM;

    fn unix_socket(kind: SocketType) -> OwnedFd {
        socket_with(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None).expect("a socket")
    }

    fn listener(kind: SocketType, address: &SocketAddrUnix, backlog: i32) -> OwnedFd {
        let fd = unix_socket(kind);
        bind(&fd, address).expect("a free name");
        listen(&fd, backlog).expect("a listener");
        fd
    }

    fn client(kind: SocketType, address: &SocketAddrUnix) -> OwnedFd {
        let fd = unix_socket(kind);
        connect(&fd, address).expect("room in the queue");
        fd
    }

    /// An abstract name of this test process alone.
    fn abstract_name(rest: &[u8]) -> Vec<u8> {
        [format!("socktrace-{}-", std::process::id()).as_bytes(), rest].concat()
    }

    fn inode(fd: &OwnedFd) -> u64 {
        rustix::fs::fstat(fd).expect("fstat").st_ino
    }

    fn find(fd: &OwnedFd) -> UnixListener {
        let dump = unix_listeners().expect("a dump");
        assert_eq!((dump.malformed, dump.interrupted), (0, false));
        let mut found = dump.sockets.into_iter().filter(|listener| listener.inode == inode(fd));
        let first = found.next().expect("the listener");
        assert_eq!(found.next(), None, "listed once");
        first
    }

    #[test]
    fn a_hostile_path_is_listed_byte_for_byte_with_its_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(OsStr::from_bytes(b"a\nb\x1b[2J\xff"));
        let address = SocketAddrUnix::new(&path).expect("a short path");
        let fd = listener(STREAM, &address, 3);
        let clients = [0; 2].map(|_| client(STREAM, &address));
        let file = std::fs::metadata(&path).expect("the socket file");
        let expected = UnixListener {
            kind: UnixKind::Stream,
            inode: inode(&fd),
            name: Some(path.as_os_str().as_bytes().to_vec()),
            queue: Some(2),
            backlog: Some(3),
            pending: Some(clients.iter().map(inode).collect()),
            file: Some(FileId {
                dev: file.dev(),
                inode_low: u32::try_from(file.ino() & 0xffff_ffff).expect("32 bits"),
            }),
        };
        assert_eq!(find(&fd), expected);
    }

    #[test]
    fn an_abstract_name_keeps_its_nuls_and_a_closed_client_its_place() {
        let name = abstract_name(b"\0in\0side\0");
        let address = SocketAddrUnix::new_abstract_name(&name).expect("a short name");
        let fd = listener(SocketType::SEQPACKET, &address, 5);
        drop(client(SocketType::SEQPACKET, &address));
        let waiting = client(SocketType::SEQPACKET, &address);
        let expected = UnixListener {
            kind: UnixKind::Seqpacket,
            inode: inode(&fd),
            name: Some([&[0], name.as_slice()].concat()),
            queue: Some(2),
            backlog: Some(5),
            pending: Some(vec![0, inode(&waiting)]),
            file: None,
        };
        assert_eq!(find(&fd), expected);
    }

    #[test]
    fn a_path_that_fills_the_address_is_listed_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let parent = dir.path().as_os_str().len() + 1;
        for length in [107, 108] {
            let path = dir.path().join("p".repeat(length - parent));
            let fd = listener(STREAM, &SocketAddrUnix::new(&path).expect("a path that fits"), 0);
            assert_eq!(find(&fd).name.as_deref(), Some(path.as_os_str().as_bytes()));
        }
    }

    #[test]
    fn a_queue_of_thousands_is_listed_whole_and_hides_no_listener() {
        const CLIENTS: usize = 2000;
        let named = |rest: &str| {
            let name = abstract_name(rest.as_bytes());
            SocketAddrUnix::new_abstract_name(&name).expect("a short name")
        };
        let long = named("long");
        let fd = listener(STREAM, &long, i32::MAX);
        let others: Vec<_> =
            (0..50).map(|number| listener(STREAM, &named(&format!("other-{number}")), 1)).collect();
        for _ in 0..CLIENTS {
            drop(client(STREAM, &long));
        }
        let found = find(&fd);
        assert_eq!(found.queue, Some(2000));
        assert_eq!(found.pending, Some(vec![0; CLIENTS]));
        let dump = unix_listeners().expect("a dump");
        for other in &others {
            let found = dump.sockets.iter().find(|listener| listener.inode == inode(other));
            assert_eq!(found.and_then(|listener| listener.pending.clone()), Some(vec![]));
        }
    }
}
