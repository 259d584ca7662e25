//! A burst that overflows an accept queue: SYNs and last ACKs of handshakes are dropped.
//!
//! The clients are a process of their own: whoever is on the CPU when a packet is dropped is not
//! the listener's owner.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, SockType};

use super::actor::{Actor, Role, prepare};
use super::clock::{now_ns, sleep_ms};
use super::listener::{accepts, drain, loopback, set_nonblocking};
use super::netstat;
use super::socket::{Address, Listener, accept, bound, listen, reset_on_close};
use super::stage::Stage;
use super::tcp_timeout::note_drops;

const NAME: &str = "overflow";
/// Connects per client thread; there are two.
const CONNECTS: u64 = 150;
/// From the first connect until the clients close.
const DURATION: Duration = Duration::from_millis(2500);
/// Between two connects of one thread: the burst goes on while the server accepts.
const CONNECT_EVERY_MS: u64 = 6;
/// Between two accepts of the slow server.
const ACCEPT_EVERY_MS: u16 = 37;

/// `listen(4)`, 300 clients, an accept every 37 ms.
///
/// # Errors
/// When nothing is dropped.
pub fn burst(stage: &mut Stage) -> Result<()> {
    flood(stage, &loopback(), IpAddr::from(Ipv4Addr::LOCALHOST))
}

/// The same over IPv6.
///
/// # Errors
/// As [`burst`].
pub fn burst_v6(stage: &mut Stage) -> Result<()> {
    let at = Address::ip(Ipv6Addr::LOCALHOST.into(), 0);
    flood(stage, &at, IpAddr::from(Ipv6Addr::LOCALHOST))
}

/// IPv4 clients of an IPv6 listener.
///
/// # Errors
/// As [`burst`].
pub fn burst_mapped(stage: &mut Stage) -> Result<()> {
    let at = Address::ip(Ipv6Addr::UNSPECIFIED.into(), 0);
    flood(stage, &at, IpAddr::from(Ipv4Addr::LOCALHOST))
}

fn flood(stage: &mut Stage, at: &Address, through: IpAddr) -> Result<()> {
    let at = bound(at, SockType::Stream)?.1;
    let target = Address::ip(through, at.port());
    let mut clients = prepare(Role::named("st-burst"), move || storm(target))?;
    let listener = listen(&at, SockType::Stream, 4)?;
    stage.listens(NAME, &listener);
    set_nonblocking(&listener)?;
    let before = netstat::read()?;
    clients.start()?;
    let mut accepted = serve_slowly(&listener, &clients)?;
    clients.finish()?;
    note_drops(stage, NAME, &listener, &before, 0)?;
    accepted += drain(&listener)?;
    stage.accepted(accepts(NAME, &listener, accepted)?);
    stage.seen.must_not_fail.push(target.text());
    let dropped = stage.seen.tcp_drops.last().map_or(0, |drops| drops.netstat.listen_drops);
    ensure!(dropped > 0, "300 connects to listen(4) and nothing was dropped");
    Ok(())
}

/// Accepts one connection at a time until the clients are done.
fn serve_slowly(listener: &Listener, clients: &Actor<()>) -> Result<u64> {
    let mut accepted = 0;
    loop {
        match accept(listener, SockFlag::empty()) {
            Ok(_) => accepted += 1,
            Err(Errno::EAGAIN) => {}
            Err(errno) => bail!("accept: {errno:?}"),
        }
        let mut end = [PollFd::new(clients.finished().as_fd(), PollFlags::POLLIN)];
        if poll(&mut end, PollTimeout::from(ACCEPT_EVERY_MS)).context("poll")? > 0 {
            return Ok(accepted);
        }
    }
}

/// Both client threads.
fn storm(at: Address) -> Result<()> {
    let until = now_ns()? + u64::try_from(DURATION.as_nanos()).context("duration")?;
    let threads = [0, 1].map(|_| std::thread::spawn(move || connect_all(at, until)));
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a client thread panicked"))??;
    }
    Ok(())
}

fn connect_all(at: Address, until: u64) -> Result<()> {
    let mut clients: Vec<OwnedFd> = Vec::new();
    for _ in 0..CONNECTS {
        let socket = at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
        match at.connect(&socket) {
            Ok(()) | Err(Errno::EINPROGRESS) => clients.push(socket),
            Err(errno) => bail!("connect: {errno:?}"),
        }
        sleep_ms(CONNECT_EVERY_MS);
    }
    let left = until.saturating_sub(now_ns()?);
    sleep_ms(left / 1_000_000);
    // A reset leaves nothing to retransmit: no drop can follow.
    clients.iter().try_for_each(reset_on_close)
}
