//! Connects that fail twice, late or not at all.

use std::path::Path;

use anyhow::Result;
use socktrace_tests::harness::compare::{blocked, drops};

use super::{accepted, connects, exactly, in_every_tier, lacks};

#[test]
fn a_refused_connect_over_ipv6_names_the_target_that_was_passed() -> Result<()> {
    in_every_tier("edge_targets", &[], |_, run| exactly(run))
}

#[test]
fn failures_that_come_at_once_and_later_are_one_row() -> Result<()> {
    in_every_tier("edge_refused_late", &[], |_, run| connects(run))
}

#[test]
fn a_second_attempt_on_a_socket_that_failed_is_a_failure_of_its_own() -> Result<()> {
    in_every_tier("edge_second_attempt", &[], |_, run| exactly(run))
}

#[test]
fn a_second_attempt_on_a_socket_that_was_made_anew_is_a_failure_of_its_own() -> Result<()> {
    in_every_tier("edge_dissolved", &[], |_, run| exactly(run))
}

#[test]
fn a_connect_that_is_taken_back_before_an_answer_is_no_failure_and_counted() -> Result<()> {
    in_every_tier("edge_abandoned", &[], |_, run| exactly(run))
}

#[test]
fn a_connect_that_the_kernel_refuses_at_its_entry_has_the_target_that_was_passed() -> Result<()> {
    in_every_tier("edge_refused_early", &[], |_, run| exactly(run))
}

#[test]
fn a_refused_connect_of_mptcp_is_counted_once() -> Result<()> {
    let has_it = Path::new("/proc/sys/net/mptcp").exists();
    in_every_tier("edge_mptcp_refused", &[], |_, run| {
        let mut problems = lacks(run, "mptcp", !has_it);
        problems.extend(connects(run));
        problems
    })
}

#[test]
fn a_connect_that_a_signal_interrupts_or_restarts_is_no_failure() -> Result<()> {
    in_every_tier("edge_interrupted", &[], |_, run| {
        let mut problems = connects(run);
        problems.extend(accepted(run));
        problems.extend(blocked::problems(&run.seen, &run.report));
        problems
    })
}

#[test]
fn a_time_limit_on_connect_is_a_failure_and_a_drop_on_unix_and_neither_on_tcp() -> Result<()> {
    in_every_tier("edge_send_timeout", &[], |_, run| {
        let mut problems = connects(run);
        problems.extend(accepted(run));
        problems.extend(drops::unix(&run.seen, &run.report));
        problems
    })
}

#[test]
fn unix_sockets_that_are_no_streams_fail_with_their_own_errnos() -> Result<()> {
    in_every_tier("edge_unix_kinds", &[], |_, run| {
        let mut problems = exactly(run);
        problems.extend(drops::unix(&run.seen, &run.report));
        problems
    })
}
