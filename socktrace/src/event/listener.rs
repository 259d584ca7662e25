//! Listeners as the hooks and as `sock_diag` describe them, who holds them, and what could not be read.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{BACKLOG_UNKNOWN, TaskKey};

use super::{Endpoint, written};

/// A listening socket as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Its address.
    pub local: Endpoint,
    /// Whether `local` is only the address of one of its connections.
    pub local_is_inferred: bool,
    /// Inode of its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Who called `listen()`, if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<TaskKey>,
    /// Who accepted last, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptor: Option<TaskKey>,
    /// Backlog passed to `listen()`, if that was seen; negative asks for the largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<i32>,
    /// Backlog that applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<u32>,
    /// `sk_drops` when it stopped listening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops_at_close: Option<u32>,
    /// Whether one of the processes that the filters select owns it.
    pub selected: bool,
}

/// What user space reads of a listener besides, now and then (`sock_diag`, `/proc`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sighting {
    /// Its address.
    pub local: Endpoint,
    /// Inode of its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Connections in the accept queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// Backlog that applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<u32>,
    /// `sk_drops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<u32>,
    /// The `.socket` unit of systemd whose address it is, where there is just one.
    #[serde(default, with = "written::text_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub socket_unit: Option<Vec<u8>>,
    /// Inodes of the clients in the queue, the oldest first (Unix); `None` where unknown.
    #[serde(skip)]
    pub clients: Option<Vec<u64>>,
}

/// One look at all listeners, against the look before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    /// When, monotonic nanoseconds.
    pub time_ns: u64,
    /// Whether this is the first look: what it has was there before the session.
    pub baseline: bool,
    /// Those that are new or have changed, by inode.
    pub changed: HashMap<u64, Sighting>,
    /// Those that are there no more.
    pub gone: Vec<u64>,
}

/// What user space could not read of listeners and of those who hold them, in a whole session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unread {
    /// Processes whose network namespace could not be read.
    pub namespaces_of: u32,
    /// Namespaces that could not be entered, by inode, ascending.
    pub not_entered: Vec<u32>,
    /// Lists of listeners that the kernel refused.
    pub not_listed: u32,
    /// Lists that changed each time while they were read.
    pub interrupted: u32,
    /// Listeners that were not understood, in the list with the most of them.
    pub malformed: u32,
    /// Processes whose descriptors could not be read when owners were looked for; `None` where no
    /// process could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors_of: Option<u32>,
    /// Owners that were too many to keep.
    pub owners_left_out: u64,
    /// Incidents that nobody looked into, because there were too many at once.
    pub uninvestigated: u64,
}

/// A process that holds a listener, and how socktrace knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// Its `comm`, raw.
    #[serde(with = "written::text")]
    #[schemars(with = "String")]
    pub comm: Vec<u8>,
    /// Its real uid; `None` where it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Path of its cgroup; `None` without one, or where it was not read.
    #[serde(default, with = "written::text_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cgroup: Option<Vec<u8>>,
}

/// The `.socket` unit that a listener is of: the one of its address, if systemd itself holds it.
pub fn socket_unit<'a>(
    unit: Option<&'a [u8]>,
    holders: impl IntoIterator<Item = (u32, &'a [u8])>,
) -> Option<&'a [u8]> {
    unit.filter(|_| holders.into_iter().any(|holder| holder == (1, b"systemd".as_slice())))
}

impl Sightings {
    /// What is new in `now`. Who waits in a queue is not looked at.
    pub fn between(
        before: &HashMap<u64, Sighting>,
        now: &HashMap<u64, Sighting>,
        time_ns: u64,
    ) -> Self {
        let told = |sighting: &Sighting| Sighting { clients: None, ..sighting.clone() };
        let changed = now
            .iter()
            .map(|(inode, sighting)| (*inode, told(sighting)))
            .filter(|(inode, sighting)| before.get(inode).map(told).as_ref() != Some(sighting));
        let gone = before.keys().filter(|inode| !now.contains_key(inode));
        Self { time_ns, baseline: false, changed: changed.collect(), gone: gone.copied().collect() }
    }
}

impl From<&socktrace_common::ListenerInfo> for Listener {
    fn from(wire: &socktrace_common::ListenerInfo) -> Self {
        Self {
            local: (&wire.local).into(),
            local_is_inferred: wire.from_child != 0,
            netns: (wire.netns != 0).then_some(wire.netns),
            owner: (wire.owner.tgid != 0).then_some(wire.owner),
            acceptor: (wire.acceptor.tgid != 0).then_some(wire.acceptor),
            requested: (wire.requested != BACKLOG_UNKNOWN).then_some(wire.requested),
            effective: (wire.from_child == 0).then_some(wire.effective),
            drops_at_close: u32::try_from(wire.drops_at_close).ok(),
            selected: wire.selected != 0,
        }
    }
}
