//! Connections that enter, leave or change an accept queue in an unusual way.

use std::path::Path;

use anyhow::Result;
use socktrace_tests::harness::compare::{closed, drops, listens};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::run::Run;

use super::{accepted, connects, exactly, in_every_tier, lacks, waits_unknown};

#[test]
fn connections_by_tcp_fast_open_are_counted_and_wait_from_their_syn() -> Result<()> {
    // Client and server, without cookies: 0x1 | 0x2 | 0x4 | 0x200.
    in_every_tier("edge_fast_open", &["tcp_fastopen=519"], |_, run| exactly(run))
}

#[test]
fn connections_with_deferred_accept_wait_from_their_first_data() -> Result<()> {
    in_every_tier("edge_defer_accept", &[], |_, run| exactly(run))
}

#[test]
fn a_connection_that_is_reset_in_the_queue_is_accepted_and_counted() -> Result<()> {
    in_every_tier("edge_reset_in_queue", &[], |_, run| exactly(run))
}

#[test]
fn each_listener_of_a_reuseport_group_has_its_own_count() -> Result<()> {
    in_every_tier("edge_reuseport", &[], |_, run| exactly(run))
}

#[test]
fn connections_that_move_are_no_drops_of_the_listener_that_closes_and_counted_where_accepted()
-> Result<()> {
    let can_move = Path::new("/proc/sys/net/ipv4/tcp_migrate_req").exists();
    let migrates = can_move && this_kernel()?.migrates;
    let settings: &[&str] = if can_move { &["tcp_migrate_req=1"] } else { &[] };
    in_every_tier("edge_migration", settings, |_, run| migration(run, migrates))
}

#[test]
fn connections_that_may_not_move_are_dropped_with_the_listener_that_closes() -> Result<()> {
    let can_move = Path::new("/proc/sys/net/ipv4/tcp_migrate_req").exists();
    let settings: &[&str] = if can_move { &["tcp_migrate_req=0"] } else { &[] };
    in_every_tier("edge_migration", settings, |_, run| migration(run, false))
}

/// What moves is no drop of the listener that closes; all that lies in its queue is one where nothing moves.
fn migration(run: &Run, migrates: bool) -> Vec<String> {
    let mut problems = exactly(run);
    problems.extend(closed::problems(&run.seen, &run.report, true));
    problems.extend(lacks(run, "migration", !migrates));
    problems
}

#[test]
fn an_mptcp_listener_counts_clients_with_mptcp_and_without() -> Result<()> {
    let has_it = Path::new("/proc/sys/net/mptcp").exists();
    in_every_tier("edge_mptcp", &[], |_, run| {
        let mut problems = lacks(run, "mptcp", !has_it);
        problems.extend(connects(run));
        problems.extend(accepted(run));
        problems.extend(waits_unknown(run, 0));
        problems.extend(listens::problems(&run.seen, &run.report));
        problems
    })
}

#[test]
fn what_an_mptcp_listener_has_dropped_is_known_after_its_end() -> Result<()> {
    let has_it = Path::new("/proc/sys/net/mptcp").exists();
    let kernel = this_kernel()?;
    in_every_tier("edge_mptcp_dropped", &[], |tier, run| {
        let mut problems = lacks(run, "mptcp", !has_it);
        problems.extend(drops::tcp_of_tier(tier, &kernel, &run.seen, &run.report));
        problems.extend(listens::problems(&run.seen, &run.report));
        problems
    })
}

#[test]
fn connections_over_ipv6_and_of_ipv4_clients_to_it_are_counted() -> Result<()> {
    in_every_tier("edge_addresses", &[], |_, run| exactly(run))
}
