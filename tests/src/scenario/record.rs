//! What a scenario saw itself: the JSON that it prints and that the tests compare reports with.
//!
//! Plain data. Every number here was counted or measured by the process that made the incident, or
//! read from the kernel's own counters; nothing comes from a tracer.

use serde::{Deserialize, Serialize};

/// Everything that one run of the scenario saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The scenario's own process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its command name.
    pub comm: String,
    /// `net.core.somaxconn` while it ran.
    pub somaxconn: u32,
    /// Connect attempts that failed, one row per process and target.
    pub failures: Vec<Failure>,
    /// TCP connects that clients took back before there was an answer.
    #[serde(default)]
    pub abandoned: Vec<Abandoned>,
    /// Targets (as in [`Failure::target`]) towards which no attempt failed.
    pub must_not_fail: Vec<String>,
    /// Connections accepted, one row per listener.
    pub accepts: Vec<Accepts>,
    /// Calls of `accept()` that failed.
    pub accept_errors: Vec<AcceptErrors>,
    /// TCP listeners that threw connections away.
    pub tcp_drops: Vec<TcpDrops>,
    /// Unix listeners that turned connections away.
    pub unix_drops: Vec<UnixDrops>,
    /// Listeners that were closed with connections in their queue.
    #[serde(default)]
    pub closed: Vec<Closed>,
    /// Unix connects that slept on a full backlog.
    #[serde(default)]
    pub blocked: Vec<Blocked>,
    /// Listeners that did not accept for a while.
    #[serde(default)]
    pub stalls: Vec<Stalled>,
    /// Every listener and its backlog.
    pub listens: Vec<Listen>,
    /// What the kernel counted over the whole run, in this network namespace.
    pub netstat: Netstat,
    /// What this kernel refused to do, so that the incident took its other shape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// Failed connect attempts of one process towards one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The incident.
    pub name: String,
    /// The client.
    pub pid: u32,
    /// Its user at the time of the attempt.
    pub uid: u32,
    /// Its command name, raw.
    pub comm: String,
    /// `unix`, `inet` or `inet6`.
    pub family: String,
    /// What the client passed: path, `@name`, `ADDR:PORT` or `[ADDR]:PORT`; lossy where not UTF-8.
    pub target: String,
    /// The raw bytes of a path or name in lowercase hex, where it is not plain printable text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_hex: Option<String>,
    /// By name, e.g. `ECONNREFUSED`.
    pub errno: String,
    /// How many attempts failed so.
    pub count: u64,
}

/// Connects of one process to one TCP address that it took back before there was an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// The client.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// `inet` or `inet6`.
    pub family: String,
    /// What it passed.
    pub target: String,
    /// How many.
    pub count: u64,
}

/// Connections that one listener handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepts {
    /// The incident.
    pub name: String,
    /// The process that called `accept()`.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// The listener's family.
    pub family: String,
    /// The listener's address, as in `Failure::target`.
    pub listener: String,
    /// The listener's inode number.
    pub inode: u64,
    /// How many connections were accepted.
    pub count: u64,
    /// For each, at least so many nanoseconds it lay in the accept queue; empty if not measured.
    pub lower_ns: Vec<u64>,
    /// For each, at most so many; empty if not measured.
    pub upper_ns: Vec<u64>,
    /// Processes that hold the listener besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<u32>,
}

/// Calls of `accept()` that failed in one process, on one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptErrors {
    /// The incident.
    pub name: String,
    /// The process that called `accept()`.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// The listener's address.
    pub listener: String,
    /// The listener's inode number.
    pub inode: u64,
    /// By name, e.g. `EMFILE`.
    pub errno: String,
    /// How many calls failed so.
    pub count: u64,
    /// How many calls found an empty queue (`EAGAIN`), which is not an error.
    pub would_block: u64,
}

/// A TCP listener that dropped, with the kernel's counters over the incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpDrops {
    /// The incident.
    pub name: String,
    /// The process that owns the listener.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// The listener's address.
    pub listener: String,
    /// The listener's inode number.
    pub inode: u64,
    /// What the kernel counted: no other listener dropped meanwhile.
    pub netstat: Netstat,
    /// At least so many of the drops were of a handshake's last ACK.
    pub at_least_ack: u64,
}

/// A Unix listener whose full backlog turned non-blocking connects away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixDrops {
    /// The incident.
    pub name: String,
    /// The process that owns the listener.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// The listener's address.
    pub listener: String,
    /// The listener's inode number.
    pub inode: u64,
    /// How many connects got `EAGAIN`.
    pub count: u64,
}

/// A listener that was closed with connections in its queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// `unix`, `inet` or `inet6`.
    pub family: String,
    /// The listener's address.
    pub listener: String,
    /// The listener's inode number.
    pub inode: u64,
    /// How many connections lay in its queue.
    pub count: u64,
}

/// Unix connects of one process that slept on a full backlog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The client.
    pub pid: u32,
    /// Its target.
    pub target: String,
    /// How many connects slept.
    pub count: u64,
    /// The longest slept at least so long, nanoseconds.
    pub longest_at_least_ns: u64,
    /// All of them together were under way at most so long, nanoseconds.
    pub sum_at_most_ns: u64,
}

/// A listener that did not accept for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// The incident.
    pub name: String,
    /// The process that should have accepted.
    pub pid: u32,
    /// The listener's address.
    pub listener: String,
    /// The listener's inode number.
    pub inode: u64,
    /// Words that tell what it did instead.
    pub instead: String,
    /// The client.
    pub client: u32,
    /// Its connections.
    pub connections: u32,
    /// The first of them waited at least so long, nanoseconds.
    pub at_least_ns: u64,
    /// And at most so long, nanoseconds.
    pub at_most_ns: u64,
}

/// A listener and its backlog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// The incident.
    pub name: String,
    /// The process that called `listen()`.
    pub pid: u32,
    /// `unix`, `inet` or `inet6`.
    pub family: String,
    /// The listener's address.
    pub local: String,
    /// The listener's inode number.
    pub inode: u64,
    /// The argument of `listen()`.
    pub requested: u32,
    /// What the kernel made of it: at most `net.core.somaxconn`.
    pub effective: u32,
}

/// Counters of `/proc/net/netstat`, or a difference of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netstat {
    /// `ListenOverflows`: dropped because the accept queue was full.
    pub listen_overflows: u64,
    /// `ListenDrops`: dropped for any reason.
    pub listen_drops: u64,
    /// `TCPReqQFullDrop`: SYN dropped because the request queue was full.
    pub reqq_full_drop: u64,
    /// `TCPReqQFullDoCookies`: SYN cookie sent instead of a queue entry.
    pub reqq_full_do_cookies: u64,
}

impl Netstat {
    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows - before.listen_overflows,
            listen_drops: self.listen_drops - before.listen_drops,
            reqq_full_drop: self.reqq_full_drop - before.reqq_full_drop,
            reqq_full_do_cookies: self.reqq_full_do_cookies - before.reqq_full_do_cookies,
        }
    }
}
