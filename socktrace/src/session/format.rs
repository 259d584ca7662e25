//! The lines of a session file.
//!
//! Each line is an object with one member, whose name is the kind of the line. Kinds and fields are only
//! added within a major version; a reader skips kinds that it does not know, and counts them.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::totals::Totals;
use crate::{
    aggregate::{Selection, Session},
    event::{
        Carried, Diagnosis, Event, Listener, Misses, NamespaceCounters, Owner, ReaderLoss, Runs,
        Sighting, Sightings, Stall, Unread, written,
    },
};

/// Major version of the format.
pub const SCHEMA_VERSION: u32 = 1;

/// What a frame may hold, uncompressed, in bytes.
pub(super) const MAX_FRAME: usize = 16 << 20;

/// Rows in one line of a kind of which there can be very many.
pub(super) const ROWS: usize = 512;

/// Holders of listeners in one line.
const PAIRS: usize = 4096;

/// One line.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// How it was recorded: always the first line.
    Session(Box<Header>),
    /// A detail event.
    Event(Event),
    /// A listener, before the first event that names its inode.
    Listener(NamedListener),
    /// The totals that changed since the line of this kind before.
    Totals(Box<Totals>),
    /// What waits too long.
    Stall(Box<Stall>),
    /// What was found out about an incident.
    Diagnosis(Box<Diagnosis>),
    /// The listeners that changed since the line of this kind before.
    Sightings(SeenListeners),
    /// Who holds listeners.
    Owners(Vec<Holders>),
    /// What of listeners and their owners could not be read.
    Unread(Unread),
    /// Paths of cgroups.
    Cgroups(Vec<Cgroup>),
    /// What each network namespace counted.
    Namespaces(Vec<NamespaceCounters>),
    /// What the tracer lost so far.
    Loss(ReaderLoss),
    /// Runs of programs that the kernel skipped so far.
    Misses(Misses),
    /// What runs of programs took so far.
    Runs(Runs),
    /// What came before this part of the session.
    Carried(Box<Carried>),
    /// How it ended: always the last line.
    End(End),
}

/// Every kind of line, for telling an unknown one from a broken one.
pub(super) const KINDS: [&str; 16] = [
    "session",
    "event",
    "listener",
    "totals",
    "stall",
    "diagnosis",
    "sightings",
    "owners",
    "unread",
    "cgroups",
    "namespaces",
    "loss",
    "misses",
    "runs",
    "carried",
    "end",
];

/// How a session was recorded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Major version of the format.
    pub schema_version: u32,
    /// The socktrace that wrote it.
    pub socktrace_version: String,
    /// Of how many nanoseconds the totals are written.
    pub interval_ns: u64,
    /// Which part of the session this is, the first is 1: a later one says what came before it, but for
    /// its events.
    #[serde(default = "first_part")]
    pub part: u32,
    /// Host, kernel, signals, command.
    #[serde(flatten)]
    pub session: Session,
    /// What the filters let pass.
    pub filters: Selection,
}

const fn first_part() -> u32 {
    1
}

/// How a session ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// For how long was recorded, nanoseconds.
    pub duration_ns: u64,
    /// CPU time that the tracer used, nanoseconds.
    pub cpu_ns: u64,
    /// The most memory that it used, bytes.
    pub peak_rss_bytes: u64,
    /// Why the file lacks what came before this line; absent if it has all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// A listener and the inode that names it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct NamedListener {
    /// Inode of its socket.
    pub(super) inode: u64,
    /// What is known of it.
    pub(super) listener: Listener,
}

/// What is new of listeners.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct SeenListeners {
    time_ns: u64,
    /// Whether this is the first look: what it has was there before the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    baseline: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<SeenListener>,
    /// Inodes of listeners that are there no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct SeenListener {
    inode: u64,
    seen: Sighting,
}

/// Who holds a listener.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Holders {
    inode: u64,
    owners: Vec<Owner>,
}

/// The path of a cgroup.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Cgroup {
    id: u64,
    #[serde(with = "written::text")]
    #[schemars(with = "String")]
    path: Vec<u8>,
}

impl SeenListeners {
    /// In the order of their inodes, so many in a line that a frame can hold them.
    pub(super) fn lines(seen: &Sightings) -> Vec<Self> {
        let row =
            |(inode, seen): (&u64, &Sighting)| SeenListener { inode: *inode, seen: seen.clone() };
        let mut rows: Vec<SeenListener> = seen.changed.iter().map(row).collect();
        rows.sort_by_key(|row| row.inode);
        let Sightings { time_ns, baseline, ref gone, .. } = *seen;
        let line = |changed| Self { time_ns, baseline, changed, gone: Vec::new() };
        let mut lines: Vec<Self> = in_pieces(rows).into_iter().map(line).collect();
        if let Some(first) = lines.first_mut() {
            first.gone.clone_from(gone);
        }
        lines
    }
}

impl From<SeenListeners> for Sightings {
    fn from(line: SeenListeners) -> Self {
        let SeenListeners { time_ns, baseline, changed, gone } = line;
        let changed = changed.into_iter().map(|row| (row.inode, row.seen)).collect();
        Self { time_ns, baseline, changed, gone }
    }
}

/// At least one piece, each of at most [`ROWS`].
fn in_pieces<T>(mut rows: Vec<T>) -> Vec<Vec<T>> {
    let mut pieces = Vec::new();
    while rows.len() > ROWS {
        let rest = rows.split_off(ROWS);
        pieces.push(std::mem::replace(&mut rows, rest));
    }
    pieces.push(rows);
    pieces
}

/// In the order of their inodes, so many in a line that a frame can hold them.
pub(super) fn holders(owners: &HashMap<u64, Vec<Owner>>) -> Vec<Vec<Holders>> {
    let row =
        |(inode, owners): (&u64, &Vec<Owner>)| Holders { inode: *inode, owners: owners.clone() };
    let mut rows: Vec<Holders> = owners.iter().map(row).collect();
    rows.sort_by_key(|row| row.inode);
    let mut pieces: Vec<Vec<Holders>> = vec![Vec::new()];
    let mut owners = 0;
    for row in rows {
        owners += row.owners.len().max(1);
        if owners > PAIRS && pieces.last().is_some_and(|piece| !piece.is_empty()) {
            owners = row.owners.len();
            pieces.push(Vec::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(row);
        }
    }
    pieces
}

pub(super) fn owners(rows: Vec<Holders>) -> HashMap<u64, Vec<Owner>> {
    rows.into_iter().map(|row| (row.inode, row.owners)).collect()
}

/// In the order of their ids, so many in a line that a frame can hold them.
pub(super) fn cgroup_rows(paths: &HashMap<u64, Vec<u8>>) -> Vec<Vec<Cgroup>> {
    let row = |(id, path): (&u64, &Vec<u8>)| Cgroup { id: *id, path: path.clone() };
    let mut rows: Vec<Cgroup> = paths.iter().map(row).collect();
    rows.sort_by_key(|row| row.id);
    in_pieces(rows)
}

pub(super) fn cgroup_paths(rows: Vec<Cgroup>) -> HashMap<u64, Vec<u8>> {
    rows.into_iter().map(|row| (row.id, row.path)).collect()
}
