//! Drops by listener, and what the network namespaces counted, as of one moment.
//!
//! Nothing reads both at once. Where a namespace's counters are the same before and after the drops were read, none came
//! meanwhile; else they are read again, and what still came is told: by so much the two may differ for no other reason.
//! So may a drop that the kernel has counted and whose hook has not: another CPU may be in between, or stopped there by
//! its hypervisor. The hooks' own entries tell of such calls.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use socktrace_common::{DropKey, Signal, Tier};

use super::{Live, LiveError};
use crate::{
    event::Meanwhile,
    host::{NetworkNamespace, TcpExt},
    probe::Choice,
    transport::{read_drops, read_drops_under_way},
};

/// In a flood of 10,000 drops a second, one of a few tries meets none.
const TRIES: u32 = 20;
/// No further try is begun after this time.
const PATIENCE: Duration = Duration::from_millis(20);

/// What was dropped until one moment.
#[derive(Default)]
pub(super) struct Moment {
    /// Totals of the hooks.
    pub(super) drops: HashMap<DropKey, u64>,
    /// By inode of the namespace; `None` where it could not be read.
    pub(super) counted: HashMap<u32, Option<Reading>>,
}

/// The counters of one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) tcp_ext: TcpExt,
    /// What came while the drops were read.
    pub(super) meanwhile: Meanwhile,
}

impl Reading {
    /// Of a namespace that has just been made.
    pub(super) const NOTHING: Self = Self {
        tcp_ext: TcpExt {
            listen_overflows: Some(0),
            listen_drops: Some(0),
            req_q_full_drop: Some(0),
            req_q_full_do_cookies: Some(0),
            pf_memalloc_drop: Some(0),
            memory_pressures: Some(0),
            abort_on_memory: Some(0),
        },
        meanwhile: Meanwhile { drops: 0, cookies: 0 },
    };
}

/// What had been dropped before, and whether that still says something of each network namespace.
#[derive(Default)]
pub(super) struct Start {
    pub(super) drops: HashMap<DropKey, u64>,
    counted: HashMap<u32, Option<Reading>>,
    /// Namespaces that there are.
    left: HashSet<u32>,
}

impl Start {
    pub(super) fn at(Moment { drops, counted }: Moment) -> Self {
        let left = counted.keys().copied().collect();
        Self { drops, counted, left }
    }

    /// Takes in which namespaces there are now. Another one may get the inode number of one that is gone, and what hooks
    /// found is of both.
    pub(super) fn keep_only(&mut self, left: HashSet<u32>) {
        let gone = self.left.difference(&left);
        self.counted.extend(gone.map(|inode| (*inode, None)));
        self.left = left;
    }

    /// What a namespace that has counted so much `now` had counted at the start, which is nothing of one that is new; `None`
    /// where that cannot be told.
    pub(super) fn before(&self, inode: u32, now: &Reading) -> Option<Reading> {
        let before = match self.counted.get(&inode) {
            None => Reading::NOTHING,
            Some(before) => (*before)?,
        };
        // One that counted less is another with the same number.
        let (least, most) = (before.tcp_ext.all(), now.tcp_ext.all());
        least.into_iter().zip(most).all(|(least, most)| least <= most).then_some(before)
    }
}

type Counters = HashMap<u32, Option<TcpExt>>;

impl Live {
    /// What was dropped until now, and `look`, which shows the listeners' own counts: in the tracepoint tier
    /// these are the drops.
    pub(super) fn moment(
        &mut self,
        namespaces: &[NetworkNamespace],
        look: impl FnOnce(&mut Self) -> Result<(), LiveError>,
    ) -> Result<Moment, LiveError> {
        let is_tracepoint = |choice: &Choice| choice.tier == Tier::Tracepoint;
        let looks_count = self.verdicts.iter().any(|verdict| {
            verdict.signal == Signal::BacklogDrop
                && verdict.choice.as_ref().is_some_and(is_tracepoint)
        });
        if looks_count {
            let before = read_counters(namespaces);
            look(self)?;
            return self.drops_since(&before, namespaces);
        }
        look(self)?;
        self.drops_now(namespaces)
    }

