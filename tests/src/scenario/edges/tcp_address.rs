//! Addresses of every form: IPv6, IPv4 seen through IPv6, and a socket that is used twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockFlag, SockType};

use super::abandoned::disconnect;
use super::tcp_accept::hand_over;
use crate::scenario::attempt::{failure, must_be, must_fail};
use crate::scenario::listener::{accepts, loopback};
use crate::scenario::record::Failure;
use crate::scenario::socket::{Address, bound, listen};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_connect::{begin, wait_answer};
use crate::scenario::tcp_timeout::fill;

/// 127.0.0.1 as IPv6 sees it.
fn mapped() -> IpAddr {
    Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()
}

/// Connections over IPv6, and of IPv4 clients to an IPv6 listener.
///
/// # Errors
/// When the incident cannot be made.
pub(super) fn accepted(stage: &mut Stage) -> Result<()> {
    let name = "edge_addresses";
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    for (own, clients) in [(v6, vec![v6, v6, v6]), (any, vec![v4, mapped(), v6, v4])] {
        let listener = listen(&Address::ip(own, 0), SockType::Stream, 16)?;
        stage.listens(name, &listener);
        let mut record = accepts(name, &listener, 0)?;
        for (turn, through) in (0..).zip(clients) {
            let at = Address::ip(through, listener.at.port());
            let connect = || {
                let socket = at.socket(SockType::Stream, SockFlag::empty())?;
                at.connect(&socket).context("connect")?;
                Ok(socket)
            };
            hand_over(&mut record, &listener, 4 + 9 * turn, connect)?;
            stage.seen.must_not_fail.push(at.text());
        }
        stage.accepted(record);
    }
    Ok(())
}

/// Refused connects: blocking and not, to `::1` and to an IPv4 address through IPv6.
///
/// # Errors
/// When the incident cannot be made.
pub(super) fn refused(stage: &mut Stage) -> Result<()> {
    let (name, errno) = ("edge_targets", Errno::ECONNREFUSED);
    for ip in [Ipv6Addr::LOCALHOST.into(), mapped()] {
        let (_held, at) = bound(&Address::ip(ip, 0), SockType::Stream)?;
        stage.failed(must_fail(name, &at, SockType::Stream, errno, 4)?);
        let (_held, at) = bound(&Address::ip(ip, 0), SockType::Stream)?;
        for _ in 0..5 {
            wait_answer(&begin(&at)?)?;
        }
        stage.failed(failure(name, &at, errno, 5)?);
    }
    Ok(())
}

/// Refused connects to one address: one that is answered a second later, since its first SYN was dropped, and two
/// that are answered at once.
///
/// # Errors
/// When the incident cannot be made.
pub(super) fn refused_late(stage: &mut Stage) -> Result<()> {
    let (name, errno) = ("edge_refused_late", Errno::ECONNREFUSED);
    let listener = listen(&loopback(), SockType::Stream, 0)?;
    stage.listens(name, &listener);
    let queued = fill(&listener, 1)?;
    let at = listener.at;
    let late = begin(&at)?;
    drop((listener, queued));
    wait_answer(&late)?;
    must_be(&at, errno, at.connect(&late))?;
    must_fail(name, &at, SockType::Stream, errno, 2)?;
    stage.failed(failure(name, &at, errno, 3)?);
    Ok(())
}

/// One socket, two attempts: the first fails and its error is fetched, the second fails, too.
///
/// # Errors
/// When the incident cannot be made.
pub(super) fn second_attempt(stage: &mut Stage) -> Result<()> {
    let (name, errno) = ("edge_second_attempt", Errno::ECONNREFUSED);
    let (_first, first) = bound(&loopback(), SockType::Stream)?;
    let (_second, second) = bound(&loopback(), SockType::Stream)?;
    for _ in 0..6 {
        let socket = begin(&first)?;
        wait_answer(&socket)?;
        must_be(&first, errno, first.connect(&socket))?;
        must_be(&second, Errno::EINPROGRESS, second.connect(&socket))?;
        wait_answer(&socket)?;
        must_be(&second, errno, second.connect(&socket))?;
    }
    stage.failed(failure(name, &first, errno, 6)?);
    stage.failed(failure(name, &second, errno, 6)?);
    Ok(())
}

/// One socket, two attempts towards one address: the first fails and nobody fetches its error, as the socket is made anew;
/// the second one waits for its error, which is the same.
///
/// # Errors
/// When the incident cannot be made.
pub(super) fn dissolved(stage: &mut Stage) -> Result<()> {
    let (name, errno) = ("edge_dissolved", Errno::ECONNREFUSED);
    let (_held, at) = bound(&loopback(), SockType::Stream)?;
    for _ in 0..6 {
        let socket = begin(&at)?;
        wait_answer(&socket)?;
        disconnect(&socket)?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty())).context("F_SETFL")?;
        must_be(&at, errno, at.connect(&socket))?;
    }
    stage.failed(failure(name, &at, errno, 12)?);
    Ok(())
}

/// Connects that fail before the kernel has copied the address: of no descriptor, with a length that no address has, and
/// with an address that cannot be read.
///
/// # Errors
/// When one ends in another way.
pub(super) fn refused_early(stage: &mut Stage) -> Result<()> {
    let name = "edge_refused_early";
    let path = Address::path(&stage.path("early.sock"))?;
    let inet = loopback();
    let socket = inet.socket(SockType::Stream, SockFlag::empty())?;
    let unix = path.as_sockaddr();
    for _ in 0..2 {
        must_be(&path, Errno::EBADF, raw_connect(-1, unix.as_ptr().cast(), unix.len()))?;
    }
    stage.failed(failure(name, &path, Errno::EBADF, 2)?);
    // The kernel reads no further than the address is long.
    let mut long = [0u8; 200];
    let short = inet.as_sockaddr();
    // SAFETY: both are valid for so many bytes, and do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            short.as_ptr().cast(),
            long.as_mut_ptr(),
            short.len() as usize,
        );
    }
    for _ in 0..3 {
        let told = raw_connect(socket.as_raw_fd(), long.as_ptr().cast(), 200);
        must_be(&inet, Errno::EINVAL, told)?;
    }
    stage.failed(failure(name, &inet, Errno::EINVAL, 3)?);
    for _ in 0..4 {
        let told = raw_connect(socket.as_raw_fd(), std::ptr::null(), short.len());
        must_be(&inet, Errno::EFAULT, told)?;
    }
    let of_nothing = failure(name, &inet, Errno::EFAULT, 4)?;
    let (family, target) = ("unknown".to_owned(), "unknown".to_owned());
    stage.failed(Failure { family, target, ..of_nothing });
    Ok(())
}

fn raw_connect(
    fd: RawFd,
    address: *const libc::sockaddr,
    len: libc::socklen_t,
) -> Result<(), Errno> {
    // SAFETY: the address is one that lives through the call, or null, which the kernel refuses.
    Errno::result(unsafe { libc::connect(fd, address, len) }).map(drop)
}
