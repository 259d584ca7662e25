//! Unix connects that sleep because a backlog is full.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::actor::{Role, prepare};
use super::attempt::{failure, must_be};
use super::clock::{now_ns, sleep_ms};
use super::listener::accepts;
use super::record::{Blocked, UnixDrops};
use super::socket::{Address, Listener, accept, listen};
use super::stage::{Stage, whoami};

const NAME: &str = "connect_blocked";
/// For how long nobody accepts.
const ASLEEP_MS: u64 = 300;
/// `SO_SNDTIMEO` of the client that gives up.
const PATIENCE_MS: u64 = 150;
/// The kernel counts it in ticks, of which the first has begun already: the longest tick there is.
const TICK_MS: u64 = 10;

/// Two clients fill `listen(1)`; two more sleep until the server accepts.
///
/// # Errors
/// When a call ends in another way.
pub fn until_accepted(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("blocked.sock"))?;
    let sleepers = [(); 2].map(|()| prepare(Role::named("st-asleep"), move || sleep_in(at)));
    let listener = listen(&at, SockType::Stream, 1)?;
    stage.listens(NAME, &listener);
    let queued = fill(&listener)?;
    let mut sleeping = Vec::new();
    for sleeper in sleepers {
        let mut sleeper = sleeper?;
        sleeper.start()?;
        sleeping.push(sleeper);
    }
    sleep_ms(ASLEEP_MS);
    for _ in 0..4 {
        accept(&listener, SockFlag::empty()).context("accept")?;
    }
    for sleeper in sleeping {
        stage.seen.blocked.push(sleeper.finish()?);
    }
    stage.accepted(accepts(NAME, &listener, 4)?);
    stage.seen.must_not_fail.push(listener.address.clone());
    drop(queued);
    Ok(())
}

/// A client that gives up: it slept, its connect failed, and the listener turned it away.
///
/// # Errors
/// As [`until_accepted`].
pub fn until_timeout(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("impatient.sock"))?;
    let listener = listen(&at, SockType::Stream, 1)?;
    stage.listens(NAME, &listener);
    let queued = fill(&listener)?;
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    let patience = TimeVal::new(0, i64::try_from(PATIENCE_MS * 1000).context("microseconds")?);
    setsockopt(&socket, sockopt::SendTimeout, &patience).context("SO_SNDTIMEO")?;
    let begin = now_ns()?;
    must_be(&at, Errno::EAGAIN, at.connect(&socket))?;
    let (pid, _, comm) = whoami()?;
    stage.seen.blocked.push(slept(&at, begin, Duration::from_millis(PATIENCE_MS - TICK_MS))?);
    stage.failed(failure(NAME, &at, Errno::EAGAIN, 1)?);
    stage.seen.unix_drops.push(UnixDrops {
        name: NAME.to_owned(),
        pid,
        comm,
        listener: listener.address.clone(),
        inode: listener.inode,
        count: 1,
    });
    let count = super::listener::drain(&listener)?;
    stage.accepted(accepts(NAME, &listener, count)?);
    drop(queued);
    Ok(())
}

/// As many as fit: one more than the backlog.
fn fill(listener: &Listener) -> Result<Vec<std::os::fd::OwnedFd>> {
    let connect = |_| {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("a connection that fits")?;
        Ok(socket)
    };
    (0..2).map(connect).collect()
}

fn sleep_in(at: Address) -> Result<Blocked> {
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    let begin = now_ns()?;
    at.connect(&socket).context("connect")?;
    // The server began to wait after it had started this process: most of its sleep is ours.
    slept(&at, begin, Duration::from_millis(ASLEEP_MS / 2))
}

fn slept(at: &Address, begin: u64, at_least: Duration) -> Result<Blocked> {
    Ok(Blocked {
        pid: whoami()?.0,
        target: at.text(),
        count: 1,
        longest_at_least_ns: u64::try_from(at_least.as_nanos()).context("nanoseconds")?,
        sum_at_most_ns: now_ns()? - begin,
    })
}
