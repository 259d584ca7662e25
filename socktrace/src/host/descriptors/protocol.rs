//! The protocol of a socket behind a descriptor.
//!
//! Owns the names that the kernel's protocols give themselves (`struct proto`), read by the extended
//! attribute that sockets have for it (`sockfs_xattr_get()`). No table lists sockets of every
//! protocol, and this one needs none.

use std::path::Path;

/// The attribute, and room for its value: a name has at most 31 bytes.
const ATTRIBUTE: &str = "system.sockprotoname";
const LONGEST: usize = 64;

/// What a socket speaks, IPv4 and IPv6 alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SocketProtocol {
    /// TCP.
    Tcp,
    /// Multipath TCP: `sock_diag` lists its subflows as TCP, without their inode.
    Mptcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
    /// Raw IP.
    Raw,
    /// ICMP echo without privilege.
    Ping,
    /// A Unix socket of any kind.
    Unix,
    /// netlink(7)
    Netlink,
    /// packet(7)
    Packet,
    /// vsock(7)
    Vsock,
    /// Another, by the name that it gives itself.
    Other(Vec<u8>),
}

impl SocketProtocol {
    /// Of the socket that this link of `/proc/PID/fd` leads to.
    pub(super) fn read(link: &Path) -> Option<Self> {
        let mut value = [0; LONGEST];
        let length = rustix::fs::getxattr(link, ATTRIBUTE, &mut value[..]).ok()?;
        Self::parse(value.get(..length)?)
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let name = value.split(|&byte| byte == 0).next().filter(|name| !name.is_empty())?;
        Some(match name {
            b"TCP" | b"TCPv6" => Self::Tcp,
            b"MPTCP" | b"MPTCPv6" => Self::Mptcp,
            b"UDP" | b"UDPv6" => Self::Udp,
            b"UDP-Lite" | b"UDPLITEv6" => Self::UdpLite,
            b"RAW" | b"RAWv6" => Self::Raw,
            b"PING" | b"PINGv6" => Self::Ping,
            // Stream sockets have a name of their own since Linux 5.15.
            b"UNIX" | b"UNIX-STREAM" => Self::Unix,
            b"NETLINK" => Self::Netlink,
            b"PACKET" => Self::Packet,
            b"AF_VSOCK" => Self::Vsock,
            other => Self::Other(other.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    fn read(of: &impl AsFd) -> Option<SocketProtocol> {
        let number = of.as_fd().as_raw_fd();
        SocketProtocol::read(Path::new(&format!("/proc/self/fd/{number}")))
    }

    #[test]
    fn sockets_name_their_protocol_and_other_things_have_none() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        let udp = std::net::UdpSocket::bind("[::1]:0").expect("a socket");
        let (stream, _) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let datagram = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        assert_eq!(read(&tcp), Some(SocketProtocol::Tcp));
        assert_eq!(read(&udp), Some(SocketProtocol::Udp));
        assert_eq!(read(&stream), Some(SocketProtocol::Unix));
        assert_eq!(read(&datagram), Some(SocketProtocol::Unix));
        assert_eq!(read(&std::fs::File::open("/dev/null").expect("a device")), None);
    }

    #[test]
    fn a_name_ends_at_its_nul_and_an_unknown_one_is_kept() {
        assert_eq!(SocketProtocol::parse(b"UDPLITEv6\0"), Some(SocketProtocol::UdpLite));
        assert_eq!(SocketProtocol::parse(b"SCTP"), Some(SocketProtocol::Other(b"SCTP".to_vec())));
        assert_eq!(SocketProtocol::parse(b"\0"), None);
        assert_eq!(SocketProtocol::parse(b""), None);
    }
}
