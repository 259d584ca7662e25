//! A tracer from its start to its end. What it prints goes to files: a pipe would have to be read
//! meanwhile, and that costs what is being measured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::plan::Subject;
use crate::harness::process::heed_interrupts;

/// bpftrace compiles its script first.
const START: Duration = Duration::from_mins(1);
const END: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(20);
/// The same until it traces, which is what is to be known.
const SHARP_GLANCE: Duration = Duration::from_millis(1);
/// Where tracers wait for events or for their time: `poll`, `clock_nanosleep`, `epoll_wait`, `ppoll`, `epoll_pwait`.
const WAITS: [&str; 5] = ["7", "230", "232", "271", "281"];
/// Without a word of it, a tracer counts as attached once it has slept almost all of so long a time.
const QUIET: Duration = Duration::from_millis(600);
/// What it does right after it has attached is not measured.
const SETTLE: Duration = Duration::from_millis(300);
/// How much of what it said goes into messages.
const TOLD: usize = 600;

/// A tracer that has attached.
pub(super) struct Tracer {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    attached: Option<Duration>,
}

impl Tracer {
    /// Starts it, and waits until it traces.
    pub(super) fn start(subject: &Subject, worker: u32, dir: &Path) -> Result<Self> {
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        let words =
            subject.command.iter().map(|word| word.replace("{worker}", &worker.to_string()));
        let [program, arguments @ ..] = &words.collect::<Vec<_>>()[..] else { bail!("no command") };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        heed_interrupts()?;
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("{program} did not start"))?;
        let mut this = Self { child, stdout, stderr, attached: None };
        match this.await_ready(subject.ready.as_deref(), begun) {
            Ok(()) => Ok(this),
            Err(error) => {
                let _gone = this.child.kill();
                let _reaped = this.child.wait();
                let told = this.told();
                Err(if told.is_empty() { error } else { error.context(told) })
            }
        }
    }

    /// After what time it was attached: where it does not say so, once it waits.
    pub(super) fn attached(&self) -> Option<Duration> {
        self.attached
    }

    fn await_ready(&mut self, word: Option<&str>, begun: Instant) -> Result<()> {
        let deadline = begun + START;
        let mut quiet = Quiet { used: 0, since: Instant::now() };
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended before it traced anything ({status})");
            }
            let (is_attached, is_ready) = match word {
                Some(word) => {
                    let has_said = self.said().contains(word);
                    (has_said, has_said)
                }
                None => (waits(self.child.id()), quiet.lasts(self.child.id())?),
            };
            if is_attached && self.attached.is_none() {
                self.attached = Some(begun.elapsed());
            }
            if is_ready {
                sleep(SETTLE);
                return Ok(());
            }
            sleep(if self.attached.is_none() { SHARP_GLANCE } else { GLANCE });
        }
        bail!("it was not ready after {} s", START.as_secs())
    }

    /// Ends it as Ctrl-C does; gives what it printed, and how many bytes that was.
    pub(super) fn end(mut self) -> Result<(String, u64)> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended by itself while it was measured ({status}): {}", self.told());
        }
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).context("SIGINT")?;
        let deadline = Instant::now() + END;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill().context("SIGKILL")?;
                self.child.wait()?;
                bail!("it did not end {} s after SIGINT: {}", END.as_secs(), self.told());
            }
            sleep(GLANCE);
        }
        let bytes = fs::metadata(&self.stdout)?.len() + fs::metadata(&self.stderr)?.len();
        Ok((self.told(), bytes))
    }

    fn said(&self) -> String {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        read(&self.stdout) + &read(&self.stderr)
    }

    /// The end of what it printed, on one line.
    fn told(&self) -> String {
        let said = self.said();
        let tail = said.char_indices().rev().nth(TOLD).map_or(0, |(at, _)| at);
        said[tail..].split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Whether the first thread of a process sleeps in one of [`WAITS`].
fn waits(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next().is_some_and(|number| WAITS.contains(&number))
}

/// Whether a process sleeps most of the time; many wake up now and then to look around.
struct Quiet {
    used: u64,
    since: Instant,
}

impl Quiet {
    fn lasts(&mut self, pid: u32) -> Result<bool> {
        let elapsed = self.since.elapsed();
        if elapsed < QUIET {
            return Ok(false);
        }
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        let used: u64 = text.split_whitespace().next().context("schedstat")?.parse()?;
        let busy = Duration::from_nanos(used.saturating_sub(self.used));
        *self = Self { used, since: Instant::now() };
        Ok(busy < elapsed / 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(command: &[&str], ready: Option<&str>) -> Subject {
        Subject {
            name: command[0].to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ready: ready.map(str::to_owned),
        }
    }

    #[test]
    fn a_tracer_is_awaited_and_ended() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let script = "trap 'exit 0' INT; echo attached {worker}; while :; do sleep 0.01; done";
        let subject = subject(&["sh", "-c", script], Some("attached 7"));
        let tracer = Tracer::start(&subject, 7, dir.path())?;
        assert!(tracer.attached().is_some_and(|took| took < START));
        let (told, bytes) = tracer.end()?;
        assert_eq!((told.as_str(), bytes), ("attached 7", 11));
        Ok(())
    }

    #[test]
    fn one_that_says_nothing_is_attached_once_it_waits() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut tracer = Tracer::start(&subject(&["sleep", "20"], None), 7, dir.path())?;
        tracer.child.kill()?;
        tracer.child.wait()?;
        let attached = tracer.attached().context("it sleeps")?;
        assert!(attached < Duration::from_secs(10), "{attached:?}");
        Ok(())
    }

    #[test]
    fn one_that_ends_at_once_says_why() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let subject = subject(&["sh", "-c", "echo no kprobes >&2; exit 1"], None);
        let error = Tracer::start(&subject, 7, dir.path()).err().context("it ends")?;
        assert!(format!("{error:#}").contains("no kprobes"), "{error:#}");
        Ok(())
    }
}
