//! One run of socktrace over a scenario: the report and what the scenario itself saw.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::process::{Finished, Running};
use super::report::Report;
use super::session;
use crate::scenario::gate::Gate;
use crate::scenario::record::Seen;

/// A finished `record`.
#[derive(Clone, Debug)]
pub struct Run {
    /// The report, as the tests read it.
    pub report: Report,
    /// The report, whole.
    pub raw: Value,
    /// The report's bytes.
    pub bytes: Vec<u8>,
    /// The saved session.
    pub session: Vec<u8>,
    /// What the scenario saw.
    pub seen: Seen,
    /// How socktrace ended and what it said.
    pub finished: Finished,
}

/// A command line of socktrace, free of what `sudo` would tell it about another user.
///
/// # Errors
/// When `SOCKTRACE_BIN` does not say where the program is.
pub fn socktrace(args: &[&str]) -> Result<Command> {
    let binary = std::env::var_os("SOCKTRACE_BIN")
        .context("SOCKTRACE_BIN does not name the socktrace program; `cargo xtask test` sets it")?;
    let mut command = Command::new(binary);
    command.args(args);
    for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "NO_COLOR"] {
        command.env_remove(name);
    }
    Ok(command)
}

/// Runs socktrace to its end.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn run(args: &[&str]) -> Result<Finished> {
    Running::start(&mut socktrace(args)?)?.finish()
}

/// Runs socktrace to its end with a stdout that has no reader.
///
/// # Errors
/// As [`run`].
pub fn into_closed_pipe(args: &[&str]) -> Result<Finished> {
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    drop(reader);
    let mut command = socktrace(args)?;
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let child = command.spawn().context("starting socktrace")?;
    let output = child.wait_with_output().context("waiting")?;
    Ok(Finished { status: output.status, stdout: output.stdout, stderr: output.stderr })
}

/// The scenario program: `SOCKTRACE_SCENARIO`, or beside the test program, or one directory up.
///
/// # Errors
/// When it is in none of these places.
pub fn scenario() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SOCKTRACE_SCENARIO") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("where am I")?;
    let places = own.ancestors().skip(1).take(2).map(|dir| dir.join("scenario"));
    places
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("no `scenario` near {}; set SOCKTRACE_SCENARIO", own.display()))
}

/// A `record` that has been started.
pub struct Recording {
    /// socktrace.
    pub running: Running,
    dir: tempfile::TempDir,
}

/// Starts `record --json --report FILE -o FILE ARGS -- scenario WORDS`; without words, without a command.
///
/// # Errors
/// When it cannot be started.
pub fn start_record(args: &[&str], words: &[&str]) -> Result<Recording> {
    let dir = tempfile::tempdir().context("a directory for the report")?;
    let mut command = socktrace(&["record", "--json"])?;
    command.args(files(dir.path())).args(args);
    if !words.is_empty() {
        command.arg("--").arg(scenario()?).args(words);
    }
    Ok(Recording { running: Running::start(&mut command)?, dir })
}

/// Records a scenario from beginning to end in a network namespace of its own, tracer and all, with
/// these `net.ipv4` settings.
///
/// # Errors
/// As [`Recording::finish`].
pub fn record_in_netns(settings: &[&str], args: &[&str], words: &[&str]) -> Result<Run> {
    let scenario = scenario()?;
    let words = [&["--", text(&scenario)?], words].concat();
    start_in_netns(settings, &[], &[args, &words].concat())?.finish()
}

/// Records, in a network namespace of its own, while a listener there throws connections away: since before the start
/// and until after the end.
///
/// # Errors
/// As [`Recording::finish`].
pub fn record_amid_drops(args: &[&str]) -> Result<Run> {
    let scenario = scenario()?;
    start_in_netns(&[], &[text(&scenario)?, "amid"], args)?.finish_with(Seen::default())
}

/// Starts `record --json --report FILE -o FILE ARGS` in a network namespace of its own, by `launcher` if there is one.
fn start_in_netns(settings: &[&str], launcher: &[&str], args: &[&str]) -> Result<Recording> {
    let dir = tempfile::tempdir().context("a directory for the report")?;
    let tracer = socktrace(&["record", "--json"])?;
    let mut command = Command::new(scenario()?);
    command.arg("netns").args(settings).arg("--").args(launcher).arg(tracer.get_program());
    command.args(tracer.get_args()).args(files(dir.path())).args(args);
    Ok(Recording { running: Running::start(&mut command)?, dir })
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}

