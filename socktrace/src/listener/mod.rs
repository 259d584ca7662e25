//! Which listeners there are and who holds them, from `sock_diag` and `/proc`, in every network
//! namespace.
//!
//! Evidence of ownership from the kernel side (who called `listen()`, who accepts) is joined in
//! `aggregate`; here is what only user space can see: the processes that hold the descriptor.

mod lookout;
mod sightings;

use std::collections::{HashMap, HashSet};

use crate::{
    event::Owner,
    host::{Host, HostError},
};

pub use lookout::Lookout;
pub use sightings::{Look, NamespaceSighting, Unseen, read_own_sightings, read_sightings};

/// Finds the processes that hold these listeners: one pass over `/proc/*/fd`.
#[expect(clippy::implicit_hasher, reason = "every caller has the standard one")]
pub fn read_owners(
    host: &Host,
    inodes: &HashSet<u64>,
) -> Result<HashMap<u64, Vec<Owner>>, HostError> {
    let found = host.read_socket_owners(inodes)?;
    let named = found.owners.into_iter().map(|(inode, pids)| {
        let owners = pids
            .into_iter()
            // A process that is gone by now is no owner any more.
            .filter_map(|pid| Some(Owner { pid, comm: host.read_comm(pid).ok()? }))
            .collect();
        (inode, owners)
    });
    Ok(named.collect())
}
