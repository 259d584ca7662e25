//! Clients that may not pass: by mode, by a directory, by an ACL, by a link, by a flag of the file.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{PermissionsExt, lchown, symlink},
        net::UnixListener,
    },
    path::Path,
};

use rustix::{
    fs::{IFlags, MemfdFlags, XattrFlags, ioctl_getflags, ioctl_setflags, memfd_create, setxattr},
    io::Errno,
};

use super::{
    stage::{Kept, NOBODY, Scratch, as_nobody, cannot_be_staged, fail_to_connect},
    unix_path::mount_own,
};

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

pub(super) fn eacces(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let _server = UnixListener::bind(&path)?;
    set_mode(&path, 0o600)?;
    as_nobody(|| fail_to_connect(&path, 3))
}

pub(super) fn no_search(scratch: &Scratch) -> io::Result<()> {
    let closed = scratch.join("private");
    fs::create_dir(&closed)?;
    let path = closed.join("app.sock");
    let _server = UnixListener::bind(&path)?;
    set_mode(&path, 0o666)?;
    set_mode(&closed, 0o700)?;
    as_nobody(|| fail_to_connect(&path, 3))
}

pub(super) fn acl(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let _server = UnixListener::bind(&path)?;
    set_mode(&path, 0o666)?;
    setxattr(&path, "system.posix_acl_access", &shut_out(NOBODY), XattrFlags::empty())?;
    as_nobody(|| fail_to_connect(&path, 3))
}

/// An ACL that lets everybody read and write but one user (`linux/posix_acl_xattr.h`, version 2, little
/// endian: tag, bits, id).
fn shut_out(uid: u32) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 6, NO_ID), (0x02, 0, uid), (0x04, 6, NO_ID), (0x10, 6, NO_ID), (0x20, 6, NO_ID)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// A user that is neither the client nor root.
const SOMEBODY: u32 = 65533;

/// Whether the kernel guards links in directories like `/tmp` (proc(5)). It is the whole host's setting, which a
/// demo does not change.
pub(super) fn guards_links() -> io::Result<Option<Kept>> {
    const SETTING: &str = "/proc/sys/fs/protected_symlinks";
    let set = fs::read_to_string(SETTING)
        .map_err(|error| cannot_be_staged(format!("{SETTING} cannot be read: {error}")))?;
    if set.trim() == "1" {
        return Ok(None);
    }
    Err(cannot_be_staged(
        "fs.protected_symlinks is 0 on this host, so the kernel follows such a link and nothing fails; most \
         distributions set it (sysctl -w fs.protected_symlinks=1, for the whole host)",
    ))
}

pub(super) fn protected_symlink(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let _server = UnixListener::bind(&path)?;
    set_mode(&path, 0o666)?;
    let shared = scratch.join("tmp");
    fs::create_dir(&shared)?;
    set_mode(&shared, 0o1777)?;
    let link = shared.join("app.sock");
    symlink(&path, &link)?;
    lchown(&link, Some(SOMEBODY), Some(SOMEBODY))?;
    as_nobody(|| fail_to_connect(&link, 2))
}

/// Whether the kernel's filesystem in memory, where the demo makes its file, keeps the flag.
pub(super) fn keeps_flags() -> io::Result<Option<Kept>> {
    let file = memfd_create("socktrace-demo", MemfdFlags::CLOEXEC)?;
    match ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags)) {
        Ok(()) => Ok(None),
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => Err(cannot_be_staged(
            "tmpfs keeps no such flag on this kernel, and the demo makes such a file nowhere else (it would stay \
             there if the demo were killed); tmpfs keeps it since Linux 6.0",
        )),
        Err(errno) => Err(errno.into()),
    }
}

/// In a filesystem of its own, as nothing else would remove such a file if this process were killed. A socket
/// cannot get the flag: it is set through a descriptor, and open(2) of a socket fails. The kernel looks at the flag
/// before it sees that the file is no socket.
pub(super) fn immutable(scratch: &Scratch) -> io::Result<()> {
    let directory = scratch.join("run");
    fs::create_dir(&directory)?;
    mount_own(&directory)?;
    let path = directory.join("app.sock");
    freeze(&File::create(&path)?)?;
    fail_to_connect(&path, 2)
}

fn freeze(file: &File) -> io::Result<()> {
    let flags = ioctl_getflags(file)?;
    Ok(ioctl_setflags(file, flags | IFlags::IMMUTABLE)?)
}
