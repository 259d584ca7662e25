//! Paths that lead to nothing, or through what is no directory, or are none.

use std::mem::{offset_of, size_of};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};
use std::os::fd::AsRawFd;

use super::play::{Client, Play, open_listener};
use crate::scenario::socket::Address;

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    let at = Address::path(&play.path("gone.sock"))?;
    play.client(Client::of("missing_file", at, Errno::ENOENT))?;
    let at = Address::path(&play.path("nowhere/deeper/app.sock"))?;
    play.client(Client::of("missing_dir", at, Errno::ENOENT))?;
    let at = Address::path(&play.path("gone-datagram.sock"))?;
    play.client(Client::of_kind("missing_dgram", at, SockType::Datagram, Errno::ENOENT))?;
    dangling(play)?;
    through_a_file(play)?;
    let short = Address::path(std::path::Path::new("/too-long"))?;
    play.client(Client::trying("too_long", short, Errno::EINVAL, too_long))?;
    removed(play)
}

/// A link to nothing.
fn dangling(play: &mut Play<'_>) -> Result<()> {
    let link = play.path("dangling.sock");
    std::os::unix::fs::symlink(play.path("link-target.sock"), &link).context("symlink")?;
    play.client(Client::of("missing_target", Address::path(&link)?, Errno::ENOENT))
}

fn through_a_file(play: &mut Play<'_>) -> Result<()> {
    let file = play.path("plain");
    std::fs::write(&file, "").context("a file")?;
    let at = Address::path(&file.join("app.sock"))?;
    play.client(Client::of("no_directory", at, Errno::ENOTDIR))
}

/// More bytes than a Unix address has.
fn too_long() -> Result<()> {
    let mut bytes = [b'a'; size_of::<libc::sockaddr_un>() + 10];
    let family = u16::try_from(libc::AF_UNIX)?.to_ne_bytes();
    bytes[..offset_of!(libc::sockaddr_un, sun_path)].copy_from_slice(&family);
    bytes[offset_of!(libc::sockaddr_un, sun_path)] = b'/';
    let len = libc::socklen_t::try_from(bytes.len())?;
    let any = Address::path(std::path::Path::new("/too-long"))?;
    let socket = any.socket(SockType::Stream, SockFlag::empty())?;
    // SAFETY: the address has `len` bytes, which the kernel only reads.
    let outcome = unsafe { libc::connect(socket.as_raw_fd(), bytes.as_ptr().cast(), len) };
    let outcome = Errno::result(outcome);
    ensure!(outcome == Err(Errno::EINVAL), "an address of {len} bytes: {outcome:?}");
    Ok(())
}

/// Somebody listens, and the file is gone.
fn removed(play: &mut Play<'_>) -> Result<()> {
    let name = "removed";
    let path = play.path("removed.sock");
    play.client(Client::of(name, Address::path(&path)?, Errno::ENOENT))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        std::fs::remove_file(&path).context("unlink")?;
        Ok(listener)
    });
    Ok(())
}
