//! Something else lies at the path than a socket that listens: no socket, an old one, one of another type.

use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::SockType;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::files::Immutable;
use super::play::{Client, Play, open_listener};
use crate::scenario::socket::{Address, bound, listen};

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    no_socket(play, "regular_file", |path| std::fs::write(path, "").context("a file"))?;
    no_socket(play, "fifo", |path| mkfifo(path, Mode::S_IRWXU).context("mkfifo"))?;
    no_socket(play, "directory", |path| std::fs::create_dir(path).context("mkdir"))?;
    immutable(play)?;
    stale(play)?;
    replaced(play)?;
    of_kinds(play, "wrong_dgram", SockType::Stream, SockType::Datagram)?;
    of_kinds(play, "wrong_seqpacket", SockType::SeqPacket, SockType::Stream)?;
    of_kinds(play, "wrong_stream", SockType::Datagram, SockType::Stream)
}

fn no_socket(
    play: &mut Play<'_>,
    name: &'static str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let path = play.path(name);
    make(&path)?;
    play.client(Client::of(name, Address::path(&path)?, Errno::ECONNREFUSED))
}

/// The kernel checks this before it sees that the file is no socket. A socket cannot be made immutable:
/// the flag is set through a descriptor, and open(2) of a socket fails.
fn immutable(play: &mut Play<'_>) -> Result<()> {
    let name = "immutable";
    let path = play.path(name);
    let Some(immutable) = Immutable::make(&path)? else {
        play.lacks(name);
        return Ok(());
    };
    play.client(Client::of(name, Address::path(&path)?, Errno::EPERM))?;
    play.scenery(name, move || Ok(immutable));
    Ok(())
}

fn stale(play: &mut Play<'_>) -> Result<()> {
    let path = play.path("stale.sock");
    drop(open_listener(&path)?);
    play.client(Client::of("stale", Address::path(&path)?, Errno::ECONNREFUSED))
}

/// A second server took the name and is gone; the first one still listens.
fn replaced(play: &mut Play<'_>) -> Result<()> {
    let name = "replaced";
    let path = play.path("replaced.sock");
    play.client(Client::of(name, Address::path(&path)?, Errno::ECONNREFUSED))?;
    play.scenery(name, move || {
        let first = open_listener(&path)?;
        std::fs::remove_file(&path).context("unlink")?;
        drop(open_listener(&path)?);
        Ok(first)
    });
    Ok(())
}

fn of_kinds(
    play: &mut Play<'_>,
    name: &'static str,
    client: SockType,
    server: SockType,
) -> Result<()> {
    let at = Address::path(&play.path(&format!("{name}.sock")))?;
    play.client(Client::of_kind(name, at, client, Errno::EPROTOTYPE))?;
    play.scenery(name, move || match server {
        SockType::Datagram => Ok(bound(&at, server)?.0),
        _ => Ok(listen(&at, server, 16)?.fd),
    });
    Ok(())
}
