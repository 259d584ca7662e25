//! What failed has changed when a tracer comes to look: by the client itself, in its next system call.

use std::fs::{create_dir, remove_file, rename, write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::SockType;
use nix::unistd::{Gid, Uid, chroot, setgroups, setresuid};

use super::files::{set_mode, set_owner};
use super::play::{Client, Play, free_port, open_listener};
use super::who::{GROUP, NOBODY, OWNER, STRANGER, Who};
use crate::scenario::socket::{Address, bound, listen};

const MINE: Who = Who::User(OWNER, &[]);

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    modes(play)?;
    files(play)?;
    renamed(play)?;
    clients(play)?;
    ended(play)?;
    places(play)?;
    sockets(play)
}

/// A directory of the client's own with a listener in it.
fn own(play: &mut Play<'_>, name: &'static str, modes: (u32, u32)) -> Result<(PathBuf, PathBuf)> {
    let directory = play.directory(name)?;
    let path = directory.join("app.sock");
    let (dir, file) = (directory.clone(), path.clone());
    play.scenery(name, move || {
        let listener = open_listener(&file)?;
        for (at, mode) in [(&file, modes.1), (&dir, modes.0)] {
            set_owner(at, OWNER, OWNER)?;
            set_mode(at, mode)?;
        }
        Ok(listener)
    });
    Ok((directory, path))
}

/// What denied is open, or another denies.
fn modes(play: &mut Play<'_>) -> Result<()> {
    let name = "changed_opened";
    let (_, path) = own(play, name, (0o755, 0o066))?;
    let at = Address::path(&path)?;
    let open = move || set_mode(&path, 0o666);
    play.client(Client::changing(name, at, Errno::EACCES, open).by(MINE))?;
    let name = "changed_denier";
    let (directory, path) = own(play, name, (0o600, 0o666))?;
    let at = Address::path(&path)?;
    let swap = move || {
        set_mode(&directory, 0o700)?;
        set_mode(&path, 0o066)
    };
    play.client(Client::changing(name, at, Errno::EACCES, swap).by(MINE))
}

/// What was there is gone, or the other way round, or something else.
fn files(play: &mut Play<'_>) -> Result<()> {
    let name = "changed_removed";
    let (_, path) = own(play, name, (0o755, 0o066))?;
    let at = Address::path(&path)?;
    let remove = move || remove_file(&path).context("unlink");
    play.client(Client::changing(name, at, Errno::EACCES, remove).by(MINE))?;
    let name = "changed_made";
    let path = play.directory(name)?.join("app.sock");
    let at = Address::path(&path)?;
    let make = move || open_listener(&path).map(std::mem::forget);
    play.client(Client::changing(name, at, Errno::ENOENT, make))?;
    let name = "changed_made_dir";
    let path = play.directory(name)?.join("in/app.sock");
    let at = Address::path(&path)?;
    let make = move || create_dir(path.parent().context("a parent")?).context("mkdir");
    play.client(Client::changing(name, at, Errno::ENOENT, make))?;
    let name = "changed_to_plain";
    let path = play.directory(name)?.join("app.sock");
    drop(open_listener(&path)?);
    let at = Address::path(&path)?;
    let plain = move || {
        remove_file(&path).context("unlink")?;
        write(&path, "").context("a file")
    };
    play.client(Client::changing(name, at, Errno::ECONNREFUSED, plain))
}

/// Another directory has taken the place of the one that denied: older than the failure, as is all in it.
fn renamed(play: &mut Play<'_>) -> Result<()> {
    let name = "changed_renamed";
    let base = play.directory(name)?;
    set_owner(&base, OWNER, OWNER)?;
    let (_, path) = own(play, "changed_renamed/first", (0o600, 0o666))?;
    own(play, "changed_renamed/second", (0o700, 0o066))?;
    let swap = move || {
        rename(base.join("first"), base.join("third")).context("rename")?;
        rename(base.join("second"), base.join("first")).context("rename")
    };
    let at = Address::path(&path)?;
    play.client(Client::changing(name, at, Errno::EACCES, swap).by(MINE))
}

