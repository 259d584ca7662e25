//! What CMD inherits: descriptors 0, 1 and 2, and signals and the limit on locked memory as socktrace itself was
//! started with.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    },
};

/// Signals that were ignored when the process began, bit `n - 1` for signal `n`.
static IGNORED: AtomicU64 = AtomicU64::new(0);
/// `RLIMIT_MEMLOCK`, soft and hard, when the process began; kernels before 5.11 need it lifted for BPF maps.
static LOCKED_MEMORY: [AtomicU64; 2] = [const { AtomicU64::new(libc::RLIM_INFINITY) }; 2];
/// Signal numbers that the kernel knows.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
/// Signals that socktrace ignores for itself: SIGPIPE, as every Rust program does from its start, and
/// what [`leave_to_command`] adds.
const OWN: [Signal; 3] = [Signal::SIGPIPE, Signal::SIGQUIT, Signal::SIGTTOU];

/// Runs before `main`, as Rust's own start changes SIGPIPE, and does not keep what it was.
extern "C" fn remember() {
    let is_ignored = |number: i32| {
        // SAFETY: an empty sigaction is a valid one to write to, and nothing is set.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            libc::sigaction(number, std::ptr::null(), &raw mut now) == 0
                && now.sa_sigaction == libc::SIG_IGN
        }
    };
    let ignored = SIGNALS.filter(|number| is_ignored(*number));
    IGNORED.store(ignored.fold(0, |all, number| all | bit(number)), Ordering::Relaxed);
    let mut memory = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a limit to write to.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut memory) };
    for (at, limit) in LOCKED_MEMORY.iter().zip([memory.rlim_cur, memory.rlim_max]) {
        at.store(limit, Ordering::Relaxed);
    }
}

// SAFETY: the loader calls each function of this section once, before `main`; this one takes no
// argument, allocates nothing and needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn() = remember;

const fn bit(number: i32) -> u64 {
    1 << (number - 1)
}

/// What was so when the process began.
pub(super) struct AtStart {
    ignored: u64,
    blocked: SigSet,
    locked_memory: [u64; 2],
}

impl AtStart {
    /// To be called on the first thread, whose mask nobody changes.
    pub(super) fn read() -> nix::Result<Self> {
        Ok(Self {
            ignored: IGNORED.load(Ordering::Relaxed),
            blocked: SigSet::thread_get_mask()?,
            locked_memory: LOCKED_MEMORY.each_ref().map(|limit| limit.load(Ordering::Relaxed)),
        })
    }

    /// Makes it so again, between fork and exec, which itself resets what is caught.
    pub(super) fn restore(&self) -> nix::Result<()> {
        let [soft, hard] = self.locked_memory;
        setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
        for own in OWN {
            // SAFETY: the default action; no handler runs.
            unsafe { signal(own, SigHandler::SigDfl) }?;
        }
        for number in SIGNALS.filter(|number| self.ignored & bit(*number) != 0) {
            // SAFETY: as above; what was ignored once may be again.
            unsafe { libc::signal(number, libc::SIG_IGN) };
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.blocked), None)
    }
}

/// Signals that the terminal sends to both are CMD's alone from now on: Ctrl-\ must not end socktrace
/// before the report, nor may `stty tostop` stop it there while CMD, or whoever it left the terminal to, is in
/// the foreground.
pub(super) fn leave_to_command() {
    for both in [Signal::SIGQUIT, Signal::SIGTTOU] {
        // SAFETY: ignored; no handler runs. It cannot fail for these two.
        let _ = unsafe { signal(both, SigHandler::SigIgn) };
    }
}

/// Marks every descriptor but the first three to be closed by exec: also those that socktrace was
/// started with.
pub(super) fn keep_descriptors() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if fd <= io::stderr().as_raw_fd() {
            continue;
        }
        // SAFETY: only its flag is changed; one that was closed meanwhile gives EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}
