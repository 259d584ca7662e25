//! Many threads at once: connectors, acceptors and refused clients, to lose what can be lost.
//!
//! A probe that is preempted hides the same hook from every other thread on that CPU; only counts
//! under contention show whether the tracer makes up for it.

use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{SockFlag, SockType};

use super::attempt::{failure, must_be};
use super::clock::sleep_ms;
use super::listener::{accepts, loopback};
use super::socket::{Address, Listener, accept, bound, listen};
use super::stage::Stage;

const NAME: &str = "hammer";
const THREADS: u64 = 8;
const EACH: u64 = 300;
const SLEEPERS: u64 = 40;
/// For all of them to call `connect()`, on a slow machine.
const UNTIL_ASLEEP_MS: u64 = 500;

/// Eight connectors against eight acceptors, on TCP and Unix, then eight clients that fail, on both.
///
/// # Errors
/// When a call fails.
pub fn all(stage: &mut Stage) -> Result<()> {
    // Both ends of every connection are open at once, in this process.
    let most = 4 * THREADS * EACH;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising the limit of descriptors")?;
    let path = Address::path(&stage.path("hammer.sock"))?;
    for at in [loopback(), path] {
        let listener = listen(&at, SockType::Stream, 4000)?;
        stage.listens(NAME, &listener);
        let count = accept_and_connect(&listener)?;
        stage.accepted(accepts(NAME, &listener, count)?);
        stage.seen.must_not_fail.push(listener.address.clone());
    }
    let (_held, at) = bound(&loopback(), SockType::Stream)?;
    fail(stage, &at, Errno::ECONNREFUSED)?;
    let nowhere = Address::path(&stage.path("nowhere.sock"))?;
    fail(stage, &nowhere, Errno::ENOENT)
}

/// Eight clients that fail, while many more are asleep in `connect()`: more than a kretprobe has return slots on a small machine.
///
/// # Errors
/// As [`all`].
pub fn amid_sleepers(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("full.sock"))?;
    let listener = listen(&at, SockType::Stream, 0)?;
    stage.listens(NAME, &listener);
    let _queued = connected(&at)?;
    let nowhere = Address::path(&stage.path("nowhere.sock"))?;
    std::thread::scope(|scope| {
        let sleepers = scope.spawn(|| on_threads(SLEEPERS, || refused(&at)));
        sleep_ms(UNTIL_ASLEEP_MS);
        let failed = fail(stage, &nowhere, Errno::ENOENT);
        // They wake up, and find nobody who listens.
        drop(listener);
        sleepers.join().map_err(|_| anyhow!("a sleeper panicked"))?.and(failed)
    })?;
    stage.failed(failure(NAME, &at, Errno::ECONNREFUSED, SLEEPERS)?);
    Ok(())
}

/// Eight threads fail to connect, each many times.
fn fail(stage: &mut Stage, at: &Address, errno: Errno) -> Result<()> {
    on_threads(THREADS, || {
        (0..EACH).try_for_each(|_| {
            let socket = at.socket(SockType::Stream, SockFlag::empty())?;
            must_be(at, errno, at.connect(&socket))
        })
    })?;
    stage.failed(failure(NAME, at, errno, THREADS * EACH)?);
    Ok(())
}

fn accept_and_connect(listener: &Listener) -> Result<u64> {
    let accepted = AtomicU64::new(0);
    let serve = || -> Result<()> {
        for _ in 0..EACH {
            accept(listener, SockFlag::empty()).context("accept")?;
            accepted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    // Held until all are accepted: where the last ACK of a handshake is lost, only a client that
    // still lives answers when the listener asks again.
    let held = Mutex::new(Vec::new());
    let connects = || -> Result<()> {
        for _ in 0..EACH {
            let client = connected(&listener.at)?;
            held.lock().map_err(|_| anyhow!("a client thread panicked"))?.push(client);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let servers = scope.spawn(|| on_threads(THREADS, serve));
        let clients = on_threads(THREADS, connects);
        let served = servers.join().map_err(|_| anyhow!("a server thread panicked"))?;
        clients.and(served)
    })?;
    let count = accepted.into_inner();
    ensure!(count == THREADS * EACH, "{count} connections accepted");
    Ok(count)
}

fn connected(at: &Address) -> Result<OwnedFd> {
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    at.connect(&socket).context("connect")?;
    Ok(socket)
}

fn refused(at: &Address) -> Result<()> {
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    must_be(at, Errno::ECONNREFUSED, at.connect(&socket))
}

fn on_threads(count: u64, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        threads.into_iter().try_for_each(join)
    })
}
