//! The network namespaces of the host: which there are, and what can be read inside each.
//!
//! Owns `/proc/PID/ns/net`, the namespaces that a mount keeps alive, and the way in (`enter`),
//! or to see in later (`window`). Does
//! not own what is read there: `sock_diag` and `netstat` answer for the calling thread's namespace.
//!
//! Found are namespaces of processes (of their first threads) and those bound to a file that this
//! process's mount namespace shows, such as `/run/netns/NAME`. One that nothing but an open
//! descriptor, a socket, another thread or a mount elsewhere keeps alive is not.

mod enter;
mod scratch;
mod window;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::read_with;
use super::mountinfo::parse_mounts;
use super::patience::Work;
use super::{AddressFact, Host, HostError, TcpExt, bracketed_inode};

pub use enter::EnterError;
pub use scratch::{ScratchError, Syncookies, in_scratch_namespace, set_syncookies};
pub use window::NamespaceWindow;

/// A network namespace and every known way into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkNamespace {
    /// Its inode, equal to `net->ns.inum` in the kernel.
    pub inode: u32,
    /// Whether it is that of the thread that found it: no way in is needed.
    own: bool,
    /// Files that it is bound to; they stay when processes end.
    pinned: Vec<PathBuf>,
    /// Processes in it, ascending.
    pids: Vec<u32>,
    /// The tree that `/proc` lies in.
    host: Host,
}

/// Every network namespace that was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct NetworkNamespaces {
    /// The calling thread's own first, the others by inode.
    pub all: Vec<NetworkNamespace>,
    /// Processes whose namespace could not be read, for another reason than their exit: one that
    /// is theirs alone is missing in `all`. Threads of the kernel do not count.
    pub unreadable: u32,
    /// Of them, those that did not answer (`patience`).
    pub held_back: u32,
}

impl NetworkNamespaces {
    /// Adds what was there `before` and was not found now, if processes did not answer: it may be theirs.
    pub fn keep_hidden(&mut self, before: &[NetworkNamespace]) {
        if self.held_back == 0 {
            return;
        }
        let found: HashSet<u32> = self.all.iter().map(|it| it.inode).collect();
        self.all.extend(before.iter().filter(|it| !found.contains(&it.inode)).cloned());
        self.sort();
    }

    fn sort(&mut self) {
        self.all.sort_by_key(|namespace| (!namespace.own, namespace.inode));
    }
}

impl Host {
    /// The inode of the process's network namespace. For another user's process it takes
    /// `CAP_SYS_PTRACE`.
    pub fn read_netns(&self, pid: u32) -> Result<u64, HostError> {
        self.read_of(pid, move |host| host.netns_of(pid)).map(u64::from)
    }

    /// The same of a process that may hold back the answer (`patience`).
    fn netns_of(&self, pid: u32) -> Result<u32, HostError> {
        read_link_inode(self.proc_path(pid, "ns/net"))
    }

    /// Every network namespace of the host. One pass over all processes: a link to read for each.
    pub fn read_network_namespaces(&self) -> Result<NetworkNamespaces, HostError> {
        let own = read_link_inode(self.below("proc/thread-self/ns/net"))?;
        let mut found = BTreeMap::from([(own, self.namespace(own, true))]);
        for (inode, point) in
            read_with(&self.below("proc/self/mountinfo"), |bytes| Ok(parse_pinned(bytes)))?
        {
            let namespace = found.entry(inode).or_insert_with(|| self.namespace(inode, false));
            namespace.pinned.push(self.below(point));
        }
        let work: Work<_> = Arc::new(|host, pid| match host.netns_of(pid) {
            Ok(inode) => Some(Some(inode)),
            Err(error) if error.is_gone() => None,
            // They are in the first namespace.
            Err(_) if host.is_kernel_thread(pid) => None,
            Err(_) => Some(None),
        });
        let told = self.read_each(self.read_pids()?, &work);
        let held_back = told.held_back.len();
        let mut unreadable = held_back;
        for (pid, inode) in told.answers {
            let Some(inode) = inode else {
                unreadable += 1;
                continue;
            };
            let namespace = found.entry(inode);
            namespace.or_insert_with(|| self.namespace(inode, false)).pids.push(pid);
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (unreadable, held_back) = (number(unreadable), number(held_back));
        let all = found.into_values().collect();
        let mut namespaces = NetworkNamespaces { all, unreadable, held_back };
        namespaces.sort();
        Ok(namespaces)
    }

    fn namespace(&self, inode: u32, own: bool) -> NetworkNamespace {
        NetworkNamespace { inode, own, pinned: Vec::new(), pids: Vec::new(), host: self.clone() }
    }
}

impl NetworkNamespace {
    /// Whether it is that of the thread that found it.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// What the kernel counted in it. `None` where no process is in it, or may be looked at.
    pub fn read_tcp_ext(&self) -> Option<TcpExt> {
        self.read_inside(Host::read_tcp_ext)
    }

    /// What `address` is to it. `None` where no process is in it, or may be looked at.
    pub fn read_address(&self, address: IpAddr) -> Option<AddressFact> {
        self.read_inside(|host, pid| host.read_address(pid, address))
    }

    /// Reads through a process that is in it: that takes no way in.
    fn read_inside<T>(
        &self,
        read: impl Fn(&Host, Option<u32>) -> Result<T, HostError>,
    ) -> Option<T> {
        if self.own {
            return read(&self.host, None).ok();
        }
        self.pids.iter().find_map(|pid| {
            let answer = read(&self.host, Some(*pid)).ok()?;
            // Still the same process, in the same namespace.
            let inside = self.host.read_netns(*pid).ok()?;
            (inside == u64::from(self.inode)).then_some(answer)
        })
    }

