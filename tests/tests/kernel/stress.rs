//! Counts under contention: many threads in the same hook at the same time.

use anyhow::{Context, Result, anyhow};
use socktrace_tests::harness::compare::{Strangers, accepts, completeness, failures};
use socktrace_tests::harness::kernels::{is_full, this_kernel};
use socktrace_tests::harness::report::Listener;
use socktrace_tests::harness::run::{Run, record};
use socktrace_tests::scenario::record::Seen;

use crate::matrix::tell;

/// Where everything is tried, 4,800 accepts and 2,400 refusals so often per tier.
const ROUNDS: usize = 5;

#[test]
fn counts_stay_exact_while_many_threads_connect_accept_and_are_refused() -> Result<()> {
    let kernel = this_kernel()?;
    let rounds = if is_full() { ROUNDS } else { 1 };
    let mut told = Vec::new();
    for tier in kernel.tiers.iter().flat_map(|tier| std::iter::repeat_n(tier, rounds)) {
        let run = record(&["--tier", tier], &["hammer"]).map_err(|e| anyhow!("{tier}: {e:#}"))?;
        // docs/limitations.md: what shares its guard with the tracer's own system calls.
        let may_be_short =
            kernel.short_under_contention.contains(tier) || (preempts_all()? && tier != "fentry");
        let problems = if may_be_short { short(&run) } else { inexact(&run) };
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
        let unbalanced = completeness::identity(&run.report);
        told.extend(unbalanced.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

/// Whether the kernel was told at boot to preempt its own code wherever it can.
fn preempts_all() -> Result<bool> {
    let words = std::fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    Ok(words.split_whitespace().any(|word| word == "preempt=full"))
}

fn inexact(run: &Run) -> Vec<String> {
    let mut problems = failures::problems(&run.seen, &run.report, Strangers::Forbidden);
    problems.extend(accepts::per_listener(&run.seen, &run.report));
    problems.extend(accepts::per_process(&run.seen, &run.report));
    let unknown = |row: &&Listener| row.accept.wait_unknown != 0;
    for row in run.report.listeners.iter().filter(unknown) {
        problems.push(format!("{}: {} waits unknown", row.name(), row.accept.wait_unknown));
    }
    problems
}

/// Where the kernel skips all hooks of a job at once: nothing is counted that did not happen, and what
/// is missing is no more than the report says may be.
fn short(run: &Run) -> Vec<String> {
    let wanted = |count: fn(&Seen) -> u64| count(&run.seen);
    let accepted: u64 = run.report.processes.iter().map(|process| process.accept.count).sum();
    let failures = run.report.processes.iter().flat_map(|process| &process.connect_failures);
    let failed: u64 = failures.map(|failure| failure.count).sum();
    let pairs = [
        ("accepts", accepted, wanted(|seen| seen.accepts.iter().map(|it| it.count).sum())),
        ("failures", failed, wanted(|seen| seen.failures.iter().map(|it| it.count).sum())),
    ];
    let mut problems = Vec::new();
    let mut missing = 0;
    for (what, found, wanted) in pairs {
        if found > wanted {
            problems.push(format!("{wanted} {what}, found {found}"));
        }
        missing += wanted.saturating_sub(found);
    }
    let admitted = run.report.may_be_missing();
    if missing > admitted {
        let reasons = &run.report.completeness.reasons;
        problems.push(format!("{missing} are missing, the report admits {admitted}: {reasons:?}"));
    }
    problems
}
