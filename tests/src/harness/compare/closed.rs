//! Connections that were thrown away with their listener.

use crate::harness::report::Report;
use crate::scenario::record::Seen;

/// Every listener that was closed has as many as lay in its queue, and no other listener has any.
/// `unix` says whether the tier sees those of Unix listeners.
pub fn problems(seen: &Seen, report: &Report, unix: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let seen_by_tier = |family: &str| unix || family != "unix";
    for expected in seen.closed.iter().filter(|closed| seen_by_tier(&closed.family)) {
        let found = count(report, |inode| inode == Some(expected.inode));
        if found != expected.count {
            let (listener, wanted) = (&expected.listener, expected.count);
            problems.push(format!("{listener}: {wanted} lay in its queue, found {found}"));
        }
    }
    let closed: Vec<u64> = seen.closed.iter().map(|closed| closed.inode).collect();
    let others = count(report, |inode| !inode.is_some_and(|inode| closed.contains(&inode)));
    if others != 0 {
        problems.push(format!("{others} of listeners that were closed with an empty queue"));
    }
    problems
}

fn count(report: &Report, wanted: impl Fn(Option<u64>) -> bool) -> u64 {
    let listeners = report.listeners.iter().filter(|listener| wanted(listener.inode));
    let rows = listeners.flat_map(|listener| &listener.backlog_drops);
    rows.filter(|row| row.reason == "listener_closed").map(|row| row.count).sum()
}
