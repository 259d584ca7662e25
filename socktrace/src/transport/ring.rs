//! The BPF ring buffer: one for all CPUs.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, MapError, RingBuf};

/// Events of one turn.
const AT_ONCE: usize = 65_536;

/// The consumer's side.
pub(super) struct Ring(RingBuf<MapData>);

impl Ring {
    pub(super) fn open(map: aya::maps::Map) -> Result<Self, MapError> {
        RingBuf::try_from(map).map(Self)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Hands over the events that are there, [`AT_ONCE`] at most: programs may write as fast as
    /// they are read.
    pub(super) fn drain(&mut self, each: &mut dyn FnMut(&[u8])) {
        for _ in 0..AT_ONCE {
            let Some(item) = self.0.next() else { return };
            each(&item);
        }
    }
}
