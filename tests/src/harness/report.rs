//! The report's JSON, as far as tests read it.
//!
//! A field that `docs/json.md` promises has no default: a report without it is not understood.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A report.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// How it was recorded.
    pub session: Session,
    /// What is missing.
    pub completeness: Completeness,
    /// What runs of the hooks took, where that was asked for.
    pub probes: Option<Vec<ProbeRuns>>,
    /// Per process.
    pub processes: Vec<Process>,
    /// Per listener.
    pub listeners: Vec<Listener>,
    /// What was found out.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Listeners that did not accept in time.
    #[serde(default)]
    pub stalls: Vec<Stall>,
    /// Network namespaces that counted drops, and the own one.
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
    /// Drops that the kernel counted and no listener could be named for, in any shape.
    #[serde(default)]
    pub unattributed: Value,
    /// Syncookies of the same kind.
    #[serde(default)]
    pub unattributed_syncookies: Option<u64>,
}

/// What runs of one hook took.
#[derive(Clone, Debug, Deserialize)]
pub struct ProbeRuns {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// All runs together.
    pub run_time_ns: u64,
}

/// A cause that was found.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// Which rule found it.
    pub rule: String,
    /// Inode of the listener that it is about; none where it is about failures.
    pub listener: Option<u64>,
    /// `measured`, `inferred` or `unknown`.
    pub certainty: String,
    /// What it is about.
    pub subject: String,
    /// What is so.
    pub fact: String,
    /// What follows.
    pub consequence: String,
    /// What to do.
    pub fix: String,
    /// What was looked at.
    pub evidence: Vec<String>,
    /// Processes that failed for it.
    pub pids: Vec<u32>,
}

/// The session's header.
#[derive(Clone, Debug, Deserialize)]
pub struct Session {
    /// How each signal was seen.
    pub signals: Vec<SessionSignal>,
}

/// How one signal was seen.
#[derive(Clone, Debug, Deserialize)]
pub struct SessionSignal {
    /// Its name.
    pub signal: String,
    /// `fentry`, `kprobe` or `tracepoint`.
    pub tier: String,
    /// What that tier cannot see here, in words.
    #[serde(default)]
    pub loses: Option<String>,
}

/// What is missing.
#[derive(Clone, Debug, Deserialize)]
pub struct Completeness {
    /// `complete`, `incomplete` or `unknown`.
    pub verdict: String,
    /// Of all signals.
    pub events_seen: u64,
    /// Of all signals.
    pub events_delivered: u64,
    /// Of all signals and stages.
    pub events_lost: u64,
    /// Why it is not complete, a sentence each.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Runs of programs that the kernel skipped, where it counts them.
    #[serde(default)]
    pub missed: BTreeMap<String, Option<u64>>,
    /// Per signal.
    pub signals: Vec<SignalLoss>,
}

/// Where one signal's events went.
#[derive(Clone, Debug, Deserialize)]
pub struct SignalLoss {
    /// Its name.
    pub signal: String,
    /// Everything that the probes saw.
    pub seen: u64,
    /// Excluded by a filter.
    pub filtered: u64,
    /// Counted, but not slow enough to be told of.
    pub below_threshold: u64,
    /// Counted, but beyond the budget of events.
    pub sampled_out: u64,
    /// Arrived.
    pub delivered: u64,
    /// Lost on the way.
    pub lost: Lost,
}

/// Events lost, per stage.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Lost {
    /// The buffer was full.
    pub buffer: u64,
    /// The bytes made no sense.
    pub decode: u64,
}

/// A network namespace.
#[derive(Clone, Debug, Deserialize)]
pub struct Namespace {
    /// Whether it is the tracer's own.
    pub own: bool,
    /// What it counted.
    pub netstat: Option<Netstat>,
    /// What came while that and the drops of listeners were read.
    pub drops_while_read: u64,
    /// Of its drops, how many no listener is known for.
    pub unattributed: Option<u64>,
}

/// What a network namespace counted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Netstat {
    /// `ListenDrops`
    pub listen_drops: u64,
}

/// A listener that did not accept in time.
#[derive(Clone, Debug, Deserialize)]
pub struct Stall {
    /// Its address.
    pub listener: String,
    /// Its inode number.
    pub inode: u64,
    /// When it ended; nothing if it goes on.
    pub until: Option<String>,
    /// The most connections in its queue.
    pub pending_peak: u32,
    /// How long the oldest waited.
    pub oldest_ns: u64,
    /// Whether that may be longer.
    pub oldest_is_lower_bound: bool,
    /// Who holds it.
    pub owners: Vec<Owner>,
    /// What they do instead.
    pub acceptor_state: Option<String>,
    /// Who waits.
    pub clients: Vec<Client>,
    /// Connections in its queue now.
    pub pending: u32,
    /// Unix clients that sleep in `connect()`.
    pub blocked: u32,
    /// How long nobody has accepted; nothing if nobody did since the start.
    pub last_accept_ns_ago: Option<u64>,
}

/// Clients that wait.
#[derive(Clone, Debug, Deserialize)]
pub struct Client {
    /// The process, of a local one.
    pub pid: Option<u32>,
    /// Connections.
    pub count: u32,
}

/// One process.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Absent when unknown.
    pub pid: Option<u32>,
    /// When it began; absent when unknown.
    pub start_time_ns: Option<u64>,
    /// Escaped where hostile.
    pub comm: Option<String>,
    /// Its user.
    pub uid: Option<u32>,
    /// What it accepted.
    #[serde(default)]
    pub accept: Accept,
    /// What `accept()` refused it.
    #[serde(default)]
    pub accept_errors: Vec<AcceptError>,
    /// What `connect()` refused it.
    #[serde(default)]
    pub connect_failures: Vec<ConnectFailure>,
    /// Connects that it took back before there was an answer.
    pub connects_abandoned: Option<Vec<Abandoned>>,
    /// On whom it slept in `connect()`.
    pub connect_blocked: Option<Vec<Blocked>>,
    /// What its listeners threw away.
    #[serde(default)]
    pub backlog_drops: Vec<Drops>,
}

