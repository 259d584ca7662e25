//! A shell as job control knows it: a session with a terminal, and one job in a process group of its
//! own.
//!
//! Tells on stdout what becomes of the job, a line each, and takes `fg` on stdin while it is
//! stopped.

use std::fs::{File, OpenOptions};
use std::io::{Write, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setsid, tcsetpgrp};

/// `TTY [background] [tostop] -- PROGRAM ARGS`
///
/// # Errors
/// When the words are others, or the terminal cannot be taken.
pub fn run(words: &[String]) -> Result<()> {
    let at = words.iter().position(|word| word == "--").context("no -- before the job")?;
    let (own, job) = (&words[..at], &words[at + 1..]);
    let tty = own.first().context("no terminal")?;
    let has = |flag: &str| own.iter().skip(1).any(|word| word == flag);
    let tty = take_terminal(Path::new(tty))?;
    if has("tostop") {
        let mut modes = tcgetattr(&tty).context("modes of the terminal")?;
        modes.local_flags |= LocalFlags::TOSTOP;
        tcsetattr(&tty, SetArg::TCSANOW, &modes).context("tostop")?;
    }
    let job = start(&tty, job, has("background"))?;
    watch(&tty, job)?;
    // With its shell, the terminal would hang up on what the job has left.
    std::io::copy(&mut stdin(), &mut std::io::sink()).context("the end")?;
    Ok(())
}

/// The first terminal that a session's leader opens is the session's.
fn take_terminal(path: &Path) -> Result<File> {
    setsid().context("a session")?;
    // SAFETY: ignored, so that a shell in the background may hand the terminal over.
    unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) }.context("SIGTTOU")?;
    let tty = OpenOptions::new().read(true).write(true).open(path).context("the terminal")?;
    tcsetpgrp(&tty, getpid()).context("the terminal is another's")?;
    Ok(tty)
}

fn start(tty: &File, words: &[String], background: bool) -> Result<Pid> {
    let (program, args) = words.split_first().context("no job")?;
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    command.stdin(tty.try_clone()?).stdout(tty.try_clone()?).stderr(tty.try_clone()?);
    let ready = move || {
        if !background {
            // SAFETY: stdin is open: it is the terminal.
            tcsetpgrp(unsafe { BorrowedFd::borrow_raw(0) }, getpid())?;
        }
        // As a shell's user has them, whatever whoever started the tests ignores.
        for default in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTOU] {
            // SAFETY: the default action.
            unsafe { signal(default, SigHandler::SigDfl) }?;
        }
        Ok(())
    };
    // SAFETY: a few system calls between fork and exec.
    unsafe { command.pre_exec(ready) };
    let child = command.spawn().with_context(|| format!("starting {program}"))?;
    Ok(Pid::from_raw(i32::try_from(child.id()).context("a pid")?))
}

fn watch(tty: &File, job: Pid) -> Result<()> {
    loop {
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        let status = waitpid(job, Some(flags)).context("waiting for the job")?;
        match status {
            WaitStatus::Exited(_, code) => return tell(&format!("exited {code}")),
            WaitStatus::Signaled(_, signal, _) => return tell(&format!("killed by {signal}")),
            WaitStatus::Stopped(_, signal) => {
                tcsetpgrp(tty.as_fd(), getpid()).context("the terminal, back")?;
                tell(&format!("stopped by {signal}"))?;
                let mut line = String::new();
                stdin().read_line(&mut line).context("a word for the shell")?;
                if line.trim() != "fg" {
                    bail!("the shell knows `fg` only, not `{line}`");
                }
                tcsetpgrp(tty.as_fd(), job).context("the terminal, to the job")?;
                killpg(job, Signal::SIGCONT).context("SIGCONT")?;
            }
            WaitStatus::Continued(_) => tell("continued")?,
            other => bail!("what is {other:?}?"),
        }
    }
}

fn tell(line: &str) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("telling")
}
