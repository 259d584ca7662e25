//! Listeners: how many connections wait in their queues, and the backlogs that they asked for.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::clock::wait_until;
use super::record::Accepts;
use super::socket::{Address, Listener, accept, listen};
use super::stage::{Stage, whoami};

/// Offset of `tcpi_unacked` in `struct tcp_info`; of a listener it is the accept queue's length.
const TCPI_UNACKED: usize = 24;

/// Loopback with a port that the kernel picks.
pub fn loopback() -> Address {
    Address::ip(Ipv4Addr::LOCALHOST.into(), 0)
}

/// How many connections wait in a TCP listener's accept queue.
///
/// # Errors
/// When the kernel does not tell.
pub fn queue_len(listener: &Listener) -> Result<u32> {
    let mut info = [0u8; 64];
    let mut len = libc::socklen_t::try_from(info.len()).context("length")?;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let (fd, data) = (listener.fd.as_raw_fd(), info.as_mut_ptr().cast());
    // SAFETY: `data` has `len` bytes; the kernel writes no more than that and updates `len`.
    let got = unsafe { libc::getsockopt(fd, level, option, data, &raw mut len) };
    Errno::result(got).context("TCP_INFO")?;
    let bytes = info[TCPI_UNACKED..TCPI_UNACKED + 4].try_into().context("four bytes")?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Waits until so many connections lie in a TCP listener's accept queue.
///
/// # Errors
/// When they do not come.
pub fn wait_queued(listener: &Listener, wanted: u32) -> Result<()> {
    let what = format!("{wanted} connections in the queue of {}", listener.address);
    wait_until(&what, || Ok(queue_len(listener)? == wanted))
}

/// Accepts whatever still waits, without waiting; returns how many there were.
///
/// # Errors
/// Any error but an empty queue.
pub fn drain(listener: &Listener) -> Result<u64> {
    set_nonblocking(listener)?;
    let mut count = 0;
    loop {
        match accept(listener, SockFlag::empty()) {
            Ok(_) => count += 1,
            Err(Errno::EAGAIN) => return Ok(count),
            Err(errno) => return Err(errno).context("accept"),
        }
    }
}

/// Makes `accept()` on the listener return at once.
///
/// # Errors
/// When the system refuses it.
pub fn set_nonblocking(listener: &Listener) -> Result<()> {
    let on = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
    nix::fcntl::fcntl(&listener.fd, on).map(drop).context("O_NONBLOCK")
}

/// A record of connections accepted by this process, counted but not measured.
///
/// # Errors
/// When `/proc` is not there.
pub fn accepts(name: &str, listener: &Listener, count: u64) -> Result<Accepts> {
    let (pid, _, comm) = whoami()?;
    Ok(Accepts {
        name: name.to_owned(),
        pid,
        comm,
        family: listener.family.to_owned(),
        listener: listener.address.clone(),
        inode: listener.inode,
        count,
        ..Accepts::default()
    })
}

/// Listeners whose backlogs are small, ordinary, and beyond what the kernel allows.
///
/// # Errors
/// When a listener cannot be made.
pub fn backlogs(stage: &mut Stage) -> Result<()> {
    for backlog in [1, 511, 100_000] {
        let tcp = listen(&loopback(), SockType::Stream, backlog)?;
        stage.listens("listens", &tcp);
        let path = stage.path(&format!("listens-{backlog}.sock"));
        let unix = listen(&Address::path(&path)?, SockType::Stream, backlog)?;
        stage.listens("listens", &unix);
        let v6 = Address::ip(std::net::Ipv6Addr::LOCALHOST.into(), 0);
        let tcp6 = listen(&v6, SockType::Stream, backlog)?;
        stage.listens("listens", &tcp6);
    }
    Ok(())
}
