//! What becomes of counts, events and maps under loads that no incident of the tests has: each is made against a
//! `record` of the whole host, and told as rows of a table, with what is wanted.
//!
//! What must hold at any load is an error where it does not.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::SockType;
use nix::time::{ClockId, clock_gettime};

use super::operation::Operation;
use crate::harness::compare::completeness;
use crate::harness::process::Running;
use crate::harness::report::{Report, SignalLoss};
use crate::harness::run::socktrace;
use crate::scenario::listener::loopback;
use crate::scenario::socket::{Address, Listener, listen};

/// `listen()` calls, an event each, while the reader is stopped for so long.
const EVENTS_PER_SECOND: u64 = 100_000;
const STOPPED_MS: [u64; 3] = [100, 1_000, 3_000];
/// How many calls are made without a look at the clock.
const BURST: u64 = 50;

/// So many processes with so many listeners each: the limit of descriptors need not be raised for it.
const HOLDERS: u8 = 20;
const LISTENERS_EACH: u16 = 5_000;
/// Of each family.
const CONNECTIONS: u64 = 500_000;
const DROPS: u64 = 50_000;
/// Detail events of drops per second and CPU.
const DROP_BUDGET: u64 = 1_000;
/// The counters come to rest, and the tracer has settled.
const SETTLE: Duration = Duration::from_millis(500);

/// A tracer of the whole host.
struct Traced {
    running: Running,
    dir: tempfile::TempDir,
    attached: Duration,
}

impl Traced {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir().context("a directory for the report")?;
        let mut command = socktrace(&["record", "--json", "--no-save", "--report"])?;
        command.arg(dir.path().join("report.json"));
        let begin = Instant::now();
        let mut running = Running::start(&mut command)?;
        running.wait_err("attached")?;
        Ok(Self { running, dir, attached: begin.elapsed() })
    }

    /// The report, in which everything that was seen ended somewhere.
    fn end(self) -> Result<Report> {
        self.running.signal(Signal::SIGINT)?;
        let finished = self.running.finish()?;
        ensure!(finished.code() == Some(0), "record ended badly: {}", finished.told());
        let bytes = std::fs::read(self.dir.path().join("report.json")).context("the report")?;
        let report: Report = serde_json::from_slice(&bytes).context("the report")?;
        let unbalanced = completeness::identity(&report);
        ensure!(unbalanced.is_empty(), "{}", unbalanced.join("; "));
        Ok(report)
    }
}

/// Makes every load, and prints the rows.
///
/// # Errors
/// When a count is not exact, or the system refuses something.
pub fn load(dir: &Path) -> Result<()> {
    println!("| under load | | wanted |\n|---|---:|---:|");
    stopped_reader()?;
    seeded_listeners()?;
    accept_churn(dir)?;
    syn_flood(dir)
}

fn row(what: &str, figure: &str, wanted: &str) {
    println!("| {what} | {figure} | {wanted} |");
}

fn signal<'a>(report: &'a Report, name: &str) -> Result<&'a SignalLoss> {
    let signals = &report.completeness.signals;
    signals.iter().find(|row| row.signal == name).with_context(|| format!("no signal {name}"))
}

/// Events pile up in the default buffer.
fn stopped_reader() -> Result<()> {
    let listener = listen(&loopback(), SockType::Stream, 16)?;
    for stopped_ms in STOPPED_MS {
        let traced = Traced::start()?;
        sleep(SETTLE);
        let stopped = Duration::from_millis(stopped_ms);
        traced.running.signal(Signal::SIGSTOP)?;
        let made = listen_again_and_again(&listener, stopped);
        traced.running.signal(Signal::SIGCONT)?;
        let (made, took) = made?;
        sleep(SETTLE);
        let report = traced.end()?;
        let listens = signal(&report, "listen")?;
        ensure!(listens.seen >= made, "{made} calls of listen(), {} were seen", listens.seen);
        let lost = listens.lost.buffer + listens.lost.decode;
        row(
            &format!(
                "reader stopped for {stopped_ms} ms, {:.0} events/s: lost of {made}",
                made as f64 / took.as_secs_f64()
            ),
            &lost.to_string(),
            if stopped_ms == STOPPED_MS[0] { "0" } else { "told" },
        );
    }
    Ok(())
}

/// At [`EVENTS_PER_SECOND`], or as fast as it goes; how often, and how long that took.
fn listen_again_and_again(listener: &Listener, length: Duration) -> Result<(u64, Duration)> {
    use std::os::fd::AsRawFd;
    let begin = Instant::now();
    let mut made = 0;
    while begin.elapsed() < length {
        for _ in 0..BURST {
            // SAFETY: takes no pointers.
            Errno::result(unsafe { libc::listen(listener.fd.as_raw_fd(), 16) })
                .context("listen")?;
        }
        made += BURST;
        let due = Duration::from_nanos(made * 1_000_000_000 / EVENTS_PER_SECOND);
        while begin.elapsed() < due {
            std::hint::spin_loop();
        }
    }
    Ok((made, begin.elapsed()))
}

