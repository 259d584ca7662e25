//! Listeners that are closed while connections lie in their queues.

use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::sys::socket::{SockFlag, SockType};

use super::listener::{loopback, wait_queued};
use super::record::Closed;
use super::socket::{Address, Listener, listen};
use super::stage::Stage;

/// Five connections each are left in a TCP, a TCP over IPv6 and a Unix queue. One of TCP is accepted
/// before and outlives the listener: it was not thrown away.
///
/// # Errors
/// When a connection does not come about.
pub fn with_connections_queued(stage: &mut Stage) -> Result<()> {
    let unix = Address::path(&stage.path("closed.sock"))?;
    for at in [loopback(), Address::ip(Ipv6Addr::LOCALHOST.into(), 0), unix] {
        let listener = listen(&at, SockType::Stream, 16)?;
        stage.listens("listener_closed", &listener);
        let first = connected(&listener)?;
        let accepted = super::socket::accept(&listener, SockFlag::empty()).context("accept")?;
        let left = (0..5).map(|_| connected(&listener)).collect::<Result<Vec<_>>>()?;
        if listener.family != "unix" {
            wait_queued(&listener, 5)?;
        }
        stage.accepted(super::listener::accepts("listener_closed", &listener, 1)?);
        close(stage, listener, 5);
        drop((first, accepted, left));
    }
    Ok(())
}

fn connected(listener: &Listener) -> Result<OwnedFd> {
    let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
    listener.at.connect(&socket).context("connect")?;
    Ok(socket)
}

fn close(stage: &mut Stage, listener: Listener, count: u64) {
    let Listener { family, address, inode, fd, .. } = listener;
    stage.seen.closed.push(Closed { family: family.to_owned(), listener: address, inode, count });
    drop(fd);
}
