//! Edges: sockets, processes and moments that a tracer easily gets wrong, one incident each.
//!
//! None of them is part of `scenario all`. An incident that needs something from the kernel which
//! that lacks takes another shape, and says so in `Seen::lacks`.

mod abandoned;
mod blocked;
mod full_before;
mod ia32;
mod interrupted;
mod io_uring;
mod mptcp;
mod namespaces;
mod passed;
mod pid_reuse;
mod prefork;
mod renamed;
mod ring;
mod sharing;
mod short_lived;
mod tcp_accept;
mod tcp_address;
mod unix_kinds;

use anyhow::{Context, Result};

use super::Incident;
use super::causes;
use super::gate::Gate;
use super::stage::Stage;

/// A staged incident: it prepares, passes the gate, goes on, and stays until the test is over.
type Staged = (&'static str, fn(&mut Stage, &Gate) -> Result<()>);

/// Every edge that begins and ends while it is traced.
pub const EDGES: &[Incident] = &[
    ("edge_fast_open", tcp_accept::fast_open),
    ("edge_defer_accept", tcp_accept::defer_accept),
    ("edge_reset_in_queue", tcp_accept::reset_in_queue),
    ("edge_reuseport", sharing::reuseport),
    ("edge_migration", sharing::migration),
    ("edge_mptcp", mptcp::both_kinds_of_client),
    ("edge_mptcp_refused", mptcp::refused),
    ("edge_mptcp_dropped", mptcp::dropped),
    ("edge_addresses", tcp_address::accepted),
    ("edge_targets", tcp_address::refused),
    ("edge_refused_late", tcp_address::refused_late),
    ("edge_refused_early", tcp_address::refused_early),
    ("edge_second_attempt", tcp_address::second_attempt),
    ("edge_dissolved", tcp_address::dissolved),
    ("edge_abandoned", abandoned::in_every_way),
    ("edge_ring_accept", io_uring::accepts),
    ("edge_ring_accept_worker", io_uring::accepts_by_worker),
    ("edge_ring_connect", io_uring::connects),
    ("edge_ring_connect_worker", io_uring::connects_by_worker),
    ("edge_ring_connect_full", io_uring::connects_when_there_is_room),
    ("edge_ring_listen", io_uring::listens),
    ("edge_ring_shut_down", io_uring::shut_down),
    ("edge_ia32_accept", ia32::accepts),
    ("edge_ia32_connect", ia32::connects),
    ("edge_interrupted", interrupted::by_signals),
    ("edge_send_timeout", interrupted::by_timeouts),
    ("edge_unix_kinds", unix_kinds::all),
    ("edge_namespaces", namespaces::all),
    ("edge_short_lived", short_lived::hundred),
    ("edge_renamed", renamed::between_connect_and_failure),
    ("edge_pid_reuse", pid_reuse::twice),
];

/// Every edge whose first part lies before the start of tracing.
const STAGED: &[Staged] = &[
    ("edge_blocked_tcp", blocked::tcp),
    ("edge_blocked_unix", blocked::unix),
    ("edge_blocked_mptcp", blocked::multipath),
    ("edge_queued_before", blocked::queued_before),
    ("edge_full_before", full_before::full_before),
    ("edge_prefork", prefork::processes_and_threads),
    ("edge_passed", passed::to_another_process),
    ("causes_paths", causes::paths),
    ("causes_ends", causes::ends),
    ("causes_ways", causes::ways),
    ("causes_names", causes::names),
    ("causes_changed", causes::changed),
    ("causes_hostile", causes::hostile),
];

/// Plays one staged incident.
///
/// # Errors
/// An unknown name, or an incident that did not happen as meant.
pub fn play_staged(name: &str, stage: &mut Stage, gate: &Gate) -> Result<()> {
    let known = || STAGED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = STAGED.iter().find(|(known, _)| *known == name);
    let (_, play) = found.with_context(|| format!("unknown `{name}`; staged are {}", known()))?;
    play(stage, gate).with_context(|| format!("incident {name}"))
}
