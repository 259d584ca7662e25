//! A session around a server's load, and the judgement that all servers share.

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use socktrace_tests::harness::compare::{completeness, served};
use socktrace_tests::harness::report::Report;
use socktrace_tests::harness::run::{Recording, Run, start_record};
use socktrace_tests::harness::servers::holders::Holding;
use socktrace_tests::scenario::netns;
use socktrace_tests::scenario::record::Seen;

/// Leaves the machine's network for one of the test's own: what strangers drop is not counted with
/// the servers' figures, and every port is free. Before anything else.
pub(crate) fn alone() -> Result<()> {
    netns::enter()
}

/// Starts a session and waits until it sees everything.
pub(crate) fn begin(args: &[&str]) -> Result<Recording> {
    let mut recording = start_record(args, &[])?;
    recording.running.wait_err("attached")?;
    Ok(recording)
}

/// Ends a session; servers must still run, so that their listeners have owners.
pub(crate) fn end(recording: Recording) -> Result<Report> {
    Ok(end_with_session(recording)?.report)
}

/// The same, with all that was written.
pub(crate) fn end_with_session(recording: Recording) -> Result<Run> {
    recording.running.signal(Signal::SIGINT)?;
    recording.finish_with(Seen::default())
}

/// A complete report with the server's own counts and owners; shows the figures that it compares.
pub(crate) fn judge(
    who: &str,
    counted: &[(String, u64)],
    holdings: &[Holding],
    report: &Report,
) -> Vec<String> {
    for (local, count) in counted {
        println!("{who} at {local} counts {count}");
    }
    let mut problems = served::accepts(counted, report);
    problems.extend(served::everybody(counted, holdings, report));
    problems.extend(served::owners(holdings, report));
    problems.extend(served::quiet(holdings, report));
    problems.extend(whole(report));
    problems
}

/// Nothing is missing in the report.
pub(crate) fn whole(report: &Report) -> Vec<String> {
    let mut problems = completeness::identity(report);
    problems.extend(completeness::verdict(report, "complete"));
    problems
}

/// No problem, or all of them in one error.
pub(crate) fn tell(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} problems:\n{}", problems.len(), problems.join("\n"))
}
