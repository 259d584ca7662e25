//! TCP connects that the client takes back before there is an answer, in every way in which it can.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    Shutdown, SockFlag, SockType, bind, getsockopt, setsockopt, shutdown, sockopt,
};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::mptcp;
use crate::scenario::actor::{Role, prepare};
use crate::scenario::attempt::{failure, must_be, must_fail};
use crate::scenario::clock::wait_until;
use crate::scenario::listener::{accepts, drain, loopback};
use crate::scenario::netstat;
use crate::scenario::record::{Failure, Netstat};
use crate::scenario::socket::{Address, Listener, bound, listen, local_address, reset_on_close};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_connect::{begin, wait_answer};
use crate::scenario::tcp_timeout::{fill, note_drops};

const NAME: &str = "edge_abandoned";

/// Closed, of MPTCP, too, shut down, reset, disconnected or shut down and then used for another connect, and the client
/// killed; besides, what looks like it and is not: connects that fail before they send anything, and one that is
/// answered by its own SYN (at once, so that it is noted nowhere).
///
/// # Errors
/// When one of them ends in another way.
pub(super) fn in_every_way(stage: &mut Stage) -> Result<()> {
    silent(stage, 3, |socket| {
        drop(socket);
        Ok(())
    })?;
    silent(stage, 2, |socket| shutdown(socket.as_raw_fd(), Shutdown::Both).context("shutdown"))?;
    silent(stage, 4, |socket| reset_on_close(&socket))?;
    let (_held, refused) = bound(&loopback(), SockType::Stream)?;
    silent(stage, 5, |socket| {
        disconnect(&socket)?;
        must_be(&refused, Errno::EINPROGRESS, refused.connect(&socket))?;
        wait_answer(&socket)?;
        must_be(&refused, Errno::ECONNREFUSED, refused.connect(&socket))
    })?;
    let (_held, blocking) = bound(&loopback(), SockType::Stream)?;
    silent(stage, 6, |socket| {
        shutdown(socket.as_raw_fd(), Shutdown::Both).context("shutdown")?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty())).context("F_SETFL")?;
        // The error of what was shut down comes first.
        must_be(&blocking, Errno::ECONNRESET, fetched(&socket)?)?;
        must_be(&blocking, Errno::ECONNREFUSED, blocking.connect(&socket))
    })?;
    stage.failed(failure(NAME, &refused, Errno::ECONNREFUSED, 5)?);
    stage.failed(failure(NAME, &blocking, Errno::ECONNREFUSED, 6)?);
    killed(stage)?;
    multipath(stage)?;
    stage.failed(unreachable()?);
    in_use(stage)?;
    meets_itself(stage)
}

/// So many connects to a listener that drops every SYN, each taken back.
fn silent(stage: &mut Stage, count: u64, take_back: impl Fn(OwnedFd) -> Result<()>) -> Result<()> {
    let pid = stage.seen.pid;
    at_full_queue(stage, |listener, _| {
        (0..count).try_for_each(|_| take_back(begin(&listener.at)?))?;
        Ok((pid, count))
    })
}

/// A process that is killed while `connect()` sleeps.
fn killed(stage: &mut Stage) -> Result<()> {
    at_full_queue(stage, |listener, before| {
        let at = listener.at;
        let mut client = prepare::<(), _>(Role::named("st-killed"), move || {
            let socket = at.socket(SockType::Stream, SockFlag::empty())?;
            must_be(&at, Errno::ETIMEDOUT, at.connect(&socket))
        })?;
        let pid = client.pid();
        client.start()?;
        let stat = format!("/proc/{pid}/stat");
        let sleeps = || {
            let line = std::fs::read_to_string(&stat).context("stat")?;
            Ok(line.contains(") S ") && netstat::read()?.since(before).listen_drops > 0)
        };
        wait_until("the client to sleep in connect()", sleeps)?;
        let child = Pid::from_raw(pid.cast_signed());
        kill(child, Signal::SIGKILL).context("the end of the client")?;
        waitpid(child, None).context("waitpid")?;
        Ok((pid, 1))
    })
}

