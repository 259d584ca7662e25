//! Programs that are measured: how long they take, how much memory they use at most, and that they end.

use std::io::{Error, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};

use super::process::Finished;

/// Who uses so much CPU time is killed, seconds.
const MOST_CPU: u64 = 60;

/// A program that has ended, and what it took.
#[derive(Debug)]
pub struct Measured {
    /// Its end and its output.
    pub finished: Finished,
    /// From start to end.
    pub took: Duration,
    /// The most memory that it had, bytes; at least what this process had when it started the other.
    pub peak_bytes: u64,
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn measured(command: &mut Command, input: Stdio) -> Result<Measured> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let limit = || setrlimit(Resource::RLIMIT_CPU, MOST_CPU, MOST_CPU).map_err(Error::from);
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(limit) };
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let (out, err) =
        (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let out = std::thread::spawn(move || all_of(out));
    let err = std::thread::spawn(move || all_of(err));
    let (status, peak_bytes) = wait(child.id())?;
    let took = begin.elapsed();
    let stdout = out.join().unwrap_or_default();
    let stderr = err.join().unwrap_or_default();
    Ok(Measured { finished: Finished { status, stdout, stderr }, took, peak_bytes })
}

fn all_of(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    // What was read until then is what there is.
    let _ended = from.read_to_end(&mut all);
    all
}

/// Waits for a child, once, and asks what it used.
fn wait(pid: u32) -> Result<(ExitStatus, u64)> {
    let pid = i32::try_from(pid).context("pid")?;
    let mut status = 0;
    // SAFETY: all zeros is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to values that live through the call.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if waited == pid {
            break;
        }
        let error = Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).context("wait4");
        }
    }
    let kib = u64::try_from(usage.ru_maxrss).context("ru_maxrss")?;
    Ok((ExitStatus::from_raw(status), kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_and_the_output_of_a_program_are_its_own() -> Result<()> {
        let mut shell = Command::new("/bin/sh");
        let ended = measured(shell.args(["-c", "cat; echo b >&2; exit 3"]), Stdio::null())?;
        assert_eq!((ended.finished.code(), ended.finished.err().as_str()), (Some(3), "b\n"));
        assert!(ended.peak_bytes > 100_000, "{ended:?}");
        Ok(())
    }
}
