//! Unix connects that slept: who, on whom, how often and how long.

use crate::harness::report::{Blocked, Report};
use crate::scenario::record::Seen;

/// A bucket of the histogram is at most so wide: 6.25 %, as a fraction.
const BUCKET: u64 = 16;

/// Each process slept as often as it saw, at least as long as nobody accepted, and no longer than its
/// calls took; nobody else slept.
pub fn problems(seen: &Seen, report: &Report) -> Vec<String> {
    let mut problems = Vec::new();
    for expected in &seen.blocked {
        let name = format!("process {} on {}", expected.pid, expected.target);
        let of_pid = report.processes.iter().filter(|process| process.pid == Some(expected.pid));
        let rows = of_pid.flat_map(|process| process.connect_blocked.iter().flatten());
        let rows: Vec<&Blocked> = rows.filter(|row| row.target == expected.target).collect();
        let [row] = rows.as_slice() else {
            problems.push(format!("{name}: slept, and the report has {rows:?}"));
            continue;
        };
        let Some(wait) = row.wait_ns else {
            problems.push(format!("{name}: no wait"));
            continue;
        };
        if row.count != expected.count {
            problems.push(format!("{name}: slept {} times, found {}", expected.count, row.count));
        }
        let most = expected.sum_at_most_ns + expected.sum_at_most_ns / BUCKET;
        if wait.max < expected.longest_at_least_ns || wait.sum > most {
            problems.push(format!("{name}: found {wait:?}, the client saw {expected:?}"));
        }
    }
    let all = report.processes.iter().flat_map(|process| process.connect_blocked.iter().flatten());
    let (found, wanted): (u64, u64) =
        (all.map(|row| row.count).sum(), seen.blocked.iter().map(|row| row.count).sum());
    if found != wanted {
        problems.push(format!("{wanted} connects slept, all processes have {found}"));
    }
    problems
}
