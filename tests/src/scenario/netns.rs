//! A network namespace of one's own: loopback only, and whatever limits a test needs, without
//! touching the machine's.

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// `[NAME=VALUE...] -- PROGRAM ARGS`: executes PROGRAM in a new network namespace, with
/// `net.ipv4.NAME` set to VALUE in it.
///
/// # Errors
/// When the namespace cannot be made, or PROGRAM not be executed; else it does not return.
pub fn enter_and_execute(words: &[String]) -> Result<()> {
    let mut parts = words.splitn(2, |word| word == "--");
    let (settings, program) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let [program, args @ ..] = program else { bail!("netns: no PROGRAM after --") };
    enter()?;
    for setting in settings {
        let (name, value) = setting.split_once('=').context("a setting is NAME=VALUE")?;
        let path = format!("/proc/sys/net/ipv4/{name}");
        std::fs::write(&path, value).context(path)?;
    }
    Err(Command::new(program).args(args).exec()).with_context(|| program.clone())
}

/// Moves this thread, and what it starts from now on, to a new network namespace.
///
/// # Errors
/// When the kernel refuses it.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
    bring_up_loopback()
}

/// Sets the flag `UP` of `lo`.
///
/// # Errors
/// When the kernel refuses it.
pub fn bring_up_loopback() -> Result<()> {
    bring_up(b"lo")
}

/// Sets the flag `UP` of this thread's namespace's interface `name`.
///
/// # Errors
/// When the kernel refuses it.
pub(super) fn bring_up(name: &[u8]) -> Result<()> {
    let socket = socket()?;
    let mut request = request(name);
    ask(&socket, libc::SIOCGIFFLAGS, &mut request).context("the interface has no flags")?;
    // SAFETY: the kernel has filled the flags in.
    unsafe { request.ifr_ifru.ifru_flags |= libc::c_short::try_from(libc::IFF_UP)? };
    ask(&socket, libc::SIOCSIFFLAGS, &mut request).context("the interface was not brought up")
}

/// A socket to configure interfaces of this thread's namespace with.
pub(super) fn socket() -> Result<OwnedFd> {
    // SAFETY: socket() takes no pointer.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let socket = Errno::result(socket).context("no socket to configure an interface with")?;
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// What is asked of the interface `name`; a longer one is cut as the kernel cuts it.
pub(super) fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name) {
        *to = from.cast_signed();
    }
    request
}

/// One ioctl(2) about an interface.
pub(super) fn ask(
    of: &impl AsRawFd,
    command: libc::Ioctl,
    request: &mut libc::ifreq,
) -> Result<(), Errno> {
    // SAFETY: the commands that are used here take an `ifreq`, which lives through the call.
    Errno::result(unsafe { libc::ioctl(of.as_raw_fd(), command, request) })?;
    Ok(())
}
