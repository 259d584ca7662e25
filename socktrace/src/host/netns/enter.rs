//! The way into a network namespace, for a while and for one thread.
//!
//! Owns `setns(2)`. What runs inside is the caller's; the caller's own thread never moves.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::NetworkNamespace;
use crate::host::Host;
use crate::host::effort::{all_told, counted_here};

/// Why nothing could be read inside a network namespace.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Nothing that led there does so any more.
    #[error(
        "network namespace {inode} has gone, or is held by something that /proc does not show; \
         nothing was read in it"
    )]
    Gone {
        /// The namespace.
        inode: u32,
    },
    /// Its file exists and may not be opened.
    #[error(
        "cannot open network namespace {inode} ({}): {}; nothing was read in it. It takes \
         CAP_SYS_PTRACE: run socktrace as root, for example with sudo",
        path.display(),
        in_words(.source)
    )]
    Open {
        /// The namespace.
        inode: u32,
        /// The file that leads there.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// `setns(2)` was refused.
    #[error(
        "may not enter network namespace {inode} ({}): {}; nothing was read in it. It takes \
         CAP_SYS_ADMIN, and no seccomp filter against setns(2): run socktrace as root, for example \
         with sudo",
        path.display(),
        in_words(.source)
    )]
    Refused {
        /// The namespace.
        inode: u32,
        /// The file that leads there.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// No thread to enter it with.
    #[error(
        "cannot start a thread to enter network namespace {inode}: {}; nothing was read in \
         it. Look at the limits of processes and threads (ulimit -u, TasksMax=)",
        in_words(.source)
    )]
    Thread {
        /// The namespace.
        inode: u32,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// The system's words for an error, with its name instead of its number.
fn in_words(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}

impl EnterError {
    /// Whether the namespace went away: with it went whatever was there.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// The namespace.
    pub fn inode(&self) -> u32 {
        match self {
            Self::Gone { inode }
            | Self::Open { inode, .. }
            | Self::Refused { inode, .. }
            | Self::Thread { inode, .. } => *inode,
        }
    }
}

impl NetworkNamespace {
    /// Runs `work` inside the namespace, on a thread that ends with it, and waits. In the own
    /// namespace that is the calling thread itself. Entering another takes `CAP_SYS_ADMIN`, there
    /// and here.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, EnterError> {
        if self.own {
            return Ok(work());
        }
        let inode = self.inode;
        let (file, path) = self.open()?;
        thread::scope(|scope| {
            let inside = move || {
                let source = |errno: nix::Error| errno.into();
                setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| EnterError::Refused {
                    inode,
                    path,
                    source: source(errno),
                })?;
                Ok(work())
            };
            let thread = thread::Builder::new()
                .spawn_scoped(scope, || all_told(inside))
                .map_err(|source| EnterError::Thread { inode, source })?;
            let told = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            counted_here(told)
        })
    }

    /// The first file that still leads there: a pid may be another process's by now, and a mount
    /// point another mount's, so each is compared with the inode.
    fn open(&self) -> Result<(File, PathBuf), EnterError> {
        let mut refused = None;
        for (pid, path) in self.paths() {
            let opened = match pid {
                None => open_namespace(&path),
                Some(pid) => {
                    let path = path.clone();
                    let open = move |_: &Host| Ok(open_namespace(&path));
                    self.host.read_of(pid, open).map_err(io::Error::other).flatten()
                }
            };
            match opened {
                Ok((file, inode)) if inode == u64::from(self.inode) => return Ok((file, path)),
                Ok(_) => {}
                Err(source) if is_gone(&source) => {}
                Err(source) => {
                    refused.get_or_insert(EnterError::Open { inode: self.inode, path, source });
                }
            }
        }
        Err(refused.unwrap_or(EnterError::Gone { inode: self.inode }))
    }
}

/// Opens a file without waiting, whatever it is, and says which inode it is.
fn open_namespace(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let inode = file.metadata()?.ino();
    Ok((file, inode))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake;
    use super::*;
    use crate::host::Host;

    #[test]
    fn the_own_namespace_is_read_on_the_calling_thread() {
        let found = Host::default().read_network_namespaces().expect("namespaces");
        let here = thread::current().id();
        let there = found.all[0].enter(|| thread::current().id()).expect("the own namespace");
        assert_eq!(here, there);
    }

    #[test]
    fn a_namespace_that_nothing_leads_to_any_more_has_gone() {
        let mounts = "1 1 0:4 net:[8] /run/netns/c rw - nsfs nsfs rw\n";
        let (_root, host) = fake(&[("thread-self", "net:[1]")], mounts);
        let found = host.read_network_namespaces().expect("namespaces");
        assert!(found.all[1].enter(|| ()).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn a_file_that_is_another_one_by_now_is_not_entered() {
        let mounts = "1 1 0:4 net:[8] /run/c rw - nsfs nsfs rw\n";
        let (root, host) = fake(&[("thread-self", "net:[1]")], mounts);
        std::fs::create_dir(root.path().join("run")).expect("a directory");
        std::fs::write(root.path().join("run/c"), b"").expect("a file with another inode");
        let found = host.read_network_namespaces().expect("namespaces");
        let error = found.all[1].enter(|| ()).expect_err("no namespace");
        assert!(error.to_string().contains("network namespace 8 has gone"), "{error}");
    }

    #[test]
    fn another_thread_enters_or_the_refusal_says_what_it_takes() {
        let host = Host::default();
        let own = host.read_netns(std::process::id()).expect("a namespace");
        let mut found = host.read_network_namespaces().expect("namespaces");
        // Entered as if it were another one: for root the way in, for others the refusal.
        found.all[0].own = false;
        let here = thread::current().id();
        let inside = || (thread::current().id(), host.read_netns(std::process::id()).ok());
        match found.all[0].enter(inside) {
            Ok((there, inode)) => assert!(there != here && inode == Some(own)),
            Err(error) => assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}"),
        }
    }
}
