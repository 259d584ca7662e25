//! Drops per listener, in every tier.
//!
//! fentry and kprobe tier: the kernel-side totals are the drops. Where the kernel skipped kprobes,
//! the namespace counted more: the rest belongs to the listener whose `sk_drops` says so, if there
//! is only one. Tracepoint tier: the kernel's `sk_drops` of a listener counts every drop, and
//! besides every packet to it that is discarded (`tcp_v4_rcv`: `discard_and_relse`), which a hook
//! counts: drops = Δ`sk_drops` − discarded. Reasons then come from the namespace's own counters,
//! where those allow only one answer.

use std::collections::BTreeMap;

use socktrace_common::{DropReason, DropStage};

use super::snapshot::{DropRow, Drops};
use crate::event::NetstatDelta;

/// What is known of one listener's drops, below the fentry tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Growth of `sk_drops`.
    pub(super) sk_drops: u64,
    /// Packets that `sk_drops` counts besides.
    pub(super) discarded: u64,
    /// Drops that a hook saw; in the tracepoint tier those at the last ACK.
    pub(super) hooked: u64,
}

impl Seen {
    const fn drops(self) -> u64 {
        self.sk_drops.saturating_sub(self.discarded)
    }
}

/// Gives the drops that the namespace counted beyond `rows` to the listeners that they must belong
/// to: every drop grows the `sk_drops` of its listener, so one whose growth is explained has none.
pub(super) fn give_rest(
    rows: &mut BTreeMap<u64, Vec<DropRow>>,
    listeners: &BTreeMap<u64, Seen>,
    netstat: NetstatDelta,
) {
    let Some(rest) = rest_by_reason(rows, netstat) else { return };
    let total = rest.iter().fold(0, |all: u64, (_, n)| all.saturating_add(*n));
    let growing: Vec<(u64, u64)> = listeners
        .iter()
        .map(|(inode, seen)| (*inode, seen.drops().saturating_sub(seen.hooked)))
        .filter(|(_, grown)| *grown != 0)
        .collect();
    let all_grown: u64 = growing.iter().map(|(_, grown)| grown).sum();
    let mut give = |inode, reason, n| {
        rows.entry(inode).or_default().push(row(Drops::Tcp(reason), None, n));
    };
    match (growing.as_slice(), rest.as_slice()) {
        ([(inode, grown)], _) if *grown >= total => {
            for (reason, n) in &rest {
                give(*inode, *reason, *n);
            }
        }
        (_, [(reason, _)]) if all_grown == total => {
            for (inode, grown) in &growing {
                give(*inode, *reason, *grown);
            }
        }
        _ => {}
    }
}

/// Gives the syncookies that the namespace counted beyond `rows` to its only listener. They grow no
/// `sk_drops`; where there are several listeners, nothing tells whose they are.
pub(super) fn give_cookies(
    rows: &mut BTreeMap<u64, Vec<DropRow>>,
    only_listener: u64,
    netstat: NetstatDelta,
) {
    let cookie = Drops::Tcp(DropReason::SyncookieSent);
    let all = rows.values().flatten().filter(|row| row.reason == cookie);
    let counted: u64 = all.map(|row| row.count).sum();
    let Some(rest @ 1..) = netstat.cookies.checked_sub(counted) else { return };
    rows.entry(only_listener).or_default().push(row(cookie, None, rest));
}

/// What the namespace counted for each reason beyond `rows`, zeroes left out; `None` where it
/// counted less.
fn rest_by_reason(
    rows: &BTreeMap<u64, Vec<DropRow>>,
    netstat: NetstatDelta,
) -> Option<Vec<(DropReason, u64)>> {
    let counted = |reason| -> u64 {
        let all = rows.values().flatten().filter(|row| row.reason == Drops::Tcp(reason));
        all.map(|row| row.count).sum()
    };
    let other = netstat.drops.checked_sub(netstat.overflows.saturating_add(netstat.syn_queue))?;
    let mut rest = Vec::new();
    for (reason, n) in [
        (DropReason::AcceptQueueFull, netstat.overflows),
        (DropReason::SynQueueFull, netstat.syn_queue),
        (DropReason::Other, other),
    ] {
        rest.push((reason, n.checked_sub(counted(reason))?));
    }
    rest.retain(|(_, n)| *n != 0);
    Some(rest)
}

