//! Every kind of overflow, each in a network namespace of its own: what socktrace gives to listeners
//! is what the kernel counted there (`/proc/net/netstat`), reason by reason.

use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use socktrace_tests::harness::compare::{completeness, drops};
use socktrace_tests::harness::kernels::{TracepointDrops, is_full, this_kernel};
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::report::{Namespace, Report};
use socktrace_tests::harness::run::{record_amid_drops, record_in_netns, scenario, start_record};
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::record::Seen;

use crate::matrix::tell;

/// Addresses, and settings of `net.ipv4`: as different as can be in succession.
const KINDS: &[(&str, &[&str])] = &[
    ("overflow", &["tcp_syncookies=1"]),
    ("overflow_v6", &["tcp_syncookies=0"]),
    ("overflow_mapped", &["tcp_syncookies=2"]),
    ("overflow", &["tcp_abort_on_overflow=1"]),
    ("overflow", &["tcp_syncookies=0"]),
    ("overflow", &["tcp_syncookies=2"]),
    ("overflow_v6", &["tcp_syncookies=1"]),
    ("overflow_v6", &["tcp_syncookies=2"]),
    ("overflow_mapped", &["tcp_syncookies=0"]),
    ("overflow_mapped", &["tcp_syncookies=1"]),
];
/// Drops in a second, even on an emulated CPU.
const MANY: u64 = 500;
/// With all kinds: twenty runs per tier.
const ROUNDS: usize = 2;

#[test]
fn every_kind_of_overflow_equals_the_counters_of_its_namespace() -> Result<()> {
    let kernel = this_kernel()?;
    let bound = kernel.tracepoint_drops == TracepointDrops::Bound;
    let runs = if is_full() { KINDS.len() * ROUNDS } else { 1 };
    let mut told = Vec::new();
    // In a part, each tier has a kind of its own.
    for (number, tier) in kernel.tiers.iter().enumerate() {
        for (incident, settings) in KINDS.iter().cycle().skip(number).take(runs) {
            let run = record_in_netns(settings, &["--tier", tier], &[incident])
                .map_err(|error| anyhow!("{tier} {incident} {settings:?}: {error:#}"))?;
            let mut problems = match tier.as_str() {
                "tracepoint" if bound => drops::tcp_bound(&run.seen, &run.report),
                "tracepoint" => drops::tcp_sum(&run.seen, &run.report),
                "kprobe" => drops::tcp_unless_skipped(&run.seen, &run.report),
                _ => drops::tcp_exact(&run.seen, &run.report),
            };
            problems.extend(completeness::nothing_lost(&run.report, &kernel));
            told.extend(problems.iter().map(|it| format!("[{tier} {incident} {settings:?}] {it}")));
        }
    }
    tell(&told)
}

#[test]
fn a_listener_of_another_network_namespace_drops_what_that_namespace_counts() -> Result<()> {
    let mut told = Vec::new();
    for tier in &this_kernel()?.tiers {
        let dir = tempfile::tempdir().context("a gate")?;
        let gate = Gate::at(dir.path());
        let mut command = Command::new(scenario()?);
        command.args(["netns", "tcp_syncookies=1", "--"]).arg(scenario()?);
        let inside =
            Running::start(command.arg("--stay").arg("--gate").arg(dir.path()).arg("overflow"))?;
        gate.wait_ready()?;
        let mut recording = start_record(&["--tier", tier], &[])?;
        recording.running.wait_err("attached")?;
        gate.open()?;
        gate.wait_done()?;
        recording.running.signal(Signal::SIGINT)?;
        let run = recording.finish_with(Seen::default())?;
        gate.dismiss()?;
        let finished = inside.finish()?;
        let seen: Seen =
            serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
        let problems = of_namespace(tier, &seen, &run.report);
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

/// The namespace's counters as the tracer read them, and how much they moved meanwhile, against what it gives to the one
/// listener.
#[test]
fn drops_that_go_on_at_the_start_and_at_the_end_are_nobodys_loss() -> Result<()> {
    let mut told = Vec::new();
    for tier in &this_kernel()?.tiers {
        let run = record_amid_drops(&["-d", "1s", "--tier", tier])?;
        let problems = amid_drops(tier, &run.report);
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

fn amid_drops(tier: &str, report: &Report) -> Vec<String> {
    let rows: Vec<&Namespace> = report.namespaces.iter().filter(|row| row.own).collect();
    let [row] = rows.as_slice() else { return vec![format!("one namespace, found {rows:?}")] };
    let Some(counted) = row.netstat.map(|netstat| netstat.listen_drops) else {
        return vec![format!("the namespace's counters are unknown: {row:?}")];
    };
    let found: u64 = report
        .listeners
        .iter()
        .flat_map(|listener| &listener.backlog_drops)
        .filter(|drops| drops.reason != "syncookie_sent")
        .map(|drops| drops.count)
        .sum();
    let mut problems = Vec::new();
    if counted < MANY {
        problems.push(format!("{counted} drops are no flood"));
    }
    if row.drops_while_read > counted / 2 {
        problems.push(format!("too much is excused: {row:?}"));
    }
    // What the kernel skipped of a tier's hooks is unattributed, and told.
    let skipped = row.unattributed.unwrap_or(0);
    if tier == "fentry" && skipped != 0 {
        problems.push(format!("{skipped} drops without a listener"));
    }
    if row.unattributed.is_none() || counted.abs_diff(found + skipped) > row.drops_while_read {
        problems.push(format!("{found} drops of listeners, and of the namespace {row:?}"));
    }
    problems.extend(completeness::verdict_with(report, skipped));
    if skipped == 0 {
        let reasons = &report.completeness.reasons;
        problems.extend(reasons.iter().filter(|it| it.contains("drops")).cloned());
    }
    problems
}

/// The fentry tier names the listener of each drop. The kprobe tier may miss some and cannot tell by
/// `sk_drops` there, the tracepoint tier names none there: all of that is unattributed, and said to be.
fn of_namespace(tier: &str, seen: &Seen, report: &Report) -> Vec<String> {
    let wanted = seen.netstat.listen_drops;
    let rows: Vec<&Namespace> = report.namespaces.iter().filter(|row| !row.own).collect();
    let [row] = rows.as_slice() else { return vec![format!("one namespace, found {rows:?}")] };
    let counted = row.netstat.map(|netstat| netstat.listen_drops);
    let named: u64 = seen.tcp_drops.iter().map(|it| drops::of_inode(it.inode, report)).sum();
    let mut problems = Vec::new();
    if counted != Some(wanted) || row.unattributed != wanted.checked_sub(named) {
        problems.push(format!("{wanted} drops, {named} with a listener, found {row:?}"));
    }
    match tier {
        "fentry" => {
            problems.extend(seen.tcp_drops.iter().flat_map(|it| drops::of_listener(it, report)));
        }
        "kprobe" if named == 0 => problems.push("no drop has its listener".to_owned()),
        _ => {}
    }
    let rest = row.unattributed.unwrap_or(0);
    problems.extend(completeness::verdict_with(report, rest));
    problems
}
