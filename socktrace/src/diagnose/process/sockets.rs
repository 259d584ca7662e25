//! The facts of a process's sockets: each as it was seen, twice where that tells more.
//!
//! Owns what is known. What it means is with the step of each kind.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{
    Facts, Process,
    words::{count, note_unread_descriptors},
};
use crate::{
    diagnose::Check,
    event::Phrase,
    host::sock_diag::{TcpSocket, UdpSocket, UnixSocket},
};

/// Something that was looked at twice, a moment apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twice<T> {
    /// As it was first.
    pub first: T,
    /// As it was then; `None` where it was gone, or not looked at again.
    pub second: Option<T>,
}

impl<T> Twice<T> {
    /// The later look.
    pub fn last(&self) -> &T {
        self.second.as_ref().unwrap_or(&self.first)
    }

    /// By how much a number grew; `None` where it did not, or was not measured.
    pub fn growth<N: Into<u64>>(&self, number: impl Fn(&T) -> N) -> Option<u64> {
        let (before, after) = (number(&self.first).into(), number(self.second.as_ref()?).into());
        after.checked_sub(before).filter(|grown| *grown != 0)
    }

    /// Whether it was so both times.
    pub fn both(&self, is: impl Fn(&T) -> bool) -> bool {
        is(&self.first) && self.second.as_ref().is_some_and(is)
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix, with the name if it has one.
    Unix(Option<Vec<u8>>),
}

/// A listener that the process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: ListenerAddress,
    /// Connections in its accept queue, and its limit in effect; `None` where unknown.
    pub queue: Option<(u32, u32)>,
    /// What it dropped (`sk_drops`), by the two looks; of Unix nothing is counted.
    pub drops: Option<Twice<u32>>,
    /// `net.core.somaxconn` of its namespace.
    pub somaxconn: Option<u64>,
    /// Other processes that hold it; `None` where that could not be found out.
    pub others: Option<Vec<Process>>,
    /// Holders of other listeners on the same address (`SO_REUSEPORT`), for each.
    pub shards: Vec<Vec<Process>>,
}

/// A Unix socket that does not listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixConnection {
    /// As it was seen.
    pub seen: Twice<UnixSocket>,
    /// The socket that it is connected to, as it was seen last.
    pub peer: Option<UnixSocket>,
    /// Who holds that; `None` where that could not be found out.
    pub holders: Option<Vec<Process>>,
}

/// A TCP socket that does not listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpConnection {
    /// As it was seen.
    pub seen: Twice<TcpSocket>,
    /// Who holds the other end, where it is in the same network namespace; empty otherwise.
    pub holders: Vec<Process>,
}

/// Every socket of the process.
#[derive(Clone, Debug, Default)]
pub struct SocketFacts {
    /// Milliseconds between the two looks; `None` where there was one.
    pub between_ms: Option<u64>,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Unix sockets that do not listen.
    pub unix: Vec<UnixConnection>,
    /// TCP sockets that do not listen.
    pub tcp: Vec<TcpConnection>,
    /// UDP sockets.
    pub udp: Vec<Twice<UdpSocket>>,
    /// Sockets of protocols that are not looked at closer, by their names.
    pub others: BTreeMap<String, u64>,
    /// Unix, TCP, UDP sockets that no list has, and those of an unknown protocol.
    pub unlisted: Unlisted,
    /// Multipath TCP sockets: listed without their inode.
    pub mptcp: u64,
    /// Sockets that were not looked for, because there are too many.
    pub left_out: u64,
    /// Whether every network namespace answered whole.
    pub complete: bool,
    /// What could not be listed, and why.
    pub refusals: Vec<Phrase>,
    /// Processes whose descriptors could not be read, where holders were looked for.
    pub unreadable: u32,
}

/// Sockets that no list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unlisted {
    /// Unix sockets.
    pub unix: u64,
    /// TCP sockets: one that is neither bound nor connected is in no list.
    pub tcp: u64,
    /// UDP sockets, likewise.
    pub udp: u64,
    /// Of a protocol that could not be read.
    pub unknown: u64,
}

/// Why inet sockets may be in no list.
pub(super) const UNLISTED: &str = " that no list has: neither bound nor connected, or in a network \
                                   namespace without a process";

/// What the lists of sockets lack, of which `missing` were to be in those of one step.
pub(super) fn note_unlisted(check: &mut Check, facts: &Facts, missing: u64) {
    note_unread_descriptors(check, facts);
    let sockets = &facts.sockets;
    let unknown = sockets.unlisted.unknown;
    check.unseen.extend(sockets.refusals.iter().cloned());
    // Where each of its sockets was found, it has none elsewhere.
    if !sockets.complete && missing + unknown != 0 {
        check.unseen.push("sockets of network namespaces that could not be looked into".into());
    }
    if sockets.left_out != 0 {
        let more = count(sockets.left_out, "socket");
        check.unseen.push(format!("{more}: there are too many").into());
    }
    if unknown != 0 {
        let more = count(unknown, "socket");
        check.unseen.push(format!("{more} of an unknown protocol that no list has").into());
    }
}
