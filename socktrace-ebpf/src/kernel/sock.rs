//! `struct socket` and `struct sock`: what is connected to what.

use core::{marker::PhantomData, num::NonZeroU64};

use socktrace_common::{ABSENT, Endpoint};

use super::{Net, Probed, Reach, read};
use crate::globals::offset;

pub(crate) const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
pub(crate) const SOCK_STREAM: u16 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;

/// A `struct socket`: the side that a descriptor refers to.
#[derive(Clone, Copy)]
pub(crate) struct Socket<R = Probed>(u64, PhantomData<R>);

impl Socket {
    /// The socket of a `struct file`; `None` if the file is no socket. A socket points back at
    /// its file, anything else that `private_data` may be does not.
    #[inline(always)]
    pub(crate) fn of_file(file: u64) -> Option<Self> {
        let socket = read(file, offset!(file_private_data));
        (file != 0 && read::<u64>(socket, offset!(socket_file)) == file)
            .then_some(Self::from_raw(socket))
    }
}

impl<R: Reach> Socket<R> {
    #[inline(always)]
    pub(crate) fn from_raw(socket: u64) -> Self {
        Self(socket, PhantomData)
    }

    #[inline(always)]
    pub(crate) fn sock(self) -> Option<Sock<R>> {
        Sock::from_raw(R::read(self.0, offset!(socket_sk)))
    }

    #[inline(always)]
    fn inode(self) -> u64 {
        if R::typed() {
            // It lies behind the end of `struct socket`, where no load may go; a socket of a descriptor has a
            // file that points to it.
            let file: u64 = R::read(self.0, offset!(socket_file));
            if file != 0 {
                return R::read(R::read(file, offset!(file_inode)), offset!(inode_ino));
            }
        }
        read(self.0, offset!(socket_ino))
    }
}

/// So many bytes of a `struct sock` have its addresses, ports and family, on every known kernel.
const ENDS_BYTES: usize = 24;

/// The beginning of a TCP `struct sock`.
pub(crate) struct Ends<R = Probed> {
    sock: Sock<R>,
    /// Nothing where fields are read one by one for less.
    bytes: [u64; ENDS_BYTES / 8],
}

impl<R: Reach> Ends<R> {
    /// A field, from what was read, or on its own where a kernel has it elsewhere.
    #[inline(always)]
    fn field<T: Copy>(&self, offset: u32) -> T {
        let at = offset as usize;
        if R::typed() || at + size_of::<T>() > ENDS_BYTES {
            return R::read(self.sock.key(), offset);
        }
        // SAFETY: in bounds, and `T` is an integer or an array of them at every call.
        unsafe { (&raw const self.bytes).cast::<u8>().add(at).cast::<T>().read_unaligned() }
    }

    /// `AF_INET` or `AF_INET6`.
    #[inline(always)]
    pub(crate) fn family(&self) -> u16 {
        self.field(offset!(skc_family))
    }

    /// Local port, host order.
    #[inline(always)]
    pub(crate) fn local_port(&self) -> u16 {
        self.field(offset!(skc_num))
    }

    /// Fills in the peer's address.
    #[inline(always)]
    pub(crate) fn read_remote(&self, end: &mut Endpoint) {
        end.family = self.family();
        end.kind = SOCK_STREAM;
        end.port = u16::from_be(self.field(offset!(skc_dport)));
        if end.family == AF_INET {
            end.addr[..4].copy_from_slice(&self.field::<u32>(offset!(skc_daddr)).to_ne_bytes());
            end.len = 4;
        } else if end.family == AF_INET6 {
            end.addr[..16].copy_from_slice(&self.v6_daddr());
            end.len = 16;
        }
    }

    /// The peer's address and port, without a name; IPv4 in the first four bytes.
    #[inline(always)]
    pub(crate) fn remote(&self) -> ([u8; 16], u16) {
        let mut address = [0; 16];
        match self.family() {
            AF_INET => {
                address[..4].copy_from_slice(&self.field::<u32>(offset!(skc_daddr)).to_ne_bytes());
            }
            _ => address = self.v6_daddr(),
        }
        (address, u16::from_be(self.field(offset!(skc_dport))))
    }

