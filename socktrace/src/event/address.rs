//! Where a socket is: its address and its type, and what they are on the wire.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::written;

/// A socket address in owned form.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// IPv4 or IPv6 with its port.
    Inet(SocketAddr),
    /// `sun_path`: a path without its NUL, an abstract name with its leading one; empty if the
    /// socket has no name.
    Unix(
        #[serde(with = "written::unix_name")]
        #[schemars(with = "String")]
        Vec<u8>,
    ),
}

/// `SOCK_*`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Dgram,
    /// `SOCK_SEQPACKET`
    Seqpacket,
}

/// An end of a connection; what is unknown is `None`.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Endpoint {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// What kind of socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SocketKind>,
}

impl Address {
    /// `unix`, `inet` or `inet6`.
    pub const fn family(&self) -> &'static str {
        match self {
            Self::Unix(_) => "unix",
            Self::Inet(SocketAddr::V4(_)) => "inet",
            Self::Inet(SocketAddr::V6(_)) => "inet6",
        }
    }
}

/// The glob (`--path`) that matches the name of a Unix socket and nothing else: `@` for the leading NUL of an
/// abstract one, what has a meaning in globs escaped.
pub fn glob_of(name: &[u8]) -> Vec<u8> {
    let mut glob = Vec::with_capacity(name.len());
    for (index, byte) in name.iter().enumerate() {
        match byte {
            0 if index == 0 => glob.push(b'@'),
            b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'\\' => glob.extend([b'\\', *byte]),
            _ => glob.push(*byte),
        }
    }
    glob
}

impl From<&socktrace_common::Endpoint> for Endpoint {
    /// Checked: a family or length that makes no sense is an unknown address.
    fn from(wire: &socktrace_common::Endpoint) -> Self {
        let used = wire.addr.get(..usize::from(wire.len)).unwrap_or_default();
        let inet = |addr: IpAddr| Address::Inet(SocketAddr::new(addr, wire.port));
        let address = match wire.family {
            1 => Some(Address::Unix(used.to_vec())),
            2 => <[u8; 4]>::try_from(used).ok().map(|addr| inet(addr.into())),
            10 => <[u8; 16]>::try_from(used).ok().map(|addr| inet(addr.into())),
            _ => None,
        };
        let kind = match wire.kind {
            1 => Some(SocketKind::Stream),
            2 => Some(SocketKind::Dgram),
            5 => Some(SocketKind::Seqpacket),
            _ => None,
        };
        Self { address, kind }
    }
}

impl From<&Endpoint> for socktrace_common::Endpoint {
    fn from(owned: &Endpoint) -> Self {
        let mut wire = Self::NONE;
        let mut put = |bytes: &[u8]| {
            let len = bytes.len().min(wire.addr.len());
            wire.addr[..len].copy_from_slice(&bytes[..len]);
            wire.len = u16::try_from(len).unwrap_or(0);
        };
        match &owned.address {
            Some(Address::Unix(name)) => put(name),
            Some(Address::Inet(SocketAddr::V4(v4))) => put(&v4.ip().octets()),
            Some(Address::Inet(SocketAddr::V6(v6))) => put(&v6.ip().octets()),
            None => {}
        }
        (wire.family, wire.port) = match &owned.address {
            Some(Address::Unix(_)) => (1, 0),
            Some(Address::Inet(address)) => {
                (if address.is_ipv4() { 2 } else { 10 }, address.port())
            }
            None => (0, 0),
        };
        wire.kind = match owned.kind {
            Some(SocketKind::Stream) => 1,
            Some(SocketKind::Dgram) => 2,
            Some(SocketKind::Seqpacket) => 5,
            None => 0,
        };
        wire
    }
}
