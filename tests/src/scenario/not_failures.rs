//! Connects that look like failures to a careless tracer and are none.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::attempt::must_be;
use super::listener::{accepts, drain, loopback, wait_queued};
use super::netstat;
use super::socket::{Address, Listener, listen};
use super::stage::Stage;
use super::tcp_connect::{begin, wait_answer};
use super::tcp_timeout::{fill, note_drops};

const NAME: &str = "not_failures";

/// All of them.
///
/// # Errors
/// When one of them fails after all.
pub fn all(stage: &mut Stage) -> Result<()> {
    succeeds(stage, &loopback(), 3)?;
    let path = Address::path(&stage.path("fine.sock"))?;
    succeeds(stage, &path, 4)?;
    asks_again(stage)?;
    closed_before_answer(stage)
}

/// Blocking connects that succeed.
fn succeeds(stage: &mut Stage, at: &Address, count: u64) -> Result<()> {
    let listener = listen(at, SockType::Stream, 20)?;
    stage.listens(NAME, &listener);
    for _ in 0..count {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("connect")?;
        let _peer = super::socket::accept(&listener, SockFlag::empty()).context("accept")?;
    }
    must_not_fail(stage, &listener, count)
}

/// Non-blocking connects that succeed, with a program that asks by `connect()` until `EISCONN`.
fn asks_again(stage: &mut Stage) -> Result<()> {
    let count = 5;
    let listener = listen(&loopback(), SockType::Stream, 21)?;
    stage.listens(NAME, &listener);
    let mut clients = Vec::new();
    for queued in 1..=count {
        let socket = begin(&listener.at)?;
        wait_answer(&socket)?;
        listener.at.connect(&socket).context("the connect that fetches success")?;
        must_be(&listener.at, Errno::EISCONN, listener.at.connect(&socket))?;
        wait_queued(&listener, queued)?;
        clients.push(socket);
    }
    let accepted = drain(&listener)?;
    ensure!(accepted == u64::from(count), "{accepted} of {count} connections were queued");
    must_not_fail(stage, &listener, accepted)
}

/// Non-blocking connects that nobody answers (their SYNs are dropped), polled and then closed.
fn closed_before_answer(stage: &mut Stage) -> Result<()> {
    let listener = listen(&loopback(), SockType::Stream, 0)?;
    stage.listens(NAME, &listener);
    let clients = fill(&listener, 1)?;
    let before = netstat::read()?;
    for _ in 0..6 {
        let socket = begin(&listener.at)?;
        must_be(&listener.at, Errno::EALREADY, listener.at.connect(&socket))?;
    }
    stage.abandoned(&listener.at, stage.seen.pid, 6);
    note_drops(stage, NAME, &listener, &before, 0)?;
    drop(clients);
    let accepted = drain(&listener)?;
    must_not_fail(stage, &listener, accepted)
}

fn must_not_fail(stage: &mut Stage, listener: &Listener, accepted: u64) -> Result<()> {
    stage.seen.must_not_fail.push(listener.address.clone());
    stage.accepted(accepts(NAME, listener, accepted)?);
    Ok(())
}
