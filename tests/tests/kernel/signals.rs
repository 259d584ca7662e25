//! Each signal, in every tier and transport: counts equal to the scenario's, waits within their
//! bounds, drops equal to the kernel's counters, and every event accounted for.

use anyhow::Result;
use socktrace_tests::harness::compare::{
    Strangers, abandoned, accept_errors, accepts, blocked, closed, completeness, drops, failures,
    listens, waits,
};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::run::record;

use crate::matrix::{judge, tell};

#[test]
fn every_connect_failure_is_counted_for_its_process_and_target() -> Result<()> {
    judge(|_, run| failures::problems(&run.seen, &run.report, Strangers::Forbidden))
}

#[test]
fn connects_that_succeed_poll_or_are_closed_are_no_failures() -> Result<()> {
    judge(|_, run| {
        let mut problems = failures::false_alarms(&run.seen, &run.report);
        problems.extend(abandoned::towards_noted(&run.seen, &run.report));
        problems
    })
}

#[test]
fn every_connect_failure_has_a_cause_or_says_that_it_is_unknown() -> Result<()> {
    judge(|_, run| failures::without_cause(&run.report))
}

#[test]
fn every_accept_is_counted_for_its_listener_and_owner() -> Result<()> {
    judge(|_, run| accepts::per_listener(&run.seen, &run.report))
}

#[test]
fn every_accept_is_counted_for_the_process_that_called_accept() -> Result<()> {
    judge(|_, run| accepts::per_process(&run.seen, &run.report))
}

#[test]
fn waits_in_the_accept_queue_lie_within_the_true_bounds() -> Result<()> {
    judge(|_, run| waits::problems(&run.seen, &run.report))
}

#[test]
fn accept_errors_are_counted_and_an_empty_queue_is_none() -> Result<()> {
    judge(|_, run| accept_errors::problems(&run.seen, &run.report))
}

#[test]
fn tcp_drops_equal_the_counters_of_the_kernel() -> Result<()> {
    let kernel = this_kernel()?;
    judge(|tier, run| drops::tcp_of_tier(tier, &kernel, &run.seen, &run.report))
}

#[test]
fn connects_turned_away_by_a_full_unix_backlog_are_drops_of_its_owner() -> Result<()> {
    judge(|_, run| drops::unix(&run.seen, &run.report))
}

#[test]
fn unix_connects_that_slept_on_a_full_backlog_are_counted_with_their_time() -> Result<()> {
    judge(|_, run| blocked::problems(&run.seen, &run.report))
}

#[test]
fn connections_left_in_the_queue_of_a_closed_listener_are_its_drops() -> Result<()> {
    // The tracepoint tier has no hook on the end of a Unix socket.
    judge(|tier, run| closed::problems(&run.seen, &run.report, tier != "tracepoint"))
}

#[test]
fn listeners_are_shown_with_requested_and_effective_backlog() -> Result<()> {
    judge(|_, run| listens::problems(&run.seen, &run.report))
}

#[test]
fn a_run_without_loss_is_complete() -> Result<()> {
    let kernel = this_kernel()?;
    judge(|_, run| completeness::nothing_lost(&run.report, &kernel))
}

#[test]
fn how_often_hooks_were_skipped_is_told_where_the_kernel_counts_it() -> Result<()> {
    let counts = this_kernel()?.counts_skipped;
    // All hooks of the fentry tier have guards of their own, on some kernels.
    judge(|tier, run| match tier {
        "fentry" => Vec::new(),
        _ => completeness::skipped_hooks(&run.report, counts),
    })
}

#[test]
fn every_event_is_accounted_for() -> Result<()> {
    judge(|_, run| completeness::identity(&run.report))
}

#[test]
fn as_many_failures_pass_the_filters_as_there_were() -> Result<()> {
    judge(|_, run| completeness::failures_seen(&run.seen, &run.report))
}

#[test]
fn the_session_names_the_forced_tier_for_every_signal() -> Result<()> {
    judge(|tier, run| completeness::forced_tier(&run.report, tier))
}

#[test]
fn without_being_told_every_signal_takes_the_tier_of_the_table() -> Result<()> {
    let run = record(&[], &["unix_missing"])?;
    tell(&completeness::tiers(&run.report, &this_kernel()?.auto))
}

#[test]
fn no_control_character_of_a_traced_process_reaches_report_or_terminal() -> Result<()> {
    judge(|_, run| {
        let bad = |byte: &&u8| byte.is_ascii_control() && **byte != b'\n';
        let streams = [("report", &run.bytes), ("stderr", &run.finished.stderr)];
        let hostile = streams.iter().filter(|(_, bytes)| bytes.iter().any(|byte| bad(&byte)));
        hostile.map(|(name, _)| format!("raw control characters in the {name}")).collect()
    })
}
