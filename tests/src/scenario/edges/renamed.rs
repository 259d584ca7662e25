//! A process that becomes another program between its connect and the failure of it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{SockFlag, SockType, getsockopt, sockopt};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::scenario::actor::{Role, prepare};
use crate::scenario::attempt::{failure, must_be};
use crate::scenario::clock::wait_until;
use crate::scenario::listener::{accepts, drain, loopback};
use crate::scenario::socket::{bound, listen};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_connect::wait_answer;
use crate::scenario::tcp_timeout::fill;

const NAME: &str = "edge_renamed";
const BEFORE: &str = "st-before";

/// It connects under one name to a listener that does not answer, executes a program of another
/// name, and is refused then, because the listener is gone.
///
/// # Errors
/// When it fails in another way.
pub(super) fn between_connect_and_failure(stage: &mut Stage) -> Result<()> {
    let at = bound(&loopback(), SockType::Stream)?.1;
    // Both have the socket: the child connects, and this process sees when it has failed.
    let socket = at.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
    let inherited = socket.try_clone().context("dup")?;
    let mut client = prepare::<(), _>(Role::named(BEFORE), move || {
        must_be(&at, Errno::EINPROGRESS, at.connect(&inherited))?;
        fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty())).context("F_SETFD")?;
        let program = std::env::current_exe().context("where am I")?;
        Err(Command::new(program).args(["sleep", "60000"]).exec()).context("exec")
    })?;
    let pid = client.pid();
    let listener = listen(&at, SockType::Stream, 0)?;
    let fillers = fill(&listener, 1)?;
    client.start()?;
    let line = format!("/proc/{pid}/cmdline");
    let executed = || Ok(std::fs::read(&line).context("cmdline")?.ends_with(b"\0sleep\x0060000\0"));
    wait_until("another program", executed)?;
    let comm = std::fs::read(format!("/proc/{pid}/comm")).context("comm")?;
    ensure!(!comm.starts_with(BEFORE.as_bytes()), "the other program has the same name");
    let accepted = drain(&listener)?;
    stage.accepted(accepts(NAME, &listener, accepted)?);
    drop((fillers, listener));
    wait_answer(&socket)?;
    let error = getsockopt(&socket, sockopt::SocketError).context("SO_ERROR")?;
    must_be(&at, Errno::ECONNREFUSED, Err(Errno::from_raw(error)))?;
    let child = Pid::from_raw(pid.cast_signed());
    kill(child, Signal::SIGKILL).context("the end of the client")?;
    waitpid(child, None).context("waitpid")?;
    let mut failed = failure(NAME, &at, Errno::ECONNREFUSED, 1)?;
    (failed.pid, failed.comm) = (pid, BEFORE.to_owned());
    stage.failed(failed);
    Ok(())
}
