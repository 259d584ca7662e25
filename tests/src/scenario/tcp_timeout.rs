//! A TCP connect that times out: the listener's accept queue is full, so its SYNs are dropped.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::attempt::{failure, must_be};
use super::listener::{accepts, drain, loopback, wait_queued};
use super::netstat;
use super::socket::{Address, Listener, listen, set_option};
use super::stage::Stage;

const NAME: &str = "tcp_timeout";

/// One blocking connect that gives up after its first retransmission, about 3 s.
///
/// # Errors
/// When the incident cannot be made.
pub fn timed_out(stage: &mut Stage) -> Result<()> {
    let listener = listen(&loopback(), SockType::Stream, 0)?;
    stage.listens(NAME, &listener);
    let clients = fill(&listener, 1)?;
    let before = netstat::read()?;
    give_up(&listener.at)?;
    stage.failed(failure(NAME, &listener.at, Errno::ETIMEDOUT, 1)?);
    note_drops(stage, NAME, &listener, &before, 0)?;
    let queued = drain(&listener)?;
    stage.accepted(accepts(NAME, &listener, queued)?);
    drop(clients);
    Ok(())
}

/// Fills a listener's accept queue with exactly `fit` connections.
///
/// # Errors
/// When they do not fit.
pub fn fill(listener: &Listener, fit: u32) -> Result<Vec<std::os::fd::OwnedFd>> {
    let mut clients = Vec::new();
    for queued in 1..=fit {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("a connection that fits")?;
        if listener.family != "unix" {
            wait_queued(listener, queued)?;
        }
        clients.push(socket);
    }
    Ok(clients)
}

/// Notes what the kernel counted since `before`, once it has come to rest.
///
/// # Errors
/// When it does not.
pub fn note_drops(
    stage: &mut Stage,
    name: &str,
    listener: &Listener,
    before: &super::record::Netstat,
    at_least_ack: u64,
) -> Result<()> {
    stage.dropped(name, listener, netstat::at_rest()?.since(before), at_least_ack);
    Ok(())
}

/// One blocking connect that gives up after its first retransmission.
///
/// # Errors
/// When it ends in another way.
pub fn give_up(at: &Address) -> Result<()> {
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, 1)?;
    must_be(at, Errno::ETIMEDOUT, at.connect(&socket))
}
