//! A few processes for each network and mount namespace: by them, files of `/proc/PID` and paths
//! below `/proc/PID/root` answer for the namespace.
//!
//! Owns one bounded pass over `/proc/PID/ns/{net,mnt}`. Does not own namespaces without a process,
//! nor the way in (`netns`). Threads of the kernel are none of them: their root may be that of an
//! initial ramdisk. A process may have changed its root, and then `/proc/PID/root` is not its
//! namespace's. A pid may be another process's by the time it is used: compare the link
//! again after reading by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::patience::{Work, lock};
use super::{Host, HostError};

/// Processes that are kept of each namespace: several, as each may exit or refuse.
const MOST_PIDS: usize = 4;
/// Namespaces of each kind that are kept.
const MOST_NAMESPACES: usize = 1 << 14;
/// Processes that are looked at.
const MOST_PROCESSES: usize = 1 << 20;

/// Processes to read by, for each namespace that has any.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct NamespaceRepresentatives {
    /// Network namespaces: inode (`ns.inum`) to at most four pids, ascending.
    pub net: BTreeMap<u32, Vec<u32>>,
    /// Mount namespaces, likewise.
    pub mnt: BTreeMap<u32, Vec<u32>>,
    /// Processes whose namespaces could not be read, for another reason than their exit: one that
    /// is theirs alone is missing. Threads of the kernel do not count.
    pub unreadable: u32,
    /// Processes that were left out because there were too many of them, or too many namespaces.
    pub left_out: u32,
}

impl Host {
    /// A few processes for each namespace, in one pass. For processes of others it takes
    /// `CAP_SYS_PTRACE`.
    pub fn read_namespace_representatives(&self) -> Result<NamespaceRepresentatives, HostError> {
        let mut found = NamespaceRepresentatives::default();
        let pids = self.read_pids()?;
        let left_out = pids.len().saturating_sub(MOST_PROCESSES);
        found.left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
        let shared = Arc::new(Mutex::new(found));
        let theirs = Arc::clone(&shared);
        let work: Work<()> = Arc::new(move |host, pid| host.represent(pid, &theirs));
        let told = self.read_each(pids.into_iter().take(MOST_PROCESSES), &work);
        let mut found = lock(&shared).clone();
        let unreadable = told.held_back.len() + told.answers.len();
        found.unreadable = u32::try_from(unreadable).unwrap_or(u32::MAX);
        Ok(found)
    }

    /// Adds a process, which may hold back the answer (`patience`), to those of its namespaces; says so where they cannot be
    /// read.
    fn represent(&self, pid: u32, found: &Mutex<NamespaceRepresentatives>) -> Option<()> {
        let both = self.inode_of(pid, "net").and_then(|net| {
            let mnt = self.inode_of(pid, "mnt")?;
            Ok((net, mnt))
        });
        let (net, mnt) = match both {
            Ok(both) => both,
            Err(error) if error.is_gone() || self.is_kernel_thread(pid) => return None,
            Err(_) => return Some(()),
        };
        let is_known = {
            let found = lock(found);
            is_full(&found.net, net) && is_full(&found.mnt, mnt)
        };
        if !is_known && !self.is_kernel_thread(pid) {
            let mut found = lock(found);
            let added = add(&mut found.net, net, pid) & add(&mut found.mnt, mnt, pid);
            found.left_out = found.left_out.saturating_add(u32::from(!added));
        }
        None
    }

    /// `ns.inum` has 32 bits.
    fn inode_of(&self, pid: u32, kind: &'static str) -> Result<u32, HostError> {
        let inode = self.namespace_of(pid, kind)?;
        inode.try_into().map_err(|_| HostError::Malformed {
            path: self.proc_path(pid, "ns").join(kind),
            line: 1,
            expected: "an inode of 32 bits",
        })
    }
}

/// Whether no more pids of the namespace are kept.
fn is_full(namespaces: &BTreeMap<u32, Vec<u32>>, inode: u32) -> bool {
    namespaces.get(&inode).is_some_and(|pids| pids.len() >= MOST_PIDS)
}

/// Whether the namespace is in the map now.
fn add(namespaces: &mut BTreeMap<u32, Vec<u32>>, inode: u32, pid: u32) -> bool {
    if namespaces.len() >= MOST_NAMESPACES && !namespaces.contains_key(&inode) {
        return false;
    }
    let pids = namespaces.entry(inode).or_default();
    if pids.len() < MOST_PIDS {
        pids.push(pid);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn fake(processes: &[(u32, &str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (pid, net, mnt) in processes {
            let dir = root.path().join("proc").join(pid.to_string()).join("ns");
            fs::create_dir_all(&dir).expect("a fake process");
            symlink(net, dir.join("net")).expect("a fake link");
            symlink(mnt, dir.join("mnt")).expect("a fake link");
        }
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn each_namespace_has_a_few_of_its_processes() {
        let mut processes: Vec<_> = (1..=9).map(|pid| (pid, "net:[7]", "mnt:[5]")).collect();
        processes.push((12, "net:[8]", "mnt:[5]"));
        processes.push((13, "net:[99999999999]", "mnt:[5]"));
        let (root, host) = fake(&processes);
        fs::create_dir_all(root.path().join("proc/14/ns")).expect("a process that exits");
        let found = host.read_namespace_representatives().expect("namespaces");
        assert_eq!(found.net, BTreeMap::from([(7, vec![1, 2, 3, 4]), (8, vec![12])]));
        assert_eq!(found.mnt, BTreeMap::from([(5, vec![1, 2, 3, 4])]));
        assert_eq!((found.unreadable, found.left_out), (1, 0));
    }

    #[test]
    fn a_thread_of_the_kernel_stands_for_no_namespace() {
        let (root, host) = fake(&[(2, "net:[7]", "mnt:[5]"), (3, "net:[7]", "mnt:[5]")]);
        fs::write(root.path().join("proc/2/stat"), "2 (k) S 0 0 0 0 -1 2097152 0\n")
            .expect("a file");
        let found = host.read_namespace_representatives().expect("namespaces");
        assert_eq!(found.net, BTreeMap::from([(7, vec![3])]));
        assert_eq!((found.unreadable, found.left_out), (0, 0));
    }

    #[test]
    fn a_namespace_past_the_bound_is_left_out() {
        let bound = u32::try_from(MOST_NAMESPACES).expect("a small bound");
        let mut full: BTreeMap<u32, Vec<u32>> = (0..bound).map(|n| (n, vec![])).collect();
        assert!(add(&mut full, 3, 1));
        assert!(!add(&mut full, bound, 1));
        assert_eq!(full.len(), MOST_NAMESPACES);
    }

    #[test]
    fn this_process_is_in_namespaces_that_were_found() {
        let host = Host::default();
        let found = host.read_namespace_representatives().expect("namespaces");
        let pid = std::process::id();
        let net = u32::try_from(host.read_netns(pid).expect("a namespace")).expect("32 bits");
        assert!(found.net.contains_key(&net));
        assert!(found.mnt.contains_key(&host.inode_of(pid, "mnt").expect("a namespace")));
    }
}
