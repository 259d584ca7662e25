//! What waits now, and for how long: connections in queues, connects that sleep, listeners that stall.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Actor, Endpoint, Owner, written};

/// A connection that waits in an accept queue now, as the kernel side knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// When it was queued, monotonic nanoseconds.
    pub since_ns: u64,
    /// Inode of the listener.
    pub listener: Option<u64>,
    /// Inode of the network namespace.
    pub netns: Option<u32>,
    /// The listener's port (TCP).
    pub port: Option<u16>,
    /// Inode of the client's socket (Unix).
    pub client: Option<u64>,
    /// The client's process (Unix).
    pub pid: Option<u32>,
    /// The client's address (TCP).
    pub peer: Option<SocketAddr>,
}

/// A Unix connect that has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sleeper {
    /// Since when, monotonic nanoseconds.
    pub since_ns: u64,
    /// Inode of the listener.
    pub listener: Option<u64>,
    /// Who connects.
    pub actor: Actor,
    /// Whereto.
    pub target: Endpoint,
}

/// What became of a stall since it was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StallChange {
    /// It began: a connection has waited for the threshold.
    Opened,
    /// It is twice as old, or its owner is now held up otherwise.
    Grown,
    /// Nothing new: the state at the end of a session.
    Still,
    /// Its connections were accepted, or are gone.
    Closed,
}

/// Of more owners, only so many are looked at for what holds them up.
pub const OWNERS_LOOKED_AT: usize = 4;

/// A stall is told with so many owners at most: there may be a thousand stalls, and ten thousand processes that hold each
/// listener.
pub const MOST_OWNERS: usize = 1024;

/// What holds a process up that does not accept, the plainest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Its cgroup is frozen.
    Frozen,
    /// A signal stopped it, or a debugger.
    Stopped,
    /// It has no descriptor left for a connection.
    NoDescriptors,
    /// Its cgroup's CPU quota is used up.
    Throttled,
    /// Its cgroup, or all TCP sockets of the host, have no memory left for it.
    ShortOfMemory,
    /// Nothing: it runs, something else.
    Running,
    /// It sleeps.
    Asleep,
}

/// Clients of one process, or of one address, that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// The process; `None` for one elsewhere, or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its `comm`, raw.
    #[serde(default, with = "written::text_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub comm: Option<Vec<u8>>,
    /// The address, without its port, where the process is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Connections.
    pub count: u32,
}

/// A listener with connections that have waited too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stall {
    /// When this was so, monotonic nanoseconds.
    pub time_ns: u64,
    /// Inode of the listener.
    pub listener: u64,
    /// Its address.
    pub local: Endpoint,
    /// Inode of its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Whether the filters select it.
    pub selected: bool,
    /// What is new.
    pub change: StallChange,
    /// Since when the oldest connection waits, in the queue or for room in it, monotonic nanoseconds.
    pub since_ns: u64,
    /// The longest that any connection of it was seen to wait: of a listener that accepts slowly, another one is the oldest
    /// each time.
    #[serde(default)]
    pub longest_ns: u64,
    /// Whether it may be older.
    pub is_lower_bound: bool,
    /// Connections in the queue.
    pub pending: u32,
    /// The most of them.
    pub pending_peak: u32,
    /// Clients asleep in `connect()`, because the queue is full.
    pub blocked: u32,
    /// When a connection was last accepted, monotonic nanoseconds; `None` if none was since the
    /// start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_ns: Option<u64>,
    /// Who holds the listener: [`MOST_OWNERS`] of them at most.
    pub owners: Vec<Owner>,
    /// Whether owners are known in part only: there may be further ones, one does not tell what it does, or something else
    /// held them up later, while it went on.
    #[serde(default)]
    pub seen_in_part: bool,
    /// What holds them up; `None` where that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The same in words, with all that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptor: Option<String>,
    /// Who waits, as far as known.
    pub clients: Vec<Waiting>,
}

impl Stall {
    /// How long its oldest connection has waited; once it is over, how long the one that waited longest had.
    pub const fn oldest_ns(&self) -> u64 {
        match self.change {
            StallChange::Closed if self.longest_ns != 0 => self.longest_ns,
            _ => self.time_ns.saturating_sub(self.since_ns),
        }
    }

    /// Leaves out the owners that are too many, and says so.
    pub(crate) fn bound_owners(&mut self) {
        if self.owners.len() > MOST_OWNERS {
            self.owners.truncate(MOST_OWNERS);
            self.owners.shrink_to_fit();
            self.seen_in_part = true;
        }
    }
}

#[cfg(test)]
impl Stall {
    /// One connection waits at a listener of which nothing else is known: for tests that care for little more.
    pub(crate) fn of_listener(listener: u64) -> Self {
        Self {
            time_ns: 0,
            listener,
            local: Endpoint::default(),
            netns: None,
            selected: true,
            change: StallChange::Opened,
            since_ns: 0,
            longest_ns: 0,
            is_lower_bound: false,
            pending: 1,
            pending_peak: 1,
            blocked: 0,
            accepted_ns: None,
            owners: Vec::new(),
            seen_in_part: false,
            hold: None,
            acceptor: None,
            clients: Vec::new(),
        }
    }
}
