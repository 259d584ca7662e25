//! What rows can be filtered by: the keys, what each takes as its value, and what passes.

use std::net::SocketAddr;

use socktrace_common::DropReason;

use crate::{
    aggregate::Drops,
    diagnose::{all_rules, parse_errno},
    event::{Address, Endpoint, Severity},
};

/// As many bytes as the kernel keeps of a process's name.
const COMM_BYTES: usize = 15;

/// What a filter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A process.
    Pid,
    /// Processes of a name.
    Comm,
    /// Processes of a real user id.
    Uid,
    /// An errno.
    Errno,
    /// A listener's address.
    Listener,
    /// What was passed to `connect()`.
    Target,
    /// Why a connection was thrown away.
    Reason,
    /// How much harm a finding tells of.
    Severity,
    /// The rule that found it.
    Rule,
}

/// One filter with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Pid(u32),
    Comm(Vec<u8>),
    Uid(u32),
    Errno(u32),
    Listener(Address),
    Target(Address),
    Reason(Drops),
    Severity(Severity),
    Rule(String),
}

/// What is known of a row; what it has not, or nobody knows, is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whose {
    /// The process, or everyone known to hold the listener.
    pub processes: Vec<Who>,
    /// Real user id.
    pub uid: Option<u32>,
    /// The errno.
    pub errno: Option<u32>,
    /// The listener.
    pub listener: Option<Endpoint>,
    /// What was passed to `connect()`.
    pub target: Option<Endpoint>,
    /// Why it was thrown away.
    pub reason: Option<Drops>,
    /// How much harm.
    pub severity: Option<Severity>,
    /// Which rule.
    pub rule: Option<String>,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// Its pid.
    pub pid: Option<u32>,
    /// Its `comm`, raw.
    pub comm: Option<Vec<u8>>,
}

/// A value as it was written.
pub(super) struct Written {
    /// The bytes, without quotes and escapes.
    pub(super) bytes: Vec<u8>,
    /// Whether it stood in quotes.
    pub(super) quoted: bool,
    /// Whether it begins with a bare `@`, as abstract names do.
    pub(super) is_abstract: bool,
}

impl Filter {
    /// Whether it asks for a name or an address.
    pub(super) const fn asks_for_name(&self) -> bool {
        matches!(self, Self::Comm(_) | Self::Listener(_) | Self::Target(_))
    }
}

impl Key {
    /// Every key, in the order in which docs name them.
    pub const ALL: [Self; 9] = [
        Self::Pid,
        Self::Comm,
        Self::Uid,
        Self::Errno,
        Self::Listener,
        Self::Target,
        Self::Reason,
        Self::Severity,
        Self::Rule,
    ];

    /// As conditions name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Comm => "comm",
            Self::Uid => "uid",
            Self::Errno => "errno",
            Self::Listener => "listener",
            Self::Target => "target",
            Self::Reason => "reason",
            Self::Severity => "severity",
            Self::Rule => "rule",
        }
    }

    /// What its value is to be.
    pub const fn wants(self) -> &'static str {
        match self {
            Self::Pid => "the pid of a process",
            Self::Comm => "the name of a process (comm), at most 15 bytes",
            Self::Uid => "the number of a user id",
            Self::Errno => "the name or number of an errno, like EACCES or 13",
            Self::Listener | Self::Target => {
                "an address like 0.0.0.0:80 or [::]:80, or a Unix socket like /run/app.sock or @name \
                 (a relative path in quotes)"
            }
            Self::Reason => {
                "accept_queue_full, syn_queue_full, syncookie_sent, other, unknown, listener_closed or \
                 unix_backlog_full"
            }
            Self::Severity => "error, warning or info",
            Self::Rule => "a rule of socktrace explain, or errno, or unexplained",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The filter with this value, if the value is one.
    pub(super) fn filter(self, value: Written) -> Option<Filter> {
        let text = str::from_utf8(&value.bytes).ok();
        Some(match self {
            Self::Pid => Filter::Pid(text?.parse().ok()?),
            Self::Uid => Filter::Uid(text?.parse().ok()?),
            Self::Comm => {
                let fits = (1..=COMM_BYTES).contains(&value.bytes.len());
                Filter::Comm(fits.then_some(value.bytes)?)
            }
            Self::Errno => Filter::Errno(parse_errno(text?)?),
            Self::Listener => Filter::Listener(address(value)?),
            Self::Target => Filter::Target(address(value)?),
            Self::Reason => Filter::Reason(*REASONS.iter().find(|it| Some(it.name()) == text)?),
            Self::Severity => {
                let all = [Severity::Error, Severity::Warning, Severity::Info];
                Filter::Severity(all.into_iter().find(|it| Some(it.name()) == text)?)
            }
            Self::Rule => {
                let known = all_rules().map(|rule| rule.name).chain(["errno", "unexplained"]);
                Filter::Rule(known.into_iter().find(|name| Some(*name) == text)?.to_owned())
            }
        })
    }
}

/// All that a report can tell.
const REASONS: [Drops; 7] = [
    Drops::Tcp(DropReason::AcceptQueueFull),
    Drops::Tcp(DropReason::SynQueueFull),
    Drops::Tcp(DropReason::SyncookieSent),
    Drops::Tcp(DropReason::Other),
    Drops::Tcp(DropReason::ListenerClosed),
    Drops::TcpUnknown,
    Drops::UnixBacklogFull,
];

/// As reports print it; what is neither an address nor clearly a path is rather refused.
fn address(value: Written) -> Option<Address> {
    let inet = str::from_utf8(&value.bytes).ok().and_then(|text| text.parse::<SocketAddr>().ok());
    if let Some(inet) = inet {
        return Some(Address::Inet(inet));
    }
    let mut name = value.bytes;
    match name.first_mut()? {
        first @ b'@' if value.is_abstract => *first = 0,
        b'/' => {}
        _ if value.quoted => {}
        _ => return None,
    }
    Some(Address::Unix(name))
}

impl Filter {
    pub(super) const fn key(&self) -> Key {
        match self {
            Self::Pid(_) => Key::Pid,
            Self::Comm(_) => Key::Comm,
            Self::Uid(_) => Key::Uid,
            Self::Errno(_) => Key::Errno,
            Self::Listener(_) => Key::Listener,
            Self::Target(_) => Key::Target,
            Self::Reason(_) => Key::Reason,
            Self::Severity(_) => Key::Severity,
            Self::Rule(_) => Key::Rule,
        }
    }

    /// Whether a row passes; what is unknown of it does not.
    pub(super) fn passes(&self, row: &Whose) -> bool {
        let is_at = |end: &Option<Endpoint>, address: &Address| {
            end.as_ref().is_some_and(|end| end.address.as_ref() == Some(address))
        };
        match self {
            Self::Pid(pid) => row.processes.iter().any(|who| who.pid == Some(*pid)),
            Self::Comm(comm) => row.processes.iter().any(|who| who.comm.as_ref() == Some(comm)),
            Self::Uid(uid) => row.uid == Some(*uid),
            Self::Errno(errno) => row.errno == Some(*errno),
            Self::Listener(address) => is_at(&row.listener, address),
            Self::Target(address) => is_at(&row.target, address),
            Self::Reason(reason) => row.reason == Some(*reason),
            Self::Severity(severity) => row.severity == Some(*severity),
            Self::Rule(rule) => row.rule.as_ref() == Some(rule),
        }
    }
}
