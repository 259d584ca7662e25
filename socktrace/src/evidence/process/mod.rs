//! Gathers the facts of a running process for its checkup.
//!
//! Owns the order and the two looks, a moment apart, that tell what grows. What the facts mean is with
//! `diagnose::process`. Descriptors come first, as all else hangs on them; nothing here opens what a
//! descriptor leads to, stops the process or waits for it.

mod descriptors;
mod identity;
mod join;
mod memory;
mod pipes;
mod sockets;

#[cfg(test)]
mod on_real_processes;

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Namespaces;
use crate::{
    diagnose::{
        Check,
        process::{Facts, checkup},
    },
    host::{Host, HostError},
};

/// Time between the two looks.
const BETWEEN: Duration = Duration::from_millis(200);

/// Every step of the checkup of a process. An error only where it is not there, or hides even its name.
pub fn check_process(
    host: &Host,
    namespaces: &mut Namespaces,
    pid: u32,
) -> Result<Vec<Check>, HostError> {
    let comm = host.read_comm(pid)?;
    let started = host.read_start_ticks(pid);
    let held = descriptors::read(host, pid);
    let first = sockets::look(namespaces, &held);
    let (began, quota) = (Instant::now(), memory::read_throttled(host, pid));
    // What is read once fills the time between.
    let mut facts = Facts {
        identity: identity::read(host, pid, comm),
        memory: memory::read(host, pid),
        ..Facts::default()
    };
    let moves = first.has_connections() || quota.is_some();
    let between = moves.then(|| {
        sleep(BETWEEN.saturating_sub(began.elapsed()));
        began.elapsed()
    });
    let second = between.map(|_| first.again(namespaces));
    facts.memory.throttled = quota.map(|before| (before, memory::read_throttled(host, pid)));
    let (sockets, pipe_holders) = join::join(host, namespaces, pid, &held, &first, second.as_ref());
    facts.sockets = sockets;
    facts.pipes = pipes::read(host, pid, &held, pipe_holders);
    facts.sockets.between_ms =
        between.map(|between| u64::try_from(between.as_millis()).unwrap_or(u64::MAX));
    facts.descriptors = held.facts;
    facts.identity.ended = match (started, host.read_start_ticks(pid)) {
        (Ok(before), Ok(now)) => before != now,
        (_, now) => now.is_err_and(|error| error.is_gone()),
    };
    Ok(checkup(&facts))
}
