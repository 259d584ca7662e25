//! The command that `record -- CMD` runs: whose privileges it has, and how it ends.

use std::{
    ffi::{CString, OsString},
    io,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    process::{ExitCode, ExitStatus},
};

use nix::{
    sys::{
        prctl,
        signal::{SigHandler, Signal, kill, raise, signal},
    },
    unistd::{Gid, Pid, Uid, User, getgrouplist, setgid, setgroups, setuid},
};
use tokio::process::{Child, Command};

use super::failure::Failure;
use crate::render::escape::escape;

/// The user who called sudo, if one did: uid and gid.
pub(super) fn invoking_user() -> Option<(u32, u32)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

/// Starts CMD as the invoking user, with nothing of the tracer's: descriptors are close-on-exec,
/// and an execution by an ordinary user ends with no capability.
pub(super) fn spawn(command: &[OsString], keep_privileges: bool) -> Result<Child, Failure> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| Failure::Usage("there is no command after --".to_owned()))?;
    let mut child = Command::new(program);
    child.args(args).kill_on_drop(false);
    let failed =
        |source| Failure::Command { command: escape(program.as_bytes()).into_owned(), source };
    if !keep_privileges
        && nix::unistd::geteuid().is_root()
        && let Some((uid, gid)) = invoking_user()
    {
        let groups = groups_of(uid, gid).map_err(|source| Failure::System {
            what: "cannot look up the groups of the user who called sudo",
            source,
        })?;
        let become_user = move || become_user(&groups, uid, gid).map_err(io::Error::from);
        // SAFETY: between fork and exec; three system calls.
        unsafe { child.pre_exec(become_user) };
    }
    child.spawn().map_err(failed)
}

/// The user's supplementary groups, looked up before the fork: reading them may connect to a
/// name service.
fn groups_of(uid: u32, gid: u32) -> io::Result<Vec<Gid>> {
    match User::from_uid(Uid::from_raw(uid))? {
        Some(user) => {
            let name = CString::new(user.name).map_err(io::Error::other)?;
            Ok(getgrouplist(&name, Gid::from_raw(gid))?)
        }
        // A user without an entry has no other group.
        None => Ok(vec![Gid::from_raw(gid)]),
    }
}

fn become_user(groups: &[Gid], uid: u32, gid: u32) -> nix::Result<()> {
    setgroups(groups)?;
    setgid(Gid::from_raw(gid))?;
    setuid(Uid::from_raw(uid))
}

/// Passes a signal on to CMD.
pub(super) fn pass_on(child: Option<u32>, signal: Signal) {
    if let Some(pid) = child.and_then(|pid| i32::try_from(pid).ok()) {
        // A command that is gone needs no signal.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Ends as CMD ended: with its exit code, or of its signal.
pub(super) fn exit_like(status: ExitStatus) -> ExitCode {
    if let Some(number) = status.signal() {
        die_of(number);
        return ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX));
    }
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(u8::MAX))
}

fn die_of(number: i32) {
    let Ok(fatal) = Signal::try_from(number) else { return };
    // The command has dumped core, if it wanted to; one is enough.
    let _ = prctl::set_dumpable(false);
    // SAFETY: the default action; no handler of ours runs afterwards.
    let _ = unsafe { signal(fatal, SigHandler::SigDfl) };
    let _ = raise(fatal);
}
