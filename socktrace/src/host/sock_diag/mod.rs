//! Which sockets exist, as the kernel itself lists them: `sock_diag`(7) dumps.
//!
//! Owns the requests and what their answers mean. Does not own who holds a socket (`sockets`).
//! `/proc/net/unix` is no alternative: it prints names raw, newlines included.
//!
//! A dump answers for the network namespace that its [`SockDiag`] was opened in, for the functions
//! here that of the calling thread, and needs no privilege. It is a
//! walk, not a snapshot: a socket that closes moves its neighbours in the kernel's table, so one
//! that lives through a dump of several datagrams is listed twice (removed here, by its cookie) or,
//! rarely, not at all.

mod dump;
mod inet;
mod memory;
mod ports;
mod states;
mod tcp;
mod tcp_info;
mod tcp_sockets;
mod udp;
mod unix;
mod unix_sockets;

use std::fmt;
use std::io;

pub use dump::SockDiag;
pub use memory::SkMemInfo;
pub use ports::{PortQuery, PortUse, tcp_port_use};
pub use states::{States, TcpState, UnixState};
pub use tcp::{TcpListener, tcp_clients, tcp_listeners};
pub use tcp_info::TcpInfo;
pub use tcp_sockets::{TcpSocket, tcp_sockets};
pub use udp::{UdpSocket, udp_sockets};
pub use unix::{FileId, UnixKind, UnixListener, unix_listeners};
pub use unix_sockets::{UnixQueue, UnixSocket, UnixSocketKind, unix_sockets};

/// What a dump brought, and what it lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump<T> {
    /// The sockets, each once, in the kernel's order.
    pub sockets: Vec<T>,
    /// Messages that could not be decoded and were skipped.
    pub malformed: u32,
    /// The kernel said that its table changed under the dump (`NLM_F_DUMP_INTR`), every time it
    /// was asked: the list may lack a socket.
    pub interrupted: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// TCP sockets, IPv4 and IPv6.
    Tcp,
    /// UDP sockets, IPv4 and IPv6.
    Udp,
    /// Unix sockets.
    Unix,
}

impl Subject {
    fn module(self) -> &'static str {
        match self {
            Self::Tcp => "tcp_diag",
            Self::Udp => "udp_diag",
            Self::Unix => "unix_diag",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Unix => "Unix",
        })
    }
}

/// Why sockets could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum SockDiagError {
    /// ENOENT: no handler for this family, and the kernel could not load one.
    #[error(
        "this kernel has no {module}, so {subject} sockets cannot be listed; \
         run `modprobe {module}`, or use a kernel built with it",
        module = subject.module()
    )]
    NoHandler {
        /// What was asked for.
        subject: Subject,
    },
    /// The kernel answered with another error.
    #[error("the kernel refused to list {subject} sockets: {source}")]
    Refused {
        /// What was asked for.
        subject: Subject,
        /// The error in its answer.
        source: io::Error,
    },
    /// The netlink socket could not be made.
    #[error(
        "cannot {action} a sock_diag netlink socket, so no sockets can be listed: \
         {source}; check CONFIG_INET_DIAG, and that a seccomp filter or \
         RestrictAddressFamilies= permits AF_NETLINK"
    )]
    Open {
        /// The step that failed.
        action: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The netlink socket could not be used.
    #[error(
        "cannot {action} a sock_diag netlink socket, so {subject} sockets cannot be listed: \
         {source}"
    )]
    Netlink {
        /// What was asked for.
        subject: Subject,
        /// The step that failed.
        action: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl SockDiagError {
    /// What was asked for, if asking again gets the same answer.
    pub fn refused_for_good(&self) -> Option<Subject> {
        match self {
            Self::NoHandler { subject } => Some(*subject),
            Self::Refused { subject, source } => {
                (source.kind() == io::ErrorKind::PermissionDenied).then_some(*subject)
            }
            Self::Open { .. } | Self::Netlink { .. } => None,
        }
    }
}
