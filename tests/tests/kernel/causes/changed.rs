//! What had changed when it was looked at: it may be explained or not, and nothing wrong is called measured.

use anyhow::{Context, Result};
use socktrace_tests::harness::run::record_staged;

use super::told;
use crate::matrix::tell;

/// One incident: its name, the rule that is true of it, and words that would be false if measured.
type Changed = (&'static str, &'static str, &'static [&'static str]);

const MODE: &str = "unix-socket-mode";
const SEARCH: &str = "unix-parent-no-search";
const GONE: &str = "unix-no-such-path";

/// Every incident of `scenario staged causes_changed`.
const ALL: &[Changed] = &[
    ("changed_opened", MODE, &["mode 0666"]),
    ("changed_denier", SEARCH, &["mode 0700"]),
    ("changed_removed", MODE, &[]),
    ("changed_made", GONE, &[]),
    ("changed_made_dir", GONE, &["no app.sock"]),
    ("changed_to_plain", "unix-stale-socket", &[]),
    ("changed_renamed", SEARCH, &["mode 0700"]),
    ("changed_user", MODE, &["client is uid 61001"]),
    ("changed_groups", MODE, &["for others decide"]),
    ("changed_ended", MODE, &[]),
    ("changed_ended_group", MODE, &["for others decide"]),
    ("changed_ended_root", GONE, &[]),
    ("changed_cwd", GONE, &["/changed_cwd/second"]),
    ("changed_root", GONE, &[" in /,", " in /;"]),
    ("changed_mounts", MODE, &[]),
    ("changed_type", "unix-wrong-type", &["a seqpacket"]),
    ("changed_listens", "tcp-nobody-listens", &["listens on"]),
];

#[test]
fn what_has_changed_since_is_never_measured_wrong() -> Result<()> {
    let run = record_staged(&[], "causes_changed")?;
    let all = told::of(&run);
    let mut problems = Vec::new();
    for (name, rule, lies) in ALL {
        let told = all.iter().find(|told| told.name == *name);
        let told = told.with_context(|| format!("the scenario has no {name}"))?;
        if told.rule.is_none() {
            problems.push(format!("{name}: nobody looked into it"));
        }
        for said in told.findings.iter().filter(|it| it.certainty == "measured") {
            let words = format!("{}; {}", said.fact, said.consequence);
            // What the errno alone means was so, whatever has changed since.
            let is_true = said.rule == *rule || said.rule == "errno";
            if !is_true || lies.iter().any(|lie| words.contains(lie)) {
                problems.push(format!("{name}: measured {} {words}", said.rule));
            }
        }
    }
    if all.len() != ALL.len() {
        problems.push(format!("{} incidents, expected are {}", all.len(), ALL.len()));
    }
    tell(&problems)
}