    #[inline(always)]
    fn v6_daddr(&self) -> [u8; 16] {
        let (sock, at) = (self.sock.key(), offset!(skc_v6_daddr));
        if !R::typed() {
            return read(sock, at);
        }
        let (low, high) = (R::read::<u64>(sock, at), R::read::<u64>(sock, at + 8));
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }
}

/// A `struct sock`: the protocol's side, and socktrace's key for connections.
/// Not null, so that `Option<Sock>` is one register.
#[derive(Clone, Copy)]
pub(crate) struct Sock<R = Probed>(NonZeroU64, PhantomData<R>);

impl<R: Reach> Sock<R> {
    /// `None` for null and for an `ERR_PTR`.
    #[inline(always)]
    pub(crate) fn from_raw(sock: u64) -> Option<Self> {
        if sock < -4095i64 as u64 {
            NonZeroU64::new(sock).map(|sock| Self(sock, PhantomData))
        } else {
            None
        }
    }

    /// The same by its address alone, for what more than one tier does.
    #[inline(always)]
    pub(crate) fn probed(self) -> Sock {
        Sock(self.0, PhantomData)
    }

    /// Address, as a map key.
    #[inline(always)]
    pub(crate) fn key(self) -> u64 {
        self.0.get()
    }

    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        R::read(self.key(), offset!(skc_family))
    }

    #[inline(always)]
    pub(crate) fn is_unix(self) -> bool {
        self.family() == AF_UNIX
    }

    /// Whether socktrace looks at such sockets: Unix of every type, TCP and MPTCP.
    #[inline(always)]
    pub(crate) fn in_scope(self) -> bool {
        match self.family() {
            AF_UNIX => true,
            AF_INET | AF_INET6 => {
                matches!(R::read(self.key(), offset!(sk_protocol)), IPPROTO_TCP | IPPROTO_MPTCP)
            }
            _ => false,
        }
    }

    /// Whether it is a TCP socket, of MPTCP a subflow.
    #[inline(always)]
    pub(crate) fn is_tcp(self) -> bool {
        matches!(self.family(), AF_INET | AF_INET6)
            && R::read::<u16>(self.key(), offset!(sk_protocol)) == IPPROTO_TCP
    }

    #[inline(always)]
    fn state(self) -> u8 {
        R::read(self.key(), offset!(skc_state))
    }

    /// Whether it is in TCP's state LISTEN.
    #[inline(always)]
    pub(crate) fn listens(self) -> bool {
        self.state() == TCP_LISTEN
    }

    /// Whether it is in TCP's state SYN_SENT.
    #[inline(always)]
    pub(crate) fn is_syn_sent(self) -> bool {
        self.state() == TCP_SYN_SENT
    }

    /// Whether it is in TCP's state CLOSE.
    #[inline(always)]
    pub(crate) fn is_closed(self) -> bool {
        self.state() == TCP_CLOSE
    }

    /// `SOCK_STREAM` and so on.
    #[inline(always)]
    pub(crate) fn kind(self) -> u16 {
        R::read(self.key(), offset!(sk_type))
    }

    #[inline(always)]
    pub(crate) fn error(self) -> u32 {
        R::read(self.key(), offset!(sk_err))
    }

    /// Inode of the socket, as in `socket:[N]`; 0 if no descriptor refers to it (any more).
    #[inline(always)]
    pub(crate) fn inode(self) -> u64 {
        Socket::<R>::from_raw(R::read(self.key(), offset!(sk_socket))).inode()
    }

    #[inline(always)]
    pub(crate) fn net(self) -> Net<R> {
        Net::from_raw(R::read(self.key(), offset!(skc_net)))
    }

    /// Connections in the TCP accept queue.
    #[inline(always)]
    pub(crate) fn ack_backlog(self) -> u32 {
        R::read(self.key(), offset!(sk_ack_backlog))
    }

    /// Backlog that applies.
    #[inline(always)]
    pub(crate) fn max_ack_backlog(self) -> u32 {
        R::read(self.key(), offset!(sk_max_ack_backlog))
    }

    #[inline(always)]
    pub(crate) fn drops(self) -> u32 {
        R::read(self.key(), offset!(sk_drops))
    }

    /// Local TCP port, host order; 0 for Unix.
    #[inline(always)]
    pub(crate) fn local_port(self) -> u16 {
        if self.is_unix() { 0 } else { R::read(self.key(), offset!(skc_num)) }
    }

    /// The peer's TCP port, host order.
    #[inline(always)]
    pub(crate) fn remote_port(self) -> u16 {
        u16::from_be(R::read(self.key(), offset!(skc_dport)))
    }

    /// What says between whom it is a connection, in one read (TCP).
    #[inline(always)]
    pub(crate) fn ends(self) -> Ends<R> {
        let bytes = if R::typed() { [0; ENDS_BYTES / 8] } else { read(self.key(), 0) };
        Ends { sock: self, bytes }
    }
}

