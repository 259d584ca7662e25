//! Clients that may not pass: by mode, by a directory, by an ACL.

use std::{fs, io, os::unix::fs::PermissionsExt, os::unix::net::UnixListener, path::Path};

use rustix::fs::{XattrFlags, setxattr};

use super::stage::{NOBODY, Scratch, as_nobody, fail_to_connect};

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

pub(super) fn eacces() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("app.sock");
    let _server = UnixListener::bind(&path)?;
    set_mode(&path, 0o600)?;
    as_nobody(|| fail_to_connect(&path, 3))
}

pub(super) fn no_search() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let closed = scratch.join("private");
    fs::create_dir(&closed)?;
    let path = closed.join("app.sock");
    let _server = UnixListener::bind(&path)?;
    set_mode(&path, 0o666)?;
    set_mode(&closed, 0o700)?;
    as_nobody(|| fail_to_connect(&path, 3))
}

pub(super) fn acl() -> io::Result<()> {
    let scratch = Scratch::new()?;
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
