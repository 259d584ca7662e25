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
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, openat2, readlinkat_raw};
use rustix::io::Errno;

use super::patience::{Told, Work, lock};
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
    /// Its real uid; `None` where it could not be read, or only names were asked for.
    pub uid: Option<u32>,
    /// Its cgroup path; `None` where it has none, it could not be read, or only names were asked for.
    pub cgroup: Option<Vec<u8>>,
}

/// What is read of each holder: a file for each of them, while a socket may have very many.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Its name alone.
    Name,
    /// User and cgroup, too.
    All,
}

/// What of a file of a process is read at a time: most have less.
const CHUNK: usize = 4096;
/// What of a file of a process is read at most: who has very many mounts decides how long `mountinfo` is.
const MOST: u64 = 16 << 20;

/// `/proc/PID`, held open: it stays that process's, so that a pid which is used again is told from
/// it. Reading below it fails once the process is gone.
pub(super) struct ProcessDir {
    dir: OwnedFd,
    path: PathBuf,
}

/// What one process told.
enum Answer {
    /// It holds these.
    Holds(Holder, Vec<u64>),
    /// It holds so many, and there is no room for them.
    TooMany(u64),
    Unreadable,
}

/// A pass over some processes.
struct Pass {
    wanted: Arc<HashSet<u64>>,
    most_pairs: u64,
    detail: Detail,
}

impl SocketOwners {
    /// Takes in what was found among processes with higher pids.
    fn append(&mut self, told: Told<Answer>) {
        let held_back = u32::try_from(told.held_back.len()).unwrap_or(u32::MAX);
        self.unreadable = self.unreadable.saturating_add(held_back);
        for (pid, answer) in told.answers {
            match answer {
                Answer::Holds(holder, sockets) => {
                    self.processes.insert(pid, holder);
                    for inode in sockets {
                        self.owners.entry(inode).or_default().push(pid);
                    }
                }
                Answer::TooMany(count) => self.left_out += count,
                Answer::Unreadable => self.unreadable = self.unreadable.saturating_add(1),
            }
        }
    }
}

/// On how many threads so many processes are looked at: one for few, and not the whole of a large machine.
fn parts_of(processes: usize, cores: usize) -> usize {
    const WORTH_A_THREAD: usize = 256;
    const MOST: usize = 4;
    (processes / WORTH_A_THREAD).clamp(1, MOST).min(cores.max(1))
}

impl Host {
    /// Finds the holders of the `wanted` socket inodes in one pass over all processes.
    pub fn read_socket_owners(&self, wanted: &HashSet<u64>) -> Result<SocketOwners, HostError> {
        self.read_socket_owners_up_to(wanted, MOST_PAIRS)
    }

    fn read_socket_owners_up_to(
        &self,
        wanted: &HashSet<u64>,
        most_pairs: u64,
    ) -> Result<SocketOwners, HostError> {
        let wanted = Arc::new(wanted.clone());
        let pass = Pass { wanted, most_pairs, detail: Detail::All };
        let mut found = SocketOwners::default();
        found.append(self.read_each(self.read_pids()?, &pass.work(|_, _, _, _| {})));
        Ok(found)
    }

    /// The same with names alone, on several threads, as the kernel takes its time for each descriptor. Hands on each
    /// link of a descriptor as [`ProcessDir::read_links`] does, with its pid, to what is gathered on each thread: `T`, of
    /// consecutive pids each.
    pub(super) fn read_socket_owners_beside<T: Default + Send + 'static>(
        &self,
        wanted: &HashSet<u64>,
        take: impl Fn(&Mutex<T>, u32, &OwnedFd, &CStr, &[u8]) + Send + Sync + 'static,
    ) -> Result<(SocketOwners, Vec<T>), HostError> {
        let pids = self.read_pids()?;
        let parts = parts_of(pids.len(), thread::available_parallelism().map_or(1, NonZero::get));
        let (wanted, take) = (Arc::new(wanted.clone()), Arc::new(take));
        let begin = |pids: &[u32]| {
            let gathered = Arc::new(Mutex::new(T::default()));
            let (take, theirs) = (Arc::clone(&take), Arc::clone(&gathered));
            let take = move |pid, fds: &OwnedFd, name: &CStr, link: &[u8]| {
                take(&theirs, pid, fds, name, link);
            };
            let most_pairs = MOST_PAIRS / parts as u64;
            let pass = Pass { wanted: Arc::clone(&wanted), most_pairs, detail: Detail::Name };
            (self.begin_reading(pids.iter().copied(), &pass.work(take)), gathered)
        };
        // All of them run before the first is waited for.
        let running: Vec<_> = pids.chunks(pids.len().div_ceil(parts).max(1)).map(begin).collect();
        let (mut owners, mut all) = (SocketOwners::default(), Vec::new());
        for (reading, gathered) in running {
            owners.append(reading.finish());
            all.push(std::mem::take(&mut *lock(&gathered)));
        }
        Ok((owners, all))
    }
}

