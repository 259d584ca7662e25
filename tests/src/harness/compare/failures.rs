//! Connect failures: process, user, name, family, target, errno and count, each exactly.

use std::collections::BTreeSet;

use super::rows::{Fields, Strangers, match_rows};
use crate::harness::report::{ConnectFailure, Process, Report};
use crate::scenario::record::{Failure, Seen};

/// Every failure that the scenario saw is there, and no other.
pub fn problems(seen: &Seen, report: &Report, strangers: Strangers) -> Vec<String> {
    let wanted: Vec<&Failure> = seen.failures.iter().collect();
    only(&wanted, report, strangers)
}

/// These failures are there, and no other: for sessions with a filter.
pub fn only(wanted: &[&Failure], report: &Report, strangers: Strangers) -> Vec<String> {
    let ours: BTreeSet<u32> = wanted.iter().map(|failure| failure.pid).collect();
    let known = |process: &&Process| {
        strangers == Strangers::Forbidden || process.pid.is_some_and(|pid| ours.contains(&pid))
    };
    let expected: Vec<Fields> = wanted.iter().map(|failure| expected_row(failure)).collect();
    let mut found = Vec::new();
    for process in report.processes.iter().filter(known) {
        found.extend(process.connect_failures.iter().map(|row| found_row(process, row)));
    }
    match_rows("connect failure", &expected, &found)
}

/// No target towards which nothing failed is among the failures.
pub fn false_alarms(seen: &Seen, report: &Report) -> Vec<String> {
    let rows = report.processes.iter().flat_map(|process| &process.connect_failures);
    let told =
        rows.filter(|row| row.target.as_ref().is_some_and(|t| seen.must_not_fail.contains(t)));
    told.map(|row| format!("no attempt failed, but the report says: {row:?}")).collect()
}

/// Every failure has a cause and says how sure that is.
pub fn without_cause(report: &Report) -> Vec<String> {
    let rows = report.processes.iter().flat_map(|process| &process.connect_failures);
    rows.filter(|row| !explained(row))
        .map(|row| format!("no cause or certainty: {row:?}"))
        .collect()
}

fn explained(row: &ConnectFailure) -> bool {
    let cause = row.cause.as_ref().is_some_and(|cause| !cause.is_empty());
    match row.certainty.as_deref() {
        Some("measured" | "inferred") => cause,
        Some("unknown") => true,
        _ => false,
    }
}

fn expected_row(failure: &Failure) -> Fields {
    vec![
        ("pid", failure.pid.to_string()),
        ("uid", failure.uid.to_string()),
        ("comm", plain(&failure.comm)),
        ("family", failure.family.clone()),
        ("target", bytes_or_text(failure.target_hex.as_ref(), Some(&failure.target))),
        ("errno", failure.errno.clone()),
        ("count", failure.count.to_string()),
    ]
}

fn found_row(process: &Process, row: &ConnectFailure) -> Fields {
    vec![
        ("pid", or_unknown(process.pid)),
        ("uid", or_unknown(process.uid)),
        ("comm", plain(process.comm.as_deref().unwrap_or("unknown"))),
        ("family", row.family.clone()),
        ("target", bytes_or_text(row.target_hex.as_ref(), row.target.as_ref())),
        ("errno", row.errno.clone()),
        ("count", row.count.to_string()),
    ]
}

fn or_unknown(number: Option<u32>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
}

/// Raw bytes where either side gives them: how a text is escaped is not judged here.
fn bytes_or_text(hex: Option<&String>, text: Option<&String>) -> String {
    match (hex, text) {
        (Some(hex), _) => format!("bytes {hex}"),
        (None, Some(text)) => text.clone(),
        (None, None) => "unknown".to_owned(),
    }
}

/// Names with control characters are escaped in a report; the pid says whose they are.
fn plain(comm: &str) -> String {
    let hostile = comm.chars().any(|c| c.is_control() || c == '\\');
    if hostile { "(hostile)".to_owned() } else { comm.to_owned() }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result};

    use super::super::sample;
    use super::*;

    #[test]
    fn the_same_failures_are_no_problem() -> Result<()> {
        let (seen, report) = (sample::seen(), sample::report(&sample::good())?);
        assert_eq!(problems(&seen, &report, Strangers::Forbidden), Vec::<String>::new());
        assert_eq!(false_alarms(&seen, &report), Vec::<String>::new());
        assert_eq!(without_cause(&report), Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_wrong_count_is_told_with_both_numbers() -> Result<()> {
        let mut json = sample::good();
        json["processes"][0]["connect_failures"][0]["count"] = 4.into();
        let problems = problems(&sample::seen(), &sample::report(&json)?, Strangers::Forbidden);
        assert!(problems[0].contains("≠ count      expected 3, found 4"), "{problems:?}");
        Ok(())
    }

    #[test]
    fn a_stranger_counts_only_where_strangers_are_forbidden() -> Result<()> {
        let mut json = sample::good();
        let mut stranger = json["processes"][0].clone();
        stranger["pid"] = 999.into();
        json["processes"].as_array_mut().context("processes")?.push(stranger);
        let (seen, report) = (sample::seen(), sample::report(&json)?);
        assert_eq!(problems(&seen, &report, Strangers::Forbidden).len(), 1);
        assert_eq!(problems(&seen, &report, Strangers::Ignored), Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_failure_towards_a_target_that_never_failed_is_a_false_alarm() -> Result<()> {
        let mut seen = sample::seen();
        seen.must_not_fail.push("/run/x.sock".to_owned());
        assert_eq!(false_alarms(&seen, &sample::report(&sample::good())?).len(), 1);
        Ok(())
    }
}
