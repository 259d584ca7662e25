//! Blocking connects that something ends before they are answered: a signal, or a time limit.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::socket::{SockFlag, SockType, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;

use crate::scenario::actor::{Actor, Role, prepare};
use crate::scenario::attempt::{failure, must_be};
use crate::scenario::clock::{now_ns, sleep_ms, wait_until};
use crate::scenario::listener::{accepts, drain, loopback};
use crate::scenario::record::{Blocked, UnixDrops};
use crate::scenario::socket::{Address, Listener, bound, listen};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_timeout::fill;

/// Behind a signal.
const PAUSE_MS: u64 = 50;
/// How often this process's handler ran.
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_signal: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// On TCP and Unix, a handler with `SA_RESTART` (the connect goes on and succeeds) and one without
/// (it ends with EINTR, and the program gives up).
///
/// # Errors
/// When a connect ends in another way.
pub(super) fn by_signals(stage: &mut Stage) -> Result<()> {
    let port = bound(&loopback(), SockType::Stream)?.1;
    let path = Address::path(&stage.path("interrupted.sock"))?;
    for at in [port, path] {
        let restarted = prepare(Role::named("st-restarted"), move || interrupted(&at, true))?;
        let given_up = prepare(Role::named("st-interrupted"), move || interrupted(&at, false))?;
        let listener = listen(&at, SockType::Stream, 0)?;
        let fillers = full(&listener)?;
        let client = given_up.pid();
        interrupt(given_up)?.finish()?;
        if listener.family != "unix" {
            stage.abandoned(&at, client, 1);
        }
        let (begin, pid) = (now_ns()?, restarted.pid());
        let restarted = interrupt(restarted)?;
        let mut accepted = drain(&listener)?;
        drop(fillers);
        restarted.finish()?;
        if listener.family == "unix" {
            // From the signal on, which is half of the pause behind it at the least.
            stage.seen.blocked.push(Blocked {
                pid,
                target: listener.address.clone(),
                count: 1,
                longest_at_least_ns: PAUSE_MS / 2 * 1_000_000,
                sum_at_most_ns: now_ns()? - begin,
            });
        }
        accepted += drain(&listener)?;
        ensure!(accepted == 2, "{accepted} connections, not the filler and the restarted one");
        stage.accepted(accepts("edge_interrupted", &listener, accepted)?);
        stage.seen.must_not_fail.push(listener.address);
    }
    Ok(())
}

/// Fills the queue of a `listen(0)`: one connection fits.
fn full(listener: &Listener) -> Result<Vec<OwnedFd>> {
    if listener.family != "unix" {
        return fill(listener, 1);
    }
    let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
    listener.at.connect(&socket).context("a connection that fits")?;
    Ok(vec![socket])
}

/// Starts an actor, waits until it is asleep in `connect()`, and sends it a signal.
fn interrupt(mut actor: Actor<()>) -> Result<Actor<()>> {
    actor.start()?;
    let call = format!("/proc/{}/syscall", actor.pid());
    let number = format!("{} ", libc::SYS_connect);
    let asleep = || Ok(std::fs::read_to_string(&call).context("syscall")?.starts_with(&number));
    wait_until("a client asleep in connect()", asleep)?;
    let pid = Pid::from_raw(actor.pid().cast_signed());
    kill(pid, Signal::SIGUSR1).context("SIGUSR1")?;
    sleep_ms(PAUSE_MS);
    Ok(actor)
}

/// The client: one blocking connect, one signal.
fn interrupted(at: &Address, restarts: bool) -> Result<()> {
    let flags = if restarts { SaFlags::SA_RESTART } else { SaFlags::empty() };
    let action = SigAction::new(SigHandler::Handler(count), flags, SigSet::empty());
    // SAFETY: the handler only adds to an atomic number.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.context("sigaction")?;
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    let outcome = at.connect(&socket);
    ensure!(HANDLED.load(Ordering::Relaxed) == 1, "the handler did not run during connect()");
    if restarts {
        return outcome.with_context(|| format!("the restarted connect to {}", at.text()));
    }
    must_be(at, Errno::EINTR, outcome)
}

/// `SO_SNDTIMEO`: on TCP a blocking connect then ends with EINPROGRESS and goes on, on Unix with
/// EAGAIN, which the full backlog is to blame for.
///
/// # Errors
/// When a connect ends in another way.
pub(super) fn by_timeouts(stage: &mut Stage) -> Result<()> {
    let name = "edge_send_timeout";
    let listener = listen(&loopback(), SockType::Stream, 0)?;
    let fillers = full(&listener)?;
    for _ in 0..3 {
        let socket = impatient(&listener.at)?;
        must_be(&listener.at, Errno::EINPROGRESS, listener.at.connect(&socket))?;
    }
    stage.abandoned(&listener.at, stage.seen.pid, 3);
    drop(fillers);
    stage.accepted(accepts(name, &listener, drain(&listener)?)?);
    stage.seen.must_not_fail.push(listener.address);

    let path = Address::path(&stage.path("timeout.sock"))?;
    let listener = listen(&path, SockType::Stream, 0)?;
    let _fillers = full(&listener)?;
    for _ in 0..4 {
        let socket = impatient(&path)?;
        must_be(&path, Errno::EAGAIN, path.connect(&socket))?;
    }
    stage.failed(failure(name, &path, Errno::EAGAIN, 4)?);
    stage.seen.unix_drops.push(UnixDrops {
        name: name.to_owned(),
        pid: stage.seen.pid,
        comm: stage.seen.comm.clone(),
        listener: listener.address.clone(),
        inode: listener.inode,
        count: 4,
    });
    stage.accepted(accepts(name, &listener, drain(&listener)?)?);
    Ok(())
}

/// A socket that waits 40 ms at most.
fn impatient(at: &Address) -> Result<OwnedFd> {
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(40)).context("SO_SNDTIMEO")?;
    Ok(socket)
}
