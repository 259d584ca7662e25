//! Drops per listener, in every tier.
//!
//! fentry and kprobe tier: the kernel-side totals are the drops. Tracepoint tier: the kernel's
//! `sk_drops` of a listener counts every drop, and besides every packet to it that is discarded
//! (`tcp_v4_rcv`: `discard_and_relse`), which the tracepoint counts: drops = Δ`sk_drops` −
//! discarded. Reasons then come from the namespace's own counters, where those allow only one
//! answer.

use std::collections::BTreeMap;

use socktrace_common::{DropReason, DropStage};

use super::snapshot::{DropRow, Drops};
use crate::event::NetstatDelta;

/// What is known of one listener's drops in the tracepoint tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Growth of `sk_drops`.
    pub(super) sk_drops: u64,
    /// Packets that `sk_drops` counts besides.
    pub(super) discarded: u64,
    /// Drops at the last ACK.
    pub(super) at_ack: u64,
}

impl Seen {
    const fn drops(self) -> u64 {
        self.sk_drops.saturating_sub(self.discarded)
    }
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
        let not_at_ack = seen.drops().saturating_sub(seen.at_ack);
        let rest = match (netstat, dropping.as_slice()) {
            (Some(netstat), _) if only_overflows(netstat) => {
                vec![row(Drops::Tcp(DropReason::AcceptQueueFull), None, not_at_ack)]
            }
            (Some(netstat), [_]) if seen.drops() == netstat.drops => alone(*seen, netstat),
            _ => vec![row(Drops::TcpUnknown, None, not_at_ack)],
        };
        let overflow = Drops::Tcp(DropReason::AcceptQueueFull);
        let mut all = vec![row(overflow, Some(DropStage::Ack), seen.at_ack)];
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
    let other = netstat.drops.saturating_sub(netstat.overflows + netstat.syn_queue);
    let overflows = netstat.overflows.saturating_sub(seen.at_ack);
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
        let seen = BTreeMap::from([(7, Seen { sk_drops: 592, discarded: 8, at_ack: 4 })]);
        let rows = &infer(&seen, Some(netstat(584, 584, 0)))[&7];
        assert_eq!(total(rows, Drops::Tcp(DropReason::AcceptQueueFull)), 584);
    }

    #[test]
    fn the_only_dropping_listener_gets_the_namespaces_reasons() {
        let seen = BTreeMap::from([(7, Seen { sk_drops: 863, ..Seen::default() })]);
        let rows = &infer(&seen, Some(netstat(603, 863, 260)))[&7];
        assert_eq!(total(rows, Drops::Tcp(DropReason::AcceptQueueFull)), 603);
        assert_eq!(total(rows, Drops::Tcp(DropReason::SynQueueFull)), 260);
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

    #[test]
    fn a_listener_that_dropped_nothing_has_no_row() {
        let seen = BTreeMap::from([(7, Seen::default())]);
        assert!(infer(&seen, Some(netstat(0, 0, 0))).is_empty());
    }
}
