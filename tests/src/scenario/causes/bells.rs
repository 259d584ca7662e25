//! How a play's processes tell each other how far they are: descriptors that every one of them inherits, so
//! that namespaces and other roots do not part them.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Longer than any play.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// The bells.
pub(super) struct Bells {
    /// Counts those who have come as far as they were asked to.
    there: EventFd,
    /// Rings when the clients are to connect.
    go: EventFd,
    /// Rings when nobody is needed any more.
    over: EventFd,
}

impl Bells {
    pub(super) fn new() -> Result<Self> {
        let bell = || EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).context("eventfd");
        Ok(Self { there: bell()?, go: bell()?, over: bell()? })
    }

    /// Says that its caller is there.
    pub(super) fn arrive(&self) -> Result<()> {
        self.there.write(1).map(drop).context("a bell")
    }

    /// Waits until so many are there; `lost` tells whether one never will be.
    pub(super) fn wait_there(&self, wanted: u64, lost: impl Fn() -> bool) -> Result<()> {
        let (begin, mut there) = (Instant::now(), 0);
        while there < wanted {
            if is_ringing(&self.there, Duration::from_millis(50))? {
                there += self.there.read().context("a bell")?;
            }
            if there < wanted && (lost() || begin.elapsed() > PATIENCE) {
                bail!("{there} of {wanted} are there");
            }
        }
        Ok(())
    }

    pub(super) fn let_go(&self) -> Result<()> {
        self.go.write(1).map(drop).context("a bell")
    }

    pub(super) fn wait_go(&self) -> Result<()> {
        is_ringing(&self.go, PATIENCE).map(drop)
    }

    pub(super) fn end(&self) -> Result<()> {
        self.over.write(1).map(drop).context("a bell")
    }

    /// Stays until the end.
    pub(super) fn wait_end(&self) -> Result<()> {
        is_ringing(&self.over, PATIENCE).map(drop)
    }
}

/// Whether a bell rings within this time; it rings on.
fn is_ringing(bell: &EventFd, time: Duration) -> Result<bool> {
    let mut asked = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
    let time = PollTimeout::try_from(time).context("a time")?;
    Ok(poll(&mut asked, time).context("poll")? > 0)
}
