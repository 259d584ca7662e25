//! Accepts and connects through io_uring: no system call of that name is made.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, SockFlag, SockType, shutdown};

use super::ring::Ring;
use crate::scenario::actor::{Role, prepare};
use crate::scenario::attempt::{failure, must_be};
use crate::scenario::clock::{now_ns, sleep_ms};
use crate::scenario::listener::{self, drain, loopback, wait_queued};
use crate::scenario::record::{Accepts, Closed, Failure};
use crate::scenario::socket::{
    Address, Listener, accept, bound, listen, listening, reset_on_close,
};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_timeout::fill;

const NAME: &str = "edge_ring_accept";
/// What is asked for by `listen()` through io_uring.
const RING_BACKLOG: u32 = 23;
/// How long a backlog stays full.
const FULL_MS: u16 = 100;

/// A ring, or a note that this kernel allows none.
pub(super) fn ring(stage: &mut Stage, by_worker: bool) -> Result<Option<Ring>> {
    match Ring::new(by_worker)? {
        Ok(ring) => Ok(Some(ring)),
        Err(Errno::ENOSYS | Errno::EPERM) => {
            stage.seen.lacks.push("io_uring".to_owned());
            Ok(None)
        }
        Err(errno) => bail!("io_uring_setup: {errno:?}"),
    }
}

/// Accepts of connections that wait already, and of such that come later; TCP and Unix.
///
/// # Errors
/// When one is not accepted.
pub(super) fn accepts(stage: &mut Stage) -> Result<()> {
    accept_all(stage, false)
}

/// The same, done by a worker thread of the kernel's.
///
/// # Errors
/// As [`accepts`].
pub(super) fn accepts_by_worker(stage: &mut Stage) -> Result<()> {
    accept_all(stage, true)
}

fn accept_all(stage: &mut Stage, by_worker: bool) -> Result<()> {
    let Some(ring) = ring(stage, by_worker)? else { return Ok(()) };
    let path = Address::path(&stage.path("ring.sock"))?;
    for at in [loopback(), path] {
        let server = listen(&at, SockType::Stream, 16)?;
        stage.listens(NAME, &server);
        let mut record = listener::accepts(NAME, &server, 0)?;
        for wait in [12, 0, 31] {
            queued_first(&ring, &server, wait, &mut record)?;
        }
        for _ in 0..4 {
            asked_first(&ring, &server, &mut record)?;
        }
        stage.accepted(record);
    }
    Ok(())
}

/// Notes one accept of a connection that waits already.
///
/// # Errors
/// When it is not accepted.
pub(super) fn queued_first(
    ring: &Ring,
    listener: &Listener,
    wait: u64,
    record: &mut Accepts,
) -> Result<()> {
    let client = listener.at.socket(SockType::Stream, SockFlag::empty())?;
    let called = now_ns()?;
    listener.at.connect(&client).context("connect")?;
    if listener.family != "unix" {
        wait_queued(listener, 1)?;
    }
    let queued = now_ns()?;
    sleep_ms(wait);
    let asked = now_ns()?;
    ring.begin_accept(&listener.fd)?;
    ring.end_accept()?;
    record.lower_ns.push(asked - queued);
    record.upper_ns.push(now_ns()? - called);
    record.count += 1;
    Ok(())
}

fn asked_first(ring: &Ring, listener: &Listener, record: &mut Accepts) -> Result<()> {
    ring.begin_accept(&listener.fd)?;
    sleep_ms(5);
    let client = listener.at.socket(SockType::Stream, SockFlag::empty())?;
    let called = now_ns()?;
    listener.at.connect(&client).context("connect")?;
    ring.end_accept()?;
    record.lower_ns.push(0);
    record.upper_ns.push(now_ns()? - called);
    record.count += 1;
    Ok(())
}

/// Two listeners begin to listen through io_uring, TCP and Unix; a kernel that does not know the operation refuses it.
///
/// # Errors
/// When they cannot.
pub(super) fn listens(stage: &mut Stage) -> Result<()> {
    let Some(ring) = ring(stage, false)? else { return Ok(()) };
    for at in [loopback(), Address::path(&stage.path("ring-listen.sock"))?] {
        let (fd, at) = bound(&at, SockType::Stream)?;
        match ring.listen(&fd, RING_BACKLOG)? {
            Ok(()) => {}
            Err(Errno::EINVAL) => {
                stage.seen.lacks.push("io_uring_listen".to_owned());
                return Ok(());
            }
            Err(errno) => bail!("listen through io_uring: {errno:?}"),
        }
        let listener = listening(fd, at, RING_BACKLOG)?;
        stage.listens("edge_ring_listen", &listener);
        let client = at.socket(SockType::Stream, SockFlag::empty())?;
        at.connect(&client).context("connect")?;
        accept(&listener, SockFlag::empty()).context("accept")?;
        stage.accepted(listener::accepts("edge_ring_listen", &listener, 1)?);
    }
    Ok(())
}

