//! An io_uring with one operation under way at a time, over the bare system calls.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{null_mut, read_volatile, write_volatile};
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use crate::scenario::socket::Address;

const ENTRIES: u32 = 4;
/// `struct io_uring_params` as words: what the kernel tells lies behind these.
const PARAMS: usize = 30;
const SQ_HEAD: usize = 10;
const CQ_HEAD: usize = 20;
const FEATURES: usize = 5;
/// Both rings lie in one mapping, since 5.4.
const FEAT_SINGLE_MMAP: u32 = 1;
const OFF_SQES: i64 = 0x1000_0000;
const ENTER_GETEVENTS: u32 = 1;
/// `IOSQE_ASYNC`: a worker thread of the kernel's does it, not this one.
const BY_WORKER: u64 = 1 << 4;
const OP_ACCEPT: u64 = 13;
const OP_CONNECT: u64 = 16;
/// Since 6.11.
const OP_LISTEN: u64 = 57;
/// More than rings of four entries take.
const RING_BYTES: usize = 4096;

/// Where the kernel put things in the mapping, in bytes.
struct Layout {
    sq_tail: usize,
    sq_mask: usize,
    sq_array: usize,
    cq_head: usize,
    cq_mask: usize,
    cqes: usize,
}

/// An io_uring.
pub(super) struct Ring {
    by_worker: bool,
    fd: OwnedFd,
    rings: *mut libc::c_void,
    sqes: *mut libc::c_void,
    layout: Layout,
}

impl Ring {
    /// A ring, whose operations are done by the caller if they can be at once, or always by a worker;
    /// `Ok(Err)` where the kernel allows none.
    pub(super) fn new(by_worker: bool) -> Result<Result<Self, Errno>> {
        let mut params = [0u32; PARAMS];
        // SAFETY: the kernel reads and writes a `struct io_uring_params`, 120 bytes.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
        let fd = match Errno::result(fd) {
            Ok(fd) => RawFd::try_from(fd).context("a descriptor")?,
            Err(errno) => return Ok(Err(errno)),
        };
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        ensure!(params[FEATURES] & FEAT_SINGLE_MMAP != 0, "two mappings: older than 5.4");
        let at = |word: usize| usize::try_from(params[word]).context("an offset");
        let layout = Layout {
            sq_tail: at(SQ_HEAD + 1)?,
            sq_mask: at(SQ_HEAD + 2)?,
            sq_array: at(SQ_HEAD + 6)?,
            cq_head: at(CQ_HEAD)?,
            cq_mask: at(CQ_HEAD + 2)?,
            cqes: at(CQ_HEAD + 5)?,
        };
        ensure!(layout.sq_array + 16 <= RING_BYTES && layout.cqes + 128 <= RING_BYTES, "layout");
        let (rings, sqes) = (map(&fd, 0)?, map(&fd, OFF_SQES)?);
        Ok(Ok(Self { by_worker, fd, rings, sqes, layout }))
    }

    /// One connect; the errno if it fails.
    pub(super) fn connect(&self, socket: &OwnedFd, at: &Address) -> Result<Result<(), Errno>> {
        let address = at.as_sockaddr();
        let (pointer, len) = (address.as_ptr() as u64, u64::from(address.len()));
        self.submit(OP_CONNECT, socket, [len, pointer, 0])?;
        Ok(self.result()?.map(drop))
    }

    /// One `listen()`; the errno if it fails.
    pub(super) fn listen(&self, socket: &OwnedFd, backlog: u32) -> Result<Result<(), Errno>> {
        self.submit(OP_LISTEN, socket, [0, 0, u64::from(backlog)])?;
        Ok(self.result()?.map(drop))
    }

    /// Begins an accept.
    pub(super) fn begin_accept(&self, listener: &OwnedFd) -> Result<()> {
        self.submit(OP_ACCEPT, listener, [0, 0, 0])
    }

    /// The end of an accept that was begun.
    pub(super) fn end_accept(&self) -> Result<OwnedFd> {
        let fd = self.result()?.context("accept through io_uring")?;
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn word(&self, offset: usize) -> *mut u32 {
        self.rings.wrapping_byte_add(offset).cast()
    }

    /// Submits one operation: `[off, addr, len]` of its entry.
    fn submit(&self, operation: u64, on: &OwnedFd, [off, addr, len]: [u64; 3]) -> Result<()> {
        let fd = u64::from(on.as_raw_fd().unsigned_abs());
        let flags = if self.by_worker { BY_WORKER } else { 0 };
        let entry = [operation | flags << 8 | fd << 32, off, addr, len, 0, 0, 0, 0];
        let tail = self.word(self.layout.sq_tail);
        // SAFETY: all of it lies in the two mappings, at places that the kernel named, within their
        // sizes; only this thread writes there.
        unsafe {
            let index = read_volatile(tail) & read_volatile(self.word(self.layout.sq_mask));
            let slot = usize::try_from(index)?;
            write_volatile(self.sqes.cast::<[u64; 8]>().add(slot), entry);
            write_volatile(self.word(self.layout.sq_array).add(slot), index);
            fence(Ordering::SeqCst);
            write_volatile(tail, read_volatile(tail).wrapping_add(1));
        }
        fence(Ordering::SeqCst);
        self.enter(1, 0)
    }

    /// Waits for the one operation under way.
    fn result(&self) -> Result<Result<RawFd, Errno>> {
        self.enter(0, 1)?;
        fence(Ordering::SeqCst);
        let head = self.word(self.layout.cq_head);
        // SAFETY: as above; the kernel has written one completion of 16 bytes: data, result, flags.
        let result = unsafe {
            let slot = read_volatile(head) & read_volatile(self.word(self.layout.cq_mask));
            let entry = self.layout.cqes + 16 * usize::try_from(slot)? + 8;
            let result = read_volatile(self.word(entry));
            write_volatile(head, read_volatile(head).wrapping_add(1));
            result.cast_signed()
        };
        Ok(if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(result) })
    }

    fn enter(&self, submit: u32, wait: u32) -> Result<()> {
        let (call, fd) = (libc::SYS_io_uring_enter, self.fd.as_raw_fd());
        let none: *mut libc::c_void = null_mut();
        // SAFETY: no signal mask is passed.
        let done = unsafe { libc::syscall(call, fd, submit, wait, ENTER_GETEVENTS, none, 0) };
        Errno::result(done).map(drop).context("io_uring_enter")
    }
}

fn map(fd: &OwnedFd, offset: i64) -> Result<*mut libc::c_void> {
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(null_mut(), RING_BYTES, rights, kind, fd.as_raw_fd(), offset) };
    ensure!(at != libc::MAP_FAILED, "mmap of an io_uring: {:?}", Errno::last());
    Ok(at)
}

impl Drop for Ring {
    fn drop(&mut self) {
        for at in [self.rings, self.sqes] {
            // SAFETY: this mapping was made above, and nothing refers to it any more.
            let _unmapped = unsafe { libc::munmap(at, RING_BYTES) };
        }
    }
}
