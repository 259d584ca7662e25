//! Incidents on real sockets: each makes something go wrong a known number of times and records
//! exactly what it saw itself.
//!
//! Owns the list of incidents and their order. Every file below is one family of incidents or one
//! tool that they share; what socktrace must say of them is not decided here.

pub mod accept;
pub mod accept_error;
pub mod accept_waits;
pub mod actor;
pub mod amid;
pub mod attempt;
pub mod causes;
pub mod clock;
pub mod closed;
pub mod command;
pub mod edges;
pub mod flood;
pub mod gate;
pub mod hammer;
pub mod heirs;
pub mod held;
pub mod listener;
pub mod netns;
pub mod netstat;
pub mod not_failures;
pub mod overflow;
pub mod overflow_stages;
pub mod pulse;
pub mod record;
pub mod shell;
pub mod socket;
pub mod stage;
pub mod stalls;
pub mod tcp_connect;
pub mod tcp_timeout;
pub mod unix_backlog;
pub mod unix_blocked;
pub mod unix_connect;
pub mod unix_target;
pub mod wire;
pub mod withholding;

use anyhow::{Context, Result, bail};

use record::Seen;
use stage::Stage;

/// One incident: its name on the command line and what makes it.
pub type Incident = (&'static str, fn(&mut Stage) -> Result<()>);

/// Every incident, in the order in which `scenario all` makes them.
pub const INCIDENTS: &[Incident] = &[
    ("unix_eacces_mode", unix_connect::eacces_mode),
    ("unix_eacces_dir", unix_connect::eacces_dir),
    ("unix_stale", unix_target::stale),
    ("unix_missing", unix_target::missing),
    ("unix_wrong_type", unix_target::wrong_type),
    ("unix_dgram_missing", unix_target::dgram_missing),
    ("unix_seqpacket_wrong_type", unix_target::seqpacket_wrong_type),
    ("unix_not_a_socket", unix_target::not_a_socket),
    ("unix_abstract", unix_target::abstract_name),
    ("unix_backlog", unix_backlog::full),
    ("unix_hostile_path", unix_connect::hostile_path),
    ("unix_relative", unix_connect::relative),
    ("tcp_refused_sync", tcp_connect::refused_sync),
    ("tcp_refused_async", tcp_connect::refused_async),
    ("tcp6_refused", tcp_connect::refused_v6),
    ("tcp_second_fetch", tcp_connect::second_fetch),
    ("tcp_unreachable", tcp_connect::unreachable),
    ("tcp_timeout", tcp_timeout::timed_out),
    ("not_failures", not_failures::all),
    ("accept_tcp", accept::tcp),
    ("accept_unix", accept::unix),
    ("accept_first", accept::accept_before_connect),
    ("accept_error", accept_error::descriptors_used_up),
    ("overflow", overflow::burst),
    ("overflow_ack", overflow_stages::final_acks),
    ("syncookies", overflow_stages::syncookies),
    ("connect_blocked", unix_blocked::until_accepted),
    ("connect_gives_up", unix_blocked::until_timeout),
    ("listener_closed", closed::with_connections_queued),
    ("listens", listener::backlogs),
];

/// Incidents that are only made when named: load rather than one thing going wrong.
pub const LOADS: &[Incident] = &[
    ("hammer", hammer::all),
    ("hammer_amid_sleepers", hammer::amid_sleepers),
    ("stall_stopped", stalls::stopped),
    ("stall_spinning", stalls::spinning),
    ("stall_sleeping", stalls::sleeping),
    ("stall_descriptors", stalls::out_of_descriptors),
    ("stall_throttled", stalls::throttled),
    ("stall_memory", stalls::short_of_memory),
    ("never_accepted", heirs::never_accepted),
    ("overflow_v6", overflow::burst_v6),
    ("overflow_mapped", overflow::burst_mapped),
];

/// Makes the named incidents (`all` stands for all of [`INCIDENTS`]) and returns what was seen.
///
/// # Errors
/// An unknown name, or an incident that did not happen as it was meant to: then nothing is known,
/// and nothing may be concluded from a tracer's report.
pub fn play(names: &[String], stage: &mut Stage) -> Result<()> {
    for (name, incident) in chosen(names)? {
        incident(stage).with_context(|| format!("incident {name}"))?;
    }
    Ok(())
}

/// Plays the incidents between two readings of the kernel's counters.
///
/// # Errors
/// As [`play`], and when the counters cannot be read or do not come to rest.
pub fn play_and_count(names: &[String], mut stage: Stage) -> Result<Seen> {
    let before = netstat::read()?;
    play(names, &mut stage)?;
    let after = netstat::at_rest()?;
    let mut seen = stage.into_seen();
    seen.netstat = after.since(&before);
    Ok(seen)
}

fn chosen(names: &[String]) -> Result<Vec<Incident>> {
    if names.is_empty() {
        bail!("no incident named; known: all, {}", known());
    }
    if names.iter().any(|name| name == "all") {
        return Ok(INCIDENTS.to_vec());
    }
    let find = |name: &String| {
        INCIDENTS
            .iter()
            .chain(LOADS)
            .chain(edges::EDGES)
            .find(|(known, _)| known == name)
            .copied()
            .with_context(|| format!("unknown incident `{name}`; known: all, {}", known()))
    };
    names.iter().map(find).collect()
}

fn known() -> String {
    let all = INCIDENTS.iter().chain(LOADS).chain(edges::EDGES);
    all.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
