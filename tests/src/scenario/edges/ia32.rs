//! System calls of 32-bit programs: made by `int 0x80` from 64-bit code, which takes the same way
//! into the kernel.

use std::arch::asm;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::io_uring::{queued_first, ring};
use crate::scenario::attempt::{failure, must_be};
use crate::scenario::clock::{now_ns, sleep_ms};
use crate::scenario::listener::{self, loopback, wait_queued};
use crate::scenario::record::Failure;
use crate::scenario::socket::{Address, Listener, bound, listen};
use crate::scenario::stage::Stage;

const NR_GETPID: u32 = 20;
const NR_SOCKETCALL: u32 = 102;
const NR_CONNECT: u32 = 362;
const NR_ACCEPT4: u32 = 364;
/// `socketcall`'s number of accept4.
const SYS_ACCEPT4: u32 = 18;

/// One 32-bit system call.
///
/// # Safety
/// As of the system call: every pointer among the arguments must be what it asks for.
unsafe fn call(number: u32, args: [u32; 4]) -> Result<i32, Errno> {
    let result: u64;
    // SAFETY: the gate preserves all registers but these; rbx, which the compiler keeps for itself,
    // is put back.
    unsafe {
        asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) u64::from(args[0]) => _,
            inout("rax") u64::from(number) => result,
            in("rcx") u64::from(args[1]),
            in("rdx") u64::from(args[2]),
            in("rsi") u64::from(args[3]),
            in("rdi") 0u64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let low = u32::try_from(result & 0xffff_ffff).unwrap_or(0).cast_signed();
    if (-4095..0).contains(&low) { Err(Errno::from_raw(-low)) } else { Ok(low) }
}

/// Whether the kernel takes 32-bit calls; one that does not kills the caller or says ENOSYS, and
/// only a child may try. What it lacks is noted.
fn allowed(stage: &mut Stage) -> Result<bool> {
    // SAFETY: the scenario has one thread, and the child only makes one system call and exits.
    let child = match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            // SAFETY: getpid takes no pointer, and _exit ends this process.
            unsafe {
                let own = call(NR_GETPID, [0; 4]).is_ok_and(|pid| pid > 0);
                libc::_exit(i32::from(!own))
            }
        }
        ForkResult::Parent { child } => child,
    };
    let end = waitpid(child, None).context("waitpid")?;
    let allowed = matches!(end, WaitStatus::Exited(_, 0));
    if !allowed {
        stage.seen.lacks.push("ia32".to_owned());
    }
    Ok(allowed)
}

/// Memory below 4 GiB, where a 32-bit pointer reaches.
struct Low(*mut libc::c_void);

const LOW_BYTES: usize = 4096;

impl Low {
    fn new() -> Result<Self> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), LOW_BYTES, rights, kind, -1, 0) };
        ensure!(at != libc::MAP_FAILED, "mmap below 4 GiB: {:?}", Errno::last());
        Ok(Self(at))
    }

    /// Copies bytes there and returns the 32-bit pointer to them.
    fn put(&self, from: *const u8, len: usize) -> Result<u32> {
        ensure!(len <= LOW_BYTES, "{len} bytes do not fit");
        // SAFETY: the mapping is so long and nobody else's; the caller's object has `len` bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, self.0.cast(), len) };
        u32::try_from(self.0.addr()).context("a mapping above 4 GiB")
    }
}

impl Drop for Low {
    fn drop(&mut self) {
        // SAFETY: this mapping was made above, and nothing refers to it any more.
        let _unmapped = unsafe { libc::munmap(self.0, LOW_BYTES) };
    }
}

