//! Owned events and totals, and where they come from: [`Source`] is live tracing or, later, a
//! saved session; everything behind it is the same code.

mod carried;
mod errno;
mod finding;
mod phrase;
pub(crate) mod written;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    net::{IpAddr, SocketAddr},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{
    AcceptErrorKey, AcceptKey, BACKLOG_UNKNOWN, ConnectBlockedKey, ConnectFailureKey, Credentials,
    DropKey, DropReason, DropStage, Signal, Stage, TaskKey,
};

pub use carried::{Carried, ClassOfFailure, Delivered, Interval, WatchedListener};
pub use errno::{errno_name, parse_errno};
pub use finding::{Certainty, Diagnosis, FailureClass, Finding, Incident, Severity};
pub(crate) use phrase::phrase;
pub use phrase::{Part, Phrase, name, word};

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
        /// From the first sleep until `connect()` returned, nanoseconds.
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
        /// Connections in the accept queue.
        queue: u32,
        /// Its limit.
        limit: u32,
        /// The client.
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
    /// Path of its cgroup; `None` without one, or where it was not read.
    #[serde(default, with = "written::text_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cgroup: Option<Vec<u8>>,
}

/// Totals of waits: of accepted connections, or of blocked connects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitTotals {
    /// Connections.
    pub count: u64,
    /// Of them, with a known wait.
    pub waited: u64,
    /// Sum of known waits, nanoseconds.
    pub sum_ns: u64,
    /// Largest known wait, nanoseconds.
    pub max_ns: u64,
    /// Waits by bucket of [`socktrace_common::histogram`], the empty ones left out.
    pub buckets: BTreeMap<u16, u64>,
}

/// The kernel's own totals at one moment. They only grow, and none goes away.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// When they were read, monotonic nanoseconds.
    pub time_ns: u64,
    /// By process and listener.
    pub accepts: HashMap<AcceptKey, WaitTotals>,
    /// By process, listener and errno.
    pub accept_errors: HashMap<AcceptErrorKey, u64>,
    /// By process, errno and target.
    pub connect_failures: HashMap<ConnectFailureKey, u64>,
    /// Blocked connects by process and target.
    pub connect_blocked: HashMap<ConnectBlockedKey, WaitTotals>,
    /// By listener, reason and stage.
    pub drops: HashMap<DropKey, u64>,
    /// Names of processes.
    pub tasks: HashMap<TaskKey, Task>,
    /// Names of listeners by inode.
    pub listeners: HashMap<u64, Listener>,
    /// Stage counters.
    pub stages: Stages,
}

/// Stage counters of every signal, kernel side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages(pub [[u64; Stage::COUNT]; Signal::COUNT]);

impl Stages {
    /// One counter.
    pub const fn get(&self, signal: Signal, stage: Stage) -> u64 {
        self.0[signal as usize][stage as usize]
    }

    /// Events of all signals that did not fit into the buffer.
    pub fn lost(&self) -> u64 {
        Signal::ALL.iter().map(|signal| self.get(*signal, Stage::LostBuffer)).sum()
    }
}

/// A network namespace, and what it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceCounters {
    /// Its inode.
    pub netns: u32,
    /// Whether it is the tracer's own.
    pub own: bool,
    /// What it counted; `None` where that could not be read at the end, or not at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<NetstatDelta>,
}

/// A network namespace's own counters of what listeners threw away, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetstatDelta {
    /// `TcpExt: ListenOverflows`
    pub overflows: u64,
    /// `TcpExt: ListenDrops`
    pub drops: u64,
    /// `TcpExt: TCPReqQFullDrop`
    pub syn_queue: u64,
    /// `TcpExt: TCPReqQFullDoCookies`
    pub cookies: u64,
}

/// What the reader lost between the kernel's buffer and an [`Event`], by signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReaderLoss {
    /// Events whose bytes were no event.
    pub undecodable: u64,
    /// What the perf buffer itself says it lost (the kernel side counts these, too).
    pub perf_lost: u64,
}

/// How often the kernel skipped programs because one ran already on that CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Misses {
    /// By program; `None` where the kernel does not count.
    pub programs: BTreeMap<String, Option<u64>>,
    /// What nobody saw for that reason, in words, and how often at most.
    pub unseen: BTreeMap<String, u64>,
}

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
    /// When the oldest connection was queued, monotonic nanoseconds.
    pub since_ns: u64,
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
    /// Who holds the listener.
    pub owners: Vec<Owner>,
    /// What holds them up; `None` where that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The same in words, with all that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptor: Option<String>,
    /// Who waits, as far as known.
    pub clients: Vec<Waiting>,
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

/// Where records come from.
pub trait Source {
    /// What can go wrong.
    type Error;

    /// Waits for more records and appends them; `false` once there will be none.
    fn read(&mut self, into: &mut Vec<Record>) -> impl Future<Output = Result<bool, Self::Error>>;

    /// Stops, and appends all that is left, totals last.
    fn finish(&mut self, into: &mut Vec<Record>) -> Result<(), Self::Error>;
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

impl WaitTotals {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.waited += other.waited;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        for (bucket, n) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += n;
        }
    }
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

impl Task {
    /// Without the padding of `comm`.
    pub fn from_wire(comm: [u8; 16], uid: u32, gid: u32, cgroup: u64) -> Self {
        let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        Self { comm, uid, gid, cgroup }
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