/// Drops of every listener in the tracepoint tier, by inode.
pub(super) fn infer(
    listeners: &BTreeMap<u64, Seen>,
    netstat: Option<NetstatDelta>,
) -> BTreeMap<u64, Vec<DropRow>> {
    let dropping: Vec<(u64, Seen)> =
        listeners.iter().filter(|(_, seen)| seen.drops() > 0).map(|(i, s)| (*i, *s)).collect();
    let mut rows = BTreeMap::new();
    // Where the namespace counted none, `sk_drops` grew for another reason.
    if netstat.is_some_and(|netstat| netstat.drops == 0) {
        return rows;
    }
    for (inode, seen) in &dropping {
        let not_hooked = seen.drops().saturating_sub(seen.hooked);
        let rest = match (netstat, dropping.as_slice()) {
            // All that the namespace counted is its own; what its `sk_drops` counts beyond that was discarded
            // otherwise, and not seen.
            (Some(netstat), [_]) if seen.drops() >= netstat.drops => alone(*seen, netstat),
            (Some(netstat), _) if only_overflows(netstat) => {
                vec![row(Drops::Tcp(DropReason::AcceptQueueFull), None, not_hooked)]
            }
            _ => vec![row(Drops::TcpUnknown, None, not_hooked)],
        };
        let overflow = Drops::Tcp(DropReason::AcceptQueueFull);
        let mut all = vec![row(overflow, Some(DropStage::Ack), seen.hooked)];
        all.extend(rest);
        all.retain(|row| row.count != 0);
        rows.insert(*inode, all);
    }
    rows
}

const fn only_overflows(netstat: NetstatDelta) -> bool {
    netstat.syn_queue == 0 && netstat.overflows == netstat.drops
}

/// The only listener that dropped, and all of the namespace's drops: its reasons are the
/// namespace's.
fn alone(seen: Seen, netstat: NetstatDelta) -> Vec<DropRow> {
    let other = netstat.other();
    let overflows = netstat.overflows.saturating_sub(seen.hooked);
    vec![
        row(Drops::Tcp(DropReason::AcceptQueueFull), None, overflows),
        row(Drops::Tcp(DropReason::SynQueueFull), Some(DropStage::Syn), netstat.syn_queue),
        row(Drops::Tcp(DropReason::Other), None, other),
    ]
}

