//! Counts under contention: many threads in the same hook at the same time.

use anyhow::{Result, anyhow};
use socktrace_tests::harness::compare::{Strangers, accepts, completeness, failures};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::report::Listener;
use socktrace_tests::harness::run::record;

use crate::matrix::tell;

#[test]
fn counts_stay_exact_while_many_threads_connect_accept_and_are_refused() -> Result<()> {
    let mut told = Vec::new();
    for tier in &this_kernel()?.tiers {
        let run = record(&["--tier", tier], &["hammer"]).map_err(|e| anyhow!("{tier}: {e:#}"))?;
        let mut problems = failures::problems(&run.seen, &run.report, Strangers::Forbidden);
        problems.extend(accepts::per_listener(&run.seen, &run.report));
        problems.extend(accepts::per_process(&run.seen, &run.report));
        problems.extend(completeness::identity(&run.report));
        let unknown = |row: &&Listener| row.accept.wait_unknown != 0;
        for row in run.report.listeners.iter().filter(unknown) {
            problems.push(format!("{}: {} waits unknown", row.name(), row.accept.wait_unknown));
        }
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}
