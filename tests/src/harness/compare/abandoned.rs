//! TCP connects that clients took back before there was an answer: process, user, target and count.

use std::collections::BTreeSet;

use super::rows::{Fields, match_rows};
use crate::harness::report::Report;
use crate::scenario::record::Seen;

/// Every one that the scenario noted is there, and no other towards a target of which it noted any, or a failure.
pub fn towards_noted(seen: &Seen, report: &Report) -> Vec<String> {
    let failed = seen.failures.iter().map(|row| &row.target);
    let noted: BTreeSet<&String> =
        failed.chain(seen.abandoned.iter().map(|row| &row.target)).collect();
    compare(seen, report, |target| target.is_some_and(|it| noted.contains(it)))
}

/// Every one that the scenario made is there, and no other.
pub fn problems(seen: &Seen, report: &Report) -> Vec<String> {
    compare(seen, report, |_| true)
}

fn compare(
    seen: &Seen,
    report: &Report,
    is_wanted: impl Fn(Option<&String>) -> bool,
) -> Vec<String> {
    let expected: Vec<Fields> = seen
        .abandoned
        .iter()
        .map(|row| fields(Some(row.pid), row.uid, &row.family, Some(&row.target), row.count))
        .collect();
    let processes = report.processes.iter();
    let found = processes.flat_map(|process| {
        let rows = process.connects_abandoned.iter().flatten();
        rows.filter(|row| is_wanted(row.target.as_ref()))
            .map(|row| fields(process.pid, row.uid, &row.family, row.target.as_deref(), row.count))
    });
    match_rows("abandoned connect", &expected, &found.collect::<Vec<_>>())
}

fn fields(pid: Option<u32>, uid: u32, family: &str, target: Option<&str>, count: u64) -> Fields {
    vec![
        ("pid", format!("{pid:?}")),
        ("uid", uid.to_string()),
        ("family", family.to_owned()),
        ("target", target.unwrap_or("unknown").to_owned()),
        ("count", count.to_string()),
    ]
}
