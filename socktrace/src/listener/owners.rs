//! Who holds listeners, as the report's owners.

use std::collections::{HashMap, HashSet};

use crate::{
    event::Owner,
    host::{Host, HostError},
};

/// Holders of listeners, and how many processes could not be asked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Owners {
    /// By inode of the listener, ascending pids.
    pub by_inode: HashMap<u64, Vec<Owner>>,
    /// Processes whose descriptors could not be read: they may hold any of the listeners.
    pub unreadable: u32,
    /// Holders that are not in `by_inode`, because there were too many.
    pub left_out: u64,
}

/// Holders that one pass names: many more than there are processes that anybody reads of. Listeners times processes may be
/// millions.
const MOST: usize = 1 << 18;

/// Finds the processes that hold these listeners: one pass over `/proc/*/fd`.
#[expect(clippy::implicit_hasher, reason = "every caller has the standard one")]
pub fn read_owners(host: &Host, inodes: &HashSet<u64>) -> Result<Owners, HostError> {
    let found = host.read_socket_owners(inodes)?;
    let owner = |pid: u32| {
        let holder = found.processes.get(&pid);
        Owner {
            pid,
            comm: holder.map(|holder| holder.comm.clone()).unwrap_or_default(),
            uid: holder.and_then(|holder| holder.uid),
            cgroup: holder.and_then(|holder| holder.cgroup.clone()),
        }
    };
    let (mut by_inode, mut left, mut left_out) = (HashMap::new(), MOST, found.left_out);
    for (inode, pids) in found.owners {
        let kept = pids.len().min(left);
        left -= kept;
        left_out += (pids.len() - kept) as u64;
        by_inode.insert(inode, pids.into_iter().take(kept).map(owner).collect());
    }
    Ok(Owners { by_inode, unreadable: found.unreadable, left_out })
}