/// The client is somebody else.
fn clients(play: &mut Play<'_>) -> Result<()> {
    let name = "changed_user";
    let at = closed(play, name, 0o600, GROUP)?;
    let become_owner = || {
        let owner = Uid::from_raw(OWNER);
        setresuid(owner, owner, owner).context("setresuid")
    };
    play.client(Client::changing(name, at, Errno::EACCES, become_owner).from(lose_override))?;
    let name = "changed_groups";
    // Neither its group nor others may write: which of the bits decided is what changes.
    let at = closed(play, name, 0o604, GROUP)?;
    let leave = || setgroups(&[Gid::from_raw(STRANGER)]).context("setgroups");
    let enter = || {
        setgroups(&[Gid::from_raw(GROUP)]).context("setgroups")?;
        lose_override()
    };
    play.client(Client::changing(name, at, Errno::EACCES, leave).from(enter))
}

/// Root without the capability that opens all files, and with those to become somebody else.
fn lose_override() -> Result<()> {
    for capability in [caps::Capability::CAP_DAC_OVERRIDE, caps::Capability::CAP_DAC_READ_SEARCH] {
        caps::drop(None, caps::CapSet::Effective, capability).context("capset")?;
    }
    Ok(())
}

/// A socket of [`OWNER`] with this mode and group.
fn closed(play: &mut Play<'_>, name: &'static str, mode: u32, gid: u32) -> Result<Address> {
    let path = play.directory(name)?.join("app.sock");
    let at = Address::path(&path)?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_owner(&path, OWNER, gid)?;
        set_mode(&path, mode)?;
        Ok(listener)
    });
    Ok(at)
}

/// The client is gone: with groups that nobody can ask for any more, with its own root.
fn ended(play: &mut Play<'_>) -> Result<()> {
    let at = closed(play, "changed_ended", 0o600, OWNER)?;
    play.client(Client::ending("changed_ended", at, Errno::EACCES).by(NOBODY))?;
    let name = "changed_ended_group";
    let at = closed(play, name, 0o606, GROUP)?;
    play.client(Client::ending(name, at, Errno::EACCES).by(Who::User(STRANGER, &[GROUP])))?;
    let name = "changed_ended_root";
    let jail = play.directory(name)?;
    let at = Address::path(Path::new("/app.sock"))?;
    play.client(Client::ending(name, at, Errno::ENOENT).from(move || {
        chroot(&jail).context("chroot")?;
        std::env::set_current_dir("/").context("chdir")
    }))
}

/// The client is elsewhere: in another directory, under another root, in another mount namespace.
fn places(play: &mut Play<'_>) -> Result<()> {
    let name = "changed_cwd";
    let (first, second) = (play.directory(name)?, play.directory("changed_cwd/second")?);
    let (path, near) = (second.join("near.sock"), Address::path(Path::new("near.sock"))?);
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_mode(&path, 0o600)?;
        Ok(listener)
    });
    let go = |to: PathBuf| move || std::env::set_current_dir(to).context("chdir");
    let client = Client::changing(name, near, Errno::ENOENT, go(second)).by(NOBODY);
    play.client(client.from(go(first)))?;
    let name = "changed_root";
    let (directory, path) = own(play, name, (0o755, 0o666))?;
    let at = Address::path(&path.with_file_name("gone.sock"))?;
    let leave = move || chroot(&directory).context("chroot");
    play.client(Client::changing(name, at, Errno::ENOENT, leave))?;
    let name = "changed_mounts";
    let (directory, path) = own(play, name, (0o755, 0o600))?;
    let at = Address::path(&path)?;
    let cover = move || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).context("CLONE_NEWNS")?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private")?;
        mount(Some("tmpfs"), &directory, Some("tmpfs"), MsFlags::empty(), none).context("tmpfs")
    };
    let client = Client::changing(name, at, Errno::EACCES, cover);
    play.client(client.from(lose_override))
}

/// Other sockets are there.
fn sockets(play: &mut Play<'_>) -> Result<()> {
    let name = "changed_type";
    let path = play.directory(name)?.join("app.sock");
    let at = Address::path(&path)?;
    play.scenery(name, move || bound(&at, SockType::Datagram));
    let replace = move || {
        remove_file(&path).context("unlink")?;
        listen(&at, SockType::SeqPacket, 16).map(std::mem::forget)
    };
    play.client(Client::changing(name, at, Errno::EPROTOTYPE, replace))?;
    let name = "changed_listens";
    let at = free_port(std::net::Ipv4Addr::LOCALHOST.into())?;
    let begin = move || listen(&at, SockType::Stream, 16).map(std::mem::forget);
    play.client(Client::changing(name, at, Errno::ECONNREFUSED, begin))
}