/// Accepts by `accept4` and by `socketcall`; TCP and Unix.
///
/// # Errors
/// When one is not accepted.
pub(super) fn accepts(stage: &mut Stage) -> Result<()> {
    let name = "edge_ia32_accept";
    if !allowed(stage)? {
        return Ok(());
    }
    let (path, low) = (Address::path(&stage.path("ia32.sock"))?, Low::new()?);
    for at in [loopback(), path] {
        let server = listen(&at, SockType::Stream, 16)?;
        stage.listens(name, &server);
        let mut record = listener::accepts(name, &server, 0)?;
        for (wait, multiplexed) in [(11, false), (0, true), (29, true), (3, false)] {
            let client = server.at.socket(SockType::Stream, SockFlag::empty())?;
            let called = now_ns()?;
            server.at.connect(&client).context("connect")?;
            if server.family != "unix" {
                wait_queued(&server, 1)?;
            }
            let queued = now_ns()?;
            sleep_ms(wait);
            let asked = now_ns()?;
            drop(accept(&server, &low, multiplexed)?);
            record.upper_ns.push(now_ns()? - called);
            record.lower_ns.push(asked - queued);
            record.count += 1;
        }
        stage.accepted(record);
        then_by_ring(stage, name)?;
    }
    Ok(())
}

/// An accept through io_uring, on another listener, by the thread whose last call was a 32-bit one.
fn then_by_ring(stage: &mut Stage, name: &str) -> Result<()> {
    let Some(ring) = ring(stage, false)? else { return Ok(()) };
    let server = listen(&loopback(), SockType::Stream, 16)?;
    stage.listens(name, &server);
    let mut record = listener::accepts(name, &server, 0)?;
    queued_first(&ring, &server, 6, &mut record)?;
    stage.accepted(record);
    Ok(())
}

fn accept(server: &Listener, low: &Low, multiplexed: bool) -> Result<OwnedFd> {
    let args = [server.fd.as_raw_fd().unsigned_abs(), 0, 0, libc::SOCK_CLOEXEC.unsigned_abs()];
    let pointer = low.put(args.as_ptr().cast(), size_of_val(&args))?;
    let (number, args) = if multiplexed {
        (NR_SOCKETCALL, [SYS_ACCEPT4, pointer, 0, 0])
    } else {
        (NR_ACCEPT4, args)
    };
    // SAFETY: the peer is not asked for; the arguments of socketcall lie at `pointer`.
    let fd = unsafe { call(number, args) }.context("accept4 of a 32-bit program")?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Connects: refused TCP, a missing path, and one that succeeds.
///
/// # Errors
/// When one ends in another way.
pub(super) fn connects(stage: &mut Stage) -> Result<()> {
    if !allowed(stage)? {
        return Ok(());
    }
    let low = Low::new()?;
    let (_held, refused) = bound(&loopback(), SockType::Stream)?;
    let missing = Address::path(&stage.path("missing.sock"))?;
    for (at, errno, count) in [(refused, Errno::ECONNREFUSED, 4), (missing, Errno::ENOENT, 5)] {
        let failed = must_fail(&low, &at, errno, count)?;
        stage.failed(failed);
    }
    let server = listen(&loopback(), SockType::Stream, 16)?;
    stage.listens("edge_ia32_connect", &server);
    match connect(&low, &server.at)? {
        Ok(()) => stage.seen.must_not_fail.push(server.address),
        Err(errno) => bail!("connect of a 32-bit program: {errno:?}"),
    }
    Ok(())
}

fn must_fail(low: &Low, at: &Address, errno: Errno, count: u64) -> Result<Failure> {
    for _ in 0..count {
        must_be(at, errno, connect(low, at)?)?;
    }
    failure("edge_ia32_connect", at, errno, count)
}

fn connect(low: &Low, at: &Address) -> Result<Result<(), Errno>> {
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    let (address, fd) = (at.as_sockaddr(), socket.as_raw_fd().unsigned_abs());
    let pointer = low.put(address.as_ptr().cast(), usize::try_from(address.len())?)?;
    // SAFETY: a whole address lies at `pointer`.
    Ok(unsafe { call(NR_CONNECT, [fd, pointer, address.len(), 0]) }.map(drop))
}