/// Connects that were taken back.
#[derive(Clone, Debug, Deserialize)]
pub struct Abandoned {
    /// `inet` or `inet6`.
    pub family: String,
    /// What the client passed.
    pub target: Option<String>,
    /// Who it was.
    pub uid: u32,
    /// How many.
    pub count: u64,
}

/// Connects that slept.
#[derive(Clone, Debug, Deserialize)]
pub struct Blocked {
    /// What the client passed.
    pub target: String,
    /// How many.
    pub count: u64,
    /// How long.
    pub wait_ns: Option<Wait>,
}

/// Connections accepted.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Accept {
    /// How many.
    #[serde(default)]
    pub count: u64,
    /// Of them, whose wait is not known.
    #[serde(default)]
    pub wait_unknown: u64,
    /// How long they waited, absent if there were none.
    pub wait_ns: Option<Wait>,
}

/// A distribution of waits.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Wait {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// All together.
    pub sum: u64,
}

/// Failed accepts.
#[derive(Clone, Debug, Deserialize)]
pub struct AcceptError {
    /// By name.
    pub errno: String,
    /// How many.
    pub count: u64,
    /// Which rule explains it; none where nothing was looked into.
    #[serde(default)]
    pub rule: Option<String>,
}

/// Failed connects.
#[derive(Clone, Debug, Deserialize)]
pub struct ConnectFailure {
    /// `unix`, `inet` or `inet6`.
    pub family: String,
    /// What the client passed.
    pub target: Option<String>,
    /// Its bytes, where they are no UTF-8.
    pub target_hex: Option<String>,
    /// By name.
    pub errno: String,
    /// Who it was at that moment.
    pub uid: Option<u32>,
    /// How many.
    pub count: u64,
    /// Why.
    pub cause: Option<String>,
    /// How sure that is.
    pub certainty: Option<String>,
    /// Which rule found that; none where nothing was looked into.
    pub rule: Option<String>,
}

/// Connections thrown away.
#[derive(Clone, Debug, Deserialize)]
pub struct Drops {
    /// By which listener; not repeated within a listener's own row.
    pub listener: Option<String>,
    /// Why.
    pub reason: String,
    /// At which step.
    pub stage: Option<String>,
    /// How many.
    pub count: u64,
}

/// One listener.
#[derive(Clone, Debug, Deserialize)]
pub struct Listener {
    /// `unix`, `inet` or `inet6`.
    pub family: String,
    /// Its address; unknown for accepts whose listener is unknown.
    pub local: Option<String>,
    /// Its inode number.
    pub inode: Option<u64>,
    /// Who holds it.
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// Who called `listen()`; unknown where that was not seen.
    pub listened_by: Option<Owner>,
    /// Who accepted last; unknown where that was not seen.
    pub last_acceptor: Option<Owner>,
    /// What it asked for and what it got.
    pub backlog: Option<Backlog>,
    /// Connections in its accept queue.
    pub queue: Queue,
    /// What was accepted from it.
    #[serde(default)]
    pub accept: Accept,
    /// What it threw away.
    #[serde(default)]
    pub backlog_drops: Vec<Drops>,
}

/// A listener's owner.
#[derive(Clone, Debug, Deserialize)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub comm: Option<String>,
}

/// A listener's backlog.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Backlog {
    /// The argument of `listen()`; unknown where that was before the session.
    pub requested: Option<i64>,
    /// What the kernel made of it.
    pub effective: Option<u32>,
    /// Its limit.
    pub somaxconn: Option<u32>,
}

/// How full an accept queue is; unknown where it was never looked at.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Queue {
    /// At the last look.
    pub now: Option<u32>,
    /// The most that was seen.
    pub peak: Option<u32>,
}

impl Listener {
    /// Its address, for people.
    pub fn name(&self) -> &str {
        self.local.as_deref().unwrap_or("unknown")
    }
}

impl Report {
    /// The tier of a signal, if the session names one.
    pub fn tier(&self, signal: &str) -> Option<&str> {
        let row = self.session.signals.iter().find(|row| row.signal == signal);
        row.map(|row| row.tier.as_str())
    }

    /// Whether the session says that this signal's tier does not see what `word` stands for.
    pub fn loses(&self, signal: &str, word: &str) -> bool {
        let row = self.session.signals.iter().find(|row| row.signal == signal);
        row.and_then(|row| row.loses.as_ref()).is_some_and(|loses| loses.contains(word))
    }

    /// How many occurrences the verdict says may be missing: the numbers of those of its reasons that name `what`.
    pub fn may_be_missing(&self, what: &str) -> u64 {
        let reasons = self.completeness.reasons.iter().filter(|reason| reason.contains(what));
        let numbers = reasons.filter_map(|reason| {
            reason.strip_prefix("up to ")?.split(' ').next()?.parse::<u64>().ok()
        });
        numbers.sum()
    }

    /// How many drops no listener could be named for: a number, or a list of rows with a count.
    pub fn unattributed(&self) -> u64 {
        let rows = self.unattributed.as_array().into_iter().flatten();
        let listed: u64 = rows.filter_map(|row| row["count"].as_u64()).sum();
        self.unattributed.as_u64().unwrap_or(listed)
    }
}
