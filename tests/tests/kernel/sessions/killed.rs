//! A tracer that is killed leaves a file that opens and holds what happened, but for the last
//! interval, and leaves nothing in the kernel.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socktrace_tests::harness::bpf_objects::{self, Objects};
use socktrace_tests::harness::chance::Chance;
use socktrace_tests::harness::kernels::{is_full, this_kernel};
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::{scenario, socktrace};
use socktrace_tests::harness::session;
use socktrace_tests::scenario::clock::now_ns;
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::pulse::Beats;

use super::{read, report, verdict};
use crate::leftovers::leftovers;
use crate::matrix::tell;

/// How often totals are saved here.
const INTERVAL: Duration = Duration::from_millis(100);
/// What comes on top: the tracer looks whether the interval is over at least so often.
const LOOKS: Duration = Duration::from_millis(50);
/// Every so manieth is killed before it is attached, at these milliseconds.
const EARLY: usize = 5;
const ATTACHING_MS: u64 = 400;

/// How often it is done, and what is expected of this machine.
struct Pace {
    kills: usize,
    /// Milliseconds of tracing.
    tracing_ms: u64,
    /// The tracer writes so much later at most: the machine has other things to do, too, and saving may
    /// take a small share of the time only.
    busy: Duration,
}

impl Pace {
    fn of(kernel: &str) -> Self {
        let busy = Duration::from_millis(350);
        match kernel {
            "host" => Self { kills: 50, tracing_ms: 600, busy },
            // Emulated: everything takes ten times as long.
            _ => Self { kills: if is_full() { 20 } else { 3 }, tracing_ms: 5000, busy: busy * 8 },
        }
    }
}

/// The load, and where its log is.
struct Pulse {
    running: Running,
    dir: tempfile::TempDir,
}

/// A tracer that was killed, and when what was so.
struct Killed {
    spawned_ns: u64,
    /// `None`: it was not attached yet.
    attached_ns: Option<u64>,
    /// When the signal was sent.
    shot_ns: u64,
    dead_ns: u64,
    held: Objects,
}

impl Pulse {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir().context("a gate")?;
        let mut command = Command::new(scenario()?);
        // It is killed if this test fails: its work directory goes with this one.
        command.arg("--gate").arg(dir.path()).arg("pulse").env("TMPDIR", dir.path());
        let running = Running::start(&mut command)?;
        let gate = Gate::at(dir.path());
        gate.wait_ready()?;
        gate.open()?;
        Ok(Self { running, dir })
    }

    fn end(self) -> Result<()> {
        Gate::at(self.dir.path()).release()?;
        let finished = self.running.finish()?;
        ensure!(finished.code() == Some(0), "the load went wrong: {}", finished.told());
        Ok(())
    }
}

#[test]
fn whenever_a_tracer_is_killed_its_session_holds_all_but_the_last_interval() -> Result<()> {
    let pace = Pace::of(&this_kernel()?.name);
    let before = bpf_objects::all()?;
    let (pulse, mut chance) = (Pulse::start()?, Chance::told());
    let (mut problems, mut held, mut longest) = (Vec::new(), Objects::new(), Duration::ZERO);
    for round in 0..pace.kills {
        let dir = tempfile::tempdir().context("a directory")?;
        let file = dir.path().join("session.jsonl.zst");
        let killed = kill_one(&file, round % EARLY != 0, &pace, &mut chance)?;
        match judge(&file, &killed, &pulse, &pace) {
            Ok(behind) => longest = longest.max(behind),
            Err(error) => problems.push(format!("kill {round}: {error:#}")),
        }
        held.extend(killed.held);
    }
    println!("{} kills; at most {longest:?} of a session were not saved", pace.kills);
    pulse.end()?;
    problems.extend(leftovers(&before, &held));
    tell(&problems)
}

/// Records into the file, and kills the tracer while it attaches or while it traces.
fn kill_one(file: &Path, attaches: bool, pace: &Pace, chance: &mut Chance) -> Result<Killed> {
    let spawned_ns = now_ns()?;
    let interval = format!("{}ms", INTERVAL.as_millis());
    let mut command = socktrace(&["record", "-i", &interval, "-o"])?;
    let mut tracer = Running::start(command.arg(file))?;
    let (mut attached_ns, mut held) = (None, Objects::new());
    if attaches {
        tracer.wait_err("attached")?;
        attached_ns = Some(now_ns()?);
        held = bpf_objects::held_by(tracer.pid())?;
        ensure!(!held.is_empty(), "a tracer without programs");
        std::thread::sleep(chance.millis(0..pace.tracing_ms));
    } else {
        std::thread::sleep(chance.millis(0..ATTACHING_MS));
    }
    let shot_ns = now_ns()?;
    tracer.signal(Signal::SIGKILL)?;
    let finished = tracer.finish()?;
    ensure!(finished.signal() == Some(libc::SIGKILL), "{}", finished.told());
    Ok(Killed { spawned_ns, attached_ns, shot_ns, dead_ns: now_ns()?, held })
}

/// How long before its end the tracer had saved everything.
fn judge(file: &Path, killed: &Killed, pulse: &Pulse, pace: &Pace) -> Result<Duration> {
    let Some(attached_ns) = killed.attached_ns else {
        return opens(file).map(|()| Duration::ZERO);
    };
    let saved = read(file)?;
    ensure!(verdict(&saved) == "incomplete", "it is {}", verdict(&saved));
    ensure!(report(file, &["--strict"])?.code() == Some(4), "--strict does not mind");
    let beats = Beats::read(pulse.dir.path())?;
    let late = u64::try_from((INTERVAL + LOOKS + pace.busy).as_nanos())?;
    let least = beats.over_at(killed.shot_ns - late).saturating_sub(beats.begun_at(attached_ns));
    let most = beats.begun_at(killed.dead_ns) - beats.over_at(killed.spawned_ns);
    for (what, count) in counts(&saved, pulse.running.pid()) {
        ensure!((least..=most).contains(&count), "{count} {what}, not {least} to {most}");
    }
    let lasted = saved["session"]["duration_ns"].as_u64().context("a duration")?;
    let header = session::header(&std::fs::read(file)?)?;
    let started = header["started_ns"].as_u64().context("a start")?;
    Ok(Duration::from_nanos(killed.shot_ns.saturating_sub(started + lasted)))
}

/// A file that may have nothing in it yet says so; any other one is read.
fn opens(file: &Path) -> Result<()> {
    if std::fs::metadata(file).is_ok_and(|found| found.len() != 0) {
        return read(file).map(drop);
    }
    let finished = report(file, &[])?;
    ensure!(finished.code() == Some(2), "{}", finished.told());
    let why = if file.exists() { "it is empty" } else { "cannot read" };
    ensure!(finished.err().contains(why), "{}", finished.told());
    Ok(())
}

/// What the file has of the load.
fn counts(saved: &Value, pid: u32) -> [(&'static str, u64); 2] {
    let rows = saved["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = rows.iter().find(|row| row["pid"] == pid).cloned().unwrap_or_default();
    let failures = row["connect_failures"].as_array().cloned().unwrap_or_default();
    let failed = failures.iter().filter_map(|failure| failure["count"].as_u64()).sum();
    [("accepts", row["accept"]["count"].as_u64().unwrap_or(0)), ("failures", failed)]
}
