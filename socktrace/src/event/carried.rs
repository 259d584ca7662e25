//! What a session is known by when its file goes on in another part.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{Signal, TaskKey};

use super::{FailureClass, Sighting, WaitTotals};

/// What came before this part of a session, and is in no other record. There may be several, to be added
/// up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Carried {
    /// Events that were delivered, by signal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delivered: Vec<Delivered>,
    /// Listeners that were looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<WatchedListener>,
    /// What failures belong to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassOfFailure>,
    /// The course so far, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<Interval>,
    /// Stalls that were too many to keep.
    pub stalls_left_out: u64,
    /// Diagnoses that were too many to keep.
    pub diagnoses_left_out: u64,
    /// Rows of other kinds that were too many to keep.
    pub left_out: u64,
}

/// Events of one signal that were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivered {
    /// The signal.
    pub signal: Signal,
    /// How many.
    pub count: u64,
}

/// A listener as it was seen over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchedListener {
    /// Its inode.
    pub inode: u64,
    /// As it was seen last.
    pub last: Sighting,
    /// The most connections seen in its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u32>,
    /// `sk_drops` when the session began, where it was there then.
    pub drops_at_start: u32,
    /// Whether it is there no more.
    pub gone: bool,
}

/// A counted failure's process, and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClassOfFailure {
    /// Who failed.
    pub task: TaskKey,
    /// Its class.
    pub class: FailureClass,
}

/// What happened between two readings of the totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Interval {
    /// The earlier reading, monotonic nanoseconds.
    pub begin_ns: u64,
    /// The later one.
    pub end_ns: u64,
    /// Connections accepted, with their waits, by inode of the listener.
    pub accepts: BTreeMap<u64, WaitTotals>,
    /// Connections thrown away, by inode of the listener.
    pub drops: BTreeMap<u64, u64>,
    /// Connects that failed, by errno.
    pub connect_failures: BTreeMap<u32, u64>,
    /// Accepts that failed, by errno.
    pub accept_errors: BTreeMap<u32, u64>,
    /// The most connections seen in an accept queue, by inode of the listener; empty queues are left out.
    pub queues: BTreeMap<u64, u32>,
}

impl Interval {
    /// Takes in the one that follows.
    pub fn join(&mut self, next: Self) {
        self.end_ns = next.end_ns;
        for (listener, waits) in next.accepts {
            self.accepts.entry(listener).or_default().add(&waits);
        }
        add_counts(&mut self.drops, next.drops);
        add_counts(&mut self.connect_failures, next.connect_failures);
        add_counts(&mut self.accept_errors, next.accept_errors);
        for (listener, queue) in next.queues {
            let most = self.queues.entry(listener).or_default();
            *most = queue.max(*most);
        }
    }
}

fn add_counts<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}