/// A listener is shut down with connections in its queue, and those that were accepted through io_uring are closed
/// after that, by the same thread.
///
/// # Errors
/// When a connection does not come about.
pub(super) fn shut_down(stage: &mut Stage) -> Result<()> {
    let Some(ring) = ring(stage, false)? else { return Ok(()) };
    let name = "edge_ring_shut_down";
    let server = listen(&loopback(), SockType::Stream, 16)?;
    stage.listens(name, &server);
    let mut clients = Vec::new();
    let mut accepted = Vec::new();
    for queued in [1, 1, 1, 1, 2] {
        let client = server.at.socket(SockType::Stream, SockFlag::empty())?;
        server.at.connect(&client).context("connect")?;
        wait_queued(&server, queued)?;
        clients.push(client);
        if accepted.len() < 3 {
            ring.begin_accept(&server.fd)?;
            accepted.push(ring.end_accept()?);
        }
    }
    shutdown(server.fd.as_raw_fd(), Shutdown::Both).context("shutdown")?;
    let (family, address) = (server.family.to_owned(), server.address.clone());
    stage.seen.closed.push(Closed { family, listener: address, inode: server.inode, count: 2 });
    for connection in accepted {
        reset_on_close(&connection)?;
    }
    stage.accepted(listener::accepts(name, &server, 3)?);
    drop(clients);
    Ok(())
}

/// Connects: refused TCP, a missing and a forbidden path, and two that succeed.
///
/// # Errors
/// When one ends in another way.
pub(super) fn connects(stage: &mut Stage) -> Result<()> {
    connect_all(stage, false)
}

/// The same, done by a worker thread of the kernel's.
///
/// # Errors
/// As [`connects`].
pub(super) fn connects_by_worker(stage: &mut Stage) -> Result<()> {
    connect_all(stage, true)
}

/// A connect to a Unix listener whose backlog is full: io_uring tries without blocking first, gets `EAGAIN`, keeps that to
/// itself and waits. It succeeds once there is room.
///
/// # Errors
/// When it fails.
pub(super) fn connects_when_there_is_room(stage: &mut Stage) -> Result<()> {
    let name = "edge_ring_connect_full";
    // Dropped at once: the scenario forks below.
    if ring(stage, false)?.is_none() {
        return Ok(());
    }
    let at = Address::path(&stage.path("room.sock"))?;
    let mut client = prepare(Role::named("st-ring"), move || {
        let ring = Ring::new(false)?.context("a ring")?;
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        ring.connect(&socket, &at)?.context("connect through io_uring")
    })?;
    let listener = listen(&at, SockType::Stream, 0)?;
    stage.listens(name, &listener);
    let queued = fill(&listener, 1)?;
    client.start()?;
    let mut end = [PollFd::new(client.finished().as_fd(), PollFlags::POLLIN)];
    let ended = poll(&mut end, PollTimeout::from(FULL_MS)).context("poll")?;
    ensure!(ended == 0, "it did not wait for room");
    accept(&listener, SockFlag::empty()).context("accept")?;
    client.finish()?;
    let late = drain(&listener)?;
    ensure!(late == 1, "{late} connections came later");
    stage.accepted(listener::accepts(name, &listener, 2)?);
    stage.seen.must_not_fail.push(listener.address);
    drop(queued);
    Ok(())
}

fn connect_all(stage: &mut Stage, by_worker: bool) -> Result<()> {
    // Dropped at once: the scenario forks below.
    if ring(stage, false)?.is_none() {
        return Ok(());
    }
    let (_held, refused) = bound(&loopback(), SockType::Stream)?;
    let missing = Address::path(&stage.path("missing.sock"))?;
    let path = stage.path("forbidden.sock");
    let forbidden = Address::path(&path)?;
    let listener = listen(&forbidden, SockType::Stream, 16)?;
    stage.listens("edge_ring_connect", &listener);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).context("chmod")?;
    let errors = [
        (refused, Errno::ECONNREFUSED, 4),
        (missing, Errno::ENOENT, 5),
        (forbidden, Errno::EACCES, 6),
    ];
    let role = Role { comm: "st-ring", uid: Some(65534) };
    let failed = prepare(role, move || {
        let ring = Ring::new(by_worker)?.context("a ring for an ordinary user")?;
        errors.iter().map(|(at, errno, count)| must_fail(&ring, at, *errno, *count)).collect()
    })?;
    let failed: Vec<Failure> = failed.perform()?;
    stage.seen.failures.extend(failed);
    succeed(stage, by_worker)
}

fn must_fail(ring: &Ring, at: &Address, errno: Errno, count: u64) -> Result<Failure> {
    for _ in 0..count {
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        must_be(at, errno, ring.connect(&socket, at)?)?;
    }
    failure("edge_ring_connect", at, errno, count)
}

fn succeed(stage: &mut Stage, by_worker: bool) -> Result<()> {
    let Some(ring) = ring(stage, by_worker)? else { bail!("no second ring") };
    let path = Address::path(&stage.path("open.sock"))?;
    for at in [loopback(), path] {
        let listener = listen(&at, SockType::Stream, 16)?;
        stage.listens("edge_ring_connect", &listener);
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        ring.connect(&socket, &listener.at)?.context("connect through io_uring")?;
        stage.seen.must_not_fail.push(listener.address);
    }
    Ok(())
}
