//! Paths that lead to no listener: to nothing, to another file, to a file that was left or replaced.

use std::{
    fs, io,
    mem::offset_of,
    os::{
        fd::AsRawFd,
        unix::{fs::symlink, net::UnixListener},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::stage::{Scratch, Server, fail, fail_to_connect};

pub(super) fn too_long() -> io::Result<()> {
    fail(2, connect_to_long_path)
}

/// The standard library would not let such an address reach the kernel.
fn connect_to_long_path() -> io::Result<()> {
    const PATH: usize = offset_of!(libc::sockaddr_un, sun_path);
    let mut address = [b'x'; size_of::<libc::sockaddr_un>() + 20];
    let family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
    address[..PATH].copy_from_slice(&family.to_ne_bytes());
    let directory = b"/run/app/instances/";
    address[PATH..PATH + directory.len()].copy_from_slice(directory);
    let length = libc::socklen_t::try_from(address.len()).map_err(io::Error::other)?;
    let client = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the address has `length` bytes and lives through the call, which only reads them.
    let done = unsafe { libc::connect(client.as_raw_fd(), address.as_ptr().cast(), length) };
    Ok(Errno::result(done).map(drop)?)
}

pub(super) fn missing_directory(scratch: &Scratch) -> io::Result<()> {
    fail_to_connect(&scratch.join("run").join("app.sock"), 2)
}

pub(super) fn not_a_socket(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    fs::write(&path, "not a socket\n")?;
    fail_to_connect(&path, 2)
}

pub(super) fn not_a_directory(scratch: &Scratch) -> io::Result<()> {
    let file = scratch.join("run");
    fs::write(&file, "not a directory\n")?;
    fail_to_connect(&file.join("app.sock"), 2)
}

pub(super) fn stale_socket(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("gone.sock");
    drop(UnixListener::bind(&path)?);
    fail_to_connect(&path, 2)
}

pub(super) fn removed_socket(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let _server = Server::start(|| UnixListener::bind(&path))?;
    fs::remove_file(&path)?;
    fail_to_connect(&path, 2)
}

pub(super) fn symlink_loop(scratch: &Scratch) -> io::Result<()> {
    let (one, two) = (scratch.join("one.sock"), scratch.join("two.sock"));
    symlink(&two, &one)?;
    symlink(&one, &two)?;
    fail_to_connect(&one, 2)
}

pub(super) fn replaced_socket(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let _first = Server::start(|| UnixListener::bind(&path))?;
    fs::remove_file(&path)?;
    drop(UnixListener::bind(&path)?);
    fail_to_connect(&path, 2)
}

pub(super) fn mount_namespace(scratch: &Scratch) -> io::Result<()> {
    let directory = scratch.join("run");
    fs::create_dir(&directory)?;
    let path = directory.join("app.sock");
    let _server = Server::start(|| {
        mount_own(&directory)?;
        UnixListener::bind(&path)
    })?;
    fail_to_connect(&path, 2)
}

/// Moves this process, which has one thread, to a mount namespace of its own, with an empty filesystem there that
/// goes with it.
pub(super) fn mount_own(directory: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What is mounted from here on is in no other namespace.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("demo"), directory, Some("tmpfs"), flags, Some("size=64k"))?)
}
