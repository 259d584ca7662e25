//! The command that `record -- CMD` runs: how it starts, and how it ends.

mod descendants;
mod inherited;
mod privileged;
mod user;

use std::{
    ffi::OsString,
    io,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    process::{ExitCode, ExitStatus},
};

use nix::{
    sys::{
        prctl,
        signal::{SigHandler, Signal, kill, raise, signal},
    },
    unistd::Pid,
};
use tokio::process::{Child, Command};

pub(super) use descendants::note as note_descendants;
pub(super) use user::{RunAs, invoking_user, parse_user};

use super::{failure::Failure, session::tell};
use crate::render::escape::escape;

/// Starts CMD as `user`, else as the one who called sudo, with nothing of the tracer's: neither
/// descriptors, nor signals, limits, nor capabilities. Executed by root, it has all of root's again; with
/// `keep_privileges`, it runs as whoever runs socktrace.
pub(super) fn spawn(
    command: &[OsString],
    user: Option<&RunAs>,
    keep_privileges: bool,
) -> Result<Child, Failure> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| Failure::Usage("there is no command after --".to_owned()))?;
    let system = |what| move |source| Failure::System { what, source };
    let user = match user {
        Some(user) => {
            user::check_may_change()?;
            Some(user.clone())
        }
        None if keep_privileges => None,
        None => user::sudo_user()?,
    };
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let ids = user.as_ref().map_or(own, |user| (user.uid(), user.gid()));
    if let Some(line) = privileged::note(program, ids) {
        tell(&line);
    }
    inherited::keep_descriptors().map_err(system("cannot list socktrace's own descriptors"))?;
    let at_start = inherited::AtStart::read().map_err(io::Error::from);
    let at_start = at_start.map_err(system("cannot read which signals are blocked"))?;
    let mut child = Command::new(program);
    child.args(args).kill_on_drop(false);
    child.envs(user.iter().flat_map(RunAs::environment));
    let prepare = move || {
        if let Some(user) = &user {
            user.become_it()?;
        }
        if !keep_privileges {
            give_up_ambient();
        }
        at_start.restore().map_err(io::Error::from)
    };
    // SAFETY: between fork and exec; system calls only, on what was looked up before.
    unsafe { child.pre_exec(prepare) };
    let failed =
        |source| Failure::Command { command: escape(program.as_bytes()).into_owned(), source };
    // Before the fork: CMD may be told of as soon as it runs.
    inherited::leave_to_command();
    child.spawn().map_err(failed)
}

/// What an ordinary user runs would have them after exec, too.
fn give_up_ambient() {
    // SAFETY: no pointers. Kernels without ambient capabilities have none to give up.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
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