impl Pass {
    /// What is asked of each process.
    fn work(
        self,
        take: impl Fn(u32, &OwnedFd, &CStr, &[u8]) + Send + Sync + 'static,
    ) -> Work<Answer> {
        let pairs = AtomicU64::new(0);
        Arc::new(move |host, pid| {
            let take = |fds: &OwnedFd, name: &CStr, link: &[u8]| take(pid, fds, name, link);
            match self.read_holder(host, pid, take) {
                Ok((_, sockets)) if sockets.is_empty() => None,
                Ok((holder, sockets)) => {
                    let count = sockets.len() as u64;
                    let is_room = pairs.load(Ordering::Relaxed) + count <= self.most_pairs;
                    pairs.fetch_add(if is_room { count } else { 0 }, Ordering::Relaxed);
                    let answer = Answer::Holds(holder, sockets);
                    Some(if is_room { answer } else { Answer::TooMany(count) })
                }
                Err(error) if error.is_gone() || host.is_kernel_thread(pid) => None,
                Err(_) => Some(Answer::Unreadable),
            }
        })
    }

    /// The wanted sockets that one process holds, each once, and who it is if it holds any.
    fn read_holder(
        &self,
        host: &Host,
        pid: u32,
        take: impl Fn(&OwnedFd, &CStr, &[u8]),
    ) -> Result<(Holder, Vec<u64>), HostError> {
        let process = ProcessDir::open(host.proc_path(pid, ""))?;
        let mut held = Vec::new();
        process.read_links(|fds, name, link| {
            let inode = bracketed_inode(link, "socket");
            held.extend(inode.filter(|inode| self.wanted.contains(inode)));
            take(fds, name, link);
        })?;
        if held.is_empty() {
            return Ok((Holder::default(), held));
        }
        held.sort_unstable();
        held.dedup();
        let comm = process.read("comm")?;
        let more = |name| if self.detail == Detail::All { process.read(name).ok() } else { None };
        let (status, cgroup) = (more("status"), more("cgroup"));
        let holder = Holder {
            comm: parse_comm(&comm).to_vec(),
            uid: status.and_then(|bytes| parse_uid(&bytes).ok()),
            cgroup: cgroup.and_then(|bytes| Some(parse_cgroup_path(&bytes)?.to_vec())),
        };
        Ok((holder, held))
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
        let file = File::from(self.open_below(name, OFlags::empty())?);
        // Such files say that they are empty: `File` itself would ask, and then read by a few bytes.
        let mut bytes = Vec::with_capacity(CHUNK);
        file.take(MOST).read_to_end(&mut bytes).map_err(self.failed(name))?;
        Ok(bytes)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The inode of what `path` is in the root directory of the process, without following links. No filesystem is asked for what
    /// the kernel does not remember, as one on the way may not answer; kernels before 5.12 cannot be told so.
    pub(super) fn inode_in_root(&self, path: &Path) -> Option<u64> {
        let root = self.open_below("root", OFlags::PATH).ok()?;
        let open = |more| {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | more;
            openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        };
        let found = match open(ResolveFlags::CACHED) {
            Err(Errno::INVAL) => open(ResolveFlags::empty()),
            found => found,
        };
        Some(fstat(found.ok()?).ok()?.st_ino)
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
                Err(Errno::NOENT) => {}
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
        let found = host.read_socket_owners_up_to(&HashSet::from([5, 6]), 3).expect("a pass");
        assert_eq!(found.owners, HashMap::from([(5, vec![1, 3]), (6, vec![1])]));
        assert_eq!((found.left_out, found.processes.len()), (2, 2));
    }

    #[test]
    fn what_several_threads_find_is_what_one_finds() {
        const LINKS: [&[&str]; 3] =
            [&["socket:[5]", "pipe:[9]"], &["socket:[6]", "socket:[5]"], &["/dev/null"]];
        let processes: Vec<(u32, &[&str])> = (1..=1100).zip(LINKS.into_iter().cycle()).collect();
        let (root, host) = fake(&processes);
        fs::remove_dir_all(root.path().join("proc/900/fd")).expect("the fake one");
        fs::write(root.path().join("proc/900/fd"), b"").expect("a table that is no directory");
        let wanted = HashSet::from([5, 6, 7]);
        let (found, pipes) = host
            .read_socket_owners_beside(&wanted, |pids: &Mutex<Vec<u32>>, pid, _, _, link| {
                if link == b"pipe:[9]" {
                    lock(pids).push(pid);
                }
            })
            .expect("a pass");
        let one = host.read_socket_owners(&wanted).expect("a pass");
        assert_eq!(found, one);
        assert_eq!((one.owners[&5].len(), one.unreadable), (734, 1));
        let with_pipe: Vec<u32> = (1..=1100).step_by(3).collect();
        assert_eq!(pipes.concat(), with_pipe);
    }

    #[test]
    fn few_processes_are_looked_at_on_one_thread_and_many_on_no_more_than_there_are_cores() {
        assert_eq!([parts_of(0, 8), parts_of(300, 8), parts_of(9000, 8)], [1, 1, 4]);
        assert_eq!([parts_of(9000, 1), parts_of(9000, 2), parts_of(9000, 0)], [1, 2, 1]);
    }

    #[test]
    fn this_process_holds_its_own_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let inode = fstat(&listener).expect("fstat").st_ino;
        let found = Host::default().read_socket_owners(&HashSet::from([inode])).expect("a pass");
        let pid = std::process::id();
        assert_eq!(found.owners.get(&inode), Some(&vec![pid]));
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(found.processes[&pid].uid, Some(uid));
    }
}
