//! Connections that wait now: told while they wait, with what their server does instead.

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use serde_json::Value;
use socktrace_tests::harness::compare::stalls;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::{play, record, socktrace};
use socktrace_tests::scenario::record::{Seen, Stalled};

use crate::matrix::tell;

const INCIDENTS: [&str; 5] =
    ["stall_stopped", "stall_spinning", "stall_sleeping", "stall_descriptors", "stall_throttled"];
/// A stall is told this long after its threshold of a second, at the latest.
const LATE_NS: u64 = 1_500_000_000;

#[test]
fn a_report_keeps_each_stall_with_its_owner_its_clients_and_what_held_it_up() -> Result<()> {
    let mut told = Vec::new();
    for tier in this_kernel()?.tiers_of("stalls") {
        let run = record(&["--tier", tier], &INCIDENTS).map_err(|e| anyhow!("{tier}: {e:#}"))?;
        let problems = stalls::problems(&run.seen, &run.report);
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
