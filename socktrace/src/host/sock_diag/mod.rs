//! Which listeners exist, as the kernel itself lists them: `sock_diag`(7) dumps.
//!
//! Owns the requests and what their answers mean. Does not own who holds a listener (`sockets`).
//! `/proc/net/unix` is no alternative: it prints names raw, newlines included.
//!
//! A dump answers for the network namespace of the calling thread, and needs no privilege. It is a
//! walk, not a snapshot: a listener that closes moves its neighbours in the kernel's table, so one
//! that lives through a dump of several datagrams is listed twice (removed here, by its cookie) or,
//! rarely, not at all.

mod dump;
mod tcp;
mod unix;

use std::fmt;
use std::io;

pub use tcp::{TcpListener, tcp_clients, tcp_listeners};
pub use unix::{FileId, UnixKind, UnixListener, unix_listeners};

/// What a dump brought, and what it lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump<T> {
    /// The listeners, each once, in the kernel's order.
    pub listeners: Vec<T>,
    /// Messages that could not be decoded and were skipped.
    pub malformed: u32,
    /// The kernel said that its table changed under the dump (`NLM_F_DUMP_INTR`), every time it
    /// was asked: the list may lack a listener.
    pub interrupted: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// TCP listeners, IPv4 and IPv6.
    Tcp,
    /// Unix stream and seqpacket listeners.
    Unix,
}

impl Subject {
    fn module(self) -> &'static str {
        match self {
            Self::Tcp => "tcp_diag",
            Self::Unix => "unix_diag",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Unix => "Unix",
        })
    }
}

/// Why listeners could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum SockDiagError {
    /// ENOENT: no handler for this family, and the kernel could not load one.
    #[error(
        "this kernel has no {module}, so {subject} listeners cannot be listed; \
         run `modprobe {module}`, or use a kernel built with it",
        module = subject.module()
    )]
    NoHandler {
        /// What was asked for.
        subject: Subject,
    },
    /// The kernel answered with another error.
    #[error("the kernel refused to list {subject} listeners: {source}")]
    Refused {
        /// What was asked for.
        subject: Subject,
        /// The error in its answer.
        source: io::Error,
    },
    /// The netlink socket could not be made or used.
    #[error(
        "cannot {action} a sock_diag netlink socket, so {subject} listeners cannot be listed: \
         {source}; check CONFIG_INET_DIAG, and that a seccomp filter or \
         RestrictAddressFamilies= permits AF_NETLINK"
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
