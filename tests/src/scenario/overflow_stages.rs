//! Drops at chosen stages of the handshake, and SYN cookies, without any race.
//!
//! `TCP_DEFER_ACCEPT` holds a request back until its client sends data: so requests can be piled
//! up, and the last step of their handshakes happens exactly when the client writes.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{SockFlag, SockType};

use super::listener::{accepts, drain, loopback, wait_queued};
use super::netstat;
use super::socket::{Listener, listen, reset_on_close, set_option};
use super::stage::Stage;
use super::tcp_timeout::note_drops;

/// Requests wait for their data while the accept queue fills up: then their last step is dropped.
///
/// # Errors
/// When nothing is dropped.
pub fn final_acks(stage: &mut Stage) -> Result<()> {
    let name = "overflow_ack";
    let (backlog, late_count) = (8, 5);
    let listener = deferring(backlog)?;
    stage.listens(name, &listener);
    let late = (0..late_count).map(|_| connected(&listener)).collect::<Result<Vec<_>>>()?;
    let mut queued = Vec::new();
    for count in 1..=backlog + 1 {
        let socket = connected(&listener)?;
        send_byte(&socket)?;
        wait_queued(&listener, count)?;
        queued.push(socket);
    }
    let before = netstat::read()?;
    late.iter().try_for_each(send_byte)?;
    late.iter().chain(&queued).try_for_each(reset_on_close)?;
    drop((late, queued));
    note_drops(stage, name, &listener, &before, late_count)?;
    finish(stage, name, &listener)?;
    let dropped = stage.seen.tcp_drops.last().map_or(0, |drops| drops.netstat.listen_overflows);
    ensure!(dropped >= late_count, "only {dropped} of {late_count} last ACKs were dropped");
    Ok(())
}

/// As many pending requests as the backlog allows: the next ones are answered with cookies.
///
/// # Errors
/// When a call fails. (A machine without SYN cookies drops instead; the counters say which.)
pub fn syncookies(stage: &mut Stage) -> Result<()> {
    let name = "syncookies";
    let listener = deferring(4)?;
    stage.listens(name, &listener);
    let pending = (0..4).map(|_| connected(&listener)).collect::<Result<Vec<_>>>()?;
    let before = netstat::read()?;
    let cookied = (0..3).map(|_| connecting(&listener)).collect::<Result<Vec<_>>>()?;
    super::clock::sleep_ms(50);
    pending.iter().chain(&cookied).try_for_each(reset_on_close)?;
    drop((pending, cookied));
    note_drops(stage, name, &listener, &before, 0)?;
    finish(stage, name, &listener)
}

fn finish(stage: &mut Stage, name: &str, listener: &Listener) -> Result<()> {
    let accepted = drain(listener)?;
    stage.accepted(accepts(name, listener, accepted)?);
    stage.seen.must_not_fail.push(listener.address.clone());
    Ok(())
}

fn deferring(backlog: u32) -> Result<Listener> {
    let listener = listen(&loopback(), SockType::Stream, backlog)?;
    set_option(&listener.fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 30)?;
    Ok(listener)
}

fn connected(listener: &Listener) -> Result<OwnedFd> {
    let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
    listener.at.connect(&socket).context("connect")?;
    Ok(socket)
}

fn connecting(listener: &Listener) -> Result<OwnedFd> {
    let socket = listener.at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
    // In progress or done: both are fine here.
    let _outcome = listener.at.connect(&socket);
    Ok(socket)
}

fn send_byte(socket: &OwnedFd) -> Result<()> {
    nix::unistd::write(socket, b"!").map(drop).context("write")
}