    /// Reads both until none came meanwhile, or the least that did.
    pub(super) fn drops_now(&self, namespaces: &[NetworkNamespace]) -> Result<Moment, LiveError> {
        let begin = Instant::now();
        let mut best = self.drops_since(&read_counters(namespaces), namespaces)?;
        for _ in 1..TRIES {
            if best.meanwhile() == 0 || begin.elapsed() > PATIENCE {
                break;
            }
            let next = self.drops_since(&read_counters(namespaces), namespaces)?;
            if next.meanwhile() < best.meanwhile() {
                best = next;
            }
        }
        Ok(best)
    }

    /// The drops now, and how much has come since the counters were as they were `before`.
    fn drops_since(
        &self,
        before: &Counters,
        namespaces: &[NetworkNamespace],
    ) -> Result<Moment, LiveError> {
        let under_way = read_drops_under_way(&self.ebpf)?;
        let drops = read_drops(&self.ebpf)?;
        let counted = read_counters(namespaces).into_iter().map(|(inode, after)| {
            let reading = |tcp_ext| {
                let before = before.get(&inode).copied().flatten().unwrap_or(tcp_ext);
                // Of whose drops it is, nothing tells: of one that has counted none it is not.
                let under_way = if has_counted(&tcp_ext) { under_way } else { 0 };
                let meanwhile = between(&before, &tcp_ext);
                let meanwhile = meanwhile.and(Meanwhile { drops: under_way, cookies: under_way });
                Reading { tcp_ext, meanwhile }
            };
            (inode, after.map(reading))
        });
        Ok(Moment { counted: counted.collect(), drops })
    }
}

impl Moment {
    /// What came meanwhile in all namespaces.
    fn meanwhile(&self) -> u64 {
        let known = self.counted.values().flatten();
        known.fold(0, |sum, reading| sum.saturating_add(reading.meanwhile.sum()))
    }
}

fn read_counters(namespaces: &[NetworkNamespace]) -> Counters {
    namespaces.iter().map(|namespace| (namespace.inode, namespace.read_tcp_ext())).collect()
}

fn has_counted(of: &TcpExt) -> bool {
    of.listen_drops != Some(0) || of.req_q_full_do_cookies != Some(0)
}

fn between(before: &TcpExt, after: &TcpExt) -> Meanwhile {
    let grown = |before: Option<u64>, after: Option<u64>| {
        after.unwrap_or(0).saturating_sub(before.unwrap_or(0))
    };
    Meanwhile {
        drops: grown(before.listen_drops, after.listen_drops),
        cookies: grown(before.req_q_full_do_cookies, after.req_q_full_do_cookies),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(listen_drops: u64, cookies: u64) -> Reading {
        let nothing = Reading::NOTHING.tcp_ext;
        let (listen_drops, req_q_full_do_cookies) = (Some(listen_drops), Some(cookies));
        Reading {
            tcp_ext: TcpExt { listen_drops, req_q_full_do_cookies, ..nothing },
            ..Reading::NOTHING
        }
    }

    fn start() -> Start {
        let counted = [(7, Some(reading(5, 2))), (8, None)].into();
        Start::at(Moment { counted, ..Moment::default() })
    }

    #[test]
    fn a_namespace_that_is_new_began_with_nothing_and_one_that_could_not_be_read_is_unknown() {
        assert_eq!(start().before(9, &reading(4, 0)), Some(Reading::NOTHING));
        assert_eq!(start().before(7, &reading(5, 3)), Some(reading(5, 2)));
        assert_eq!(start().before(8, &reading(5, 3)), None);
    }

    #[test]
    fn a_namespace_with_the_number_of_one_that_is_gone_is_not_compared() {
        let mut start = start();
        start.keep_only([7, 9].into());
        start.keep_only([7].into());
        start.keep_only([7, 9].into());
        assert_eq!(start.before(9, &reading(20, 20)), None);
        assert!(start.before(7, &reading(20, 20)).is_some());
        start.keep_only([9].into());
        start.keep_only([7, 9].into());
        assert_eq!(start.before(7, &reading(20, 20)), None);
    }

    #[test]
    fn a_namespace_that_counted_less_of_anything_is_another() {
        assert_eq!(start().before(7, &reading(9, 1)), None);
        assert_eq!(start().before(7, &reading(4, 9)), None);
    }
}
