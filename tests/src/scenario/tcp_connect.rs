//! TCP connects that fail at once: refused in every way in which a program can learn of it, and
//! unreachable.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, SockType, getsockopt, sockopt};

use super::actor::{Role, prepare};
use super::attempt::{failure, must_be, must_fail};
use super::listener::loopback;
use super::record::Failure;
use super::socket::{Address, bound};
use super::stage::Stage;

/// Blocking connects to a port that is taken but not listened on.
///
/// # Errors
/// When the incident cannot be made.
pub fn refused_sync(stage: &mut Stage) -> Result<()> {
    let asked = Address::ip(Ipv4Addr::LOCALHOST.into(), stage.port());
    let (_held, at) = bound(&asked, SockType::Stream)?;
    stage.failed(must_fail("tcp_refused_sync", &at, SockType::Stream, Errno::ECONNREFUSED, 15)?);
    Ok(())
}

/// Non-blocking connects: the answer is fetched with `SO_ERROR`.
///
/// # Errors
/// When the incident cannot be made.
pub fn refused_async(stage: &mut Stage) -> Result<()> {
    let (_held, at) = bound(&loopback(), SockType::Stream)?;
    let client = prepare(Role::named("st-async"), move || fetch_by_option(&at, 16))?;
    stage.failed(client.perform()?);
    Ok(())
}

/// Blocking connects to `::1`.
///
/// # Errors
/// When the incident cannot be made.
pub fn refused_v6(stage: &mut Stage) -> Result<()> {
    let asked = Address::ip(Ipv6Addr::LOCALHOST.into(), 0);
    let (_held, at) = bound(&asked, SockType::Stream)?;
    stage.failed(must_fail("tcp6_refused", &at, SockType::Stream, Errno::ECONNREFUSED, 17)?);
    Ok(())
}

/// Non-blocking connects: the answer is fetched with a second `connect()`, which is no new attempt.
///
/// # Errors
/// When the incident cannot be made.
pub fn second_fetch(stage: &mut Stage) -> Result<()> {
    let count = 18;
    let (_held, at) = bound(&loopback(), SockType::Stream)?;
    for _ in 0..count {
        let socket = begin(&at)?;
        wait_answer(&socket)?;
        must_be(&at, Errno::ECONNREFUSED, at.connect(&socket))?;
    }
    stage.failed(failure("tcp_second_fetch", &at, Errno::ECONNREFUSED, count)?);
    Ok(())
}

/// Connects to a multicast group, which TCP cannot reach however the machine is routed.
///
/// # Errors
/// When the incident cannot be made.
pub fn unreachable(stage: &mut Stage) -> Result<()> {
    let at = Address::ip(Ipv4Addr::new(224, 0, 0, 1).into(), 9);
    stage.failed(must_fail("tcp_unreachable", &at, SockType::Stream, Errno::ENETUNREACH, 19)?);
    Ok(())
}

/// Starts a non-blocking connect that the kernel does not answer at once.
///
/// # Errors
/// When it is answered at once.
pub fn begin(at: &Address) -> Result<OwnedFd> {
    let socket = at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
    must_be(at, Errno::EINPROGRESS, at.connect(&socket))?;
    Ok(socket)
}

/// Waits until a connect that was begun is answered.
///
/// # Errors
/// When no answer comes within 20 s.
pub fn wait_answer(socket: &OwnedFd) -> Result<()> {
    let mut asked = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut asked, PollTimeout::from(20_000u16)).context("poll")?;
    ensure!(ready == 1, "no answer to a connect on loopback within 20 s");
    Ok(())
}

fn fetch_by_option(at: &Address, count: u64) -> Result<Failure> {
    for _ in 0..count {
        let socket = begin(at)?;
        wait_answer(&socket)?;
        let error = getsockopt(&socket, sockopt::SocketError).context("SO_ERROR")?;
        must_be(at, Errno::ECONNREFUSED, Err(Errno::from_raw(error)))?;
    }
    failure("tcp_refused_async", at, Errno::ECONNREFUSED, count)
}
