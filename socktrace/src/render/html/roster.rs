//! Which listeners the charts show, and how they are called: the most harmed first, the rest counted.

use std::collections::{BTreeMap, BTreeSet};

use super::values::endpoint;
use crate::aggregate::Snapshot;

/// Listeners that charts show.
const SHOWN: usize = 12;
/// Colours of the style sheet; beyond them lines are dashed.
pub(super) const COLOURS: usize = 7;

/// The listeners of the charts.
pub(super) struct Roster {
    /// Those that are shown.
    pub(super) shown: Vec<Listener>,
    /// Those that are not.
    pub(super) more: usize,
    names: BTreeMap<u64, String>,
}

/// One of them.
pub(super) struct Listener {
    pub(super) inode: u64,
    pub(super) name: String,
    /// Of the style sheet.
    pub(super) class: String,
}

/// What a listener is ranked by: dropped, stalled, accepted.
type Harm = (u64, u64, u64);

impl Roster {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let names = names(snapshot);
        let mut ranked: Vec<(u64, Harm)> = harms(snapshot).into_iter().collect();
        ranked.sort_by_key(|(inode, harm)| (std::cmp::Reverse(*harm), *inode));
        let more = ranked.len().saturating_sub(SHOWN);
        let mut roster = Self { shown: Vec::new(), more, names };
        for (index, (inode, _)) in ranked.into_iter().take(SHOWN).enumerate() {
            let dashed = if index < COLOURS { "" } else { " dashed" };
            let class = format!("c{}{dashed}", index % COLOURS);
            roster.shown.push(Listener { inode, name: roster.name(inode), class });
        }
        roster
    }

    /// What a listener is called everywhere on the page.
    pub(super) fn name(&self, inode: u64) -> String {
        let named = self.names.get(&inode).cloned();
        named.unwrap_or_else(|| match inode {
            0 => "unknown listener".to_owned(),
            _ => format!("inode {inode}"),
        })
    }

    /// That there are more; `None` if not.
    pub(super) fn rest(&self) -> Option<String> {
        let more = self.more;
        let verb = if more == 1 { "listener is" } else { "listeners are" };
        let told = || format!("and {more} more {verb} not drawn; the tables below have them");
        (more > 0).then(told)
    }
}

fn harms(snapshot: &Snapshot) -> BTreeMap<u64, Harm> {
    let mut harms: BTreeMap<u64, Harm> = BTreeMap::new();
    for row in &snapshot.listeners {
        let dropped = row.backlog_drops.iter().filter(|drop| drop.reason.is_drop());
        let harm = harms.entry(row.inode).or_default();
        harm.0 = dropped.map(|drop| drop.count).fold(0, u64::saturating_add);
        harm.2 = row.accept.count();
    }
    for stall in &snapshot.stalls {
        harms.entry(stall.listener).or_default().1 += 1;
    }
    for interval in &snapshot.timeline.intervals {
        let told = interval.accepts.keys().chain(interval.drops.keys());
        for inode in told.chain(interval.queues.keys()) {
            harms.entry(*inode).or_default();
        }
    }
    harms
}

/// Addresses; where several listeners have the same, with the inode.
fn names(snapshot: &Snapshot) -> BTreeMap<u64, String> {
    let rows = snapshot.listeners.iter().map(|row| (row.inode, &row.local));
    let stalls = snapshot.stalls.iter().map(|stall| (stall.listener, &stall.local));
    let addresses: BTreeMap<u64, String> = stalls
        .chain(rows)
        .filter(|(_, local)| local.address.is_some())
        .map(|(inode, local)| (inode, endpoint(local)))
        .collect();
    let mut seen = BTreeSet::new();
    let doubled: BTreeSet<String> =
        addresses.values().filter(|name| !seen.insert(name.as_str())).cloned().collect();
    let name = |inode: u64, address: String| {
        if doubled.contains(&address) { format!("{address} (inode {inode})") } else { address }
    };
    addresses.into_iter().map(|(inode, address)| (inode, name(inode, address))).collect()
}
