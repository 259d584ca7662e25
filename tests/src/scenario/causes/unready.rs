//! A socket is bound there and takes no connection: it does not listen, is shut down, full, or has a peer.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{Shutdown, SockFlag, SockType, shutdown};
use std::os::fd::AsRawFd;

use super::play::{Client, Play};
use crate::scenario::attempt::must_be;
use crate::scenario::heirs;
use crate::scenario::socket::{Address, bound, listen};

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    not_listening(play, "not_listening", SockType::Stream)?;
    not_listening(play, "not_listening_seq", SockType::SeqPacket)?;
    shut_down(play)?;
    full(play)?;
    inherited(play)?;
    peer_taken(play)
}

fn not_listening(play: &mut Play<'_>, name: &'static str, kind: SockType) -> Result<()> {
    let at = Address::path(&play.path(&format!("{name}.sock")))?;
    play.client(Client::of_kind(name, at, kind, Errno::ECONNREFUSED))?;
    play.scenery(name, move || bound(&at, kind));
    Ok(())
}

fn shut_down(play: &mut Play<'_>) -> Result<()> {
    let name = "shut_down";
    let at = Address::path(&play.path("shut_down.sock"))?;
    play.client(Client::of(name, at, Errno::ECONNREFUSED))?;
    play.scenery(name, move || {
        let listener = listen(&at, SockType::Stream, 16)?;
        shutdown(listener.fd.as_raw_fd(), Shutdown::Both).context("shutdown")?;
        Ok(listener)
    });
    Ok(())
}

/// The server is stopped, and whoever comes first has filled its backlog.
fn full(play: &mut Play<'_>) -> Result<()> {
    let at = Address::path(&play.path("full.sock"))?;
    play.server(
        "full-server",
        move || listen(&at, SockType::Stream, 1),
        || raise(Signal::SIGSTOP).context("SIGSTOP"),
    )?;
    play.client(Client::trying("full", at, Errno::EAGAIN, move || fill(&at)))
}

/// Who made the listener has closed it; a child of it, which never accepts, holds it open.
fn inherited(play: &mut Play<'_>) -> Result<()> {
    let at = Address::path(&play.path("inherited.sock"))?;
    play.server("inherited-maker", move || heirs::bequeath(&at, 1), || Ok(()))?;
    play.client(Client::trying("inherited", at, Errno::EAGAIN, move || fill(&at)))
}

fn fill(at: &Address) -> Result<()> {
    let mut queued = Vec::new();
    // listen(1) lets two in.
    for _ in 0..2 {
        let socket = at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
        at.connect(&socket).context("a connection that fits")?;
        queued.push(socket);
    }
    let socket = at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
    must_be(at, Errno::EAGAIN, at.connect(&socket))?;
    // Whoever waits in the queue goes on waiting.
    std::mem::forget(queued);
    Ok(())
}

/// A datagram socket that is connected to another one takes no third.
fn peer_taken(play: &mut Play<'_>) -> Result<()> {
    let name = "peer_taken";
    let at = Address::path(&play.path("peer_taken.sock"))?;
    let peer = Address::path(&play.path("peer_taken.peer"))?;
    play.client(Client::of_kind(name, at, SockType::Datagram, Errno::EPERM))?;
    play.scenery(name, move || {
        let (peer_socket, _) = bound(&peer, SockType::Datagram)?;
        let (socket, _) = bound(&at, SockType::Datagram)?;
        peer.connect(&socket).context("connect to the peer")?;
        Ok((socket, peer_socket))
    });
    Ok(())
}