const fn row(reason: Drops, stage: Option<DropStage>, count: u64) -> DropRow {
    DropRow { reason, stage, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn netstat(overflows: u64, drops: u64, syn_queue: u64) -> NetstatDelta {
        NetstatDelta { overflows, drops, syn_queue, cookies: 0 }
    }

    fn total(rows: &[DropRow], reason: Drops) -> u64 {
        rows.iter().filter(|row| row.reason == reason).map(|row| row.count).sum()
    }

    #[test]
    fn a_discarded_packet_is_no_drop_though_sk_drops_counts_it() {
        let seen = BTreeMap::from([(7, Seen { sk_drops: 592, discarded: 8, hooked: 4 })]);
        let rows = &infer(&seen, Some(netstat(584, 584, 0)))[&7];
        assert_eq!(total(rows, Drops::Tcp(DropReason::AcceptQueueFull)), 584);
    }

    #[test]
    fn syncookies_that_no_hook_saw_are_those_of_the_only_listener() {
        let cookie = Drops::Tcp(DropReason::SyncookieSent);
        let counted = NetstatDelta { cookies: 656, ..netstat(0, 0, 0) };
        let mut rows = BTreeMap::from([(7, vec![row(cookie, None, 653)])]);
        give_cookies(&mut rows, 7, counted);
        assert_eq!(total(&rows[&7], cookie), 656);
        give_cookies(&mut rows, 7, counted);
        assert_eq!(total(&rows[&7], cookie), 656, "nothing is left");
        give_cookies(&mut rows, 7, netstat(0, 0, 0));
        assert_eq!(total(&rows[&7], cookie), 656, "the namespace counted less");
    }

    #[test]
    fn the_only_dropping_listener_gets_the_namespaces_reasons() {
        let seen = BTreeMap::from([(7, Seen { sk_drops: 863, ..Seen::default() })]);
        let rows = &infer(&seen, Some(netstat(603, 863, 260)))[&7];
        assert_eq!(total(rows, Drops::Tcp(DropReason::AcceptQueueFull)), 603);
        assert_eq!(total(rows, Drops::Tcp(DropReason::SynQueueFull)), 260);
    }

    #[test]
    fn the_only_dropping_listener_has_no_more_drops_than_its_namespace() {
        let seen = BTreeMap::from([(7, Seen { sk_drops: 537, ..Seen::default() })]);
        let rows = &infer(&seen, Some(netstat(535, 535, 0)))[&7];
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 535, "two were discarded unseen");
    }

    #[test]
    fn several_listeners_with_several_reasons_have_an_unknown_one() {
        let one = Seen { sk_drops: 10, ..Seen::default() };
        let rows = infer(&BTreeMap::from([(7, one), (8, one)]), Some(netstat(15, 20, 5)));
        assert_eq!(total(&rows[&7], Drops::TcpUnknown), 10);
        assert_eq!(total(&rows[&8], Drops::TcpUnknown), 10);
    }

    #[test]
    fn growth_of_sk_drops_that_the_namespace_does_not_know_is_no_drop() {
        let seen = BTreeMap::from([(7, Seen { sk_drops: 10, ..Seen::default() })]);
        assert!(infer(&seen, Some(netstat(0, 0, 0))).is_empty());
    }

    const OVERFLOW: Drops = Drops::Tcp(DropReason::AcceptQueueFull);

    /// Hooks saw ten overflows of listener 7 of the twelve that the namespace counted.
    fn rest_given(listeners: &[(u64, Seen)]) -> BTreeMap<u64, Vec<DropRow>> {
        let mut rows = BTreeMap::from([(7, vec![row(OVERFLOW, Some(DropStage::Syn), 10)])]);
        give_rest(&mut rows, &listeners.iter().copied().collect(), netstat(12, 12, 0));
        rows
    }

    #[test]
    fn the_rest_belongs_to_the_only_listener_whose_counter_says_so() {
        let skipped = Seen { sk_drops: 17, discarded: 3, hooked: 10 };
        let quiet = Seen { sk_drops: 5, discarded: 5, hooked: 0 };
        assert_eq!(total(&rest_given(&[(7, skipped), (8, quiet)])[&7], OVERFLOW), 12);
    }

    #[test]
    fn a_rest_that_two_listeners_may_have_is_given_to_neither() {
        let one = Seen { sk_drops: 13, discarded: 1, hooked: 10 };
        let other = Seen { sk_drops: 2, ..Seen::default() };
        let rows = rest_given(&[(7, one), (8, other)]);
        assert_eq!((total(&rows[&7], OVERFLOW), rows.len()), (10, 1));
    }

    #[test]
    fn a_rest_that_is_all_of_their_growth_is_shared_by_it() {
        let one = Seen { sk_drops: 12, discarded: 1, hooked: 10 };
        let other = Seen { sk_drops: 1, ..Seen::default() };
        let rows = rest_given(&[(7, one), (8, other)]);
        assert_eq!((total(&rows[&7], OVERFLOW), total(&rows[&8], OVERFLOW)), (11, 1));
    }

    #[test]
    fn a_listener_that_dropped_nothing_has_no_row() {
        let seen = BTreeMap::from([(7, Seen::default())]);
        assert!(infer(&seen, Some(netstat(0, 0, 0))).is_empty());
    }
}
