//! Accepted connections: the count of every listener, of every process, and who owns the listener.

use std::collections::BTreeMap;

use super::rows::{Fields, match_rows};
use crate::harness::report::{Listener, Report};
use crate::scenario::record::{Accepts, Seen};

/// Each listener handed out exactly as many connections as its scenario accepted.
pub fn per_listener(seen: &Seen, report: &Report) -> Vec<String> {
    let expected: Vec<Fields> =
        seen.accepts.iter().filter(|a| a.count > 0).map(expected_row).collect();
    let used = report.listeners.iter().filter(|listener| listener.accept.count > 0);
    let found: Vec<Fields> = used.map(found_row).collect();
    match_rows("accepts of a listener", &expected, &found)
}

/// Each process accepted exactly as many connections as it counted itself.
pub fn per_process(seen: &Seen, report: &Report) -> Vec<String> {
    let mut counts = BTreeMap::<u32, u64>::new();
    for accepts in seen.accepts.iter().filter(|a| a.count > 0) {
        *counts.entry(accepts.pid).or_default() += accepts.count;
    }
    let row = |pid: String, count: u64| vec![("pid", pid), ("count", count.to_string())];
    let expected: Vec<Fields> = counts.iter().map(|(pid, n)| row(pid.to_string(), *n)).collect();
    let accepting = report.processes.iter().filter(|process| process.accept.count > 0);
    let found: Vec<Fields> = accepting
        .map(|process| row(format!("{}", process.pid.unwrap_or(0)), process.accept.count))
        .collect();
    match_rows("accepts of a process", &expected, &found)
}

fn expected_row(accepts: &Accepts) -> Fields {
    row(
        &accepts.family,
        &accepts.listener,
        accepts.inode,
        accepts.count,
        format!("[{}]", accepts.pid),
    )
}

fn found_row(listener: &Listener) -> Fields {
    let owners: Vec<u32> = listener.owners.iter().map(|owner| owner.pid).collect();
    let inode = listener.inode.unwrap_or(0);
    row(&listener.family, listener.name(), inode, listener.accept.count, format!("{owners:?}"))
}

fn row(family: &str, local: &str, inode: u64, count: u64, owners: String) -> Fields {
    vec![
        ("family", family.to_owned()),
        ("local", local.to_owned()),
        ("inode", inode.to_string()),
        ("count", count.to_string()),
        ("owners", owners),
    ]
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::sample;
    use super::*;

    #[test]
    fn the_same_accepts_are_no_problem() -> Result<()> {
        let (seen, report) = (sample::seen(), sample::report(&sample::good())?);
        assert_eq!(per_listener(&seen, &report), Vec::<String>::new());
        assert_eq!(per_process(&seen, &report), Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn an_accept_too_few_and_a_wrong_owner_are_told() -> Result<()> {
        let mut json = sample::good();
        json["listeners"][0]["accept"]["count"] = 1.into();
        json["listeners"][0]["owners"][0]["pid"] = 11.into();
        let problems = per_listener(&sample::seen(), &sample::report(&json)?);
        assert!(problems[0].contains("expected 2, found 1"), "{problems:?}");
        assert!(problems[0].contains("expected [10], found [11]"), "{problems:?}");
        Ok(())
    }
}
