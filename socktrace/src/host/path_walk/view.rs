//! How one process sees the tree: where its root and working directory are, and its mounts.
//!
//! Owns the two handles that a walk starts from, and the table of mounts that goes with them. Does
//! not walk (`walk`). A view is of one moment: a walk that meets a mount which it does not know
//! ends with [`End::Vanished`](super::End::Vanished). A pid may be reused: compare the start of the
//! process before and after.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::deadline::within;
use super::handle::{Facts, open_start};
use super::mounts::{MountFact, MountTable, is_local, type_of_magic};
use super::walk::{Trail, walk};
use super::{End, Walk};
use crate::host::credentials::read_namespace_at;
use crate::host::mountinfo::read_mountinfo;
use crate::host::{Host, HostError};

/// How long a look may take unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_millis(500);

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The mounts of the process could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Its root directory could not be reached.
    #[error(
        "cannot look into the tree of the process at {}: {source}; no path was walked. Of processes \
         of others it takes CAP_SYS_PTRACE: run socktrace as root, for example with sudo",
        path.display()
    )]
    Root {
        /// The link in `/proc`.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The root directory did not answer.
    #[error(
        "the root directory at {} did not answer within {} ms; no path was walked. A filesystem \
         over a network may hang",
        path.display(),
        PATIENCE.as_millis()
    )]
    TimedOut {
        /// The directory of the process in `/proc`.
        path: PathBuf,
    },
}

impl WalkError {
    /// Whether the process ended.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Host(error) => error.is_gone(),
            Self::Root { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
            }
            Self::TimedOut { .. } => false,
        }
    }
}

/// Where the lookups of a process begin, to be compared with what the kernel saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupId {
    /// Device and inode of the root directory; `None` where it was not entered.
    pub root: Option<(u64, u64)>,
    /// Those of the working directory.
    pub cwd: Option<(u64, u64)>,
    /// The inode of the mount namespace; `None` where it could not be read.
    pub mount_namespace: Option<u64>,
}

/// A process's sight of the tree.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) root: Start,
    pub(super) cwd: Start,
    pub(super) mounts: Arc<MountTable>,
    mount_namespace: Option<u64>,
    cwd_path: Option<Vec<u8>>,
}

/// A directory that walks begin in.
#[derive(Debug, Clone)]
pub(super) enum Start {
    At(Arc<StartDirectory>),
    Not(End),
}

#[derive(Debug)]
pub(super) struct StartDirectory {
    pub(super) handle: Arc<OwnedFd>,
    pub(super) facts: Facts,
    pub(super) mount: Option<MountFact>,
}

impl Start {
    fn id(&self) -> Option<(u64, u64)> {
        match self {
            Self::At(directory) => Some((directory.facts.dev, directory.facts.inode)),
            Self::Not(_) => None,
        }
    }
}

impl View {
    /// The view of a process. For one of another user it takes `CAP_SYS_PTRACE`.
    pub fn of_process(host: &Host, pid: u32) -> Result<Self, WalkError> {
        Self::below(host, host.below(format!("proc/{pid}")))
    }

    /// The view of the calling thread.
    pub fn of_self() -> Result<Self, WalkError> {
        let host = Host::default();
        let directory = host.below("proc/thread-self");
        Self::below(&host, directory)
    }

    fn below(host: &Host, directory: PathBuf) -> Result<Self, WalkError> {
        let timed_out = WalkError::TimedOut { path: directory.clone() };
        let host = host.clone();
        within(PATIENCE, move || Reader::read(&host, &directory)?.view()).unwrap_or(Err(timed_out))
    }

    /// The way to a path; a relative one begins in the working directory.
    pub fn walk(&self, path: &[u8]) -> Walk {
        self.walk_within(path, PATIENCE)
    }

    /// The same, with a time of one's own.
    pub fn walk_within(&self, path: &[u8], time: Duration) -> Walk {
        let (view, path, trail) = (self.clone(), path.to_vec(), Trail::default());
        let theirs = trail.clone();
        let end = within(time, move || walk(&view, &path, &theirs)).unwrap_or(End::TimedOut);
        Walk { steps: trail.take(), end }
    }

    /// Where `/proc` has the root directory of a process.
    pub fn root_link(pid: u32) -> Vec<u8> {
        format!("/proc/{pid}/root").into_bytes()
    }

    /// Where it has the working directory.
    pub fn cwd_link(pid: u32) -> Vec<u8> {
        format!("/proc/{pid}/cwd").into_bytes()
    }

    /// The path of the working directory, as the reader's own tree has it; `None` where it is not in that
    /// tree, or was removed.
    pub fn cwd_path(&self) -> Option<&[u8]> {
        self.cwd_path.as_deref()
    }

