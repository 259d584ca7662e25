//! Real servers: what they say they accepted and `/proc` says they hold, against the report.

use std::collections::BTreeMap;

use super::rows::{Fields, match_rows};
use crate::harness::report::{Listener, Report};
use crate::harness::servers::holders::Holding;

/// Each listening socket is there, is the only one of its address, and has exactly these owners.
pub fn owners(holdings: &[Holding], report: &Report) -> Vec<String> {
    let expected: Vec<Fields> =
        holdings.iter().map(|held| row(&held.local, held.inode, &held.pids)).collect();
    let ours = |row: &&Listener| holdings.iter().any(|held| held.local == row.name());
    let found: Vec<Fields> = report.listeners.iter().filter(ours).map(found_row).collect();
    match_rows("owners of a listener", &expected, &found)
}

/// Each address handed out exactly as many connections as the server counted there, over all
/// sockets that share it.
pub fn accepts(counted: &[(String, u64)], report: &Report) -> Vec<String> {
    let found = |local: &str| {
        let rows = report.listeners.iter().filter(|row| row.name() == local);
        rows.map(|row| row.accept.count).sum::<u64>()
    };
    let compare = |(local, wanted): &(String, u64)| {
        let found = found(local);
        (found != *wanted).then(|| format!("{local}: the server says {wanted}, found {found}"))
    };
    counted.iter().filter_map(compare).collect()
}

/// Each of these processes accepted exactly as many connections as the server counted for it.
pub fn processes(counted: &BTreeMap<u32, u64>, report: &Report) -> Vec<String> {
    let compare = |(pid, wanted): (&u32, &u64)| {
        let found = of_process(*pid, report);
        (found != *wanted).then(|| format!("pid {pid}: the server says {wanted}, found {found}"))
    };
    counted.iter().filter_map(compare).collect()
}

/// Nothing went wrong: no wait is unknown, nothing was dropped, no accept and no connect failed.
pub fn quiet(holdings: &[Holding], report: &Report) -> Vec<String> {
    let ours = |local: &str| holdings.iter().any(|held| held.local == local);
    let listeners = report.listeners.iter().filter(|row| ours(row.name()));
    let listeners =
        listeners.filter(|row| row.accept.wait_unknown > 0 || !row.backlog_drops.is_empty());
    let held =
        |pid: Option<u32>| pid.is_some_and(|pid| holdings.iter().any(|h| h.pids.contains(&pid)));
    let refused = report.processes.iter().filter(|row| {
        let to_us = |target: &Option<String>| target.as_deref().is_some_and(ours);
        let failed = row.connect_failures.iter().any(|failure| to_us(&failure.target));
        failed || (held(row.pid) && !row.accept_errors.is_empty())
    });
    let listeners = listeners.map(|row| format!("something went wrong at {row:?}"));
    listeners.chain(refused.map(|row| format!("something went wrong in {row:?}"))).collect()
}

/// Everybody who holds a listener accepted, together, as much as was counted at all addresses.
pub fn everybody(counted: &[(String, u64)], holdings: &[Holding], report: &Report) -> Vec<String> {
    let wanted: u64 = counted.iter().map(|(_, count)| count).sum();
    let mut pids: Vec<u32> = holdings.iter().flat_map(|held| held.pids.clone()).collect();
    pids.sort_unstable();
    pids.dedup();
    let found: u64 = pids.iter().map(|pid| of_process(*pid, report)).sum();
    if found == wanted {
        return Vec::new();
    }
    vec![format!("processes {pids:?}: the server says {wanted}, found {found}")]
}

fn of_process(pid: u32, report: &Report) -> u64 {
    let rows = report.processes.iter().filter(|row| row.pid == Some(pid));
    rows.map(|row| row.accept.count).sum()
}

fn found_row(listener: &Listener) -> Fields {
    let mut owners: Vec<u32> = listener.owners.iter().map(|owner| owner.pid).collect();
    owners.sort_unstable();
    row(listener.name(), listener.inode.unwrap_or(0), &owners)
}

fn row(local: &str, inode: u64, owners: &[u32]) -> Fields {
    vec![
        ("local", local.to_owned()),
        ("inode", inode.to_string()),
        ("owners", format!("{owners:?}")),
    ]
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::sample;
    use super::*;

    fn held(pids: &[u32]) -> [Holding; 1] {
        [Holding { local: "127.0.0.1:80".to_owned(), inode: 77, pids: pids.to_vec() }]
    }

    #[test]
    fn the_same_figures_are_no_problem() -> Result<()> {
        let report = sample::report(&sample::good())?;
        let counted = [("127.0.0.1:80".to_owned(), 2)];
        assert_eq!(owners(&held(&[10]), &report), Vec::<String>::new());
        assert_eq!(accepts(&counted, &report), Vec::<String>::new());
        assert_eq!(everybody(&counted, &held(&[10]), &report), Vec::<String>::new());
        assert_eq!(processes(&BTreeMap::from([(10, 2)]), &report), Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_drop_a_failed_accept_and_a_failed_connect_are_told() -> Result<()> {
        let mut json = sample::good();
        json["processes"][0]["connect_failures"][0]["target"] = "127.0.0.1:80".into();
        assert_eq!(quiet(&held(&[]), &sample::report(&json)?).len(), 2);
        assert_eq!(quiet(&held(&[10]), &sample::report(&sample::good())?).len(), 2);
        assert_eq!(quiet(&[], &sample::report(&json)?), Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_worker_that_is_no_owner_and_a_connection_too_few_are_told() -> Result<()> {
        let report = sample::report(&sample::good())?;
        let counted = [("127.0.0.1:80".to_owned(), 3)];
        let missing = owners(&held(&[10, 11]), &report);
        assert!(missing[0].contains("expected [10, 11], found [10]"), "{missing:?}");
        assert_eq!(accepts(&counted, &report), ["127.0.0.1:80: the server says 3, found 2"]);
        assert_eq!(everybody(&counted, &held(&[10]), &report).len(), 1);
        assert_eq!(processes(&BTreeMap::from([(10, 2), (12, 1)]), &report).len(), 1);
        Ok(())
    }
}
