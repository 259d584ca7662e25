//! What is told of the hooks themselves: `--probe-cost` (the kernel times them while they are attached, and the report says what they took), `-v`.

use anyhow::{Context, Result};
use serde_json::Value;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::report::ProbeRuns;
use socktrace_tests::harness::run::{record, run};

use crate::matrix::{tell, unless};

/// More than this no run takes in the mean, not even emulated. One by itself may: whatever interrupts it counts, an
/// emulated CPU's turn of some milliseconds included.
const TOO_LONG_NS: u64 = 1_000_000;

/// The hooks that every accepted connection runs into once, in one tier or another.
const ENDS: [&str; 4] =
    ["accept_tcp_fexit_2", "accept_tcp_fexit_4", "accept_graft_kprobe", "sys_exit_accept"];

#[test]
fn hooks_are_timed_where_that_was_asked_for() -> Result<()> {
    let mut told = Vec::new();
    for tier in &this_kernel()?.tiers {
        let run = record(&["--tier", tier, "--probe-cost"], &["accept_tcp"])?;
        let accepted: u64 = run.seen.accepts.iter().map(|accept| accept.count).sum();
        let probes = run.report.probes.unwrap_or_default();
        let ran = |of: &&ProbeRuns| of.runs > 0;
        let untimed = probes.iter().filter(ran).filter(|of| of.run_time_ns == 0);
        told.extend(untimed.map(|of| format!("{tier}: it ran in no time: {of:?}")));
        let (runs, ns) =
            probes.iter().fold((0, 0), |(runs, ns), of| (runs + of.runs, ns + of.run_time_ns));
        if ns > runs * TOO_LONG_NS {
            told.push(format!("{tier}: {runs} runs took {ns} ns: {probes:?}"));
        }
        let ends = probes.iter().filter(|of| ENDS.contains(&of.program.as_str()));
        let ends: u64 = ends.map(|of| of.runs).sum();
        if accepted == 0 || ends < accepted {
            told.push(format!(
                "{tier}: {accepted} were accepted, their hooks ran {ends} times: {probes:?}"
            ));
        }
    }
    tell(&told)
}

#[test]
fn hooks_are_not_timed_unless_asked_for() -> Result<()> {
    let run = record(&[], &["unix_missing"])?;
    unless(run.report.probes.is_none(), || format!("timed: {:?}", run.report.probes))
}

#[test]
fn verbose_has_a_line_for_each_hook_and_each_signal() -> Result<()> {
    let finished = run(&["record", "-v", "--json", "--no-save", "-d", "100ms"])?;
    let report: Value =
        serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    let completeness = &report["completeness"];
    let mut wanted = Vec::new();
    for (hook, missed) in completeness["missed"].as_object().context("what was missed")? {
        let missed = missed.as_u64().map_or("-".to_owned(), |missed| missed.to_string());
        wanted.push(format!("socktrace: {hook} missed {missed}"));
    }
    for row in completeness["signals"].as_array().context("signals")? {
        let name = row["signal"].as_str().context("a name")?;
        let (seen, unpaired, full) = (&row["seen"], &row["unpaired"], &row["full"]);
        let [pending, tally, names] = ["pending", "tally", "name"].map(|of| &full[of]);
        wanted.push(format!(
            "socktrace: {name} seen {seen}, beginnings missed {unpaired}, \
             maps full: beginnings {pending}, totals {tally}, names {names}"
        ));
    }
    let said = finished.err();
    let lacking: Vec<String> =
        wanted.into_iter().filter(|it| !said.lines().any(|line| line == it)).collect();
    unless(lacking.is_empty(), || format!("{lacking:?} not in {said}"))
}
