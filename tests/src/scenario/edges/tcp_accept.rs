//! TCP connections that enter the accept queue in an unusual way, or die in it.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use crate::scenario::attempt::{failure, must_be};
use crate::scenario::clock::{now_ns, sleep_ms};
use crate::scenario::listener::{accepts, loopback, queue_len, wait_queued};
use crate::scenario::record::Accepts;
use crate::scenario::socket::{
    Address, Listener, accept, bound, listen, reset_on_close, set_option,
};
use crate::scenario::stage::Stage;

/// Notes one connection that `enters` makes: called, queued, left there for `wait_ms`, accepted.
///
/// # Errors
/// When it does not come, or is not accepted.
pub(super) fn hand_over(
    record: &mut Accepts,
    listener: &Listener,
    wait_ms: u64,
    enters: impl FnOnce() -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let called = now_ns()?;
    let client = enters()?;
    wait_queued(listener, 1)?;
    let queued = now_ns()?;
    sleep_ms(wait_ms);
    let asked = now_ns()?;
    accept(listener, SockFlag::empty()).context("accept")?;
    record.upper_ns.push(now_ns()? - called);
    record.lower_ns.push(asked - queued);
    record.count += 1;
    Ok(client)
}

/// TCP Fast Open: data in the SYN, so that the connection is queued before its handshake ends; and
/// a port where nobody listens.
///
/// # Errors
/// When a connection is not opened so: it needs `net.ipv4.tcp_fastopen=519`.
pub(super) fn fast_open(stage: &mut Stage) -> Result<()> {
    let name = "edge_fast_open";
    let listener = listen(&loopback(), SockType::Stream, 16)?;
    set_option(&listener.fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16)?;
    stage.listens(name, &listener);
    let before = fast_opens()?;
    let mut record = accepts(name, &listener, 0)?;
    for wait in [20, 1, 35, 8, 0] {
        let send = || {
            let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
            send_open(&socket, &listener.at).context("sendto(MSG_FASTOPEN)")?;
            Ok(socket)
        };
        hand_over(&mut record, &listener, wait, send)?;
    }
    let opened = fast_opens()? - before;
    ensure!(opened == record.count, "{opened} of {} connections by Fast Open", record.count);
    stage.accepted(record);

    let (_held, at) = bound(&loopback(), SockType::Stream)?;
    for _ in 0..3 {
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        must_be(&at, Errno::ECONNREFUSED, send_open(&socket, &at))?;
    }
    stage.failed(failure(name, &at, Errno::ECONNREFUSED, 3)?);
    Ok(())
}

fn send_open(socket: &OwnedFd, to: &Address) -> Result<(), Errno> {
    let (fd, to) = (socket.as_raw_fd(), to.as_sockaddr());
    // SAFETY: data and address live through the call, with their true lengths.
    let sent = unsafe {
        libc::sendto(fd, c"x".as_ptr().cast(), 1, libc::MSG_FASTOPEN, to.as_ptr(), to.len())
    };
    Errno::result(sent).map(drop)
}

/// `TCPFastOpenPassive`: connections that listeners of this namespace took by Fast Open.
fn fast_opens() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/netstat").context("netstat")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let found = pairs.find(|(name, _)| *name == "TCPFastOpenPassive");
    found.context("no TCPFastOpenPassive")?.1.parse().context("a number")
}

/// `TCP_DEFER_ACCEPT`: a connection is queued when its first data come, not when its handshake ends.
///
/// # Errors
/// When a connection is queued before its data.
pub(super) fn defer_accept(stage: &mut Stage) -> Result<()> {
    let name = "edge_defer_accept";
    let listener = listen(&loopback(), SockType::Stream, 16)?;
    set_option(&listener.fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 10)?;
    stage.listens(name, &listener);
    let mut record = accepts(name, &listener, 0)?;
    for wait in [15, 2, 27] {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("connect")?;
        // Far longer than what follows: counting from the handshake is outside the bounds.
        sleep_ms(150);
        ensure!(queue_len(&listener)? == 0, "queued without data");
        let write = || {
            nix::unistd::write(&socket, b"x").context("write")?;
            Ok(socket)
        };
        hand_over(&mut record, &listener, wait, write)?;
    }
    stage.accepted(record);
    Ok(())
}

/// Connections that the client resets while they are queued: `accept()` still returns them.
///
/// # Errors
/// When one is not returned.
pub(super) fn reset_in_queue(stage: &mut Stage) -> Result<()> {
    let name = "edge_reset_in_queue";
    let listener = listen(&loopback(), SockType::Stream, 16)?;
    stage.listens(name, &listener);
    let mut record = accepts(name, &listener, 0)?;
    for wait in [18, 3, 9, 0] {
        let called = now_ns()?;
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("connect")?;
        wait_queued(&listener, 1)?;
        let queued = now_ns()?;
        reset_on_close(&socket)?;
        drop(socket);
        sleep_ms(wait);
        ensure!(queue_len(&listener)? == 1, "a reset connection left the queue");
        let asked = now_ns()?;
        accept(&listener, SockFlag::empty()).context("accept of a reset connection")?;
        record.upper_ns.push(now_ns()? - called);
        record.lower_ns.push(asked - queued);
        record.count += 1;
    }
    stage.accepted(record);
    Ok(())
}
