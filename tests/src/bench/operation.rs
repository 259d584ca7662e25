//! The operations whose cost is measured, each on sockets that are made once and kept.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};
use serde::{Deserialize, Serialize};

use crate::scenario::listener::{loopback, set_nonblocking};
use crate::scenario::socket::{Address, accept, bound, listen, reset_on_close};

/// Large enough that no accept cycle waits for room.
const BACKLOG: u32 = 128;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// `getpid()`: no tracer has anything to do with it, so it shows the noise.
    Getpid,
    /// TCP: connect, accept, close both ends, by one thread.
    Tcp,
    /// The same, accepted by a thread that sleeps in `accept()`; the client waits until it has closed.
    TcpBlocking,
    /// Unix stream by path: connect, accept, close both ends, by one thread.
    Unix,
    /// The same, accepted by a thread that sleeps in `accept()`.
    UnixBlocking,
    /// A Unix connect to a path that does not exist: ENOENT.
    UnixMissing,
    /// A Unix connect to a socket file that its server left behind: ECONNREFUSED.
    UnixStale,
    /// A TCP connect to a port on which nobody listens: ECONNREFUSED.
    TcpRefused,
    /// A non-blocking TCP connect to a listener whose accept queue is full: its SYN is dropped.
    TcpOverflow,
}

/// One operation, ready to be done again and again.
pub struct Prepared {
    act: Box<dyn Fn() -> Result<()>>,
}

impl Prepared {
    /// Does it once.
    ///
    /// # Errors
    /// When it does not end as it is meant to.
    pub fn act(&self) -> Result<()> {
        (self.act)()
    }
}

impl Operation {
    /// Makes what it needs, files in `dir`.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn prepare(self, dir: &Path) -> Result<Prepared> {
        let path = |name: &str| Address::path(&dir.join(name));
        let act: Box<dyn Fn() -> Result<()>> = match self {
            Self::Getpid => Box::new(getpid),
            Self::Tcp => polling(&loopback())?,
            Self::TcpBlocking => blocking(&loopback())?,
            Self::Unix => polling(&path("polling.sock")?)?,
            Self::UnixBlocking => blocking(&path("blocking.sock")?)?,
            Self::UnixMissing => failing(path("missing.sock")?, Errno::ENOENT, None),
            Self::UnixStale => {
                let (_closed, at) = bound(&path("stale.sock")?, SockType::Stream)?;
                failing(at, Errno::ECONNREFUSED, None)
            }
            Self::TcpRefused => {
                let (taken, at) = bound(&loopback(), SockType::Stream)?;
                failing(at, Errno::ECONNREFUSED, Some(taken))
            }
            Self::TcpOverflow => overflow()?,
        };
        Ok(Prepared { act })
    }
}

fn getpid() -> Result<()> {
    // SAFETY: takes nothing. libc's own wrapper may answer without the kernel.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    ensure!(pid > 0, "getpid() gave {pid}");
    Ok(())
}

/// TCP connections end with a reset: nothing lingers, so what one round does is what the next does.
fn polling(at: &Address) -> Result<Box<dyn Fn() -> Result<()>>> {
    let listener = listen(at, SockType::Stream, BACKLOG)?;
    set_nonblocking(&listener)?;
    if listener.family != "unix" {
        // What it accepts inherits that.
        reset_on_close(&listener.fd)?;
    }
    Ok(Box::new(move || {
        let client = connected(&listener.at)?;
        let server = loop {
            match accept(&listener, SockFlag::empty()) {
                Err(Errno::EAGAIN) => {}
                other => break other.context("accept")?,
            }
        };
        drop(server);
        drop(client);
        Ok(())
    }))
}

fn blocking(at: &Address) -> Result<Box<dyn Fn() -> Result<()>>> {
    let ours = listen(at, SockType::Stream, BACKLOG)?;
    let theirs = ours.share()?;
    // Ends with the process.
    thread::spawn(move || while accept(&theirs, SockFlag::empty()).is_ok() {});
    Ok(Box::new(move || {
        let client = connected(&ours.at)?;
        await_close(&client)?;
        if ours.family != "unix" {
            // Not by the other end: it closes before `connect()` is back, which would fail then.
            reset_on_close(&client)?;
        }
        Ok(())
    }))
}

/// Sleeps until the other end has closed.
fn await_close(client: &OwnedFd) -> Result<()> {
    let mut byte = [0u8];
    let got = nix::unistd::read(client, &mut byte).context("read")?;
    ensure!(got == 0, "the other end sent something");
    Ok(())
}

fn connected(at: &Address) -> Result<OwnedFd> {
    let client = at.socket(SockType::Stream, SockFlag::empty())?;
    at.connect(&client).context("connect")?;
    Ok(client)
}

fn failing(at: Address, errno: Errno, keep: Option<OwnedFd>) -> Box<dyn Fn() -> Result<()>> {
    Box::new(move || {
        // The port stays taken for as long as this lives.
        let _kept = keep.as_ref().map(AsRawFd::as_raw_fd);
        let client = at.socket(SockType::Stream, SockFlag::empty())?;
        ensure!(at.connect(&client) == Err(errno), "connect did not end with {errno}");
        Ok(())
    })
}

fn overflow() -> Result<Box<dyn Fn() -> Result<()>>> {
    let full = listen(&loopback(), SockType::Stream, 1)?;
    // A queue takes one more than its backlog.
    let queued = (connected(&full.at)?, connected(&full.at)?);
    Ok(Box::new(move || {
        let _kept = (&full.fd, &queued);
        let client = full.at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
        let result = full.at.connect(&client);
        ensure!(result == Err(Errno::EINPROGRESS), "connect to a full listener: {result:?}");
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_ends_as_it_is_meant_to() -> Result<()> {
        use Operation::{
            Getpid, Tcp, TcpBlocking, TcpOverflow, TcpRefused, Unix, UnixBlocking, UnixMissing,
            UnixStale,
        };
        let dir = tempfile::tempdir()?;
        for operation in [
            Getpid,
            Tcp,
            TcpBlocking,
            Unix,
            UnixBlocking,
            UnixMissing,
            UnixStale,
            TcpRefused,
            TcpOverflow,
        ] {
            let prepared = operation.prepare(dir.path())?;
            for _ in 0..3 {
                prepared.act().with_context(|| format!("{operation:?}"))?;
            }
        }
        Ok(())
    }
}
