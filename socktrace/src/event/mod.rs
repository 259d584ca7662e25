//! Owned events and totals, and where they come from: [`Source`] is live tracing or a saved session;
//! everything behind it is the same code. What a session file holds are these types, as they are.

mod address;
mod carried;
mod errno;
mod finding;
mod listener;
mod phrase;
mod stall;
mod totals;
pub(crate) mod written;

use std::{collections::HashMap, future::Future};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{Credentials, DropReason, DropStage, Signal, TaskKey};

pub use address::{Address, Endpoint, SocketKind, glob_of};
pub use carried::{Carried, ClassOfFailure, Delivered, Interval, WatchedListener};
pub use errno::{EAGAIN, errno_name, parse_errno};
pub use finding::{Certainty, Diagnosis, FailureClass, Finding, Incident, Severity};
pub use listener::{Listener, Owner, Sighting, Sightings, Unread, socket_unit};
pub(crate) use phrase::phrase;
pub use phrase::{Part, Phrase, name, word};
pub use stall::{
    Hold, MOST_OWNERS, OWNERS_LOOKED_AT, Queued, Sleeper, Stall, StallChange, Waiting,
};
pub use totals::{
    Counters, Meanwhile, MemoryCounters, Misses, NamespaceCounters, NetstatDelta, ProgramRuns,
    ReaderLoss, Runs, Stages, WaitTotals,
};

/// The name behind a [`TaskKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// `comm` of the process, raw.
    #[serde(with = "written::text")]
    #[schemars(with = "String")]
    pub comm: Vec<u8>,
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
    /// Inode of the cgroup v2 directory; 0 without one.
    pub cgroup: u64,
}

/// The task that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Who", into = "Who")]
#[schemars(with = "Who")]
pub struct Actor {
    /// The process.
    pub key: TaskKey,
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub task: Task,
}

/// An [`Actor`] as it is written.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Who {
    pid: u32,
    start_ns: u64,
    tid: u32,
    #[serde(with = "written::text")]
    #[schemars(with = "String")]
    comm: Vec<u8>,
    uid: u32,
    gid: u32,
    cgroup: u64,
}

impl From<Who> for Actor {
    fn from(who: Who) -> Self {
        let Who { pid, start_ns, tid, comm, uid, gid, cgroup } = who;
        let key = TaskKey { tgid: pid, start_ns, ..TaskKey::NONE };
        Self { key, tid, task: Task { comm, uid, gid, cgroup } }
    }
}

impl From<Actor> for Who {
    fn from(actor: Actor) -> Self {
        let Actor { key, tid, task: Task { comm, uid, gid, cgroup } } = actor;
        Self { pid: key.tgid, start_ns: key.start_ns, tid, comm, uid, gid, cgroup }
    }
}

/// One detail event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub time_ns: u64,
    /// Who; `None` where it happened in softirq context.
    #[serde(default, rename = "who", skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// What.
    #[serde(rename = "what")]
    pub body: Body,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A connection was accepted.
    Accept {
        /// Inode of the listener.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<u64>,
        /// Time in the accept queue, nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ns: Option<u64>,
        /// The client.
        peer: Endpoint,
    },
    /// `accept()` failed.
    AcceptError {
        /// Inode of the listener.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<u64>,
        /// The errno, positive.
        #[serde(with = "written::errno")]
        #[schemars(with = "String")]
        errno: u32,
    },
    /// A connect attempt failed.
    ConnectFailure {
        /// The errno, positive.
        #[serde(with = "written::errno")]
        #[schemars(with = "String")]
        errno: u32,
        /// Whereto.
        target: Endpoint,
        /// The client's rights when `connect()` returned; `None` where it failed later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credentials: Option<Box<Credentials>>,
    },
    /// A Unix connect slept on a full backlog, and returned.
    ConnectBlocked {
        /// Inode of the listener.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<u64>,
        /// Whereto.
        target: Endpoint,
        /// From the first sleep until `connect()` returned, or (fentry) had queued the connection, nanoseconds.
        wait_ns: u64,
        /// The errno, positive; `None` if it connected.
        #[serde(default, with = "written::errno_option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        errno: Option<u32>,
    },
    /// A listener threw a connection away.
    BacklogDrop {
        /// Inode of the listener.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<u64>,
        /// Why.
        reason: DropReason,
        /// At which packet; `None` where it was at none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<DropStage>,
        /// Connections in the accept queue; `None` for a Unix listener that was closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<u32>,
        /// Its limit; `None` as above.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
        /// The client; unknown where a listener was closed.
        peer: Endpoint,
    },
    /// A socket began to listen.
    Listen {
        /// Its inode.
        inode: u64,
        /// Everything known of it.
        listener: Listener,
    },
}

