//! Who holds sockets, where those processes live, and what they do.

use std::collections::{HashMap, HashSet};

use crate::{
    diagnose::case::{Holder, MOST_HOLDERS},
    host::{Host, SocketOwners, systemd_unit},
    stall::read_activity,
};

/// Processes that are looked at for one question: a look at one takes up to some milliseconds, and anybody may make
/// thousands that hold a socket of a name.
const MOST_LOOKED_AT: usize = 256;

/// Who holds sockets.
#[derive(Default)]
pub(super) struct Holders {
    /// The holders of each; of one that is not in it nothing is known.
    pub(super) of: HashMap<u64, Vec<Holder>>,
    /// Sockets whose holders were not looked at, as there were too many.
    pub(super) left_out: HashSet<u64>,
    /// Processes that could not be looked at: they may hold any.
    pub(super) unreadable: u32,
}

/// The holders of these sockets, those that matter most first.
pub(super) fn read_holders(host: &Host, inodes: &[u64]) -> Holders {
    let mut holders = Holders::default();
    if inodes.is_empty() {
        return holders;
    }
    let wanted = inodes.iter().copied().collect();
    let Ok(found) = host.read_socket_owners(&wanted) else { return holders };
    holders.unreadable = found.unreadable;
    // One that holds many is looked at once.
    let mut known: HashMap<u32, Holder> = HashMap::new();
    for inode in inodes {
        match found.owners.get(inode) {
            Some(pids) => {
                let pids = pids.get(..pids.len().min(MOST_HOLDERS)).unwrap_or_default();
                let new = pids.iter().filter(|pid| !known.contains_key(pid)).count();
                if known.len() + new > MOST_LOOKED_AT {
                    holders.left_out.insert(*inode);
                    continue;
                }
                let look = |pid: &u32| {
                    known.entry(*pid).or_insert_with(|| read_holder(host, *pid, &found)).clone()
                };
                holders.of.insert(*inode, pids.iter().map(look).collect());
            }
            // Somebody holds it, and could not be looked at.
            None if found.unreadable + u32::from(found.left_out != 0) != 0 => {}
            None => {
                holders.of.insert(*inode, Vec::new());
            }
        }
    }
    holders
}

fn read_holder(host: &Host, pid: u32, found: &SocketOwners) -> Holder {
    let known = found.processes.get(&pid);
    let cgroup = known.and_then(|known| known.cgroup.as_deref());
    let activity = read_activity(host, pid, None);
    Holder {
        pid,
        comm: known.map(|known| known.comm.clone()).unwrap_or_default(),
        mount_namespace: host.read_namespace(pid, "mnt").ok(),
        hold: activity.hold(),
        descriptors: activity.descriptors,
        activity: activity.describe(),
        accepts: activity.accepts(),
        unit: cgroup.and_then(systemd_unit).map(<[u8]>::to_vec),
    }
}
