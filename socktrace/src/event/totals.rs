//! What the kernel side counts, and what it and the reader lost.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{
    AcceptErrorKey, AcceptKey, ConnectBlockedKey, ConnectFailureKey, DropKey, Signal, Stage,
    TaskKey,
};

use super::{Listener, Task};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceCounters {
    /// Its inode.
    pub netns: u32,
    /// Whether it is the tracer's own.
    pub own: bool,
    /// What it counted; `None` where that could not be read at the end, or not at the start, or its inode number was another's
    /// meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<NetstatDelta>,
    /// How far `counted` may be from the drops that it is compared with: what came while both were read, at the start and
    /// at the end.
    #[serde(default, skip_serializing_if = "Meanwhile::is_nothing")]
    pub while_read: Meanwhile,
    /// What it knows of memory; `None` where `counted` is, but for a lack of counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryCounters>,
    /// `net.ipv4.tcp_syncookies` at the end; read in the tracer's own namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncookies: Option<u64>,
}

/// What tells whether memory was short, since the start. `None` where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryCounters {
    /// `TcpExt: PFMemallocDrop`: packets that came into the host's last reserves, and were discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve_drops: Option<u64>,
    /// `TcpExt: TCPMemoryPressures`: how often TCP came above the pressure mark of `net.ipv4.tcp_mem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressures: Option<u64>,
    /// `TcpExt: TCPAbortOnMemory`: connections that were aborted for want of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborts: Option<u64>,
    /// Pages that all TCP sockets of the host held at the end; read where connections were thrown away for
    /// another reason than room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_pages: Option<u64>,
    /// The pressure mark of `net.ipv4.tcp_mem`, in pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_pressure: Option<u64>,
}

impl MemoryCounters {
    /// What both know: counts are added, as each is of another namespace.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        Self {
            reserve_drops: sum(self.reserve_drops, other.reserve_drops),
            pressures: sum(self.pressures, other.pressures),
            aborts: sum(self.aborts, other.aborts),
            tcp_pages: self.tcp_pages.or(other.tcp_pages),
            tcp_pressure: self.tcp_pressure.or(other.tcp_pressure),
        }
    }
}

/// What came while counters were read one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Meanwhile {
    /// Of `TcpExt: ListenDrops`.
    pub drops: u64,
    /// Of `TcpExt: TCPReqQFullDoCookies`.
    pub cookies: u64,
}

impl Meanwhile {
    /// Whether the counters are as of one moment.
    pub const fn is_nothing(&self) -> bool {
        self.sum() == 0
    }

    /// Of both.
    pub const fn sum(self) -> u64 {
        self.drops.saturating_add(self.cookies)
    }

    /// At one time and at another.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            drops: self.drops.saturating_add(other.drops),
            cookies: self.cookies.saturating_add(other.cookies),
        }
    }
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

impl NetstatDelta {
    /// Drops for another reason than room.
    pub const fn other(&self) -> u64 {
        self.drops.saturating_sub(self.overflows.saturating_add(self.syn_queue))
    }
}

/// What the reader lost between the kernel's buffer and an [`Event`], by signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReaderLoss {
    /// Events whose bytes were no event.
    pub undecodable: u64,
    /// What the perf buffer itself says it lost (the kernel side counts these, too).
    pub perf_lost: u64,
}

/// How often the kernel skipped programs: because it (or another of its kind) ran already on that CPU, or because a kretprobe had
/// no return slot left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Misses {
    /// By program; `None` where the kernel does not count.
    pub programs: BTreeMap<String, Option<u64>>,
    /// What nobody saw for that reason, in words, and how often at most.
    pub unseen: BTreeMap<String, u64>,
}

/// How often programs ran and for how long, where that was asked for, by program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Runs(pub BTreeMap<String, ProgramRuns>);

/// What the kernel measured of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramRuns {
    /// How often it ran.
    pub count: u64,
    /// All runs together, in nanoseconds.
    pub time_ns: u64,
}

impl Runs {
    /// What came since `before`.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        for (name, runs) in &mut self.0 {
            let before = before.0.get(name).copied().unwrap_or_default();
            runs.count = runs.count.saturating_sub(before.count);
            runs.time_ns = runs.time_ns.saturating_sub(before.time_ns);
        }
        self
    }

    /// All programs together.
    pub fn sum(&self) -> ProgramRuns {
        let add = |sum: ProgramRuns, of: &ProgramRuns| ProgramRuns {
            count: sum.count.saturating_add(of.count),
            time_ns: sum.time_ns.saturating_add(of.time_ns),
        };
        self.0.values().fold(ProgramRuns::default(), add)
    }
}

impl ProgramRuns {
    /// One run on average, in nanoseconds.
    pub const fn mean_ns(self) -> Option<u64> {
        self.time_ns.checked_div(self.count)
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