impl Sock {
    /// Whether a TCP socket that is being connected has sent its SYN: `connect()` fails before that for want of a route
    /// or a port.
    #[inline(always)]
    pub(crate) fn has_sent(self) -> bool {
        read::<u32>(self.key(), offset!(tcp_packets_out)) != 0
    }

    /// Whether the peer of a TCP socket has ever answered: `tcp_connect_init()` begins with 0.
    #[inline(always)]
    pub(crate) fn is_answered(self) -> bool {
        read::<u32>(self.key(), offset!(tcp_rcv_nxt)) != 0
    }

    /// The TCP socket that makes the connection: of an MPTCP socket its first subflow.
    #[inline(always)]
    pub(crate) fn handshake(self) -> Self {
        let first = offset!(mptcp_first);
        if first == ABSENT || read::<u16>(self.key(), offset!(sk_protocol)) != IPPROTO_MPTCP {
            return self;
        }
        Self::from_raw(read(self.key(), first)).unwrap_or(self)
    }

    /// The other end of a connected Unix socket.
    #[inline(always)]
    pub(crate) fn unix_peer(self) -> Option<Self> {
        Self::from_raw(read(self.key(), offset!(unix_peer)))
    }

    /// Fills in the own address.
    #[inline(always)]
    pub(crate) fn read_local(self, end: &mut Endpoint) {
        self.read_kind(end);
        if end.family == AF_UNIX {
            self.read_unix_name(end);
        } else {
            end.port = self.local_port();
            self.read_inet(end, offset!(skc_rcv_saddr), offset!(skc_v6_rcv_saddr));
        }
    }

    /// Fills in the peer's address; for Unix the peer's own name, mostly none.
    #[inline(always)]
    pub(crate) fn read_remote(self, end: &mut Endpoint) {
        self.read_kind(end);
        if end.family == AF_UNIX {
            if let Some(peer) = self.unix_peer() {
                peer.read_unix_name(end);
            }
        } else {
            end.port = self.remote_port();
            self.read_inet(end, offset!(skc_daddr), offset!(skc_v6_daddr));
        }
    }

    #[inline(always)]
    fn read_kind(self, end: &mut Endpoint) {
        end.family = self.family();
        end.kind = self.kind();
    }

    #[inline(always)]
    fn read_inet(self, end: &mut Endpoint, v4: u32, v6: u32) {
        if end.family == AF_INET {
            end.addr[..4].copy_from_slice(&read::<[u8; 4]>(self.key(), v4));
            end.len = 4;
        } else if end.family == AF_INET6 {
            end.addr[..16].copy_from_slice(&read::<[u8; 16]>(self.key(), v6));
            end.len = 16;
        }
    }

    #[inline(always)]
    pub(crate) fn read_unix_name(self, end: &mut Endpoint) {
        // Null for an unnamed socket, whose length then reads as 0.
        let address: u64 = read(self.key(), offset!(unix_addr));
        let len = read(address, offset!(unix_address_len));
        super::read_kernel_address(end, address + u64::from(offset!(unix_address_name)), len);
    }
}
