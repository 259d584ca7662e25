//! A Unix listener whose backlog is full, and a client of another process that does not wait.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::actor::{Role, prepare};
use super::attempt::{failure, must_be};
use super::listener::{accepts, drain};
use super::record::{Failure, UnixDrops};
use super::socket::{Address, listen};
use super::stage::Stage;

const NAME: &str = "unix_backlog";
/// How many connections `listen(1)` lets into the queue.
const FIT: u64 = 2;
/// How many are turned away then.
const TURNED_AWAY: u64 = 12;

/// `listen(1)`, two connections that fit, twelve that get `EAGAIN`.
///
/// # Errors
/// When the incident cannot be made.
pub fn full(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("backlog.sock"))?;
    let client = prepare(Role::named("st-backlog"), move || fill(&at))?;
    let listener = listen(&at, SockType::Stream, 1)?;
    stage.listens(NAME, &listener);
    let failed = client.perform()?;
    stage.seen.unix_drops.push(UnixDrops {
        name: NAME.to_owned(),
        pid: stage.seen.pid,
        comm: stage.seen.comm.clone(),
        listener: listener.address.clone(),
        inode: listener.inode,
        count: failed.count,
    });
    stage.failed(failed);
    let queued = drain(&listener)?;
    stage.accepted(accepts(NAME, &listener, queued)?);
    Ok(())
}

fn fill(at: &Address) -> Result<Failure> {
    let mut queued = Vec::new();
    for _ in 0..FIT {
        let socket = at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
        at.connect(&socket).context("a connection that fits")?;
        queued.push(socket);
    }
    turn_away(at, TURNED_AWAY)?;
    failure(NAME, at, Errno::EAGAIN, TURNED_AWAY)
}

/// So many connects that do not wait, each of which must get `EAGAIN`.
///
/// # Errors
/// When one gets anything else.
pub fn turn_away(at: &Address, count: u64) -> Result<()> {
    for _ in 0..count {
        let socket = at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
        must_be(at, Errno::EAGAIN, at.connect(&socket))?;
    }
    Ok(())
}
