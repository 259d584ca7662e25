//! Processes under test: started, watched, signalled and ended within a time limit.
//!
//! Only ever signals the process that it started itself, by its pid.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

/// Longer than anything that is not hung, on an emulated machine, too.
pub const PATIENCE: Duration = Duration::from_mins(4);

/// Whoever was started in the background of a shell without job control ignores Ctrl-C, and so would what it starts.
/// Here, and not in the child: what a test has prepared there is to stay.
pub(crate) fn heed_interrupts() -> Result<()> {
    // SAFETY: the default is no handler.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.context("SIGINT")?;
    Ok(())
}

/// How a process ended and what it said.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its end.
    pub status: ExitStatus,
    /// Its stdout, raw.
    pub stdout: Vec<u8>,
    /// Its stderr, raw.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// The exit code, if it was not killed.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that killed it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// stdout as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Everything that it said, for a failure's message.
    pub fn told(&self) -> String {
        format!("{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.out(), self.err())
    }
}

/// A process under test; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

/// A stream that is read as it comes, so that its writer never waits.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut part = [0u8; 8192];
            while let Ok(count @ 1..) = from.read(&mut part) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(&part[..count]);
            }
        });
        Self { text, reader }
    }

    fn so_far(&self) -> Vec<u8> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it: waits for its end, but not for a descendant that holds it open for long.
    fn all(&self) -> Vec<u8> {
        let _ended = wait_for(Duration::from_secs(3), || self.reader.is_finished());
        self.so_far()
    }
}

impl Running {
    /// Starts a command with both output streams captured and no input.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// The same, with an input to write to.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start_with_input(command: &mut Command) -> Result<(Self, ChildStdin)> {
        let mut running = Self::spawn(command.stdin(Stdio::piped()))?;
        let input = running.child.stdin.take().context("stdin")?;
        Ok((running, input))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        heed_interrupts()?;
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdout = Stream::of(child.stdout.take().context("stdout")?);
        let stderr = Stream::of(child.stderr.take().context("stderr")?);
        Ok(Self { child, stdout, stderr })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("pid")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
    }

    /// What it wrote to stdout so far.
    pub fn out_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.so_far()).into_owned()
    }

    /// What it wrote to stderr so far.
    pub fn err_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// Whether it has ended; true, too, if that cannot be told.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until its stderr contains `word`.
    ///
    /// # Errors
    /// When it ends before, or too much time passes.
    pub fn wait_err(&mut self, word: &str) -> Result<()> {
        let start = Instant::now();
        while !self.err_so_far().contains(word) {
            let ended = self.child.try_wait().context("waiting")?;
            if let Some(status) = ended {
                bail!("{status} before it said `{word}`; stderr:\n{}", self.err_so_far());
            }
            if start.elapsed() > PATIENCE {
                bail!("never said `{word}`; stderr:\n{}", self.err_so_far());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time: then it is killed.
    pub fn finish(mut self) -> Result<Finished> {
        let mut status = None;
        let ended = wait_for(PATIENCE, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        let Some(status) = status.filter(|_| ended) else {
            bail!("still running after {PATIENCE:?}; stderr:\n{}", self.err_so_far());
        };
        Ok(Finished { status, stdout: self.stdout.all(), stderr: self.stderr.all() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Asks `done` every 5 ms until it comes true or the time is up; says whether it came true.
pub fn wait_for(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
