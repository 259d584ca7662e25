//! Connections that wait now: told while they wait, with what their server does instead.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socktrace_tests::harness::compare::stalls::{self, Age};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::report::Stall;
use socktrace_tests::harness::run::{Run, play, record, scenario, socktrace, start_record};
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::record::{Seen, Stalled};

use crate::matrix::tell;

const INCIDENTS: [&str; 5] =
    ["stall_stopped", "stall_spinning", "stall_sleeping", "stall_descriptors", "stall_throttled"];
/// A stall is told this long after its threshold of a second, at the latest.
const LATE_NS: u64 = 1_500_000_000;

#[test]
fn a_report_keeps_each_stall_with_its_owner_its_clients_and_what_held_it_up() -> Result<()> {
    let mut told = Vec::new();
    let kernel = this_kernel()?;
    for tier in kernel.tiers_of("stalls") {
        let may_be_short = kernel.short_under_contention.iter().any(|short| short == tier);
        let age = if may_be_short { Age::Bound } else { Age::Exact };
        let run = record(&["--tier", tier], &INCIDENTS).map_err(|e| anyhow!("{tier}: {e:#}"))?;
        let problems = stalls::problems(&run.seen, &run.report, age);
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

#[test]
fn a_stall_is_told_soon_after_its_threshold_with_what_the_server_does_instead() -> Result<()> {
    let mut tracer = Running::start(&mut socktrace(&["watch", "--json"])?)?;
    tracer.wait_err("attached")?;
    let seen = play(&INCIDENTS)?;
    tracer.signal(Signal::SIGINT)?;
    let out = tracer.finish()?.out();
    let lines = out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    tell(&as_they_happened(&seen, &lines.context("JSON Lines")?))
}

#[test]
fn a_server_of_which_the_cgroup_is_short_of_memory_is_told_to_be() -> Result<()> {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let has_it = controllers.is_ok_and(|text| text.split_whitespace().any(|it| it == "memory"));
    let run = record(&[], &["stall_memory"])?;
    let lacks = run.seen.lacks.iter().any(|it| it == "memory");
    ensure!(lacks != has_it, "the scenario lacks memory cgroups: {lacks}; there are: {has_it}");
    let mut told = stalls::problems(&run.seen, &run.report, Age::Bound);
    let found = run.report.findings.iter().any(|it| it.rule == "owner-short-of-memory");
    if found != has_it {
        told.push(format!("it is found: {found}: {:?}", run.report.findings));
    }
    tell(&told)
}

/// Records the whole host while a listener does not accept that is in a network namespace which was
/// made before, and which the tracer may not enter any more once it is attached.
fn record_another_namespace(tier: &str, stall: &str) -> Result<(Run, u64)> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let program = scenario()?;
    let mut command = Command::new(&program);
    command.args(["netns", "--"]).arg(&program).arg("--gate").arg(dir.path()).arg(stall);
    let server = Running::start(&mut command)?;
    let pid = gate.wait_ready()?;
    let netns = std::fs::metadata(format!("/proc/{pid}/ns/net")).context("its namespace")?.ino();
    let mut recording = start_record(&["--tier", tier], &[])?;
    recording.running.wait_err("attached")?;
    gate.open()?;
    let finished = server.finish()?;
    let seen = serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    recording.running.signal(Signal::SIGINT)?;
    Ok((recording.finish_with(seen)?, netns))
}

#[test]
fn a_stall_in_another_namespace_that_was_there_before_is_told_with_its_queue_and_owner()
-> Result<()> {
    let mut told = Vec::new();
    for tier in this_kernel()?.tiers_of("stalls") {
        let (run, netns) = record_another_namespace(tier, "stall_sleeping")?;
        let [expected] = run.seen.stalls.as_slice() else { bail!("one stall: {:?}", run.seen) };
        let of_it = |stall: &&Stall| stall.inode == expected.inode;
        let rows: Vec<&Stall> = run.report.stalls.iter().filter(of_it).collect();
        let right = |row: &Stall| {
            row.listener == expected.listener
                && row.until.is_some()
                && row.pending_peak == expected.connections
                && (expected.at_least_ns..=expected.at_most_ns + LATE_NS).contains(&row.oldest_ns)
                && row.owners.iter().map(|owner| owner.pid).eq([expected.pid])
        };
        if !matches!(rows.as_slice(), [row] if right(row)) {
            told.push(format!("[{tier}] {expected:?}, found {rows:?}"));
        }
        let unseen = &run.raw["unseen"]["not_entered"];
        let unseen = unseen.as_array().with_context(|| format!("no `not_entered`: {unseen}"))?;
        if unseen.contains(&netns.into()) {
            told.push(format!("[{tier}] its namespace is told as unseen"));
        }
        let rows = run.raw["listeners"].as_array().context("no `listeners`")?;
        let row = rows.iter().find(|row| row["inode"] == expected.inode);
        if row.is_none_or(|row| row["queue"]["peak"] != expected.connections) {
            told.push(format!("[{tier}] the queue was seen at its peak: {row:?}"));
        }
    }
    tell(&told)
}

fn as_they_happened(seen: &Seen, lines: &[Value]) -> Vec<String> {
    seen.stalls.iter().flat_map(|expected| as_it_happened(expected, lines)).collect()
}

fn as_it_happened(expected: &Stalled, lines: &[Value]) -> Vec<String> {
    let is_it = |line: &&Value| line["signal"] == "stall" && line["inode"] == expected.inode;
    let told: Vec<&Value> = lines.iter().filter(is_it).collect();
    let changes: Vec<&str> = told.iter().filter_map(|line| line["change"].as_str()).collect();
    let first_age = told.first().and_then(|line| line["oldest_ns"].as_u64());
    let in_time =
        first_age.is_some_and(|age| (1_000_000_000..=1_000_000_000 + LATE_NS).contains(&age));
    let says_why = told.iter().any(|line| {
        let state = line["acceptor_state"].as_str().unwrap_or_default();
        state.contains(&expected.instead)
    });
    let checks = [
        (changes.first() == Some(&"opened"), "opens"),
        (changes.last() == Some(&"closed"), "closes"),
        (in_time, "is told in time"),
        (says_why, "says what its server did instead"),
    ];
    let wrong = checks.iter().filter(|(right, _)| !right);
    wrong.map(|(_, what)| format!("{} {what}: {told:?}", expected.name)).collect()
}