impl Body {
    /// The signal this belongs to.
    pub const fn signal(&self) -> Signal {
        match self {
            Self::Accept { .. } => Signal::Accept,
            Self::AcceptError { .. } => Signal::AcceptError,
            Self::ConnectFailure { .. } => Signal::ConnectFailure,
            Self::ConnectBlocked { .. } => Signal::ConnectBlocked,
            Self::BacklogDrop { .. } => Signal::BacklogDrop,
            Self::Listen { .. } => Signal::Listen,
        }
    }
}

/// What a [`Source`] yields.
#[derive(Debug)]
pub enum Record {
    /// A detail event.
    Event(Event),
    /// The name behind a listener's inode, before the first event that needs it.
    Listener(u64, Listener),
    /// Totals: those that are not in it are as they were.
    Counters(Box<Counters>),
    /// What waits too long.
    Stall(Box<Stall>),
    /// What was found out about an incident.
    Diagnosis(Box<Diagnosis>),
    /// What is new of listeners since the look before.
    Sightings(Sightings),
    /// Who holds a listener, by inode.
    Owners(HashMap<u64, Vec<Owner>>),
    /// What is missing in sightings and owners.
    Unread(Unread),
    /// Paths of cgroups, by id.
    Cgroups(HashMap<u64, Vec<u8>>),
    /// What each network namespace counted.
    Namespaces(Vec<NamespaceCounters>),
    /// The reader's losses so far.
    Loss(ReaderLoss),
    /// Runs of programs that the kernel skipped.
    Misses(Misses),
    /// What runs of programs took.
    Runs(Runs),
    /// What came before this part of a saved session.
    Carried(Box<Carried>),
    /// What a saved session lacks, its last record.
    Damage(Damage),
}

/// What a saved session lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Whether the last line is missing: the tracer did not live to write it.
    pub unfinished: bool,
    /// Why the tracer could not write all of it, in words.
    pub cut: Option<String>,
    /// When the last record was made, monotonic nanoseconds.
    pub last_ns: u64,
    /// Bytes of the file that are no whole frame.
    pub lost_bytes: u64,
    /// Lines that are no record.
    pub malformed: u64,
    /// Rows that are too many to keep.
    pub left_out: u64,
}

impl Damage {
    /// Whether there were records that are not in it.
    pub const fn lacks_records(&self) -> bool {
        self.unfinished || self.cut.is_some() || self.lost_bytes != 0 || self.malformed != 0
    }
}

/// Where records come from.
pub trait Source {
    /// What can go wrong.
    type Error;

    /// Waits for more records and appends them; `false` once there will be none.
    fn read(&mut self, into: &mut Vec<Record>) -> impl Future<Output = Result<bool, Self::Error>>;

    /// Stops, and appends all that is left, totals last.
    fn finish(&mut self, into: &mut Vec<Record>) -> Result<(), Self::Error>;
}

impl Task {
    /// Without the padding of `comm`.
    pub fn from_wire(comm: [u8; 16], uid: u32, gid: u32, cgroup: u64) -> Self {
        let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        Self { comm, uid, gid, cgroup }
    }
}