    /// Where lookups begin.
    pub fn lookup_id(&self) -> LookupId {
        LookupId { root: self.root.id(), cwd: self.cwd.id(), mount_namespace: self.mount_namespace }
    }
}

/// What a view is made from.
struct Reader<'a> {
    host: &'a Host,
    /// `/proc/PID`
    directory: &'a Path,
    mounts: MountTable,
    mount_namespace: Option<u64>,
}

impl<'a> Reader<'a> {
    fn read(host: &'a Host, directory: &'a Path) -> Result<Self, WalkError> {
        let mounts = MountTable::parse(&read_mountinfo(&directory.join("mountinfo"))?);
        let mount_namespace = read_namespace_at(&directory.join("ns/mnt"), "mnt").ok();
        Ok(Self { host, directory, mounts, mount_namespace })
    }

    fn view(self) -> Result<View, WalkError> {
        let root = match self.start("root", self.mounts.root().map(|mount| &*mount.fs_type), b"/") {
            Start::Not(End::Unreadable(errno)) => {
                let path = self.directory.join("root");
                return Err(WalkError::Root { path, source: errno.into() });
            }
            root => root,
        };
        let (cwd, cwd_path) = self.cwd();
        let (mounts, mount_namespace) = (Arc::new(self.mounts), self.mount_namespace);
        Ok(View { root, cwd, mounts, mount_namespace, cwd_path })
    }

    /// The working directory and its path.
    fn cwd(&self) -> (Start, Option<Vec<u8>>) {
        // Told from the kernel's memory (`d_path()`): no filesystem is asked.
        match std::fs::read_link(self.directory.join("cwd")) {
            Ok(path) => {
                let path = path.as_os_str().as_bytes();
                // Under a chroot the text is not what the table calls it.
                let mount = self.mounts.root().and_then(|_| self.mounts.of_path(path));
                // `(unreachable)` stands before one outside the reader's tree (`prepend_unreachable()`).
                let is_path = path.starts_with(b"/") && !path.ends_with(b" (deleted)");
                let start = self.start("cwd", mount.map(|mount| &*mount.fs_type), path);
                (start, is_path.then(|| path.to_vec()))
            }
            Err(error) => {
                let end = match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ESRCH) | None => End::NoStart,
                    Some(errno) => End::Unreadable(Errno::from_raw(errno)),
                };
                (Start::Not(end), None)
            }
        }
    }

    /// The directory behind a link; not opened where the table says that it is no local one.
    fn start(&self, link: &str, fs_type: Option<&[u8]>, path: &[u8]) -> Start {
        let foreign = |fs_type: &[u8]| End::Foreign { fs_type: fs_type.into(), path: path.into() };
        if let Some(fs_type) = fs_type.filter(|fs_type| !is_local(fs_type)) {
            return Start::Not(foreign(fs_type));
        }
        let opened = open_start(self.directory.join(link));
        match opened.and_then(|handle| self.start_directory(handle)) {
            Ok(start) => match &start.mount {
                Some(mount) if is_local(&mount.fs_type) => Start::At(Arc::new(start)),
                mount => Start::Not(foreign(mount.as_ref().map_or(b"", |mount| &mount.fs_type))),
            },
            Err(errno) => Start::Not(End::Unreadable(errno)),
        }
    }

    fn start_directory(&self, handle: OwnedFd) -> Result<StartDirectory, Errno> {
        let facts = Facts::read(&handle)?;
        let mount =
            facts.mount.and_then(|id| self.mount_fact(id)).or_else(|| ask_filesystem(&handle));
        Ok(StartDirectory { handle: Arc::new(handle), facts, mount })
    }

    /// The mount, though it may begin outside the process's root: then the own table has it, if
    /// both are in one mount namespace.
    fn mount_fact(&self, id: u64) -> Option<MountFact> {
        if let Some(mount) = self.mounts.by_id(id) {
            return Some(mount.fact());
        }
        let own = self.host.read_own_namespace("mnt").ok();
        if own.is_none() || own != self.mount_namespace {
            return None;
        }
        let own = read_mountinfo(&self.host.below("proc/thread-self/mountinfo")).ok()?;
        let table = MountTable::parse(&own);
        table.by_id(id).map(|mount| MountFact { mount_point: None, ..mount.fact() })
    }
}

/// What the filesystem itself says, where no table has its mount: its type, and one bit for a
/// read-only mount and a read-only filesystem.
fn ask_filesystem(handle: &OwnedFd) -> Option<MountFact> {
    let stat = rustix::fs::fstatfs(handle).ok()?;
    let fs_type = type_of_magic(u64::try_from(stat.f_type).ok()?)?.to_vec();
    let read_only = rustix::fs::fstatvfs(handle).ok()?;
    let read_only = read_only.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    let filesystem_read_only = None;
    Some(MountFact { fs_type, read_only, filesystem_read_only, idmapped: false, mount_point: None })
}
