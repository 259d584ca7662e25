//! Drops of each listener, in every tier, and what each network namespace counted beside them.

use std::collections::{BTreeMap, BTreeSet};

use socktrace_common::{DropReason, DropStage, Signal, Tier};

use super::{
    super::{
        Aggregator,
        completeness::Unattributed,
        drops::{self, Seen},
        snapshot::{DropRow, Drops, NamespaceRow},
    },
    only,
};
use crate::event::{Address, Endpoint, NamespaceCounters, NetstatDelta};

impl Aggregator {
    pub(super) fn drops_by_listener(&self) -> BTreeMap<u64, Vec<DropRow>> {
        let tier = self.session.tier(Signal::BacklogDrop);
        if tier == Some(Tier::Tracepoint) {
            let mut rows = drops::infer(&self.drops_seen(), self.own_netstat());
            for (inode, counted) in self.drops_counted() {
                let closed = counted.into_iter().filter(|row| !row.reason.is_listen_drop());
                rows.entry(inode).or_default().extend(closed);
            }
            return rows;
        }
        let mut rows = self.drops_counted();
        if let (Some(Tier::Kprobe), Some(netstat)) = (tier, self.own_netstat()) {
            let elsewhere =
                rows.extract_if(.., |inode, _| !self.is_here(*inode)).collect::<Vec<_>>();
            let mut seen = self.drops_seen();
            seen.retain(|inode, _| self.is_here(*inode));
            drops::give_rest(&mut rows, &seen, netstat);
            if let Some(inode) = only(&self.tcp_listeners_here()) {
                drops::give_cookies(&mut rows, inode, netstat);
            }
            rows.extend(elsewhere);
        }
        rows
    }

    /// What the hooks counted.
    fn drops_counted(&self) -> BTreeMap<u64, Vec<DropRow>> {
        let mut rows: BTreeMap<u64, Vec<DropRow>> = BTreeMap::new();
        for (key, count) in &self.counters.drops {
            let Some(reason) = DropReason::ALL.get(key.reason as usize) else { continue };
            if *reason == DropReason::Discarded {
                continue;
            }
            let stage = DropStage::ALL.get(key.stage as usize).copied();
            let row = DropRow { reason: Drops::Tcp(*reason), stage, count: *count };
            rows.entry(key.listener).or_default().push(row);
        }
        for rows in rows.values_mut() {
            rows.sort_by_key(|row| (row.reason, row.stage));
        }
        rows
    }

    /// Whether a listener is in the tracer's own network namespace, for all that is known.
    fn is_here(&self, inode: u64) -> bool {
        let netns = self.netns_of(inode);
        netns.is_none() || netns.map(u64::from) == self.session.netns
    }

    /// The network namespace of a listener.
    fn netns_of(&self, inode: u64) -> Option<u32> {
        let counted = self.counters.listeners.get(&inode).and_then(|known| known.netns);
        counted.or_else(|| self.watched.get(&inode).and_then(|watched| watched.last.netns))
    }

    /// Every TCP listener that there was in the tracer's own network namespace.
    fn tcp_listeners_here(&self) -> BTreeSet<u64> {
        let counted = self.counters.listeners.iter().map(|(inode, it)| (*inode, &it.local));
        let seen = self.watched.iter().map(|(inode, it)| (*inode, &it.last.local));
        let is_tcp = |local: &Endpoint| matches!(local.address, Some(Address::Inet(_)));
        let tcp = counted.chain(seen).filter(|(_, local)| is_tcp(local));
        tcp.map(|(inode, _)| inode).filter(|inode| self.is_here(*inode)).collect()
    }

    fn drops_seen(&self) -> BTreeMap<u64, Seen> {
        let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
        for (inode, watched) in self.watched.iter().filter(|(inode, _)| self.is_here(**inode)) {
            let now = watched.last.drops.unwrap_or(0);
            seen.entry(*inode).or_default().sk_drops =
                u64::from(now.wrapping_sub(watched.drops_at_start));
        }
        for (inode, listener) in &self.counters.listeners {
            if let Some(at_close) = listener.drops_at_close {
                let start = self.watched.get(inode).map_or(0, |watched| watched.drops_at_start);
                let sk_drops = &mut seen.entry(*inode).or_default().sk_drops;
                *sk_drops = grown(*sk_drops, start, at_close);
            }
        }
        for (key, count) in &self.counters.drops {
            let seen = seen.entry(key.listener).or_default();
            match DropReason::ALL.get(key.reason as usize) {
                Some(DropReason::Discarded) => seen.discarded += count,
                Some(reason) if Drops::Tcp(*reason).is_listen_drop() => seen.hooked += count,
                _ => {}
            }
        }
        seen
    }

    /// What the tracer's own network namespace counted.
    fn own_netstat(&self) -> Option<NetstatDelta> {
        self.namespaces.iter().find(|namespace| namespace.own)?.counted
    }

