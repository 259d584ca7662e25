//! Totals as rows: each with its key, and only those that changed.

use std::{collections::HashMap, hash::Hash};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socktrace_common::{
    AcceptErrorKey, AcceptKey, ConnectBlockedKey, ConnectFailureKey, DropKey, DropReason,
    DropStage, Signal, Stage, TaskKey,
};

use super::format::ROWS;
use crate::event::{Counters, Endpoint, Stages, Task, WaitTotals, written};

/// The totals that changed since the line before; all of them are sums since the start.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Totals {
    /// When they were read, monotonic nanoseconds.
    time_ns: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepts: Vec<Accepts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accept_errors: Vec<AcceptErrors>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_failures: Vec<ConnectFailures>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_blocked: Vec<BlockedConnects>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backlog_drops: Vec<BacklogDrops>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<NamedTask>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<super::format::NamedListener>,
    /// Where the occurrences of each signal went.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<SignalStages>,
}

/// What one process accepted from one listener.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Accepts {
    task: TaskKey,
    /// Inode of the listener; 0 where unknown.
    inode: u64,
    waits: WaitTotals,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct AcceptErrors {
    task: TaskKey,
    /// Inode of the listener; 0 where unknown.
    inode: u64,
    #[serde(with = "written::errno")]
    #[schemars(with = "String")]
    errno: u32,
    count: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct ConnectFailures {
    task: TaskKey,
    #[serde(with = "written::errno")]
    #[schemars(with = "String")]
    errno: u32,
    /// Real uid of the client.
    uid: u32,
    target: Endpoint,
    count: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct BlockedConnects {
    task: TaskKey,
    /// Inode of the listener; 0 where unknown.
    inode: u64,
    target: Endpoint,
    waits: WaitTotals,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct BacklogDrops {
    /// Inode of the listener; 0 where unknown.
    inode: u64,
    reason: DropReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<DropStage>,
    count: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct NamedTask {
    task: TaskKey,
    name: Task,
}

/// Where the occurrences of one signal went.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct SignalStages {
    signal: Signal,
    seen: u64,
    filtered: u64,
    below_threshold: u64,
    sampled_out: u64,
    submitted: u64,
    lost_buffer: u64,
    lost_tally: u64,
    lost_pending: u64,
    unpaired: u64,
    lost_name: u64,
    self_test: u64,
}

impl Default for SignalStages {
    fn default() -> Self {
        Self::of(Signal::Accept, &Stages::default())
    }
}

impl Totals {
    /// What is in `now` and not, or not so, in `before`.
    pub(super) fn changed(now: &Counters, before: &Counters) -> Self {
        let stages = (now.stages != before.stages)
            .then(|| Signal::ALL.map(|signal| SignalStages::of(signal, &now.stages)).into());
        let mut totals = Self {
            time_ns: now.time_ns,
            accepts: rows(&now.accepts, &before.accepts, |key, waits| Accepts {
                task: key.task,
                inode: key.listener,
                waits: waits.clone(),
            }),
            accept_errors: rows(&now.accept_errors, &before.accept_errors, |key, count| {
                let AcceptErrorKey { task, listener, errno, .. } = *key;
                AcceptErrors { task, inode: listener, errno, count: *count }
            }),
            connect_failures: rows(
                &now.connect_failures,
                &before.connect_failures,
                |key, count| failures(key, *count),
            ),
            connect_blocked: rows(&now.connect_blocked, &before.connect_blocked, |key, waits| {
                BlockedConnects {
                    task: key.task,
                    inode: key.listener,
                    target: (&key.target).into(),
                    waits: waits.clone(),
                }
            }),
            backlog_drops: Vec::new(),
            tasks: rows(&now.tasks, &before.tasks, |task, name| NamedTask {
                task: *task,
                name: name.clone(),
            }),
            listeners: rows(&now.listeners, &before.listeners, |inode, listener| {
                super::format::NamedListener { inode: *inode, listener: listener.clone() }
            }),
            stages: stages.unwrap_or_default(),
        };
        let drops = rows(&now.drops, &before.drops, |key, count| drops(key, *count));
        totals.backlog_drops = drops.into_iter().flatten().collect();
        totals
    }

    /// The same in lines that a frame can hold.
    pub(super) fn pieces(mut self) -> Vec<Self> {
        let mut pieces = Vec::new();
        while self.longest() > ROWS {
            pieces.push(Self {
                time_ns: self.time_ns,
                accepts: front(&mut self.accepts),
                accept_errors: front(&mut self.accept_errors),
                connect_failures: front(&mut self.connect_failures),
                connect_blocked: front(&mut self.connect_blocked),
                backlog_drops: front(&mut self.backlog_drops),
                tasks: front(&mut self.tasks),
                listeners: front(&mut self.listeners),
                stages: Vec::new(),
            });
        }
        pieces.push(self);
        pieces
    }

    fn longest(&self) -> usize {
        let lengths = [
            self.accepts.len(),
            self.accept_errors.len(),
            self.connect_failures.len(),
            self.connect_blocked.len(),
            self.backlog_drops.len(),
            self.tasks.len(),
            self.listeners.len(),
        ];
        lengths.into_iter().max().unwrap_or(0)
    }

    /// As totals again. Where no stages are told, those of `before` hold.
    pub(super) fn into_counters(self, before: &Stages) -> Counters {
        let mut stages = *before;
        for row in &self.stages {
            row.put(&mut stages);
        }
        let accept_error = |row: &AcceptErrors| AcceptErrorKey {
            task: row.task,
            listener: row.inode,
            errno: row.errno,
            pad: 0,
        };
        let failure = |row: &ConnectFailures| ConnectFailureKey {
            task: row.task,
            errno: row.errno,
            uid: row.uid,
            target: (&row.target).into(),
        };
        let blocked = |row: &BlockedConnects| ConnectBlockedKey {
            task: row.task,
            listener: row.inode,
            target: (&row.target).into(),
        };
        let drop = |row: &BacklogDrops| DropKey {
            listener: row.inode,
            reason: row.reason as u32,
            stage: row.stage.map_or(DropStage::NONE, |stage| stage as u32),
        };
        Counters {
            time_ns: self.time_ns,
            accepts: self
                .accepts
                .into_iter()
                .map(|row| (AcceptKey { task: row.task, listener: row.inode }, row.waits))
                .collect(),
            accept_errors: self
                .accept_errors
                .iter()
                .map(|row| (accept_error(row), row.count))
                .collect(),
            connect_failures: self
                .connect_failures
                .iter()
                .map(|row| (failure(row), row.count))
                .collect(),
            connect_blocked: self
                .connect_blocked
                .into_iter()
                .map(|row| (blocked(&row), row.waits))
                .collect(),
            drops: self.backlog_drops.iter().map(|row| (drop(row), row.count)).collect(),
            tasks: self.tasks.into_iter().map(|row| (row.task, row.name)).collect(),
            listeners: self.listeners.into_iter().map(|row| (row.inode, row.listener)).collect(),
            stages,
        }
    }
}

fn failures(key: &ConnectFailureKey, count: u64) -> ConnectFailures {
    let ConnectFailureKey { task, errno, uid, ref target } = *key;
    ConnectFailures { task, errno, uid, target: target.into(), count }
}

/// `None` for a reason that this version does not know.
fn drops(key: &DropKey, count: u64) -> Option<BacklogDrops> {
    let reason = *DropReason::ALL.get(usize::try_from(key.reason).ok()?)?;
    let stage = usize::try_from(key.stage).ok().and_then(|stage| DropStage::ALL.get(stage));
    Some(BacklogDrops { inode: key.listener, reason, stage: stage.copied(), count })
}

/// As many as a line may have.
fn front<T>(rows: &mut Vec<T>) -> Vec<T> {
    let rest = rows.split_off(rows.len().min(ROWS));
    std::mem::replace(rows, rest)
}

/// Rows of what changed, in the order of their keys.
fn rows<K: Eq + Hash + Ord, V: PartialEq, R>(
    now: &HashMap<K, V>,
    before: &HashMap<K, V>,
    row: impl Fn(&K, &V) -> R,
) -> Vec<R> {
    let mut changed: Vec<(&K, &V)> =
        now.iter().filter(|(key, value)| before.get(*key) != Some(value)).collect();
    changed.sort_by_key(|(key, _)| *key);
    changed.into_iter().map(|(key, value)| row(key, value)).collect()
}

impl SignalStages {
    fn of(signal: Signal, stages: &Stages) -> Self {
        let get = |stage| stages.get(signal, stage);
        Self {
            signal,
            seen: get(Stage::Seen),
            filtered: get(Stage::Filtered),
            below_threshold: get(Stage::BelowThreshold),
            sampled_out: get(Stage::SampledOut),
            submitted: get(Stage::Submitted),
            lost_buffer: get(Stage::LostBuffer),
            lost_tally: get(Stage::LostTally),
            lost_pending: get(Stage::LostPending),
            unpaired: get(Stage::Unpaired),
            lost_name: get(Stage::LostName),
            self_test: get(Stage::SelfTest),
        }
    }

    const fn put(&self, stages: &mut Stages) {
        let row = &mut stages.0[self.signal as usize];
        row[Stage::Seen as usize] = self.seen;
        row[Stage::Filtered as usize] = self.filtered;
        row[Stage::BelowThreshold as usize] = self.below_threshold;
        row[Stage::SampledOut as usize] = self.sampled_out;
        row[Stage::Submitted as usize] = self.submitted;
        row[Stage::LostBuffer as usize] = self.lost_buffer;
        row[Stage::LostTally as usize] = self.lost_tally;
        row[Stage::LostPending as usize] = self.lost_pending;
        row[Stage::Unpaired as usize] = self.unpaired;
        row[Stage::LostName as usize] = self.lost_name;
        row[Stage::SelfTest as usize] = self.self_test;
    }
}
