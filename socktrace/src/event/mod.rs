//! Owned events and totals, and where they come from: [`Source`] is live tracing or, later, a
//! saved session; everything behind it is the same code.

mod finding;
mod phrase;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    net::{IpAddr, SocketAddr},
};

use socktrace_common::{
    AcceptErrorKey, AcceptKey, BACKLOG_UNKNOWN, ConnectBlockedKey, ConnectFailureKey, Credentials,
    DropKey, DropReason, DropStage, Signal, Stage, TaskKey,
};

pub use finding::{Certainty, Diagnosis, FailureClass, Finding, Incident, Severity};
pub(crate) use phrase::phrase;
pub use phrase::{Part, Phrase, name, word};

/// A socket address in owned form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// IPv4 or IPv6 with its port.
    Inet(SocketAddr),
    /// `sun_path`: a path without its NUL, an abstract name with its leading one; empty if the
    /// socket has no name.
    Unix(Vec<u8>),
}

/// `SOCK_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketKind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Dgram,
    /// `SOCK_SEQPACKET`
    Seqpacket,
}

/// An end of a connection; what is unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Where.
    pub address: Option<Address>,
    /// What kind of socket.
    pub kind: Option<SocketKind>,
}

/// The name behind a [`TaskKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `comm` of the process, raw.
    pub comm: Vec<u8>,
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
    /// Inode of the cgroup v2 directory; 0 without one.
    pub cgroup: u64,
}

/// The task that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The process.
    pub key: TaskKey,
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub task: Task,
}

/// One detail event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub time_ns: u64,
    /// Who; `None` where it happened in softirq context.
    pub actor: Option<Actor>,
    /// What.
    pub body: Body,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A connection was accepted.
    Accept {
        /// Inode of the listener.
        listener: Option<u64>,
        /// Time in the accept queue, nanoseconds.
        wait_ns: Option<u64>,
        /// The client.
        peer: Endpoint,
    },
    /// `accept()` failed.
    AcceptError {
        /// Inode of the listener.
        listener: Option<u64>,
        /// The errno, positive.
        errno: u32,
    },
    /// A connect attempt failed.
    ConnectFailure {
        /// The errno, positive.
        errno: u32,
        /// Whereto.
        target: Endpoint,
        /// The client's rights when `connect()` returned; `None` where it failed later.
        credentials: Option<Box<Credentials>>,
    },
    /// A Unix connect slept on a full backlog, and returned.
    ConnectBlocked {
        /// Inode of the listener.
        listener: Option<u64>,
        /// Whereto.
        target: Endpoint,
        /// From the first sleep until `connect()` returned, nanoseconds.
        wait_ns: u64,
        /// The errno, positive; `None` if it connected.
        errno: Option<u32>,
    },
    /// A listener threw a connection away.
    BacklogDrop {
        /// Inode of the listener.
        listener: Option<u64>,
        /// Why.
        reason: DropReason,
        /// At which packet; `None` where it was at none.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its address.
    pub local: Endpoint,
    /// Whether `local` is only the address of one of its connections.
    pub local_is_inferred: bool,
    /// Inode of its network namespace.
    pub netns: Option<u32>,
    /// Who called `listen()`, if that was seen.
    pub owner: Option<TaskKey>,
    /// Who accepted last, if anybody did.
    pub acceptor: Option<TaskKey>,
    /// Backlog passed to `listen()`, if that was seen; negative asks for the largest.
    pub requested: Option<i32>,
    /// Backlog that applies.
    pub effective: Option<u32>,
    /// `sk_drops` when it stopped listening.
    pub drops_at_close: Option<u32>,
    /// Whether one of the processes that the filters select owns it.
    pub selected: bool,
}

/// What user space reads of a listener besides, now and then (`sock_diag`, `/proc`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Its address.
    pub local: Endpoint,
    /// Inode of its network namespace.
    pub netns: Option<u32>,
    /// Connections in the accept queue.
    pub queue: Option<u32>,
    /// Backlog that applies.
    pub effective: Option<u32>,
    /// `sk_drops`.
    pub drops: Option<u32>,
    /// Inodes of the clients in the queue, the oldest first (Unix); `None` where unknown.
    pub clients: Option<Vec<u64>>,
}

/// What user space could not read of listeners and of those who hold them, in a whole session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub descriptors_of: Option<u32>,
    /// Owners that were too many to keep.
    pub owners_left_out: u64,
    /// Incidents that nobody looked into, because there were too many at once.
    pub uninvestigated: u64,
}

/// A process that holds a listener, and how socktrace knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// Its `comm`, raw.
    pub comm: Vec<u8>,
    /// Path of its cgroup; `None` without one, or where it was not read.
    pub cgroup: Option<Vec<u8>>,
}

/// Totals of waits: of accepted connections, or of blocked connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// The kernel's own totals at one moment; each snapshot replaces the one before.
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
}

/// A network namespace, and what it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceCounters {
    /// Its inode.
    pub netns: u32,
    /// Whether it is the tracer's own.
    pub own: bool,
    /// What it counted; `None` where that could not be read at the end, or not at the start.
    pub counted: Option<NetstatDelta>,
}

/// A network namespace's own counters of what listeners threw away, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderLoss {
    /// Events whose bytes were no event.
    pub undecodable: u64,
    /// What the perf buffer itself says it lost (the kernel side counts these, too).
    pub perf_lost: u64,
}

/// How often the kernel skipped programs because one ran already on that CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The process; `None` for one elsewhere, or unknown.
    pub pid: Option<u32>,
    /// Its `comm`, raw.
    pub comm: Option<Vec<u8>>,
    /// The address, without its port, where the process is not known.
    pub address: Option<IpAddr>,
    /// Connections.
    pub count: u32,
}

/// A listener with connections that have waited too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When this was so, monotonic nanoseconds.
    pub time_ns: u64,
    /// Inode of the listener.
    pub listener: u64,
    /// Its address.
    pub local: Endpoint,
    /// Inode of its network namespace.
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
    pub accepted_ns: Option<u64>,
    /// Who holds the listener.
    pub owners: Vec<Owner>,
    /// What holds them up; `None` where that cannot be told.
    pub hold: Option<Hold>,
    /// The same in words, with all that is known.
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
    /// New totals.
    Counters(Box<Counters>),
    /// What waits too long.
    Stall(Box<Stall>),
    /// What was found out about an incident.
    Diagnosis(Box<Diagnosis>),
    /// New sightings of listeners, by inode.
    Sightings(HashMap<u64, Sighting>),
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
