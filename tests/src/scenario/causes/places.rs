//! Clients that see another tree than the host: in a chroot, in mount and user namespaces, by a relative path.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

use super::files::{set_mode, set_owner};
use super::play::{Client, Play, open_listener};
use super::who::{NOBODY, OWNER, STRANGER, Who};
use crate::scenario::socket::Address;

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    chroot_without_it(play)?;
    chroot_denied(play)?;
    private_tmp(play)?;
    mapped_root(play)?;
    own_pids(play)?;
    relative_gone(play)?;
    relative_removed(play)?;
    relative_denied(play, "relative_mode", 0o755, 0o600)?;
    relative_denied(play, "relative_cwd", 0o700, 0o666)
}

/// The path exists, and somebody listens there, outside the client's root.
fn chroot_without_it(play: &mut Play<'_>) -> Result<()> {
    let name = "chroot_missing";
    let jail = play.directory(name)?;
    let path = play.path("chroot_outside.sock");
    let inside = Address::path(&path)?;
    let base = jail.join(play.path("").strip_prefix("/").context("an absolute path")?);
    std::fs::create_dir_all(&base).with_context(|| base.display().to_string())?;
    play.client(Client::of(name, inside, Errno::ENOENT).from(move || enter_root(&jail)))?;
    play.scenery(name, move || open_listener(&path));
    Ok(())
}

fn chroot_denied(play: &mut Play<'_>) -> Result<()> {
    let name = "chroot_mode";
    let jail = play.directory(name)?;
    let path = jail.join("app.sock");
    let inside = Address::path(Path::new("/app.sock"))?;
    let client = Client::of(name, inside, Errno::EACCES).by(NOBODY);
    play.client(client.from(move || enter_root(&jail)))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_mode(&path, 0o600)?;
        Ok(listener)
    });
    Ok(())
}

fn enter_root(jail: &Path) -> Result<()> {
    chroot(jail).context("chroot")?;
    std::env::set_current_dir("/").context("chdir")
}

/// A tmpfs of its own over the directory, as `PrivateTmp=` makes it.
fn private_tmp(play: &mut Play<'_>) -> Result<()> {
    let name = "private_tmp";
    let directory = play.directory(name)?;
    let path = directory.join("app.sock");
    let client = Client::of(name, Address::path(&path)?, Errno::ENOENT);
    play.client(client.from(move || cover(&directory)))?;
    play.scenery(name, move || open_listener(&path));
    Ok(())
}

fn cover(directory: &Path) -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("CLONE_NEWNS")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private")?;
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), none).context("tmpfs")
}

/// Root of a user namespace that does not know the owner of the socket: its capabilities do not help.
fn mapped_root(play: &mut Play<'_>) -> Result<()> {
    let name = "userns_root";
    let path = play.path("userns_root.sock");
    let client = Client::of(name, Address::path(&path)?, Errno::EACCES);
    play.client(client.from(|| {
        Who::User(STRANGER, &[]).become_it()?;
        unshare(CloneFlags::CLONE_NEWUSER).context("CLONE_NEWUSER")?;
        let write = |file: &str, text: &str| std::fs::write(file, text).context(file.to_owned());
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("0 {STRANGER} 1"))?;
        write("/proc/self/gid_map", &format!("0 {STRANGER} 1"))
    }))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_owner(&path, OWNER, OWNER)?;
        set_mode(&path, 0o600)?;
        Ok(listener)
    });
    Ok(())
}

/// The client calls itself 1: its pid in a namespace of its own.
fn own_pids(play: &mut Play<'_>) -> Result<()> {
    let name = "pidns_mode";
    let path = play.path("pidns_mode.sock");
    let client = Client::of_child(name, Address::path(&path)?, Errno::EACCES).by(NOBODY);
    // Children are born into it.
    play.client(client.from(|| unshare(CloneFlags::CLONE_NEWPID).context("CLONE_NEWPID")))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_mode(&path, 0o600)?;
        Ok(listener)
    });
    Ok(())
}

/// The directory above the working directory is closed, which does not matter: the file is missing.
fn relative_gone(play: &mut Play<'_>) -> Result<()> {
    let name = "relative_gone";
    let (above, cwd) = (play.directory(name)?, play.directory("relative_gone/cwd")?);
    let at = Address::path(Path::new("gone.sock"))?;
    play.client(Client::of(name, at, Errno::ENOENT).by(NOBODY).from(work_in(cwd)))?;
    play.scenery(name, move || set_mode(&above, 0o700));
    Ok(())
}

/// The server has the file's whole path, the client the end of it.
fn relative_removed(play: &mut Play<'_>) -> Result<()> {
    let name = "relative_removed";
    let cwd = play.directory(name)?;
    let path = cwd.join("left.sock");
    let at = Address::path(Path::new("left.sock"))?;
    play.client(Client::of(name, at, Errno::ENOENT).from(work_in(cwd)))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        std::fs::remove_file(&path).context("unlink")?;
        Ok(listener)
    });
    Ok(())
}

/// The directory above the working directory is closed; what denies is the working directory itself, or
/// the socket in it.
fn relative_denied(
    play: &mut Play<'_>,
    name: &'static str,
    cwd_mode: u32,
    socket_mode: u32,
) -> Result<()> {
    let (above, cwd) = (play.directory(name)?, play.directory(&format!("{name}/cwd"))?);
    let path = cwd.join("near.sock");
    let at = Address::path(Path::new("near.sock"))?;
    let client = Client::of(name, at, Errno::EACCES).by(NOBODY);
    play.client(client.from(work_in(cwd.clone())))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_mode(&path, socket_mode)?;
        set_mode(&cwd, cwd_mode)?;
        set_mode(&above, 0o700)?;
        Ok(listener)
    });
    Ok(())
}

fn work_in(directory: PathBuf) -> impl FnOnce() -> Result<()> {
    move || std::env::set_current_dir(directory).context("chdir")
}
