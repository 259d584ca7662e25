//! How streams are written to whose reader may go away, or read no more.

use std::{
    io::{self, Write, stdout},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// Writes until the reader of the pipe goes away, and takes the rest without an error.
pub(super) struct UntilClosed<W> {
    to: W,
    is_closed: bool,
}

impl<W: Write> UntilClosed<W> {
    pub(super) const fn new(to: W) -> Self {
        Self { to, is_closed: false }
    }

    fn unless_closed<T>(
        &mut self,
        nothing: T,
        act: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_closed {
            return Ok(nothing);
        }
        match act(&mut self.to) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(nothing)
            }
            done => done,
        }
    }
}

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |to| to.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), Write::flush)
    }
}

/// What a pipe that is ready takes without waiting for its reader (`PIPE_BUF`, pipe(7)).
const AT_ONCE: usize = 4096;

/// For so long after a signal, a reader may take what is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Stdout, past the buffer for lines. Where nobody reads what is there, it waits, and nothing else is done meanwhile: whoever
/// sends a signal that is to end socktrace is heard all the same.
#[derive(Default)]
pub(super) struct Stdout {
    /// Until when it waits, after a signal.
    until: Option<Instant>,
    is_given_up: bool,
}

impl Stdout {
    fn wait(&mut self) -> io::Result<()> {
        while !self.is_given_up {
            let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map(PollTimeout::try_from).transpose().map_err(io::Error::other)?;
            let out = stdout();
            let mut asked = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut asked, timeout) {
                Ok(0) => self.is_given_up = true,
                // Only signals that are waited for are caught; poll(2) is never restarted after one.
                Err(Errno::EINTR) if self.until.is_some() => self.is_given_up = true,
                Err(Errno::EINTR) => self.until = Some(Instant::now() + PATIENCE),
                ready => return Ok(ready.map(drop)?),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait()?;
        Ok(nix::unistd::write(stdout(), bytes.get(..AT_ONCE).unwrap_or(bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
