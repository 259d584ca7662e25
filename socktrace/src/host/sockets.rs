//! Which processes hold a socket: `/proc/PID/fd` links against a set of socket inodes.
//!
//! Owns that one pass. Does not decide who the owner is when several hold it (`listener`): a
//! listener passed on by fork or a service manager has many holders. A thread that unshared its
//! descriptors (`CLONE_FILES`) is not seen, as `/proc/PID/fd` is the thread group leader's.
//!
//! What the pass keeps grows with what was asked for: an entry for each wanted socket, one for each
//! process that holds any, and a number for each pair of them, up to a limit.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, readlinkat_raw, statat};

use super::process::{parse_cgroup_path, parse_comm, parse_uid};
use super::{Host, HostError, bracketed_inode};

/// Pairs of socket and holder that one pass keeps: 16 MiB of pids.
const MOST_PAIRS: u64 = 1 << 22;

/// The holders of the sockets that were asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SocketOwners {
    /// Socket inode to the pids that have it open, ascending. An inode nobody was seen to hold is
    /// not in here: with `unreadable` and `left_out` at zero it has no holder in this pid
    /// namespace, otherwise that is unknown.
    pub owners: HashMap<u64, Vec<u32>>,
    /// Who each of those pids is.
    pub processes: HashMap<u32, Holder>,
    /// Processes whose descriptors could not be listed or read to the end, for another reason
    /// than their exit. Threads of the kernel, which have none, do not count.
    pub unreadable: u32,
    /// Pairs of socket and holder that are not in `owners`, because there were too many.
    pub left_out: u64,
}

/// A process that holds a wanted socket.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its command name, raw.
    pub comm: Vec<u8>,
    /// Its real uid; `None` where it could not be read.
    pub uid: Option<u32>,
    /// Its cgroup path; `None` where it has none or it could not be read.
    pub cgroup: Option<Vec<u8>>,
}

/// `/proc/PID`, held open: it stays that process's, so that a pid which is used again is told from
/// it. Reading below it fails once the process is gone.
pub(super) struct ProcessDir {
    dir: OwnedFd,
    path: PathBuf,
}

impl Host {
    /// Finds the holders of the `wanted` socket inodes in one pass over all processes.
    pub fn read_socket_owners(&self, wanted: &HashSet<u64>) -> Result<SocketOwners, HostError> {
        self.read_socket_owners_up_to(wanted, MOST_PAIRS, |_, _, _, _| {})
    }

    /// The same, and hands on each link of a descriptor as [`ProcessDir::read_links`] does, with its pid.
    pub(super) fn read_socket_owners_beside(
        &self,
        wanted: &HashSet<u64>,
        take: impl FnMut(u32, &OwnedFd, &CStr, &[u8]),
    ) -> Result<SocketOwners, HostError> {
        self.read_socket_owners_up_to(wanted, MOST_PAIRS, take)
    }

    fn read_socket_owners_up_to(
        &self,
        wanted: &HashSet<u64>,
        most_pairs: u64,
        mut take: impl FnMut(u32, &OwnedFd, &CStr, &[u8]),
    ) -> Result<SocketOwners, HostError> {
        let mut found = SocketOwners::default();
        let (mut held, mut pairs) = (Vec::new(), 0);
        for pid in self.read_pids()? {
            held.clear();
            let take = |fds: &OwnedFd, name: &CStr, link: &[u8]| take(pid, fds, name, link);
            match self.read_holder(pid, wanted, &mut held, take) {
                Ok(None) => {}
                Ok(Some(holder)) => {
                    let count = held.len() as u64;
                    if pairs + count > most_pairs {
                        found.left_out += count;
                        continue;
                    }
                    pairs += count;
                    found.processes.insert(pid, holder);
                    for inode in &held {
                        found.owners.entry(*inode).or_default().push(pid);
                    }
                }
                Err(error) if error.is_gone() => {}
                Err(_) if self.read_is_kernel_thread(pid).unwrap_or(false) => {}
                Err(_) => found.unreadable += 1,
            }
        }
        Ok(found)
    }

    /// The `wanted` sockets that one process holds, each once, and who it is if it holds any.
    fn read_holder(
        &self,
        pid: u32,
        wanted: &HashSet<u64>,
        held: &mut Vec<u64>,
        mut take: impl FnMut(&OwnedFd, &CStr, &[u8]),
    ) -> Result<Option<Holder>, HostError> {
        let process = ProcessDir::open(self.proc_path(pid, ""))?;
        process.read_links(|fds, name, link| {
            let inode = bracketed_inode(link, "socket");
            held.extend(inode.filter(|inode| wanted.contains(inode)));
            take(fds, name, link);
        })?;
        if held.is_empty() {
            return Ok(None);
        }
        held.sort_unstable();
        held.dedup();
        let comm = process.read("comm")?;
        let status = process.read("status").ok();
        let cgroup = process.read("cgroup").ok();
        Ok(Some(Holder {
            comm: parse_comm(&comm).to_vec(),
            uid: status.and_then(|bytes| parse_uid(&bytes).ok()),
            cgroup: cgroup.and_then(|bytes| Some(parse_cgroup_path(&bytes)?.to_vec())),
        }))
    }
}

