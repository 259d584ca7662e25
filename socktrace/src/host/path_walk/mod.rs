//! The way to a path, component by component, as a process sees it: what each inode on it is, whose
//! it is and what its mode and ACL say.
//!
//! Owns the walk and its facts. Does not decide who may pass (`diagnose`). Nothing is opened but
//! `O_PATH` handles, one component at a time: no FIFO, device or automount is touched, no symlink
//! is left to the kernel, and no file is reached outside the tree that the process sees. What a
//! filesystem does by itself (`d_revalidate` of a network filesystem) cannot be had without waiting
//! for it, so only local filesystems are entered, and all of it runs on a thread that may be left
//! behind ([`End::TimedOut`]).
//!
//! The order of steps is that of `link_path_walk()` in `fs/namei.c`: each step except the last one
//! of a [`End::Found`] walk was passed, a directory by search permission and a symlink by
//! following it. So a directory comes again where a relative symlink goes on in it, after `.`, and
//! after `..`.

mod acl;
mod deadline;
mod handle;
mod mounts;
mod view;
mod walk;

use nix::errno::Errno;

pub use acl::{Acl, AclEntry, AclFact, AclTag};
pub use mounts::MountFact;
pub use view::{LookupId, View, WalkError};
pub use walk::{MOST_DEPTH, MOST_LINKS, MOST_STEPS};

/// What was found on the way to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// What was passed, from the directory that the path starts in.
    pub steps: Vec<Step>,
    /// How it ended.
    pub end: End,
}

/// One inode on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its path, without symlinks, as the process may name it: absolute, or from its working
    /// directory where the way began there.
    pub path: Vec<u8>,
    /// The component that was looked up in the step before it; empty for a directory that the way
    /// started or went on in.
    pub name: Vec<u8>,
    /// Whether nothing of the path is left behind it. Only such symlinks does
    /// `fs.protected_symlinks` protect (`WALK_TRAILING`).
    pub trailing: bool,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with those for set-id and sticky.
    pub mode: u32,
    /// Its owner, as the reader's user namespace calls it.
    pub uid: u32,
    /// Its group, likewise.
    pub gid: u32,
    /// The device, as stat(2) writes `st_dev`.
    pub dev: u64,
    /// Its inode number.
    pub inode: u64,
    /// When mode, owner or ACL changed last: seconds and nanoseconds of the wall clock.
    pub ctime: (i64, u32),
    /// Its access ACL.
    pub acl: AclFact,
    /// Whether it is immutable; `None` where the filesystem does not say.
    pub immutable: Option<bool>,
    /// The mount it lies on; `None` where that could not be found out.
    pub mount: Option<MountFact>,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points to.
        target: Vec<u8>,
    },
    /// A socket.
    Socket,
    /// A FIFO.
    Fifo,
    /// A regular file.
    Regular,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// None of those.
    Unknown,
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The last step is what the path leads to.
    Found,
    /// There is no such name in the directory of the last step.
    Missing {
        /// The name.
        name: Vec<u8>,
        /// Whether nothing of the path is left behind it: else it would have to be a directory.
        last: bool,
    },
    /// The last step is no directory, and the path needs it to be one.
    NotADirectory,
    /// More than [`MOST_LINKS`] symlinks (`MAXSYMLINKS`).
    TooManyLinks,
    /// The last step is a symlink on a mount with `nosymfollow`: ELOOP, too.
    LinksForbidden,
    /// The path or a name in it is longer than the kernel takes.
    NameTooLong,
    /// Longer than this walk goes: [`MOST_STEPS`] steps or [`MOST_DEPTH`] directories. The kernel
    /// may well arrive.
    TooManySteps,
    /// A filesystem that is not known to answer without waiting. Not entered.
    Foreign {
        /// Its type.
        fs_type: Vec<u8>,
        /// Where it is mounted.
        path: Vec<u8>,
    },
    /// The last step is a link of procfs, whose target depends on who follows it. Not followed.
    Magic,
    /// No answer within the time that was given: the last step is the last that answered. Without
    /// any step, earlier walks may still wait for their answers, and this one did not begin.
    TimedOut,
    /// This process may not look further than the last step.
    Unreadable(Errno),
    /// Mounts changed while the walk went on, or since the view was made.
    Vanished,
    /// A relative path, and no working directory to start from.
    NoStart,
}

#[cfg(test)]
pub(crate) mod forked;

#[cfg(test)]
mod on_real_trees;
