//! The BPF ring buffer: one for all CPUs.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, MapError, RingBuf};

/// The consumer's side.
pub(super) struct Ring(RingBuf<MapData>);

impl Ring {
    pub(super) fn open(map: aya::maps::Map) -> Result<Self, MapError> {
        RingBuf::try_from(map).map(Self)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Hands over every event that is there.
    pub(super) fn drain(&mut self, each: &mut dyn FnMut(&[u8])) {
        while let Some(item) = self.0.next() {
            each(&item);
        }
    }
}
