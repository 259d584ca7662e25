//! What files allow: modes, owners, ACLs, the immutable flag.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// `POSIX_ACL_XATTR_VERSION`, and the tags of entries (`include/uapi/linux/posix_acl.h`).
const VERSION: u32 = 2;
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;
/// `FS_IMMUTABLE_FL`
const IMMUTABLE: libc::c_long = 0x10;

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
        .with_context(|| format!("chmod {mode:o} {}", path.display()))
}

pub(super) fn set_owner(path: &Path, uid: u32, gid: u32) -> Result<()> {
    chown(path, Some(uid), Some(gid)).with_context(|| format!("chown {}", path.display()))
}

/// An ACL that gives everybody `all` of the bits 7, except one user, and masks what it gives.
pub(super) fn set_acl(path: &Path, all: u16, user: (u32, u16), mask: u16) -> Result<()> {
    let entries = [
        (OWNER, all, NO_ID),
        (USER, user.1, user.0),
        (GROUP, all, NO_ID),
        (MASK, mask, NO_ID),
        (OTHER, all, NO_ID),
    ];
    let entry = |(tag, bits, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let mut bytes = VERSION.to_le_bytes().to_vec();
    bytes.extend(entries.into_iter().flat_map(entry));
    let file = CString::new(path.as_os_str().as_bytes()).context("a path with a NUL byte")?;
    let name = c"system.posix_acl_access".as_ptr();
    let (data, len) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: both strings end with NUL and `data` has `len` bytes; the kernel only reads them.
    let set = unsafe { libc::setxattr(file.as_ptr(), name, data, len, 0) };
    Errno::result(set).map(drop).with_context(|| format!("an ACL of {}", path.display()))
}

/// A file that nobody can change as long as this lives.
pub(super) struct Immutable(File);

impl Immutable {
    /// `None` where the filesystem knows no such flag.
    pub(super) fn make(path: &Path) -> Result<Option<Self>> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        match change_flags(&file, |flags| flags | IMMUTABLE) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno).context("FS_IOC_SETFLAGS"),
        }
    }
}

/// Whether the filesystem of this directory keeps flags such as that of immutable files: tmpfs does since
/// Linux 6.0.
///
/// # Errors
/// When no file can be made there, or the kernel answers otherwise.
pub fn keeps_flags(dir: &Path) -> Result<bool> {
    flags_of(&tempfile::tempfile_in(dir).context("a file")?)
}

/// The same of tmpfs, wherever it is mounted or not.
///
/// # Errors
/// When the kernel gives no file in memory, or answers otherwise.
pub fn tmpfs_keeps_flags() -> Result<bool> {
    let file = memfd_create(c"flags", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
    flags_of(&File::from(file))
}

fn flags_of(file: &File) -> Result<bool> {
    match change_flags(file, |flags| flags) {
        Ok(()) => Ok(true),
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno).context("FS_IOC_GETFLAGS"),
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _still_immutable = change_flags(&self.0, |flags| flags & !IMMUTABLE);
    }
}

fn change_flags(file: &File, change: impl Fn(libc::c_long) -> libc::c_long) -> Result<(), Errno> {
    let mut flags: libc::c_long = 0;
    let fd = file.as_raw_fd();
    // SAFETY: the kernel reads and writes an int behind the pointer; a long lives there.
    unsafe {
        Errno::result(libc::ioctl(fd, libc::FS_IOC_GETFLAGS, &raw mut flags))?;
        flags = change(flags);
        Errno::result(libc::ioctl(fd, libc::FS_IOC_SETFLAGS, &raw const flags)).map(drop)
    }
}
