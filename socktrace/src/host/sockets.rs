//! Which processes hold a socket: `/proc/PID/fd` links against a set of socket inodes.
//!
//! Owns that one pass. Does not decide who the owner is when several hold it (`listener`): a
//! listener passed on by fork or a service manager has many holders. A thread that unshared its
//! descriptors (`CLONE_FILES`) is not seen, as `/proc/PID/fd` is the thread group leader's.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::{Host, HostError, bracketed_inode};

/// The holders of the sockets that were asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SocketOwners {
    /// Socket inode to the pids that have it open, ascending. An inode nobody was seen to hold is
    /// not in here: with `unreadable` at zero it has no holder in this pid namespace, otherwise
    /// that is unknown.
    pub owners: HashMap<u64, Vec<u32>>,
    /// Processes whose descriptors could not be listed or read to the end, for another reason
    /// than their exit.
    pub unreadable: u32,
}

impl Host {
    /// Finds the holders of the `wanted` socket inodes in one pass over all processes.
    pub fn read_socket_owners(&self, wanted: &HashSet<u64>) -> Result<SocketOwners, HostError> {
        let mut found = SocketOwners::default();
        for pid in self.read_pids()? {
            match self.read_sockets(pid, wanted) {
                Ok(inodes) => {
                    for inode in inodes {
                        found.owners.entry(inode).or_default().push(pid);
                    }
                }
                Err(error) if error.is_gone() => {}
                Err(_) => found.unreadable += 1,
            }
        }
        Ok(found)
    }

    /// The `wanted` sockets that one process holds, each once.
    fn read_sockets(&self, pid: u32, wanted: &HashSet<u64>) -> Result<HashSet<u64>, HostError> {
        let dir = self.proc_path(pid, "fd");
        let mut held = HashSet::new();
        for entry in fs::read_dir(&dir).map_err(HostError::read(&dir))? {
            let path = entry.map_err(HostError::read(&dir))?.path();
            let link = match fs::read_link(&path).map_err(HostError::read(&path)) {
                Ok(link) => link,
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(error),
            };
            let inode = bracketed_inode(link.as_os_str().as_encoded_bytes(), "socket");
            held.extend(inode.filter(|inode| wanted.contains(inode)));
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_holder_is_found_once_and_an_unreadable_process_is_counted() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (pid, links) in [(30, ["socket:[5]", "socket:[5]"]), (4, ["socket:[5]", "pipe:[6]"])] {
            let fd = root.path().join(format!("proc/{pid}/fd"));
            fs::create_dir_all(&fd).expect("a fake process");
            for (number, link) in links.iter().enumerate() {
                symlink(link, fd.join(number.to_string())).expect("a fake descriptor");
            }
        }
        fs::create_dir_all(root.path().join("proc/8"))
            .expect("a process that exits during the pass");
        fs::create_dir_all(root.path().join("proc/9")).expect("a fake process");
        fs::write(root.path().join("proc/9/fd"), b"")
            .expect("a descriptor table that is no directory");

        let found =
            Host::at(root.path()).read_socket_owners(&HashSet::from([5, 6, 7])).expect("a pass");
        assert_eq!(found.owners, HashMap::from([(5, vec![4, 30])]));
        assert_eq!(found.unreadable, 1);
    }

    #[test]
    fn this_process_holds_its_own_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let inode = rustix::fs::fstat(&listener).expect("fstat").st_ino;
        let found = Host::default().read_socket_owners(&HashSet::from([inode])).expect("a pass");
        assert_eq!(found.owners.get(&inode), Some(&vec![std::process::id()]));
    }
}