impl Recording {
    /// Waits for the end of a session with a scenario as its command.
    ///
    /// # Errors
    /// When the scenario did not do what it should, or the report is no report.
    pub fn finish(self) -> Result<Run> {
        let ended = self.finish_raw()?;
        if ended.finished.code() != Some(0) {
            bail!("record ended badly: {}", ended.finished.told());
        }
        let seen = serde_json::from_slice(&ended.finished.stdout)
            .with_context(|| format!("the scenario's output: {}", ended.finished.told()))?;
        ended.understand(seen)
    }

    /// Waits for the end of a session without a command; `seen` is what was seen beside it.
    ///
    /// # Errors
    /// When it ends badly, or the report is no report.
    pub fn finish_with(self, seen: Seen) -> Result<Run> {
        let ended = self.finish_raw()?;
        if ended.finished.code() != Some(0) {
            bail!("record ended badly: {}", ended.finished.told());
        }
        ended.understand(seen)
    }

    fn finish_raw(self) -> Result<Ended> {
        let finished = self.running.finish()?;
        let report = std::fs::read(report_file(self.dir.path()))
            .with_context(|| format!("no report was written: {}", finished.told()))?;
        Ok(Ended { finished, report, dir: self.dir })
    }
}

/// A `record` that has ended, and its files.
struct Ended {
    finished: Finished,
    report: Vec<u8>,
    dir: tempfile::TempDir,
}

impl Ended {
    /// Every session that is recorded is read again, too.
    fn understand(self, seen: Seen) -> Result<Run> {
        let Self { finished, report: bytes, dir } = self;
        let file = session_file(dir.path());
        session::is_as_recorded(&file, &bytes).with_context(|| finished.told())?;
        let session = std::fs::read(&file).context("the session")?;
        let raw: Value = serde_json::from_slice(&bytes).context("the report is not JSON")?;
        let report = serde_json::from_value(raw.clone())
            .with_context(|| format!("the report lacks what docs/json.md promises:\n{raw:#}"))?;
        Ok(Run { report, raw, bytes, session, seen, finished })
    }
}

/// Records a scenario from beginning to end.
///
/// # Errors
/// As [`Recording::finish`].
pub fn record(args: &[&str], words: &[&str]) -> Result<Run> {
    start_record(args, words)?.finish()
}

/// Where hardly anybody makes files: a change of a directory on a path makes what is said of it less sure.
pub fn calm_dir() -> PathBuf {
    let calm = Path::new("/var/tmp");
    if calm.is_dir() { calm.to_owned() } else { std::env::temp_dir() }
}

/// Records the whole host while a staged incident goes on: its first part lies before the start of
/// tracing, and its processes live until the report is written.
///
/// # Errors
/// When the incident did not happen as meant, or the report is no report.
pub fn record_staged(args: &[&str], name: &str) -> Result<Run> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let mut command = Command::new(scenario()?);
    command.arg("--gate").arg(dir.path()).args(["staged", name]);
    command.env("TMPDIR", calm_dir());
    let incident = Running::start(&mut command)?;
    gate.wait_ready()?;
    let mut recording = start_record(args, &[])?;
    recording.running.wait_err("attached")?;
    gate.open()?;
    gate.wait_done().with_context(|| incident.err_so_far())?;
    recording.running.signal(Signal::SIGINT)?;
    let ended = recording.finish_raw()?;
    gate.release()?;
    let played = incident.finish()?;
    if ended.finished.code() != Some(0) || played.code() != Some(0) {
        bail!("record: {}\nscenario: {}", ended.finished.told(), played.told());
    }
    let seen = serde_json::from_slice(&played.stdout).context("the scenario's output")?;
    ended.understand(seen)
}

/// Runs a scenario by itself.
///
/// # Errors
/// When it did not do what it should.
pub fn play(words: &[&str]) -> Result<Seen> {
    let finished = Running::start(Command::new(scenario()?).args(words))?.finish()?;
    if finished.code() != Some(0) {
        bail!("the scenario failed: {}", finished.told());
    }
    serde_json::from_slice(&finished.stdout).context("the scenario's output")
}

/// The flags that name the files of a recording.
fn files(dir: &Path) -> [OsString; 4] {
    ["--report".into(), report_file(dir).into(), "-o".into(), session_file(dir).into()]
}

fn report_file(dir: &Path) -> PathBuf {
    dir.join("report.json")
}

fn session_file(dir: &Path) -> PathBuf {
    dir.join("session.jsonl.zst")
}
