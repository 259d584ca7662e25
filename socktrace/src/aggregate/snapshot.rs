//! The report as data: what happened, per process and per listener, and how much is missing.
//! Bytes of traced programs are raw here; each sink escapes them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{DropReason, DropStage, Signal, Tier};

use super::{Completeness, FindingRow, Timeline, Unattributed, Waits};
use crate::event::{
    Endpoint, Finding, Meanwhile, NetstatDelta, Owner, Runs, Stall, Unread, written,
};

/// How a session was recorded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Wall time of the start.
    #[serde(with = "written::rfc3339")]
    #[schemars(with = "String")]
    pub started: SystemTime,
    /// The same moment, monotonic nanoseconds.
    pub started_ns: u64,
    /// Host name.
    pub host: String,
    /// `uname -r`.
    pub kernel: String,
    /// The command that was recorded; empty without one.
    #[serde(default, with = "written::text_list")]
    #[schemars(with = "Vec<String>")]
    pub command: Vec<Vec<u8>>,
    /// What became of each signal.
    pub signals: Vec<SessionSignal>,
    /// Why the hooks were not tried; `None` if they were, and fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untested: Option<String>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u32>,
    /// Inode of the tracer's own network namespace.
    pub netns: Option<u64>,
}

/// How one signal was observed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SessionSignal {
    /// The signal.
    pub signal: Signal,
    /// Its tier; `None` if no tier attached.
    pub tier: Option<Tier>,
    /// What that tier does not see.
    pub loses: Vec<String>,
    /// Why better tiers were not taken.
    pub refused: Vec<(Tier, String)>,
}

impl Session {
    /// The tier of a signal.
    pub fn tier(&self, signal: Signal) -> Option<Tier> {
        self.signals.iter().find(|row| row.signal == signal)?.tier
    }
}

/// Everything a report shows.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How it was recorded.
    pub session: Session,
    /// For how long.
    pub duration: Duration,
    /// What is missing.
    pub completeness: Completeness,
    /// What runs of the programs took, where that was asked for.
    pub runs: Option<Runs>,
    /// Processes that did something, the worst first.
    pub processes: Vec<ProcessRow>,
    /// Listeners that something happened to.
    pub listeners: Vec<ListenerRow>,
    /// Connections that waited too long, or still do, in the order in which that began.
    pub stalls: Vec<Stall>,
    /// Stalls that are not in it, because there were too many.
    pub stalls_left_out: u64,
    /// TCP connects that were taken back and are of no process's row, because there were too many targets.
    pub abandoned_other: u64,
    /// What was found out of all of it, the most harmful first.
    pub findings: Vec<FindingRow>,
    /// Network namespaces that counted what listeners threw away, and the tracer's own.
    pub namespaces: Vec<NamespaceRow>,
    /// What of listeners and their owners could not be read; `None` before the session's end.
    pub unread: Option<Unread>,
    /// How it went over time.
    pub timeline: Timeline,
}

/// What one network namespace counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceRow {
    /// Its inode.
    pub netns: u32,
    /// Whether it is the tracer's own.
    pub own: bool,
    /// What it counted; `None` where that is not known.
    pub counted: Option<NetstatDelta>,
    /// What came while that and the drops were read, and may be in one of them only.
    pub while_read: Meanwhile,
    /// Of that, what belongs to no listener that socktrace knows; `None` where that cannot be told.
    pub unattributed: Option<Unattributed>,
    /// What was found of its listeners and the kernel did not count.
    pub surplus: u64,
}

/// One process.
#[derive(Clone, Debug, Default)]
pub struct ProcessRow {
    /// Its pid; `None` where it is unknown.
    pub pid: Option<u32>,
    /// Start, nanoseconds since boot.
    pub start_time_ns: Option<u64>,
    /// Its `comm`.
    pub comm: Option<Vec<u8>>,
    /// Its real uid.
    pub uid: Option<u32>,
    /// Path of its cgroup.
    pub cgroup: Option<Vec<u8>>,
    /// What it accepted.
    pub accept: Waits,
    /// Accepts that failed.
    pub accept_errors: Vec<AcceptErrorRow>,
    /// Non-blocking accepts that found nothing.
    pub accept_would_block: u64,
    /// Connects that failed.
    pub connect_failures: Vec<ConnectFailureRow>,
    /// TCP connects that it closed before there was an answer: no failures.
    pub connects_abandoned: Vec<AbandonedRow>,
    /// Unix connects that slept on a full backlog, by target.
    pub connect_blocked: Vec<(Endpoint, Waits)>,
    /// Drops of listeners that are this process's alone, by the listener's address.
    pub backlog_drops: Vec<(Endpoint, DropRow)>,
}

/// Accepts that failed with one errno on one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptErrorRow {
    /// The errno.
    pub errno: u32,
    /// The listener, where it is known.
    pub listener: Option<Endpoint>,
    /// How many.
    pub count: u64,
    /// What was found out, the explanation first; `None` where nobody looked.
    pub findings: Option<Arc<[Finding]>>,
}

