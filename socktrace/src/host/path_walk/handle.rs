//! One `O_PATH` handle, and what the kernel says of its inode.
//!
//! Owns openat2(2), statx(2) and readlinkat(2) for the walk. Does not choose where to go. A handle
//! of `O_PATH` opens no file: no FIFO waits for its other end, no device is woken, and with
//! `O_NOFOLLOW` and without `O_DIRECTORY` no automount is started (`follow_automount()`).

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, openat2,
    readlinkat_raw, statx,
};
use rustix::path::Arg;

use super::Kind;
use super::acl::{AclFact, read_acl};

/// Longest target of a symlink, with room to see that it is longer.
const MOST_TARGET: usize = 4097;
/// A call that a signal interrupted is made again so many times.
const TRIES: usize = 8;

/// What is known of an inode by its handle alone.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) dev: u64,
    pub(super) inode: u64,
    pub(super) ctime: (i64, u32),
    pub(super) acl: AclFact,
    pub(super) immutable: Option<bool>,
    /// The mount that the handle came by; `None` before Linux 5.8.
    pub(super) mount: Option<u64>,
}

/// Whether a mount may be crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crossing {
    Refused,
    Allowed,
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// One component: no slash in it.
pub(super) fn open_child(
    directory: impl AsFd,
    name: &[u8],
    crossing: Crossing,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    if crossing == Crossing::Refused {
        resolve |= ResolveFlags::NO_XDEV;
    }
    let open = || openat2(directory.as_fd(), name, flags, Mode::empty(), resolve).map_err(errno);
    let mut opened = open();
    for _ in 1..TRIES {
        match opened {
            Err(Errno::EINTR | Errno::EAGAIN) => opened = open(),
            _ => break,
        }
    }
    opened
}

/// A link of `/proc` that leads to a directory of another process.
pub(super) fn open_start(link: impl Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(errno)
}

impl Facts {
    pub(super) fn read(handle: &OwnedFd) -> Result<Self, Errno> {
        let stat = stat(handle)?;
        Ok(Self {
            kind: kind(handle, &stat)?,
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            dev: libc::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            acl: read_acl(handle.as_fd()),
            immutable: stat
                .stx_attributes_mask
                .contains(StatxAttributes::IMMUTABLE)
                .then(|| stat.stx_attributes.contains(StatxAttributes::IMMUTABLE)),
            mount: (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id),
        })
    }
}

/// What is cached will do: a filesystem over a network is not asked.
fn stat(handle: &OwnedFd) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH
        | AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::NO_AUTOMOUNT
        | AtFlags::STATX_DONT_SYNC;
    statx(handle, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID).map_err(errno)
}

fn kind(handle: &OwnedFd, stat: &Statx) -> Result<Kind, Errno> {
    Ok(match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink { target: read_target(handle)? },
        FileType::Socket => Kind::Socket,
        FileType::Fifo => Kind::Fifo,
        FileType::RegularFile => Kind::Regular,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::Unknown => Kind::Unknown,
    })
}

fn read_target(link: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut target = [0; MOST_TARGET];
    let length = readlinkat_raw(link, c"", &mut target).map_err(errno)?;
    target
        .get(..length)
        .filter(|_| length < MOST_TARGET)
        .map(<[u8]>::to_vec)
        .ok_or(Errno::ENAMETOOLONG)
}
