//! The reader of either transport: waits without a thread, drains without a copy.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{Ebpf, maps::MapError};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use thiserror::Error;

use super::{
    perf::{Perf, PerfError},
    ring::Ring,
};

/// The event buffer could not be opened.
#[derive(Debug, Error)]
pub enum ReaderError {
    /// Ring buffer.
    #[error("cannot open the BPF ring buffer: {0}; try --transport perf")]
    Ring(MapError),
    /// Perf buffers.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// The object and this program do not belong together.
    #[error("the eBPF object has no map {0}; it does not belong to this program")]
    NoMap(&'static str),
    /// Waiting.
    #[error("cannot wait for the event buffer: {0}")]
    Wait(io::Error),
}

/// How events reach user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// BPF ring buffer: one buffer for all CPUs, woken by a timer.
    Ring,
    /// Perf event array: a buffer per CPU, a wakeup per event.
    Perf,
}

enum Buffers {
    Ring(Ring),
    Perf(Perf),
}

/// The consumer's side of the event buffer.
pub struct Reader {
    buffers: Buffers,
    /// Readable when any buffer is: one descriptor to wait for, however many CPUs there are.
    epoll: Epoll,
}

impl Reader {
    /// Opens the buffer, before anything attaches that could write to it.
    pub fn open(ebpf: &mut Ebpf, transport: Transport, bytes: u32) -> Result<Self, ReaderError> {
        let mut take = |name| ebpf.take_map(name).ok_or(ReaderError::NoMap(name));
        let buffers = match transport {
            Transport::Ring => {
                Buffers::Ring(Ring::open(take("EVENTS_RING")?).map_err(ReaderError::Ring)?)
            }
            Transport::Perf => Buffers::Perf(Perf::open(take("EVENTS_PERF")?, bytes)?),
        };
        let epoll = watch(&buffers).map_err(|errno| ReaderError::Wait(errno.into()))?;
        Ok(Self { buffers, epoll })
    }

    /// Hands every event that is there to `each`, as bytes; returns how many the buffer says it
    /// lost since the last call.
    pub fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> u64 {
        match &mut self.buffers {
            Buffers::Ring(ring) => {
                ring.drain(each);
                0
            }
            Buffers::Perf(perf) => perf.drain(each),
        }
    }
}

impl AsFd for Reader {
    /// Readable when there is something to drain.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

fn watch(buffers: &Buffers) -> nix::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let fds: Vec<_> = match buffers {
        Buffers::Ring(ring) => vec![ring.fd()],
        Buffers::Perf(perf) => perf.fds().collect(),
    };
    for fd in fds {
        // SAFETY: the buffer that owns `fd` lives as long as the epoll instance, in `Reader`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    }
    Ok(epoll)
}