impl ProcessDir {
    pub(super) fn open(path: PathBuf) -> Result<Self, HostError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, &path, flags, Mode::empty()) {
            Ok(dir) => Ok(Self { dir, path }),
            Err(errno) => Err(HostError::read(&path)(errno.into())),
        }
    }

    pub(super) fn open_below(&self, name: &str, flags: OFlags) -> Result<OwnedFd, HostError> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&self.dir, name, flags, Mode::empty()).map_err(self.failed(name))
    }

    /// For `map_err`: the same error, with its path.
    pub(super) fn failed<E: Into<io::Error>>(&self, name: &str) -> impl FnOnce(E) -> HostError {
        let path = self.path.join(Path::new(name));
        move |error| HostError::read(&path)(error.into())
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, HostError> {
        let mut file = File::from(self.open_below(name, OFlags::empty())?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(self.failed(name))?;
        Ok(bytes)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The inode of what `path` below it is, without following a link at its end.
    pub(super) fn stat_below(&self, path: &Path) -> Option<u64> {
        Some(statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_ino)
    }

    /// Hands on the links of the descriptors: the directory, the name in it, and what it leads to,
    /// cut to 64 bytes. A name that the kernel gives to a socket or a pipe has at most 30 bytes; a
    /// longer link is none.
    pub(super) fn read_links(
        &self,
        mut take: impl FnMut(&OwnedFd, &CStr, &[u8]),
    ) -> Result<(), HostError> {
        let fds = self.open_below("fd", OFlags::DIRECTORY)?;
        let mut entries_buffer = [MaybeUninit::uninit(); 4096];
        let mut link_buffer = [MaybeUninit::uninit(); 64];
        let mut entries = RawDir::new(&fds, &mut entries_buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(self.failed("fd"))?;
            if entry.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            match readlinkat_raw(&fds, entry.file_name(), &mut link_buffer) {
                Ok((link, _)) => take(&fds, entry.file_name(), link),
                // Closed meanwhile.
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(self.failed("fd")(errno)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;

    fn fake(processes: &[(u32, &[&str])]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (pid, links) in processes {
            let dir = root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(dir.join("fd")).expect("a fake process");
            fs::write(dir.join("comm"), format!("p{pid}\n")).expect("a fake name");
            for (number, link) in links.iter().enumerate() {
                symlink(link, dir.join(format!("fd/{number}"))).expect("a fake descriptor");
            }
        }
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn every_holder_is_found_once_and_an_unreadable_process_is_counted() {
        let long = "/".repeat(200);
        let (root, host) = fake(&[
            (30, &["socket:[5]", "socket:[5]", "/dev/null"]),
            (4, &["socket:[5]", "pipe:[6]", &long]),
            (9, &[]),
            (10, &[]),
        ]);
        fs::create_dir_all(root.path().join("proc/8"))
            .expect("a process that exits during the pass");
        for pid in [9, 10] {
            let dir = root.path().join(format!("proc/{pid}"));
            fs::remove_dir(dir.join("fd")).expect("the fake one");
            fs::write(dir.join("fd"), b"").expect("a descriptor table that is no directory");
        }
        let kernel = "10 (kworker) S 2 0 0 0 -1 2129984 0 0\n";
        fs::write(root.path().join("proc/10/stat"), kernel).expect("a thread of the kernel");

        let found = host.read_socket_owners(&HashSet::from([5, 6, 7])).expect("a pass");
        assert_eq!(found.owners, HashMap::from([(5, vec![4, 30])]));
        assert_eq!((found.unreadable, found.left_out), (1, 0));
    }

    #[test]
    fn a_holder_is_named_and_what_of_it_cannot_be_read_is_unknown() {
        let (root, host) = fake(&[(4, &["socket:[5]"]), (6, &["socket:[5]"])]);
        let dir = root.path().join("proc/4");
        fs::write(dir.join("comm"), b"a\nb\xff\n").expect("a fake name");
        fs::write(dir.join("status"), b"Uid:\t33\t0\t0\t0\n").expect("a fake status");
        fs::write(dir.join("cgroup"), b"0::/x.service\n").expect("a fake cgroup");
        let found = host.read_socket_owners(&HashSet::from([5])).expect("a pass");
        let whole = Holder {
            comm: b"a\nb\xff".to_vec(),
            uid: Some(33),
            cgroup: Some(b"/x.service".to_vec()),
        };
        let bare = Holder { comm: b"p6".to_vec(), uid: None, cgroup: None };
        assert_eq!(found.processes, HashMap::from([(4, whole), (6, bare)]));
    }

    #[test]
    fn a_holder_that_is_gone_before_it_is_named_is_no_holder() {
        let (root, host) = fake(&[(4, &["socket:[5]"])]);
        fs::remove_file(root.path().join("proc/4/comm")).expect("the fake name");
        let found = host.read_socket_owners(&HashSet::from([5])).expect("a pass");
        assert_eq!(found, SocketOwners::default());
    }

    #[test]
    fn holders_past_the_limit_are_counted_and_take_no_memory() {
        let both: &[&str] = &["socket:[5]", "socket:[6]"];
        let (_root, host) = fake(&[(1, both), (2, both), (3, &["socket:[5]"])]);
        let found = host
            .read_socket_owners_up_to(&HashSet::from([5, 6]), 3, |_, _, _, _| {})
            .expect("a pass");
        assert_eq!(found.owners, HashMap::from([(5, vec![1, 3]), (6, vec![1])]));
        assert_eq!((found.left_out, found.processes.len()), (2, 2));
    }

    #[test]
    fn this_process_holds_its_own_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let inode = rustix::fs::fstat(&listener).expect("fstat").st_ino;
        let found = Host::default().read_socket_owners(&HashSet::from([inode])).expect("a pass");
        let pid = std::process::id();
        assert_eq!(found.owners.get(&inode), Some(&vec![pid]));
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(found.processes[&pid].uid, Some(uid));
    }
}
