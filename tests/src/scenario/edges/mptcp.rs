//! A listener that speaks MPTCP, with clients that do and clients that do not; and clients that speak it to
//! nobody.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType, bind};

use crate::scenario::attempt::{failure, must_be};
use crate::scenario::clock::wait_until;
use crate::scenario::listener::{accepts, loopback};
use crate::scenario::netstat;
use crate::scenario::socket::{accept, bound, listen_on, local_address};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_connect::begin;

const NAME: &str = "edge_mptcp";
const IPPROTO_MPTCP: i32 = 262;
/// Connects that are thrown away.
const DROPPED: u64 = 7;
/// Connects that are refused.
const REFUSED: u64 = 7;

/// Five MPTCP clients and seven of TCP, in turn; a kernel without MPTCP refuses the socket.
///
/// # Errors
/// When a connection is not what its client is.
pub(super) fn both_kinds_of_client(stage: &mut Stage) -> Result<()> {
    let Some(fd) = first_multipath(stage)? else { return Ok(()) };
    bind(fd.as_raw_fd(), loopback().as_sockaddr()).context("bind")?;
    let at = local_address(&fd, loopback())?;
    let listener = listen_on(fd, at, 16)?;
    stage.listens(NAME, &listener);
    let (mut multi, mut plain) = (0, 0);
    for speaks in [true, false, false, true, false, true, false, true, false, false, true, false] {
        let client = if speaks {
            multipath().context("socket(IPPROTO_MPTCP)")?
        } else {
            at.socket(SockType::Stream, SockFlag::empty())?
        };
        at.connect(&client).context("connect")?;
        let accepted = accept(&listener, SockFlag::empty()).context("accept")?;
        let is_multi = protocol(&accepted)? == IPPROTO_MPTCP;
        ensure!(is_multi == speaks, "accepted as MPTCP: {is_multi}, client speaks it: {speaks}");
        *(if is_multi { &mut multi } else { &mut plain }) += 1;
    }
    stage.accepted(accepts(NAME, &listener, multi)?);
    stage.accepted(accepts("edge_mptcp_plain", &listener, plain)?);
    stage.seen.must_not_fail.push(listener.address);
    Ok(())
}

/// A listener whose queue is full throws away connects of plain TCP, and is closed at once: what it has dropped is
/// counted by its inner socket alone. A kernel without MPTCP refuses the socket.
///
/// # Errors
/// When nothing is dropped.
pub(super) fn dropped(stage: &mut Stage) -> Result<()> {
    let Some(fd) = first_multipath(stage)? else { return Ok(()) };
    bind(fd.as_raw_fd(), loopback().as_sockaddr()).context("bind")?;
    let at = local_address(&fd, loopback())?;
    let listener = listen_on(fd, at, 1)?;
    stage.listens("edge_mptcp_dropped", &listener);
    let fit = || -> Result<OwnedFd> {
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        at.connect(&socket).context("a connection that fits")?;
        Ok(socket)
    };
    let queued = [fit()?, fit()?];
    wait_until("two connections in the queue", || Ok(tabled_queue(at.port())? == 2))?;
    let before = netstat::read()?;
    for _ in 0..DROPPED {
        // Taken back before its SYN is sent again.
        drop(begin(&at)?);
    }
    let dropped = || Ok(netstat::read()?.since(&before).listen_drops >= DROPPED);
    wait_until("drops", dropped)?;
    let netstat = netstat::read()?.since(&before);
    ensure!(netstat.listen_drops == DROPPED, "{DROPPED} connects to a full queue: {netstat:?}");
    stage.dropped("edge_mptcp_dropped", &listener, netstat, 0);
    drop((listener, queued));
    Ok(())
}

/// Blocking connects to a port where nobody listens; a kernel without MPTCP refuses the socket.
///
/// # Errors
/// When one is not refused.
pub(super) fn refused(stage: &mut Stage) -> Result<()> {
    let Some(mut client) = first_multipath(stage)? else { return Ok(()) };
    let (_reserved, at) = bound(&loopback(), SockType::Stream)?;
    for more in (0..REFUSED).rev() {
        must_be(&at, Errno::ECONNREFUSED, at.connect(&client))?;
        if more > 0 {
            client = multipath().context("socket(IPPROTO_MPTCP)")?;
        }
    }
    stage.failed(failure("edge_mptcp_refused", &at, Errno::ECONNREFUSED, REFUSED)?);
    Ok(())
}

/// A socket that speaks MPTCP; none where the kernel has no MPTCP, which is noted.
///
/// # Errors
/// When it is refused for another reason.
pub(super) fn first_multipath(stage: &mut Stage) -> Result<Option<OwnedFd>> {
    match multipath() {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::EPROTONOSUPPORT | Errno::ENOPROTOOPT | Errno::EINVAL) => {
            stage.seen.lacks.push("mptcp".to_owned());
            Ok(None)
        }
        Err(errno) => bail!("socket(IPPROTO_MPTCP): {errno:?}"),
    }
}

/// A socket that speaks MPTCP.
///
/// # Errors
/// When the kernel refuses it.
pub(super) fn multipath() -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointer.
    let fd = Errno::result(unsafe { libc::socket(libc::AF_INET, kind, IPPROTO_MPTCP) })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How many connections wait on a listener, by `/proc/net/tcp`: of MPTCP it has the inner socket, on kernels, too, where the
/// outer one has no `TCP_INFO` (before 5.16).
fn tabled_queue(port: u16) -> Result<u32> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").context("/proc/self/net/tcp")?;
    let local = format!(":{port:04X}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let listens =
        |line: &Vec<String>| line.len() > 4 && line[1].ends_with(&local) && line[3] == "0A";
    let line = table.lines().map(words).find(listens).context("no listener in the table")?;
    let (_, queue) = line[4].split_once(':').context("tx_queue:rx_queue")?;
    u32::from_str_radix(queue, 16).context("rx_queue")
}

fn protocol(fd: &OwnedFd) -> Result<i32> {
    let mut value = 0i32;
    let mut len = libc::socklen_t::try_from(size_of::<i32>()).context("size of an int")?;
    let (level, option, into) = (libc::SOL_SOCKET, libc::SO_PROTOCOL, (&raw mut value).cast());
    // SAFETY: `into` points to an int that lives through the call, and `len` is its size.
    let got = unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, into, &raw mut len) };
    Errno::result(got).context("SO_PROTOCOL")?;
    Ok(value)
}