    /// Files that lead into it, those that outlive processes first; the others with the process that may hold one back.
    fn paths(&self) -> impl Iterator<Item = (Option<u32>, PathBuf)> {
        let of_pid = |pid: &u32| (Some(*pid), self.host.proc_path(*pid, "ns/net"));
        self.pinned.iter().map(|path| (None, path.clone())).chain(self.pids.iter().map(of_pid))
    }
}

/// The namespace behind a link of `/proc/PID/ns`; `ns.inum` has 32 bits.
fn read_link_inode(path: PathBuf) -> Result<u32, HostError> {
    let link = fs::read_link(&path).map_err(HostError::read(&path))?;
    parse_inode(link.as_os_str().as_encoded_bytes()).ok_or(HostError::Malformed {
        path,
        line: 1,
        expected: "a link to `net:[inode]`",
    })
}

fn parse_inode(name: &[u8]) -> Option<u32> {
    bracketed_inode(name, "net")?.try_into().ok()
}

/// Mounts of network namespaces: nsfs shows the namespace's name as the root of the mount
/// (`nsfs_show_path()`).
fn parse_pinned(mountinfo: &[u8]) -> Vec<(u32, PathBuf)> {
    let mounts = parse_mounts(mountinfo, b"nsfs");
    let path = |point: Vec<u8>| Path::new(&OsString::from_vec(point)).to_owned();
    mounts.filter_map(|mount| Some((parse_inode(&mount.root)?, path(mount.point)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// A fake tree: links of processes (and of `thread-self`), and what `mountinfo` says.
    pub(super) fn fake(links: &[(&str, &str)], mountinfo: &str) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (process, link) in links {
            let dir = root.path().join("proc").join(process).join("ns");
            fs::create_dir_all(&dir).expect("a fake process");
            symlink(link, dir.join("net")).expect("a fake link");
        }
        fs::create_dir_all(root.path().join("proc/self")).expect("a fake process");
        fs::write(root.path().join("proc/self/mountinfo"), mountinfo).expect("fake mounts");
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn a_namespace_is_read_from_its_link() {
        let (_root, host) = fake(&[("1", "net:[4026531840]"), ("2", "mnt:[4026531841]")], "");
        assert_eq!(host.read_netns(1).expect("a namespace"), 4_026_531_840);
        assert!(host.read_netns(2).is_err_and(|error| !error.is_gone()));
        assert!(host.read_netns(3).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn what_was_there_stays_while_a_process_does_not_answer_and_goes_otherwise() {
        let (_root, host) = fake(&[("thread-self", "net:[50]"), ("12", "net:[7]")], "");
        let before = host.read_network_namespaces().expect("namespaces").all;
        for (held_back, left) in [(0, vec![50]), (1, vec![50, 7])] {
            let (_root, host) = fake(&[("thread-self", "net:[50]")], "");
            let mut found = host.read_network_namespaces().expect("namespaces");
            found.held_back = held_back;
            found.keep_hidden(&before);
            let inodes: Vec<u32> = found.all.iter().map(|it| it.inode).collect();
            assert_eq!(inodes, left);
        }
    }

    #[test]
    fn the_number_is_the_inode_of_the_namespace_file() {
        let inode = fs::metadata("/proc/self/ns/net").expect("nsfs").ino();
        assert_eq!(Host::default().read_netns(std::process::id()).expect("a namespace"), inode);
    }

    #[test]
    fn namespaces_of_processes_and_of_mounts_are_found_once_each_with_every_way_in() {
        let links = [("thread-self", "net:[50]"), ("9", "net:[50]"), ("12", "net:[7]")];
        let mounts = "1 1 0:4 net:[7] /run/netns/a\\040b rw - nsfs nsfs rw\n\
            2 1 0:4 net:[8] /run/netns/c rw shared:3 - nsfs nsfs rw\n\
            3 1 0:4 mnt:[6] /run/m rw - nsfs nsfs rw\n\
            4 1 0:4 net:[99999999999] /run/x rw - nsfs nsfs rw\n";
        let (root, host) = fake(&links, mounts);
        let found = host.read_network_namespaces().expect("namespaces");
        let ways: Vec<(u32, bool, Vec<PathBuf>)> = found
            .all
            .iter()
            .map(|namespace| {
                let paths = namespace.paths().map(|(_, path)| path).collect();
                (namespace.inode, namespace.is_own(), paths)
            })
            .collect();
        let at = |path: &str| root.path().join(path);
        let expected = [
            (50, true, vec![at("proc/9/ns/net")]),
            (7, false, vec![at("run/netns/a b"), at("proc/12/ns/net")]),
            (8, false, vec![at("run/netns/c")]),
        ];
        assert_eq!((ways.as_slice(), found.unreadable), (expected.as_slice(), 0));
    }

    #[test]
    fn a_process_whose_namespace_cannot_be_read_is_counted_and_one_that_is_gone_is_not() {
        let (root, host) = fake(&[("thread-self", "net:[1]"), ("4", "nonsense")], "");
        fs::create_dir_all(root.path().join("proc/5/ns")).expect("a process that exits");
        let found = host.read_network_namespaces().expect("namespaces");
        assert_eq!((found.all.len(), found.unreadable), (1, 1));
    }

    #[test]
    fn this_thread_is_in_the_first_of_this_hosts_namespaces() {
        let found = Host::default().read_network_namespaces().expect("namespaces");
        let own = Host::default().read_netns(std::process::id()).expect("a namespace");
        assert_eq!(u64::from(found.all[0].inode), own);
        assert!(found.all[0].is_own());
    }
}
