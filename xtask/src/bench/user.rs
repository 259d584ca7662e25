//! Measuring the tracer itself on this machine: what it takes to attach, to wait and to hold, what its
//! user space does with events and sessions (`socktrace/benches`), and what becomes of counts under load (`bench load`).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::host;
use super::samples::median;
use crate::process;

/// Runs of the tracer.
const RUNS: u32 = 5;
/// How long each idles before it is looked at.
const SETTLE: Duration = Duration::from_secs(2);
/// How long it is looked at.
const IDLE: Duration = Duration::from_secs(5);

/// One run of the tracer on a host where nothing happens.
struct Tracer {
    attached_ms: f64,
    attach_cpu_ms: f64,
    idle_percent: f64,
    resident_mb: f64,
    peak_mb: f64,
}

/// Prints Criterion's figures, and returns a table of the tracer's own.
pub(super) fn everything(root: &Path) -> Result<String> {
    if !geteuid().is_root() {
        bail!("tracers need root, and this user is not root; run it as root");
    }
    let (socktrace, bench) = host::build(root)?;
    let runs = (0..RUNS).map(|_| run(&socktrace)).collect::<Result<Vec<_>>>()?;
    let load = process::capture(Command::new(bench).arg("load").env("SOCKTRACE_BIN", &socktrace))?;
    let mut criterion = process::cargo();
    process::run(
        criterion
            .args(["bench", "--package", "socktrace", "--bench", "user_space"])
            .current_dir(root),
    )?;
    let row = |name: &str, of: fn(&Tracer) -> f64, wanted: &str| {
        let value = median(runs.iter().map(of).collect()).unwrap_or(f64::NAN);
        format!("| {name} | {value:.2} | {wanted} |\n")
    };
    let title =
        format!("### The tracer itself, medians of {RUNS}\n\n| | | wanted |\n|---|---:|---:|\n");
    Ok(title
        + &row("until attached, ms", |run| run.attached_ms, "30")
        + &row("CPU until attached, ms", |run| run.attach_cpu_ms, "")
        + &row("CPU of one core while idle, %", |run| run.idle_percent, "0.1")
        + &row("resident while tracing, MB", |run| run.resident_mb, "8")
        + &row("resident at most, MB", |run| run.peak_mb, "24")
        + "\n"
        + &load)
}

fn run(socktrace: &str) -> Result<Tracer> {
    let begin = Instant::now();
    let mut child = Command::new(socktrace)
        .args(["record", "--no-save"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| process::cannot_start(socktrace))?;
    let measured = measure(&mut child, begin);
    // On every way out: a tracer must not outlive its measuring.
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, Signal::SIGINT).context("the tracer cannot be ended")?;
    child.wait().context("the tracer cannot be waited for")?;
    measured
}

fn measure(child: &mut Child, begin: Instant) -> Result<Tracer> {
    let mut said = BufReader::new(child.stderr.take().context("a piped stderr is missing")?);
    let mut line = String::new();
    while !line.contains("attached") {
        line.clear();
        if said.read_line(&mut line).context("its stderr cannot be read")? == 0 {
            bail!("it ended before it was attached: run it by hand to see why");
        }
    }
    let attached_ms = begin.elapsed().as_secs_f64() * 1e3;
    let attach_cpu_ms = cpu_ms(child.id())?;
    thread::sleep(SETTLE);
    let (before, from) = (cpu_ms(child.id())?, Instant::now());
    thread::sleep(IDLE);
    let idle_percent =
        (cpu_ms(child.id())? - before) / (from.elapsed().as_secs_f64() * 1e3) * 100.0;
    let (resident_mb, peak_mb) =
        (memory_mb(child.id(), "VmRSS:")?, memory_mb(child.id(), "VmHWM:")?);
    Ok(Tracer { attached_ms, attach_cpu_ms, idle_percent, resident_mb, peak_mb })
}

/// CPU time of all its threads that live, from the scheduler: finer than the ticks of `stat`.
fn cpu_ms(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the tracer is gone")? {
        let path = task?.path().join("schedstat");
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        sum += first.parse::<f64>().context("a schedstat without a number")? / 1e6;
    }
    Ok(sum)
}

fn memory_mb(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the tracer is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next());
    let kilobytes: f64 = kilobytes.with_context(|| format!("no {field}"))?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