/// Connects to one target that failed with one errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailureRow {
    /// What the client passed to `connect()`.
    pub target: Endpoint,
    /// The errno.
    pub errno: u32,
    /// Real uid of the client at that moment.
    pub uid: u32,
    /// How many.
    pub count: u64,
    /// What was found out, the explanation first; `None` where nobody looked.
    pub findings: Option<Arc<[Finding]>>,
}

/// TCP connects to one target that the client closed before there was an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbandonedRow {
    /// What the client passed to `connect()`.
    pub target: Endpoint,
    /// Real uid of the client when it connected.
    pub uid: u32,
    /// How many.
    pub count: u64,
}

/// Why connections were thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drops {
    /// A TCP listener's own reason.
    Tcp(DropReason),
    /// TCP, and this tier cannot tell which of several reasons.
    TcpUnknown,
    /// A Unix listener's backlog was full for a client that does not wait.
    UnixBacklogFull,
}

impl Drops {
    /// As reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp(DropReason::AcceptQueueFull) => "accept_queue_full",
            Self::Tcp(DropReason::SynQueueFull) => "syn_queue_full",
            Self::Tcp(DropReason::SyncookieSent) => "syncookie_sent",
            Self::Tcp(DropReason::Other) => "other",
            Self::Tcp(DropReason::Discarded) => "discarded",
            Self::Tcp(DropReason::ListenerClosed) => "listener_closed",
            Self::TcpUnknown => "unknown",
            Self::UnixBacklogFull => "unix_backlog_full",
        }
    }

    /// Whether a connection was really thrown away.
    pub const fn is_drop(self) -> bool {
        !matches!(self, Self::Tcp(DropReason::SyncookieSent | DropReason::Discarded))
    }

    /// Whether the namespace counts it in `ListenDrops`.
    pub const fn is_listen_drop(self) -> bool {
        self.is_drop() && !matches!(self, Self::Tcp(DropReason::ListenerClosed))
    }
}

/// Connections that one listener threw away for one reason at one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropRow {
    /// Why.
    pub reason: Drops,
    /// At which packet; `None` where the tier cannot tell, or for Unix.
    pub stage: Option<DropStage>,
    /// How many.
    pub count: u64,
}

impl DropRow {
    /// As reports print the stage.
    pub const fn stage_name(&self) -> Option<&'static str> {
        match (self.reason, self.stage) {
            (Drops::UnixBacklogFull, _) => Some("connect"),
            (_, Some(DropStage::Syn)) => Some("syn"),
            (_, Some(DropStage::Ack)) => Some("ack"),
            (_, Some(DropStage::Cookie)) => Some("cookie"),
            (_, None) => None,
        }
    }
}

/// One listener.
#[derive(Clone, Debug, Default)]
pub struct ListenerRow {
    /// Inode of its socket.
    pub inode: u64,
    /// Its address.
    pub local: Endpoint,
    /// Inode of its network namespace.
    pub netns: Option<u32>,
    /// Everyone known to hold it.
    pub owners: Vec<Owner>,
    /// The `.socket` unit of systemd that it is of.
    pub socket_unit: Option<Vec<u8>>,
    /// Who called `listen()`, if that was seen.
    pub listened_by: Option<Owner>,
    /// Who accepted last, if anybody did.
    pub last_acceptor: Option<Owner>,
    /// Backlog passed to `listen()`.
    pub requested: Option<i32>,
    /// Backlog that applies.
    pub effective: Option<u32>,
    /// `net.core.somaxconn` of its network namespace; `None` where that was not read.
    pub somaxconn: Option<u32>,
    /// For how long the oldest connection waited when last looked at; `None` where none waited for long.
    pub pending_oldest_ns: Option<u64>,
    /// Connections in the accept queue when last looked at.
    pub queue_now: Option<u32>,
    /// Most of them seen.
    pub queue_peak: Option<u32>,
    /// What was accepted from it.
    pub accept: Waits,
    /// What it threw away.
    pub backlog_drops: Vec<DropRow>,
}

#[cfg(test)]
impl Snapshot {
    /// Everything was traced for ten seconds, and nothing happened.
    pub(crate) fn of_nothing() -> Self {
        let signal = |signal: &Signal| SessionSignal {
            signal: *signal,
            tier: Some(Tier::Fentry),
            loses: Vec::new(),
            refused: Vec::new(),
        };
        let completeness = Completeness {
            verdict: super::Verdict::Complete,
            reasons: Vec::new(),
            signals: Vec::new(),
            misses: crate::event::Misses::default(),
        };
        Self {
            session: Session {
                started: SystemTime::UNIX_EPOCH,
                started_ns: 0,
                host: "host".into(),
                kernel: "6.12.0".into(),
                command: Vec::new(),
                signals: Signal::ALL.iter().map(signal).collect(),
                untested: None,
                somaxconn: None,
                netns: None,
            },
            duration: Duration::from_secs(10),
            completeness,
            runs: None,
            processes: Vec::new(),
            listeners: Vec::new(),
            stalls: Vec::new(),
            stalls_left_out: 0,
            abandoned_other: 0,
            findings: Vec::new(),
            namespaces: Vec::new(),
            unread: None,
            timeline: Timeline::default(),
        }
    }
}
