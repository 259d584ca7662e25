//! Listeners and their backlogs: requested, effective, the limit, and who asked.

use super::rows::{Fields, match_rows};
use crate::harness::report::{Listener, Report};
use crate::scenario::record::{Listen, Seen};

/// Every listener of the scenario is there with its backlog, and the scenario is its only owner.
pub fn problems(seen: &Seen, report: &Report) -> Vec<String> {
    let expected: Vec<Fields> =
        seen.listens.iter().map(|listen| expected_row(listen, seen.somaxconn)).collect();
    let ours = |row: &&Listener| seen.listens.iter().any(|l| row.inode == Some(l.inode));
    let found: Vec<Fields> = report.listeners.iter().filter(ours).map(found_row).collect();
    match_rows("listener", &expected, &found)
}

fn expected_row(listen: &Listen, somaxconn: u32) -> Fields {
    vec![
        ("inode", listen.inode.to_string()),
        ("family", listen.family.clone()),
        ("local", listen.local.clone()),
        ("requested", format!("{:?}", Some(listen.requested))),
        ("effective", format!("{:?}", Some(listen.effective))),
        ("somaxconn", format!("{:?}", Some(somaxconn))),
        ("owners", format!("[{}]", listen.pid)),
    ]
}

fn found_row(row: &Listener) -> Fields {
    let backlog = row.backlog;
    let owners: Vec<u32> = row.owners.iter().map(|owner| owner.pid).collect();
    vec![
        ("inode", row.inode.unwrap_or(0).to_string()),
        ("family", row.family.clone()),
        ("local", row.name().to_owned()),
        ("requested", format!("{:?}", backlog.and_then(|b| b.requested))),
        ("effective", format!("{:?}", backlog.and_then(|b| b.effective))),
        ("somaxconn", format!("{:?}", backlog.and_then(|b| b.somaxconn))),
        ("owners", format!("{owners:?}")),
    ]
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::sample;
    use super::*;

    #[test]
    fn a_backlog_that_the_kernel_cut_down_is_reported_as_such() -> Result<()> {
        let mut json = sample::good();
        assert_eq!(problems(&sample::seen(), &sample::report(&json)?), Vec::<String>::new());
        json["listeners"][0]["backlog"]["effective"] = 9000.into();
        let problems = problems(&sample::seen(), &sample::report(&json)?);
        assert!(problems[0].contains("expected Some(4096), found Some(9000)"), "{problems:?}");
        Ok(())
    }
}
