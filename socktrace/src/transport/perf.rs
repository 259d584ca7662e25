//! Perf event arrays: a buffer per CPU.

use std::os::fd::{AsRawFd, RawFd};

use aya::{
    maps::{
        Map, MapData, MapError,
        perf::{PerfBufferError, PerfEvent, PerfEventArray, PerfEventArrayBuffer},
    },
    util::online_cpus,
};
use thiserror::Error;

/// The buffers could not be opened.
#[derive(Debug, Error)]
pub enum PerfError {
    /// The list of CPUs.
    #[error("cannot read the list of online CPUs from {0}: {1}")]
    Cpus(String, std::io::Error),
    /// The map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// One CPU's buffer.
    #[error("cannot open the perf buffer of CPU {cpu}: {source}")]
    Buffer {
        /// Which.
        cpu: u32,
        /// What went wrong.
        source: PerfBufferError,
    },
}

/// The consumer's side.
pub(super) struct Perf {
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    joined: Vec<u8>,
}

impl Perf {
    /// Opens a buffer of `bytes` (rounded up to a power of two of pages) for every online CPU.
    pub(super) fn open(map: Map, bytes: u32) -> Result<Self, PerfError> {
        let mut array = PerfEventArray::try_from(map)?;
        let pages = (bytes as usize).div_ceil(rustix::param::page_size()).next_power_of_two();
        let cpus = online_cpus().map_err(|(path, error)| PerfError::Cpus(path.into(), error))?;
        let mut buffers = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            let buffer =
                array.open(cpu, Some(pages)).map_err(|source| PerfError::Buffer { cpu, source })?;
            buffers.push(buffer);
        }
        Ok(Self { buffers, joined: Vec::new() })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.buffers.iter().map(AsRawFd::as_raw_fd)
    }

    /// Hands over every event that is there; returns how many the kernel says it lost.
    pub(super) fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> u64 {
        let Self { buffers, joined } = self;
        let mut lost = 0;
        for buffer in buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Sample { head, tail: [] } => each(head),
                PerfEvent::Sample { head, tail } => {
                    joined.clear();
                    joined.extend_from_slice(head);
                    joined.extend_from_slice(tail);
                    each(joined);
                }
                PerfEvent::Lost { count } => lost += count,
            });
        }
        lost
    }
}
