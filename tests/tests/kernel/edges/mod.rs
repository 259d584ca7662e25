//! Edges: one test for each socket, process or moment that a tracer easily gets wrong. Each runs in
//! every tier that the kernel's row lists.
//!
//! What an incident says of itself is compared with the report, row by row. Where a tier cannot see
//! a case, the test demands that the session says so, and that nothing wrong is reported instead.

mod accepts;
mod before;
mod connects;
mod entries;
mod processes;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};
use socktrace_tests::harness::compare::{
    Fields, Strangers, abandoned, accepts as compare_accepts, completeness, failures, match_rows,
    waits,
};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::report::{Listener, Report};
use socktrace_tests::harness::run::{Run, record_in_netns, record_staged};
use socktrace_tests::scenario::record::Seen;

use crate::matrix::tell;

/// Records an incident in every tier, in a network namespace with these settings, and judges it.
fn in_every_tier(
    incident: &str,
    settings: &[&str],
    problems_of: impl Fn(&str, &Run) -> Vec<String>,
) -> Result<()> {
    judge(incident, problems_of, |tier| record_in_netns(settings, &["--tier", tier], &[incident]))
}

/// The same with a staged incident, whose first part lies before tracing, on the whole host.
fn staged_in_every_tier(
    incident: &str,
    problems_of: impl Fn(&str, &Run) -> Vec<String>,
) -> Result<()> {
    judge(incident, problems_of, |tier| record_staged(&["--tier", tier], incident))
}

fn judge(
    incident: &str,
    problems_of: impl Fn(&str, &Run) -> Vec<String>,
    record: impl Fn(&str) -> Result<Run>,
) -> Result<()> {
    let mut told = Vec::new();
    for tier in this_kernel()?.tiers_of(incident) {
        let run = record(tier).map_err(|error| anyhow!("{tier} {incident}: {error:#}"))?;
        let mut problems = problems_of(tier, &run);
        problems.extend(completeness::identity(&run.report));
        problems.extend(completeness::forced_tier(&run.report, tier));
        told.extend(problems.iter().map(|text| format!("[{tier} {incident}] {text}")));
    }
    tell(&told)
}

/// Everything that the incident saw is in the report, and nothing else; every wait is known.
fn exactly(run: &Run) -> Vec<String> {
    let mut problems = connects(run);
    problems.extend(accepted(run));
    problems.extend(waits::problems(&run.seen, &run.report));
    problems.extend(waits_unknown(run, 0));
    match this_kernel() {
        Ok(kernel) => problems.extend(completeness::nothing_lost(&run.report, &kernel)),
        Err(error) => problems.push(format!("{error:#}")),
    }
    problems
}

/// The failed connects are those that the incident saw.
fn connects(run: &Run) -> Vec<String> {
    let mut problems = failures::problems(&run.seen, &run.report, Strangers::Forbidden);
    problems.extend(failures::false_alarms(&run.seen, &run.report));
    problems.extend(abandoned::problems(&run.seen, &run.report));
    problems
}

/// Listeners and processes accepted what the incident counted itself.
fn accepted(run: &Run) -> Vec<String> {
    let mut problems = per_listener(&run.seen, &run.report);
    problems.extend(compare_accepts::per_process(&run.seen, &run.report));
    problems
}

/// Of the incident's listeners: each handed out as many connections as all its acceptors counted
/// together, and its owners are those who hold it.
fn per_listener(seen: &Seen, report: &Report) -> Vec<String> {
    let mut expected = BTreeMap::<u64, (u64, BTreeSet<u32>)>::new();
    for accepts in &seen.accepts {
        let (count, owners) = expected.entry(accepts.inode).or_default();
        *count += accepts.count;
        owners.insert(accepts.pid);
        owners.extend(&accepts.holders);
    }
    let wanted: Vec<Fields> = expected
        .iter()
        .filter(|(_, (count, _))| *count > 0)
        .map(|(inode, (count, owners))| row(*inode, *count, owners))
        .collect();
    let known = |listener: &&Listener| listener.inode.is_some_and(|it| seen_inode(seen, it));
    let used = report.listeners.iter().filter(|it| it.accept.count > 0).filter(known);
    let found: Vec<Fields> = used
        .map(|it| {
            let owners = it.owners.iter().map(|owner| owner.pid).collect();
            row(it.inode.unwrap_or(0), it.accept.count, &owners)
        })
        .collect();
    match_rows("accepts of a listener, by the acceptors' own count", &wanted, &found)
}

fn seen_inode(seen: &Seen, inode: u64) -> bool {
    seen.accepts.iter().any(|it| it.inode == inode)
        || seen.listens.iter().any(|it| it.inode == inode)
}

fn row(inode: u64, count: u64, owners: &BTreeSet<u32>) -> Fields {
    vec![
        ("inode", inode.to_string()),
        ("count", count.to_string()),
        ("owners", format!("{owners:?}")),
    ]
}

/// Exactly so many waits of the incident's listeners are unknown.
fn waits_unknown(run: &Run, wanted: u64) -> Vec<String> {
    let ours = run.report.listeners.iter();
    let ours = ours.filter(|it| it.inode.is_some_and(|inode| seen_inode(&run.seen, inode)));
    let found: u64 = ours.map(|it| it.accept.wait_unknown).sum();
    unless(found == wanted, || format!("{found} waits are unknown; by the incident, {wanted} are"))
}

/// How many connections the acts of this name accepted, by their own count.
fn counted(run: &Run, name: &str) -> u64 {
    run.seen.accepts.iter().filter(|it| it.name == name).map(|it| it.count).sum()
}

/// The session says that this signal misses what `word` stands for.
fn admitted(run: &Run, signal: &str, word: &str) -> Vec<String> {
    let said = run.report.loses(signal, word);
    unless(said, || format!("{signal}: `loses` says nothing of `{word}`, and misses it"))
}

/// What the kernel refused to the incident must be what it has not.
fn lacks(run: &Run, what: &str, missing: bool) -> Vec<String> {
    let said = run.seen.lacks.iter().any(|it| it == what);
    unless(said == missing, || format!("the kernel refused {what}: {said}; lacks it: {missing}"))
}

/// The problem, unless all is well.
fn unless(good: bool, problem: impl FnOnce() -> String) -> Vec<String> {
    if good { Vec::new() } else { vec![problem()] }
}
