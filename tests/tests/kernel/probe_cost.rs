//! `--probe-cost`: the kernel times the hooks while they are attached, and the report says what they took.

use anyhow::Result;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::report::ProbeRuns;
use socktrace_tests::harness::run::record;

use crate::matrix::{tell, unless};

/// More than this no run takes, not even emulated.
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
        let too_long =
            |of: &&ProbeRuns| of.run_time_ns == 0 || of.run_time_ns / of.runs > TOO_LONG_NS;
        let wrong = probes.iter().filter(ran).filter(too_long);
        told.extend(wrong.map(|of| format!("{tier}: a run that cannot be: {of:?}")));
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
