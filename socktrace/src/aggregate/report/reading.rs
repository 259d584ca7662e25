//! The totals at one moment, of which the course of a session is made.

use socktrace_common::ConnectFailureKey;

use super::super::{Aggregator, timeline::Reading};
use crate::event::{Counters, EAGAIN};

impl Aggregator {
    /// The totals that the course of the session is made of.
    pub(in crate::aggregate) fn reading(&self) -> Reading {
        let mut reading = Reading { time_ns: self.counters.time_ns, ..Reading::default() };
        let Counters { accepts, accept_errors, connect_failures, drops, listeners, .. } =
            &self.counters;
        reading.cost = accepts.values().map(|waits| 1 + waits.buckets.len()).sum::<usize>()
            + accept_errors.len()
            + connect_failures.len()
            + drops.len()
            + listeners.len()
            + self.watched.len();
        for (key, totals) in &self.counters.accepts {
            if self.wants_accepts(key) {
                reading.accepts.entry(key.listener).or_default().add(totals);
            }
        }
        for (key, count) in &self.counters.accept_errors {
            if key.errno != EAGAIN && self.wants_accept_errors(key) {
                *reading.accept_errors.entry(key.errno).or_default() += count;
            }
        }
        for (key, count) in &self.counters.connect_failures {
            if key.errno != ConnectFailureKey::ABANDONED
                && self.wants_failures(key, &(&key.target).into())
            {
                *reading.connect_failures.entry(key.errno).or_default() += count;
            }
        }
        for (inode, rows) in self.drops_by_listener() {
            let dropped: u64 =
                rows.iter().filter(|row| row.reason.is_drop()).map(|row| row.count).sum();
            if dropped != 0 && self.shows_drops_of(inode) {
                reading.drops.insert(inode, dropped);
            }
        }
        reading
    }
}