/// What a process takes back, and how often, at a listener of which the queue is full.
fn at_full_queue(
    stage: &mut Stage,
    take_back: impl FnOnce(&Listener, &Netstat) -> Result<(u32, u64)>,
) -> Result<()> {
    let listener = listen(&loopback(), SockType::Stream, 0)?;
    stage.listens(NAME, &listener);
    let queued = fill(&listener, 1)?;
    let before = netstat::read()?;
    let (pid, count) = take_back(&listener, &before)?;
    stage.abandoned(&listener.at, pid, count);
    note_drops(stage, NAME, &listener, &before, 0)?;
    drop(queued);
    let accepted = drain(&listener)?;
    stage.seen.must_not_fail.push(listener.address.clone());
    stage.accepted(accepts(NAME, &listener, accepted)?);
    Ok(())
}

/// MPTCP sockets that are closed; a kernel without MPTCP refuses the socket.
fn multipath(stage: &mut Stage) -> Result<()> {
    if mptcp::first_multipath(stage)?.is_none() {
        return Ok(());
    }
    let pid = stage.seen.pid;
    at_full_queue(stage, |listener, _| {
        for _ in 0..3 {
            let socket = mptcp::multipath().context("socket(IPPROTO_MPTCP)")?;
            fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("F_SETFL")?;
            must_be(&listener.at, Errno::EINPROGRESS, listener.at.connect(&socket))?;
        }
        Ok((pid, 3))
    })
}

/// Fails in SYN_SENT, before anything is sent: a connection has both addresses.
fn in_use(stage: &mut Stage) -> Result<()> {
    let listener = listen(&loopback(), SockType::Stream, 4)?;
    stage.listens(NAME, &listener);
    let reused = |own: &Address| -> Result<OwnedFd> {
        let socket = own.socket(SockType::Stream, SockFlag::empty())?;
        setsockopt(&socket, sockopt::ReuseAddr, &true).context("SO_REUSEADDR")?;
        bind(socket.as_raw_fd(), own.as_sockaddr()).context("bind")?;
        Ok(socket)
    };
    let first = reused(&loopback())?;
    let own = local_address(&first, loopback())?;
    listener.at.connect(&first).context("connect")?;
    for _ in 0..2 {
        must_be(&listener.at, Errno::EADDRNOTAVAIL, listener.at.connect(&reused(&own)?))?;
    }
    stage.failed(failure(NAME, &listener.at, Errno::EADDRNOTAVAIL, 2)?);
    let accepted = drain(&listener)?;
    stage.accepted(accepts(NAME, &listener, accepted)?);
    Ok(())
}

/// Fails for want of a route, before anything is sent.
fn unreachable() -> Result<Failure> {
    let at = Address::ip(std::net::Ipv4Addr::new(224, 0, 0, 1).into(), 9);
    must_fail(NAME, &at, SockType::Stream, Errno::ENETUNREACH, 2)
}

/// A socket that connects to its own address: both ends send a SYN, and no SYN-ACK comes first.
fn meets_itself(stage: &mut Stage) -> Result<()> {
    let at = loopback();
    for _ in 0..2 {
        let (socket, own) = bound(&at, SockType::Stream)?;
        own.connect(&socket).context("a connection with itself")?;
        stage.seen.must_not_fail.push(own.text());
        reset_on_close(&socket)?;
    }
    Ok(())
}

/// `SO_ERROR`.
fn fetched(socket: &OwnedFd) -> Result<Result<(), Errno>> {
    let error = getsockopt(socket, sockopt::SocketError).context("SO_ERROR")?;
    Ok(if error == 0 { Ok(()) } else { Err(Errno::from_raw(error)) })
}

/// `connect()` to `AF_UNSPEC`.
///
/// # Errors
/// When the kernel refuses it.
pub(super) fn disconnect(socket: &OwnedFd) -> Result<()> {
    let nowhere = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let len = libc::socklen_t::try_from(size_of_val(&nowhere)).context("size of an address")?;
    // SAFETY: `nowhere` lives through the call, and `len` is its size.
    let done = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, len) };
    ensure!(done == 0, "connect to AF_UNSPEC: {}", Errno::last());
    Ok(())
}
