//! Accepts: connections that wait a known time in the queue, and an acceptor that waits for them.

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{SockFlag, SockType};

use super::accept_waits::{measure, measure_batch};
use super::actor::{Role, prepare};
use super::clock::{now_ns, sleep_ms};
use super::listener::{accepts, loopback};
use super::record::Accepts;
use super::socket::{Address, Listener, accept, listen};
use super::stage::Stage;

/// How long each of the twenty connections waits: 1 to 60 ms, no two alike, in no order.
const WAITS_MS: [u64; 20] =
    [1, 33, 7, 60, 4, 41, 13, 25, 2, 53, 19, 10, 29, 3, 47, 16, 37, 5, 22, 57];

/// Twenty TCP connections.
///
/// # Errors
/// When the incident cannot be made.
pub fn tcp(stage: &mut Stage) -> Result<()> {
    let listener = listen(&loopback(), SockType::Stream, 22)?;
    stage.listens("accept_tcp", &listener);
    stage.accepted(measure("accept_tcp", &listener, SockType::Stream, &WAITS_MS)?);
    Ok(())
}

/// Twenty Unix stream connections, a batch of ten that wait at the same time, three of seqpacket.
///
/// # Errors
/// When the incident cannot be made.
pub fn unix(stage: &mut Stage) -> Result<()> {
    let kind = SockType::Stream;
    let path = Address::path(&stage.path("accept.sock"))?;
    let listener = listen(&path, kind, 23)?;
    stage.listens("accept_unix", &listener);
    stage.accepted(measure("accept_unix", &listener, kind, &WAITS_MS)?);

    let path = Address::path(&stage.path("accept-batch.sock"))?;
    let listener = listen(&path, kind, 24)?;
    stage.listens("accept_unix_batch", &listener);
    stage.accepted(measure_batch("accept_unix_batch", &listener, kind, &WAITS_MS[..10])?);

    let kind = SockType::SeqPacket;
    let path = Address::path(&stage.path("accept-seqpacket.sock"))?;
    let listener = listen(&path, kind, 25)?;
    stage.listens("accept_seqpacket", &listener);
    stage.accepted(measure("accept_seqpacket", &listener, kind, &[30, 8, 15])?);
    Ok(())
}

/// An acceptor that blocks in `accept()` long before the client comes: that is no time in the queue.
///
/// # Errors
/// When the incident cannot be made.
pub fn accept_before_connect(stage: &mut Stage) -> Result<()> {
    let path = Address::path(&stage.path("accept-first.sock"))?;
    // The client must know the port before the listener exists: the number comes from a trial.
    let port = super::socket::bound(&loopback(), SockType::Stream)?.1;
    for (at, count) in [(port, 4), (path, 5)] {
        let record = blocked_acceptor(stage, &at, count)?;
        stage.accepted(record);
    }
    Ok(())
}

fn blocked_acceptor(stage: &mut Stage, at: &Address, count: u64) -> Result<Accepts> {
    let name = "accept_first";
    let to = *at;
    let mut client = prepare(Role::named("st-late-client"), move || connect_late(&to, count))?;
    let listener = listen(at, SockType::Stream, 26)?;
    stage.listens(name, &listener);
    let mut record = accepts(name, &listener, count)?;
    client.start()?;
    let returned = accept_all(&listener, count)?;
    let called = client.finish()?;
    ensure!(called.len() == returned.len(), "the client made {} connections", called.len());
    record.lower_ns = vec![0; returned.len()];
    record.upper_ns = returned.iter().zip(&called).map(|(after, before)| after - before).collect();
    Ok(record)
}

/// Connects after a pause each, so that the acceptor blocks; returns when each call was made.
fn connect_late(at: &Address, count: u64) -> Result<Vec<u64>> {
    let mut called = Vec::new();
    for _ in 0..count {
        sleep_ms(50);
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        called.push(now_ns()?);
        at.connect(&socket).context("connect")?;
    }
    Ok(called)
}

fn accept_all(listener: &Listener, count: u64) -> Result<Vec<u64>> {
    let mut returned = Vec::new();
    for _ in 0..count {
        accept(listener, SockFlag::empty()).context("accept")?;
        returned.push(now_ns()?);
    }
    Ok(returned)
}
