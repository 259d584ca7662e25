//! What was found out about an incident: a cause, how sure it is, and what to do.
//!
//! Owns the finding as data and what it belongs to. What is found, and from which facts, is decided
//! in `diagnose`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{Credentials, TaskKey};

use super::{Body, Endpoint, Event, Phrase, errno::OF_A_FULL_QUEUE};

/// How sure something is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The kernel said so, or the state was read and cannot have changed since the incident.
    Measured,
    /// It was read after the incident, and explains it.
    Inferred,
    /// Several causes are possible, or none is known.
    Unknown,
}

impl Certainty {
    /// As reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Inferred => "inferred",
            Self::Unknown => "unknown",
        }
    }
}

/// How much harm it does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Connections fail, are thrown away, or wait.
    Error,
    /// They will, if it goes on.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// As reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing that was found out. `fact` and `consequence` are clauses and `fix` is an imperative,
/// each without its full stop; `docs/diagnosis.md` has the form.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Finding {
    /// How much harm it does: findings sort by it.
    pub severity: Severity,
    /// How sure it is.
    pub certainty: Certainty,
    /// The rule that found it; `unexplained` where none did.
    pub rule: Cow<'static, str>,
    /// What it is about: a path, a listener, a process.
    pub subject: Phrase,
    /// What is so.
    pub fact: Phrase,
    /// What follows from that.
    pub consequence: Phrase,
    /// What to do.
    pub fix: Phrase,
    /// What was looked at, a line each.
    pub evidence: Vec<Phrase>,
}

/// Failed connects that have one explanation: the same errno and target, with the same rights, from
/// the same place in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct FailureClass {
    /// The errno.
    #[serde(with = "super::written::errno")]
    #[schemars(with = "String")]
    pub errno: u32,
    /// The real uid.
    pub uid: u32,
    /// What was passed to `connect()`.
    pub target: Endpoint,
    /// The rights; `None` where they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Box<Credentials>>,
    /// The process, where the rest does not tell its clients apart: without credentials, its network namespace
    /// is not known; of supplementary groups, the kernel side only counts how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKey>,
}

impl FailureClass {
    /// The class of an event; `None` for one that is no failed connect.
    pub fn of(event: &Event) -> Option<Self> {
        let Body::ConnectFailure { errno, target, credentials } = &event.body else { return None };
        let actor = event.actor.as_ref()?;
        let is_told = credentials.as_ref().is_some_and(|held| held.groups == 0);
        Some(Self {
            errno: *errno,
            uid: actor.task.uid,
            task: (!is_told).then_some(actor.key),
            target: target.clone(),
            credentials: credentials.clone(),
        })
    }
}

/// What a diagnosis is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Incident {
    /// Connects that failed.
    ConnectFailure(FailureClass),
    /// `accept()` of this process failed with this errno, on the listener with this inode.
    AcceptError {
        /// Who called it.
        task: TaskKey,
        /// Inode of the listener; 0 where unknown.
        listener: u64,
        /// The errno.
        #[serde(with = "super::written::errno")]
        #[schemars(with = "String")]
        errno: u32,
    },
}

/// What was found out about an incident, the explanation first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// When the facts were gathered, monotonic nanoseconds.
    pub time_ns: u64,
    /// Of what.
    pub of: Incident,
    /// Inode of the listener that was found there; `None` where none was, or more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u64>,
    /// Never empty: where nothing explains it, one finding says so.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The listener of which a full queue may be the explanation.
    pub fn of_queue(&self) -> Option<u64> {
        match &self.of {
            Incident::ConnectFailure(class) if OF_A_FULL_QUEUE.contains(&class.errno) => {
                self.listener
            }
            Incident::ConnectFailure(_) | Incident::AcceptError { .. } => None,
        }
    }
}
