//! Who holds sockets, where those processes live, and what they do.

use std::collections::{HashMap, HashSet};

use crate::{
    diagnose::case::{Holder, MOST_HOLDERS},
    host::{Host, systemd_unit},
    stall::read_activity,
};

/// The holders of each of these sockets; of one that is not in it nothing is known.
pub(super) fn read_holders(host: &Host, inodes: &HashSet<u64>) -> HashMap<u64, Vec<Holder>> {
    if inodes.is_empty() {
        return HashMap::new();
    }
    let Ok(found) = host.read_socket_owners(inodes) else { return HashMap::new() };
    let holder = |pid: &u32| {
        let known = found.processes.get(pid);
        let cgroup = known.and_then(|known| known.cgroup.as_deref());
        let activity = read_activity(host, *pid, None);
        Holder {
            pid: *pid,
            comm: known.map(|known| known.comm.clone()).unwrap_or_default(),
            mount_namespace: host.read_namespace(*pid, "mnt").ok(),
            hold: activity.hold(),
            descriptors: activity.descriptors,
            activity: activity.describe(),
            accepts: activity.accepts(),
            unit: cgroup.and_then(systemd_unit).map(<[u8]>::to_vec),
        }
    };
    let mut holders: HashMap<u64, Vec<Holder>> = HashMap::new();
    for inode in inodes {
        match found.owners.get(inode) {
            Some(pids) => {
                holders.insert(*inode, pids.iter().take(MOST_HOLDERS).map(holder).collect());
            }
            // Somebody holds it, and could not be looked at.
            None if found.unreadable + u32::from(found.left_out != 0) != 0 => {}
            None => {
                holders.insert(*inode, Vec::new());
            }
        }
    }
    holders
}
