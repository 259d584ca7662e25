//! Programs that are measured: how long they take, how much memory they use at most, and that they end.

use std::io::Error;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::Finished;
use super::run::scenario;

/// Who uses so much CPU time is killed, seconds.
const MOST_CPU: u64 = 60;

/// A program that has ended, and what it took.
#[derive(Debug)]
pub struct Measured {
    /// Its end and its output.
    pub finished: Finished,
    /// CPU time, user and system: other tests may have the CPUs meanwhile.
    pub took: Duration,
    /// The most memory that it had, bytes.
    pub peak_bytes: u64,
}

/// Runs a command to its end.
///
/// The kernel hands a process's peak down to what it starts, through `fork()` and `execve()`. So `scenario measured`
/// starts the command, which is small, and not this process, where other tests may have taken hundreds of megabytes.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn measured(command: &Command, input: Stdio) -> Result<Measured> {
    let told = tempfile::NamedTempFile::new().context("a file for the peak")?;
    let mut helper = Command::new(scenario()?);
    helper.arg("measured").arg(told.path()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => helper.env(name, value),
            None => helper.env_remove(name),
        };
    }
    helper.stdin(input);
    let output = helper.output().with_context(|| format!("starting {helper:?}"))?;
    let (status, stdout, stderr) = (output.status, output.stdout, output.stderr);
    let finished = Finished { status, stdout, stderr };
    let told = std::fs::read_to_string(told.path()).context("what it used")?;
    let mut words = told.split_whitespace().map(str::parse::<u64>);
    let mut word = || words.next().with_context(|| finished.told())?.context("what it used");
    let (peak_bytes, took) = (word()?, Duration::from_micros(word()?));
    Ok(Measured { finished, took, peak_bytes })
}

/// `measured FILE PROGRAM ARGS`: runs a program, writes into the file how many bytes it had at most and how many microseconds
/// of CPU time it took, and ends as it did.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn measure(words: &[String]) -> Result<ExitCode> {
    let [file, program, args @ ..] = words else { bail!("measured FILE PROGRAM ARGS") };
    setrlimit(Resource::RLIMIT_CPU, MOST_CPU, MOST_CPU).context("a limit of CPU time")?;
    let child = Command::new(program).args(args).spawn().with_context(|| program.clone())?;
    let (status, peak_bytes, cpu_us) = wait(child.id())?;
    std::fs::write(file, format!("{peak_bytes} {cpu_us}")).context("what it used")?;
    if let Some(signal) = status.signal() {
        kill(Pid::this(), Signal::try_from(signal)?).context("the same end")?;
    }
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Waits for a child, once, and asks what it used.
fn wait(pid: u32) -> Result<(ExitStatus, u64, u64)> {
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
    let micros = |time: libc::timeval| u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec);
    let cpu = micros(usage.ru_utime)? + micros(usage.ru_stime)?;
    Ok((ExitStatus::from_raw(status), kib * 1024, cpu))
}
