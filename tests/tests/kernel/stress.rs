//! Counts under contention: many threads in the same hook at the same time.

use anyhow::{Result, anyhow};
use socktrace_tests::harness::compare::{Strangers, accepts, completeness, failures};
use socktrace_tests::harness::kernels::{is_full, preempts_all, this_kernel};
use socktrace_tests::harness::report::Listener;
use socktrace_tests::harness::run::{Run, record};

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
        let problems = if may_be_short { short(tier, &run) } else { inexact(&run) };
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
        let unbalanced = completeness::identity(&run.report);
        told.extend(unbalanced.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

/// The calls that sleep have all return slots of the kretprobe that stands in for a hook that is skipped.
#[test]
fn failed_connects_amid_sleeping_ones_are_counted_or_said_to_be_missing() -> Result<()> {
    let kernel = this_kernel()?;
    let preempts = kernel.preempts()?;
    let mut told = Vec::new();
    for tier in &kernel.tiers {
        let run = record(&["--tier", tier], &["hammer_amid_sleepers"]);
        let run = run.map_err(|e| anyhow!("{tier}: {e:#}"))?;
        let admitted = run.report.may_be_missing("ends of connect calls");
        // Of a call that was not seen to begin, only the target is missing.
        let are_skipped = run.report.may_be_missing("connect calls") != 0;
        let mut problems = if preempts != Some(false) && are_skipped {
            short_of_failures(&run, admitted)
        } else {
            inexact(&run)
        };
        if tier == "fentry" && run.report.loses("connect_failure", "another one's end") {
            problems.push("nothing stands in for the hook on ends of connects".to_owned());
        }
        // Kernels that are told so at boot may be older than 6.7, and not tell.
        if tier == "fentry" && preempts == Some(true) && !preempts_all()? {
            problems.extend(slots_ran_out(&run));
        }
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

/// No more of any failure than there were, and no more missing than that. Of a call that nobody saw begin, the target is
/// unknown.
fn short_of_failures(run: &Run, admitted: u64) -> Vec<String> {
    let rows = || run.report.processes.iter().flat_map(|process| &process.connect_failures);
    let count = |target: Option<&str>, errno: &str| -> u64 {
        let its = rows().filter(|row| row.target.as_deref() == target && row.errno == errno);
        its.map(|row| row.count).sum()
    };
    let mut problems = Vec::new();
    let (mut failed, mut found) = (0, 0);
    for failure in &run.seen.failures {
        let (known, unknown) =
            (count(Some(&failure.target), &failure.errno), count(None, &failure.errno));
        if known + unknown > failure.count {
            problems.push(format!("{known} and {unknown} of {failure:?}"));
        }
        (failed, found) = (failed + failure.count, found + known + unknown);
    }
    let all: u64 = rows().map(|row| row.count).sum();
    if all > found {
        problems.push(format!("{} failed otherwise", all - found));
    }
    if failed.saturating_sub(found) > admitted {
        problems.push(format!("{found} of {failed}, the report admits {admitted}"));
    }
    problems
}

/// Whether the kretprobe missed every failure that is repeated while others sleep.
fn slots_ran_out(run: &Run) -> Option<String> {
    let repeated = run.seen.failures.iter().map(|failure| failure.count).max().unwrap_or(0);
    let missed = run.report.completeness.missed.get("connect_failure_kretprobe_twin");
    let missed = missed.copied().flatten();
    (missed < Some(repeated)).then(|| format!("it missed {missed:?} of {repeated}: had it slots?"))
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

/// Where the kernel skips all hooks of a job at once: nothing is counted that did not happen, and of each kind no more is
/// missing than the report says may be, of those hooks by which the tier counts it.
fn short(tier: &str, run: &Run) -> Vec<String> {
    let accepted: u64 = run.report.processes.iter().map(|process| process.accept.count).sum();
    let failures = run.report.processes.iter().flat_map(|process| &process.connect_failures);
    let failed: u64 = failures.map(|failure| failure.count).sum();
    let wanted_accepts: u64 = run.seen.accepts.iter().map(|it| it.count).sum();
    let wanted_failures: u64 = run.seen.failures.iter().map(|it| it.count).sum();
    let accepts_end =
        if tier == "kprobe" { "accepted connections" } else { "ends of accept calls" };
    let kinds = [
        ("accepts", accepted, wanted_accepts, accepts_end),
        ("failures", failed, wanted_failures, "ends of connect calls"),
    ];
    let mut problems = Vec::new();
    for (what, found, wanted, named) in kinds {
        let admitted = run.report.may_be_missing(named);
        if found > wanted {
            problems.push(format!("{wanted} {what}, found {found}"));
        }
        if wanted.saturating_sub(found) > admitted {
            let reasons = &run.report.completeness.reasons;
            problems.push(format!("{found} of {wanted} {what}, {admitted} admitted: {reasons:?}"));
        }
    }
    problems
}