    /// Each network namespace that counted a drop or a syncookie, and the own one; what no known
    /// listener explains.
    pub(super) fn namespaces(&self, drops: &BTreeMap<u64, Vec<DropRow>>) -> Vec<NamespaceRow> {
        let counted_any = |row: &NamespaceCounters| {
            row.counted.is_some_and(|counted| counted.drops != 0 || counted.cookies != 0)
        };
        let shown = self.namespaces.iter().filter(|row| row.own || counted_any(row));
        shown
            .map(|row| {
                let Compared { unattributed, surplus } = self.compare(row, drops);
                NamespaceRow {
                    netns: row.netns,
                    own: row.own,
                    counted: row.counted,
                    while_read: row.while_read,
                    unattributed,
                    surplus,
                }
            })
            .collect()
    }

    /// What a network namespace counted, with the drops of the listeners in it.
    fn compare(
        &self,
        namespace: &NamespaceCounters,
        drops: &BTreeMap<u64, Vec<DropRow>>,
    ) -> Compared {
        let (Some(tier), Some(counted)) =
            (self.session.tier(Signal::BacklogDrop), namespace.counted)
        else {
            return Compared::UNKNOWN;
        };
        // A listener whose namespace is not known is taken for one of the own.
        let inside =
            |inode| self.netns_of(inode).map_or(namespace.own, |netns| netns == namespace.netns);
        let found = |wanted: &dyn Fn(Drops) -> bool| -> u64 {
            let rows = drops.iter().filter(|(inode, _)| inside(**inode));
            let rows = rows.flat_map(|(_, rows)| rows).filter(|row| wanted(row.reason));
            rows.map(|row| row.count).sum()
        };
        let cookie = Drops::Tcp(DropReason::SyncookieSent);
        let while_read = namespace.while_read;
        let drops = rest(counted.drops, found(&Drops::is_listen_drop), while_read.drops);
        let cookies = match tier {
            // It sees none.
            Tier::Tracepoint => Ok(0),
            _ => rest(counted.cookies, found(&|reason| reason == cookie), while_read.cookies),
        };
        let known = drops.ok().map(|drops| Unattributed { drops, cookies: cookies.unwrap_or(0) });
        let surplus = match tier {
            // `sk_drops` is an upper bound there.
            Tier::Tracepoint => 0,
            _ => drops.err().unwrap_or(0).saturating_add(cookies.err().unwrap_or(0)),
        };
        Compared { unattributed: known, surplus }
    }
}

/// What the kernel counted, beside what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compared {
    /// Counted, and of no known listener; `None` where that cannot be told.
    unattributed: Option<Unattributed>,
    /// Found, and not counted, in a tier that counts exactly.
    surplus: u64,
}

impl Compared {
    const UNKNOWN: Self = Self { unattributed: None, surplus: 0 };
}

/// What was counted beyond what was found, or else (`Err`) found beyond what was counted. What came `while_read` may be in one of
/// them only.
const fn rest(counted: u64, found: u64, while_read: u64) -> Result<u64, u64> {
    if counted.abs_diff(found) <= while_read {
        return Ok(0);
    }
    match counted.checked_sub(found) {
        Some(rest) => Ok(rest),
        None => Err(found - counted),
    }
}

/// How far a listener's `sk_drops` had come when it was closed, which it only does by growing beyond what was `seen` of it. Of an
/// MPTCP listener whose inner socket is gone first, the outer one has counted nothing.
fn grown(seen: u64, start: u32, at_close: u32) -> u64 {
    let grown = at_close.wrapping_sub(start);
    if grown <= u32::MAX / 2 { seen.max(grown.into()) } else { seen }
}

/// What is unattributed anywhere.
pub(super) fn unattributed(namespaces: &[NamespaceRow]) -> Unattributed {
    let known = namespaces.iter().filter_map(|namespace| namespace.unattributed);
    known.fold(Unattributed::default(), |all, one| Unattributed {
        drops: all.drops.saturating_add(one.drops),
        cookies: all.cookies.saturating_add(one.cookies),
    })
}

/// What was found too much anywhere.
pub(super) fn surplus(namespaces: &[NamespaceRow]) -> u64 {
    namespaces.iter().fold(0, |all, one| all.saturating_add(one.surplus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_was_less_when_its_listener_was_closed_is_another_sockets() {
        assert_eq!(grown(3, 10, 15), 5);
        assert_eq!((grown(3, 10, 0), grown(3, 0, 0)), (3, 3));
        assert_eq!(grown(3, u32::MAX, 4), 5, "it goes on behind its highest value");
    }

    #[test]
    fn what_came_while_both_were_read_may_be_in_one_of_them_only() {
        assert_eq!(rest(10, 10, 0), Ok(0));
        assert_eq!((rest(10, 8, 0), rest(8, 10, 0)), (Ok(2), Err(2)));
        assert_eq!((rest(10, 8, 2), rest(8, 10, 2)), (Ok(0), Ok(0)));
        assert_eq!((rest(10, 8, 1), rest(8, 10, 1)), (Ok(2), Err(2)), "it explains one of two");
    }
}
