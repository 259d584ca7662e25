//! Which listeners there are and who holds them, from `sock_diag` and `/proc`.
//!
//! Evidence of ownership from the kernel side (who called `listen()`, who accepts) is joined in
//! `aggregate`; here is what only user space can see: the processes that hold the descriptor.

use std::collections::{HashMap, HashSet};

use crate::{
    event::{Address, Endpoint, Owner, Sighting, SocketKind},
    host::{
        Host, HostError,
        sock_diag::{SockDiagError, UnixKind, tcp_listeners, unix_listeners},
    },
};

/// Reads every listener of the calling thread's network namespace, by inode.
pub fn read_sightings() -> Result<HashMap<u64, Sighting>, SockDiagError> {
    let tcp = tcp_listeners()?.listeners.into_iter().map(|found| {
        let sighting = Sighting {
            local: Endpoint {
                address: Some(Address::Inet(found.address)),
                kind: Some(SocketKind::Stream),
            },
            queue: Some(found.queue),
            effective: Some(found.backlog),
            drops: found.drops,
        };
        (found.inode, sighting)
    });
    let unix = unix_listeners()?.listeners.into_iter().map(|found| {
        let kind = match found.kind {
            UnixKind::Stream => SocketKind::Stream,
            UnixKind::Seqpacket => SocketKind::Seqpacket,
        };
        let sighting = Sighting {
            local: Endpoint {
                address: Some(Address::Unix(found.name.unwrap_or_default())),
                kind: Some(kind),
            },
            queue: found.queue,
            effective: found.backlog,
            drops: None,
        };
        (found.inode, sighting)
    });
    Ok(tcp.chain(unix).collect())
}

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
