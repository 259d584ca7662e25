//! Stalls: of which listener, for how long, for whom, and what its owner did instead.

use crate::harness::report::{Report, Stall};
use crate::scenario::record::{Seen, Stalled};

/// What the age of a stall may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Known.
    Exact,
    /// Or at least so much, where the kernel may have skipped the hooks that see a connection come.
    Bound,
}

/// Each listener that did not accept has one stall that is over and tells all of it; no other has any.
pub fn problems(seen: &Seen, report: &Report, age: Age) -> Vec<String> {
    let mut problems = Vec::new();
    for expected in &seen.stalls {
        let rows: Vec<&Stall> =
            report.stalls.iter().filter(|stall| stall.inode == expected.inode).collect();
        match rows.as_slice() {
            [row] => {
                let wrong = of_listener(expected, row, age);
                let reasons = &report.completeness.reasons;
                let listener = report.listeners.iter().find(|it| it.inode == Some(expected.inode));
                let accepts = listener.map(|it| &it.accept);
                let told = |wrong: &String| format!("{wrong}; {accepts:?}; missing: {reasons:?}");
                problems.extend(wrong.iter().map(told));
            }
            rows => problems.push(format!("{}: one stall, found {rows:?}", expected.name)),
        }
    }
    let known = |stall: &&Stall| seen.stalls.iter().any(|known| known.inode == stall.inode);
    let others = report.stalls.iter().filter(|stall| !known(stall));
    problems.extend(others.map(|stall| format!("nobody stalled there: {stall:?}")));
    problems
}

fn of_listener(expected: &Stalled, row: &Stall, age: Age) -> Vec<String> {
    let says = row.acceptor_state.as_deref().unwrap_or_default();
    let clients: Vec<(Option<u32>, u32)> =
        row.clients.iter().map(|client| (client.pid, client.count)).collect();
    let checks = [
        (row.listener == expected.listener, "its address"),
        (row.until.is_some(), "that it is over"),
        (row.pending_peak == expected.connections, "how many waited"),
        (!row.oldest_is_lower_bound || age == Age::Bound, "the exact age"),
        (row.oldest_is_lower_bound || row.oldest_ns >= expected.at_least_ns, "at least how long"),
        (row.oldest_ns <= at_most(expected), "at most how long"),
        (row.owners.iter().map(|owner| owner.pid).eq([expected.pid]), "its owner"),
        (says.contains(&expected.instead), "what it did instead"),
        (clients == [(Some(expected.client), expected.connections)], "who waited"),
    ];
    let wrong = checks.iter().filter(|(right, _)| !right);
    wrong
        .map(|(_, what)| format!("{}: {what}: {expected:?}, found {row:?}", expected.name))
        .collect()
}

/// A stall ends with the accept of the last connection: what the scenario does behind it is not waited for.
fn at_most(expected: &Stalled) -> u64 {
    expected.at_most_ns + 100_000_000
}