/// Listeners that are there at the start are all looked at before anything is told.
fn seeded_listeners() -> Result<()> {
    let without = Traced::start()?;
    let alone = without.attached;
    without.end()?;
    let holders = (0..HOLDERS).map(hold).collect::<Result<Vec<_>>>()?;
    let traced = Traced::start()?;
    let seeded = traced.attached.saturating_sub(alone);
    traced.end()?;
    drop(holders);
    row(
        &format!(
            "{} listeners there at the start: attached later by, ms",
            u32::from(HOLDERS) * u32::from(LISTENERS_EACH)
        ),
        &format!("{:.0}", seeded.as_secs_f64() * 1e3),
        "1000",
    );
    Ok(())
}

/// A process with listeners of its own, until its input ends.
struct Holder {
    _running: Running,
    _input: ChildStdin,
}

fn hold(number: u8) -> Result<Holder> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["listeners", &format!("127.0.1.{}", number + 1)]);
    let (mut running, input) = Running::start_with_input(&mut command)?;
    running.wait_err("ready")?;
    Ok(Holder { _running: running, _input: input })
}

/// Listens on many ports of `address`, says so, and goes on until the end of `input`.
///
/// # Errors
/// When there are too few descriptors or ports.
pub fn listeners(address: IpAddr, mut input: impl Read) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of descriptors")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising it")?;
    // One that somebody else has is left out.
    let ports = (10_000..60_000).map(|port| Address::ip(address, port));
    let open = ports.filter_map(|at| listen(&at, SockType::Stream, 1).ok());
    let open: Vec<Listener> = open.take(LISTENERS_EACH.into()).collect();
    ensure!(open.len() == usize::from(LISTENERS_EACH), "only {} listeners", open.len());
    eprintln!("ready");
    input.read_to_end(&mut Vec::new()).context("stdin")?;
    Ok(())
}

/// Connections come and go through the maps of those that wait.
fn accept_churn(dir: &Path) -> Result<()> {
    let traced = Traced::start()?;
    for operation in [Operation::Tcp, Operation::Unix] {
        let prepared = operation.prepare(dir)?;
        for _ in 0..CONNECTIONS {
            prepared.act()?;
        }
    }
    sleep(SETTLE);
    let left = waiting(&traced)?;
    let report = traced.end()?;
    let own = |process: &&crate::harness::report::Process| process.pid == Some(std::process::id());
    let accepted: u64 =
        report.processes.iter().filter(own).map(|process| process.accept.count).sum();
    let accepts = signal(&report, "accept")?;
    let made = 2 * CONNECTIONS;
    ensure!(accepted == made, "{made} connections accepted, {accepted} counted");
    let verdict = &report.completeness;
    row(
        &format!("{made} connections accepted: counted, lost, left in the maps, verdict"),
        &format!("{accepted}, {}, {left}, {}", accepts.lost.buffer, verdict.verdict),
        &format!("{made}, 0, 0, complete"),
    );
    Ok(())
}

/// Entries in the tracer's maps of what is under way.
fn waiting(traced: &Traced) -> Result<usize> {
    use crate::harness::bpf_objects;
    let mut left = 0;
    for name in ["ACCEPT_STARTS", "UNIX_MEETINGS"] {
        left += bpf_objects::entries(traced.running.pid(), name)?;
    }
    Ok(left)
}

/// SYNs to a listener whose queue is full.
fn syn_flood(dir: &Path) -> Result<()> {
    let prepared = Operation::TcpOverflow.prepare(dir)?;
    let flood = || -> Result<f64> {
        let before = cpu()?;
        for _ in 0..DROPS {
            prepared.act()?;
        }
        Ok(cpu()?.saturating_sub(before).as_secs_f64() * 1e9 / DROPS as f64)
    };
    flood()?;
    let before = flood()?;
    let traced = Traced::start()?;
    sleep(SETTLE);
    let begin = Instant::now();
    let during = flood()?;
    let took = begin.elapsed();
    sleep(SETTLE);
    let report = traced.end()?;
    let after = flood()?;
    let drops = signal(&report, "backlog_drop")?;
    let told = most_drops(&report);
    ensure!(told == DROPS, "{DROPS} SYNs were dropped, the report has {told}");
    let cpus = std::thread::available_parallelism()?.get() as u64;
    let budget = DROP_BUDGET * cpus * (took.as_secs() + 2);
    ensure!(drops.delivered <= budget, "{} events of drops, beyond {budget}", drops.delivered);
    row(
        &format!("flood of SYNs, full queue: added per drop of {DROPS}, ns (untraced {before:.0})"),
        &format!("{:.0}", during - f64::midpoint(before, after)),
        "1000",
    );
    row(
        &format!("the same: events in {:.1} s", took.as_secs_f64()),
        &drops.delivered.to_string(),
        &format!("≤ {budget}"),
    );
    Ok(())
}

/// Those of the one listener that is flooded, whatever else is dropped on the host.
fn most_drops(report: &Report) -> u64 {
    let counts = report.listeners.iter().map(|it| it.backlog_drops.iter().map(|it| it.count).sum());
    counts.max().unwrap_or(0)
}

/// CPU of this process.
fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("clock_gettime")?.into())
}
