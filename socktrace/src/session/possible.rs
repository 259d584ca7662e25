//! Whether numbers that were read can be what a kernel counted: adding up those that cannot would
//! overflow.

use socktrace_common::histogram::BUCKETS;

use crate::event::{
    Carried, Counters, Interval, Misses, NamespaceCounters, ReaderLoss, Runs, WaitTotals,
};

/// More than a million a second for half a year.
const MOST: u64 = 1 << 44;

const fn is_count(count: u64) -> bool {
    count < MOST
}

/// Totals.
pub(super) fn are_totals(counters: &Counters) -> bool {
    let counts = counters.accept_errors.values().chain(counters.connect_failures.values());
    let mut counts = counts.chain(counters.drops.values()).chain(counters.stages.0.as_flattened());
    let mut waits = counters.accepts.values().chain(counters.connect_blocked.values());
    counts.all(|count| is_count(*count)) && waits.all(are_waits)
}

fn are_waits(waits: &WaitTotals) -> bool {
    let in_buckets =
        |(bucket, count): (&u16, &u64)| usize::from(*bucket) < BUCKETS && is_count(*count);
    is_count(waits.count) && is_count(waits.waited) && waits.buckets.iter().all(in_buckets)
}

/// What the tracer lost.
pub(super) const fn is_loss(loss: &ReaderLoss) -> bool {
    is_count(loss.undecodable) && is_count(loss.perf_lost)
}

/// What network namespaces counted.
pub(super) fn are_namespaces(rows: &[NamespaceCounters]) -> bool {
    rows.iter().all(|row| {
        let NamespaceCounters { counted, while_read, memory, .. } = row;
        let drops =
            counted.iter().flat_map(|it| [it.overflows, it.drops, it.syn_queue, it.cookies]);
        let memory = memory.iter().flat_map(|it| [it.reserve_drops, it.pressures, it.aborts]);
        let mut all = drops.chain(memory.flatten()).chain([while_read.drops, while_read.cookies]);
        all.all(is_count)
    })
}

/// What the kernel skipped.
pub(super) fn are_misses(misses: &Misses) -> bool {
    let unseen = misses.unseen.values().copied();
    misses.programs.values().flatten().copied().chain(unseen).all(is_count)
}

/// How often programs ran; for how long, on all CPUs together, is no count, and adding it up saturates.
pub(super) fn are_runs(runs: &Runs) -> bool {
    runs.0.values().all(|of| is_count(of.count))
}

/// What came before this part of a session.
pub(super) fn is_carried(carried: &Carried) -> bool {
    let delivered = carried.delivered.iter().all(|row| is_count(row.count));
    let mut intervals = carried.intervals.iter();
    let Carried { stalls_left_out, diagnoses_left_out, left_out, .. } = *carried;
    let mut counts = [stalls_left_out, diagnoses_left_out, left_out].into_iter();
    delivered && counts.all(is_count) && intervals.all(is_interval)
}

fn is_interval(interval: &Interval) -> bool {
    let Interval { accepts, drops, connect_failures, accept_errors, .. } = interval;
    let errors = connect_failures.values().chain(accept_errors.values());
    accepts.values().all(are_waits) && drops.values().chain(errors).all(|count| is_count(*count))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::{NetstatDelta, ProgramRuns};

    #[test]
    fn a_bucket_that_there_is_not_and_a_count_beyond_all_bounds_are_impossible() {
        let waits = |bucket, count| WaitTotals {
            count,
            waited: count,
            buckets: BTreeMap::from([(bucket, count)]),
            ..WaitTotals::default()
        };
        assert!(are_waits(&waits(623, MOST - 1)));
        assert!(!are_waits(&waits(624, 1)));
        assert!(!are_waits(&waits(0, MOST)));
        assert!(!is_loss(&ReaderLoss { undecodable: 0, perf_lost: u64::MAX }));
    }

    #[test]
    fn what_a_namespace_counted_is_a_count() {
        let row = |overflows| NamespaceCounters {
            counted: Some(NetstatDelta { overflows, ..NetstatDelta::default() }),
            ..NamespaceCounters::default()
        };
        assert!(are_namespaces(&[row(0), row(MOST - 1)]));
        assert!(!are_namespaces(&[row(0), row(u64::MAX)]));
    }

    #[test]
    fn hooks_of_many_cpus_may_have_run_for_years() {
        let runs =
            |count, time_ns| Runs([("accept".to_owned(), ProgramRuns { count, time_ns })].into());
        assert!(are_runs(&runs(MOST - 1, u64::MAX)));
        assert!(!are_runs(&runs(MOST, 0)));
    }
}
