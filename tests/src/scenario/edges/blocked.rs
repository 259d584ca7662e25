//! Things that were under way before tracing began: threads blocked in `accept()`, connections in
//! the queue.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{SockFlag, SockType, bind};

use super::mptcp;
use crate::scenario::clock::{now_ns, wait_until};
use crate::scenario::gate::Gate;
use crate::scenario::listener::{accepts, drain, loopback, wait_queued};
use crate::scenario::socket::{Address, Listener, accept, listen, listen_on, local_address};
use crate::scenario::stage::Stage;

/// Threads that block in `accept()` when tracing begins.
const THREADS: usize = 64;
const BACKLOG: u32 = 80;

/// Sixty-four threads blocked on a TCP listener, then a connection for each.
///
/// # Errors
/// When they do not block, or not each gets one.
pub(super) fn tcp(stage: &mut Stage, gate: &Gate) -> Result<()> {
    blocked(
        stage,
        gate,
        "edge_blocked_tcp",
        &listen(&loopback(), SockType::Stream, BACKLOG)?,
        plain,
    )
}

/// The same on a listener that speaks MPTCP, with clients that do; a kernel without MPTCP refuses the socket.
///
/// # Errors
/// As [`tcp`].
pub(super) fn multipath(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let Some(fd) = mptcp::first_multipath(stage)? else {
        gate.arrive()?;
        return gate.leave_and_stay();
    };
    bind(fd.as_raw_fd(), loopback().as_sockaddr()).context("bind")?;
    let at = local_address(&fd, loopback())?;
    let client = |_: &Address| mptcp::multipath().context("socket(IPPROTO_MPTCP)");
    blocked(stage, gate, "edge_blocked_mptcp", &listen_on(fd, at, BACKLOG)?, client)
}

/// The same on a Unix listener.
///
/// # Errors
/// As [`tcp`].
pub(super) fn unix(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let at = Address::path(&stage.path("blocked.sock"))?;
    blocked(stage, gate, "edge_blocked_unix", &listen(&at, SockType::Stream, BACKLOG)?, plain)
}

fn plain(at: &Address) -> Result<OwnedFd> {
    at.socket(SockType::Stream, SockFlag::empty())
}

fn blocked(
    stage: &mut Stage,
    gate: &Gate,
    name: &str,
    listener: &Listener,
    client: impl Fn(&Address) -> Result<OwnedFd>,
) -> Result<()> {
    let mut record = accepts(name, listener, 0)?;
    let returned = Mutex::new(Vec::new());
    let accept_one = || -> Result<()> {
        accept(listener, SockFlag::empty()).context("accept")?;
        let now = now_ns()?;
        returned.lock().map_err(|_| anyhow!("a thread panicked"))?.push(now);
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(accept_one)).collect();
        wait_until("all threads to block", || Ok(blocked_in_accept()? == THREADS))?;
        gate.arrive()?;
        for done in 1..=THREADS {
            let socket = client(&listener.at)?;
            let called = now_ns()?;
            listener.at.connect(&socket).context("connect")?;
            let all = || returned.lock().map_err(|_| anyhow!("a thread panicked"));
            wait_until("a blocked thread to accept", || Ok(all()?.len() == done))?;
            let last = *all()?.last().context("an accept")?;
            record.lower_ns.push(0);
            record.upper_ns.push(last - called);
            record.count += 1;
        }
        threads.into_iter().try_for_each(|it| it.join().map_err(|_| anyhow!("a panic"))?)
    })?;
    stage.accepted(record);
    gate.leave_and_stay()
}

/// How many threads of this process are asleep in `accept4()`.
fn blocked_in_accept() -> Result<usize> {
    let number = format!("{} ", libc::SYS_accept4);
    let mut count = 0;
    for thread in std::fs::read_dir("/proc/self/task").context("threads")? {
        let call = std::fs::read_to_string(thread?.path().join("syscall"));
        count += usize::from(call.is_ok_and(|text| text.starts_with(&number)));
    }
    Ok(count)
}

/// Connections that lie in the queue when tracing begins, seven of TCP and five of Unix, and as many
/// that come later.
///
/// # Errors
/// When they are not all accepted.
pub(super) fn queued_before(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let name = "edge_queued_before";
    let path = Address::path(&stage.path("queued.sock"))?;
    let mut listeners = Vec::new();
    for (at, count) in [(loopback(), 7), (path, 5)] {
        let listener = listen(&at, SockType::Stream, 32)?;
        let clients = connect_all(&listener, count)?;
        if listener.family != "unix" {
            wait_queued(&listener, count)?;
        }
        listeners.push((listener, clients, count));
    }
    gate.arrive()?;
    for (listener, _clients, count) in &listeners {
        let early = drain(listener)?;
        ensure!(early == u64::from(*count), "{early} of {count} connections were queued");
        let clients = connect_all(listener, *count)?;
        if listener.family != "unix" {
            wait_queued(listener, *count)?;
        }
        let late = drain(listener)?;
        ensure!(late == early, "{late} of {early} later connections were queued");
        stage.accepted(accepts(name, listener, early)?);
        stage.accepted(accepts("edge_queued_later", listener, late)?);
        drop(clients);
    }
    std::thread::sleep(Duration::from_millis(20));
    gate.leave_and_stay()
}

fn connect_all(listener: &Listener, count: u32) -> Result<Vec<OwnedFd>> {
    let connect = |_| {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("connect")?;
        Ok(socket)
    };
    (0..count).map(connect).collect()
}
