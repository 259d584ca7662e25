//! Addresses of every form: IPv6, IPv4 seen through IPv6, and a socket that is used twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::tcp_accept::hand_over;
use crate::scenario::attempt::{failure, must_be, must_fail};
use crate::scenario::listener::{accepts, loopback};
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
