//! Processes that fail once and are gone at once: nobody can ask `/proc` for them afterwards.

use std::ffi::CString;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{SockFlag, SockType};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgid, setgroups, setuid};

use crate::scenario::attempt::failure;
use crate::scenario::listener::loopback;
use crate::scenario::socket::{Address, bound};
use crate::scenario::stage::Stage;

/// The first of a hundred user ids.
const FIRST_UID: u32 = 61_000;

/// A hundred processes, each with a name and a user of its own: TCP and Unix in turn.
///
/// # Errors
/// When one of them fails in another way.
pub(super) fn hundred(stage: &mut Stage) -> Result<()> {
    let (_held, refused) = bound(&loopback(), SockType::Stream)?;
    let missing = Address::path(&stage.path("missing.sock"))?;
    for (turn, uid) in (0..100u32).zip(FIRST_UID..) {
        let (at, errno) =
            if turn % 2 == 0 { (refused, Errno::ECONNREFUSED) } else { (missing, Errno::ENOENT) };
        let comm = format!("st-short-{turn}");
        let pid = fails_once(&comm, Some(uid), &at, errno)?;
        let mut failed = failure("edge_short_lived", &at, errno, 1)?;
        (failed.pid, failed.uid, failed.comm) = (pid, uid, comm);
        stage.failed(failed);
    }
    Ok(())
}

/// A child that connects once and exits with the errno; returns its pid.
///
/// # Errors
/// When it exits with another one.
pub(super) fn fails_once(comm: &str, uid: Option<u32>, at: &Address, errno: Errno) -> Result<u32> {
    let name = CString::new(comm).context("a comm with a NUL byte")?;
    // SAFETY: the scenario has one thread whenever it forks, so the child may do anything.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let code = become_and_connect(&name, uid, at).map_or(0, |errno| errno as i32);
            // SAFETY: ends this process at once; destructors and buffers belong to the parent.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => ended_with(child, errno),
    }
}

fn become_and_connect(name: &CString, uid: Option<u32>, at: &Address) -> Result<Errno> {
    prctl::set_name(name)?;
    if let Some(uid) = uid {
        setgroups(&[])?;
        setgid(Gid::from_raw(uid))?;
        setuid(Uid::from_raw(uid))?;
    }
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    at.connect(&socket).err().context("connected")
}

fn ended_with(child: Pid, errno: Errno) -> Result<u32> {
    let end = waitpid(child, None).context("waitpid")?;
    let wanted = WaitStatus::Exited(child, errno as i32);
    ensure!(end == wanted, "a child that was to fail with {errno:?} ended with {end:?}");
    Ok(child.as_raw().unsigned_abs())
}
