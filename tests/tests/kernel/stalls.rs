//! Connections that wait now: told while they wait, with what their server does instead.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::socket::{SockFlag, SockType};
use nix::unistd::{Pid, gettid};
use serde_json::{Value, json};
use socktrace_tests::harness::compare::stalls::{self, Age};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::{PATIENCE, Running, wait_for};
use socktrace_tests::harness::report::Stall;
use socktrace_tests::harness::run::{Run, record, scenario, socktrace, start_record};
use socktrace_tests::scenario::clock::{now_ns, wait_until};
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::held::Held;
use socktrace_tests::scenario::listener::{loopback, wait_queued};
use socktrace_tests::scenario::record::{Seen, Stalled};
use socktrace_tests::scenario::socket::{Address, accept, listen};
use socktrace_tests::scenario::stage::whoami;
use socktrace_tests::scenario::stalls::{CLIENT, INSTEAD};

use crate::matrix::tell;

const INCIDENTS: [&str; 5] =
    ["stall_stopped", "stall_spinning", "stall_sleeping", "stall_descriptors", "stall_throttled"];
/// The threshold of a stall.
const THRESHOLD_NS: u64 = 1_000_000_000;
/// A stall is told this long after its threshold, at the latest.
const LATE_NS: u64 = 1_500_000_000;
/// What a slow machine takes from the opening of the gate until a connection waits, and until the line is read.
const STAGING_NS: u64 = 1_000_000_000;
/// Between an accept and what is queued then: so they are told apart.
const APART: Duration = Duration::from_millis(300);
/// Clients that sleep in `connect()`: more than lie in any queue here.
const SLEEPERS: u32 = 5;

#[test]
fn a_report_keeps_each_stall_with_its_owner_its_clients_and_what_held_it_up() -> Result<()> {
    let mut told = Vec::new();
    let kernel = this_kernel()?;
    let place = where_a_thread_sleeps()?;
    for tier in kernel.tiers_of("stalls") {
        let may_be_short = kernel.short_under_contention.iter().any(|short| short == tier);
        let age = if may_be_short { Age::Bound } else { Age::Exact };
        let run = record(&["--tier", tier], &INCIDENTS).map_err(|e| anyhow!("{tier}: {e:#}"))?;
        let mut problems = stalls::problems(&run.seen, &run.report, age);
        problems.extend(run.seen.stalls.iter().filter_map(|it| client_not_named(it, &run)));
        problems.extend(sleep_not_placed(&place, &run));
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

fn rows_of(run: &Run, inode: u64) -> Vec<&Stall> {
    run.report.stalls.iter().filter(|stall| stall.inode == inode).collect()
}

/// The row of a listener's stall, as it is in the report.
fn raw_row(run: &Run, inode: u64) -> &Value {
    let rows = run.raw["stalls"].as_array();
    rows.and_then(|rows| rows.iter().find(|row| row["inode"] == inode)).unwrap_or(&Value::Null)
}

fn client_not_named(expected: &Stalled, run: &Run) -> Option<String> {
    let clients = &raw_row(run, expected.inode)["clients"];
    let wanted = json!([{"pid": expected.client, "comm": CLIENT, "count": expected.connections}]);
    (*clients != wanted).then(|| format!("{}: {wanted}, found {clients}", expected.name))
}

fn sleep_not_placed(place: &str, run: &Run) -> Option<String> {
    let Some(expected) = run.seen.stalls.iter().find(|it| it.name == "stall_sleeping") else {
        return Some("the scenario had no server that sleeps".to_owned());
    };
    let state = &raw_row(run, expected.inode)["acceptor_state"];
    let says_it = state.as_str().is_some_and(|state| state.contains(place));
    (!says_it).then(|| format!("{}: `{place}`, found {state}", expected.name))
}

/// What is to be said of a thread that sleeps as the server does, as far as this kernel tells.
fn where_a_thread_sleeps() -> Result<String> {
    let (tell_tid, tid) = channel();
    // Nobody waits for its end.
    thread::spawn(move || {
        tell_tid.send(gettid())?;
        thread::sleep(PATIENCE);
        Ok::<_, anyhow::Error>(())
    });
    let task = task(tid.recv()?);
    let calls =
        [(libc::SYS_nanosleep, "nanosleep"), (libc::SYS_clock_nanosleep, "clock_nanosleep")];
    let mut called = None;
    wait_until("a thread that sleeps", || {
        for (number, name) in calls {
            called = called.or(is_asleep_in(&task, number)?.then_some(name));
        }
        Ok(called.is_some())
    })?;
    let call = called.context("a call")?;
    let function = fs::read_to_string(task.join("wchan")).context("wchan")?;
    Ok(match function.trim() {
        "" | "0" => format!("asleep in {call}"),
        function => format!("asleep in {call} ({function})"),
    })
}

fn task(tid: Pid) -> PathBuf {
    Path::new("/proc/self/task").join(tid.to_string())
}

fn is_asleep_in(task: &Path, call: i64) -> Result<bool> {
    let told = fs::read_to_string(task.join("syscall")).context("syscall")?;
    Ok(told.starts_with(&format!("{call} ")))
}

/// A line of `watch`.
struct Line {
    /// When it had come, by the clock of the test.
    came_ns: u64,
    told: Value,
}

struct Made {
    /// Before any connection of it, by the clock of the test.
    began_ns: u64,
    seen: Seen,
}

#[test]
fn a_stall_is_told_soon_after_its_threshold_with_what_the_server_does_instead() -> Result<()> {
    let mut tracer = Running::start(&mut socktrace(&["watch", "--json"])?)?;
    tracer.wait_err("attached")?;
    let mut came_ns = Vec::new();
    let made = INCIDENTS.iter().map(|name| make_beside(&tracer, name, &mut came_ns));
    let made = made.collect::<Result<Vec<_>>>()?;
    tracer.signal(Signal::SIGINT)?;
    let out = tracer.finish()?.out();
    came_ns.resize(out.lines().count(), now_ns()?);
    let line = |(text, came_ns)| Ok(Line { came_ns, told: serde_json::from_str(text)? });
    let lines = out.lines().zip(came_ns).map(line).collect::<Result<Vec<_>>>()?;
    tell(&made.iter().flat_map(|made| as_they_happened(made, &lines)).collect::<Vec<_>>())
}

/// Makes an incident, and notes meanwhile when each line of the tracer has come.
fn make_beside(tracer: &Running, name: &str, came_ns: &mut Vec<u64>) -> Result<Made> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let mut command = Command::new(scenario()?);
    let mut incident = Running::start(command.arg("--gate").arg(dir.path()).arg(name))?;
    gate.wait_ready()?;
    let began_ns = now_ns()?;
    gate.open()?;
    wait_for(PATIENCE, || {
        let lines = tracer.out_so_far().matches('\n').count();
        // Without a clock, they came too late.
        came_ns.resize(lines, now_ns().unwrap_or(u64::MAX));
        incident.has_ended()
    });
    let finished = incident.finish()?;
    let seen = serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    Ok(Made { began_ns, seen })
}

#[test]
fn a_server_of_which_the_cgroup_is_short_of_memory_is_told_to_be() -> Result<()> {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let has_it = controllers.is_ok_and(|text| text.split_whitespace().any(|it| it == "memory"));
    let run = record(&[], &["stall_memory"])?;
    let lacks = run.seen.lacks.iter().any(|it| it == "memory");
    ensure!(lacks != has_it, "the scenario lacks memory cgroups: {lacks}; there are: {has_it}");
    let mut told = stalls::problems(&run.seen, &run.report, Age::Bound);
    let found = run.report.findings.iter().any(|it| it.rule == "owner-short-of-memory");
    if found != has_it {
        told.push(format!("it is found: {found}: {:?}", run.report.findings));
    }
    tell(&told)
}

/// Records the whole host while a listener does not accept that is in a network namespace which was
/// made before, and which the tracer may not enter any more once it is attached.
fn record_another_namespace(tier: &str, stall: &str) -> Result<(Run, u64)> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let program = scenario()?;
    let mut command = Command::new(&program);
    command.args(["netns", "--"]).arg(&program).arg("--gate").arg(dir.path()).arg(stall);
    let server = Running::start(&mut command)?;
    let pid = gate.wait_ready()?;
    let netns = fs::metadata(format!("/proc/{pid}/ns/net")).context("its namespace")?.ino();
    let mut recording = start_record(&["--tier", tier], &[])?;
    recording.running.wait_err("attached")?;
    gate.open()?;
    let finished = server.finish()?;
    let seen = serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    recording.running.signal(Signal::SIGINT)?;
    Ok((recording.finish_with(seen)?, netns))
}

#[test]
fn a_stall_in_another_namespace_that_was_there_before_is_told_with_its_queue_and_owner()
-> Result<()> {
    let mut told = Vec::new();
    for tier in this_kernel()?.tiers_of("stalls") {
        let (run, netns) = record_another_namespace(tier, "stall_sleeping")?;
        let [expected] = run.seen.stalls.as_slice() else { bail!("one stall: {:?}", run.seen) };
        let rows = rows_of(&run, expected.inode);
        let right = |row: &Stall| {
            row.listener == expected.listener
                && row.until.is_some()
                && row.pending_peak == expected.connections
                && (expected.at_least_ns..=expected.at_most_ns + LATE_NS).contains(&row.oldest_ns)
                && row.owners.iter().map(|owner| owner.pid).eq([expected.pid])
        };
        if !matches!(rows.as_slice(), [row] if right(row)) {
            told.push(format!("[{tier}] {expected:?}, found {rows:?}"));
        }
        let unseen = &run.raw["unseen"]["not_entered"];
        let unseen = unseen.as_array().with_context(|| format!("no `not_entered`: {unseen}"))?;
        if unseen.contains(&netns.into()) {
            told.push(format!("[{tier}] its namespace is told as unseen"));
        }
        let rows = run.raw["listeners"].as_array().context("no `listeners`")?;
        let row = rows.iter().find(|row| row["inode"] == expected.inode);
        if row.is_none_or(|row| row["queue"]["peak"] != expected.connections) {
            told.push(format!("[{tier}] the queue was seen at its peak: {row:?}"));
        }
    }
    tell(&told)
}

/// Records a listener whose queue is full, and clients that sleep on it when the recording ends.
fn record_sleepers(tier: &str) -> Result<(Run, Held)> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let mut command = Command::new(scenario()?);
    command.arg("--gate").arg(dir.path()).args(["hold", "here"]);
    let holder = Running::start(&mut command)?;
    gate.wait_ready()?;
    ensure!(wait_for(PATIENCE, || holder.out_so_far().contains('\n')), "no listeners");
    let all: Vec<Held> = serde_json::from_str(&holder.out_so_far()).context("its listeners")?;
    let is_full = |held: &Held| held.family == "unix" && held.queue > held.effective;
    let full = all.into_iter().find(is_full).context("a full one")?;
    let mut recording = start_record(&["--tier", tier], &[])?;
    recording.running.wait_err("attached")?;
    let sleepers = start_sleepers(&full.local)?;
    thread::sleep(INSTEAD);
    recording.running.signal(Signal::SIGINT)?;
    let run = recording.finish_with(Seen::default())?;
    gate.open()?;
    let held = holder.finish()?;
    ensure!(held.code() == Some(0), "{}", held.told());
    for sleeper in sleepers {
        let connected = sleeper.join().map_err(|_| anyhow!("a sleeper panicked"))?;
        ensure!(connected.is_err(), "a client did not sleep until the end");
    }
    Ok((run, full))
}

/// Threads of this process, each of which sleeps in `connect()`.
fn start_sleepers(path: &str) -> Result<Vec<JoinHandle<Result<UnixStream>>>> {
    let (tell_tid, tids) = channel();
    let start = |_| {
        let (tell_tid, path) = (tell_tid.clone(), path.to_owned());
        thread::spawn(move || connect_to(&path, &tell_tid))
    };
    let sleepers: Vec<_> = (0..SLEEPERS).map(start).collect();
    for _ in 0..SLEEPERS {
        let task = task(tids.recv()?);
        wait_until("a client asleep in connect()", || is_asleep_in(&task, libc::SYS_connect))?;
    }
    Ok(sleepers)
}

fn connect_to(path: &str, tell_tid: &Sender<Pid>) -> Result<UnixStream> {
    tell_tid.send(gettid())?;
    UnixStream::connect(path).context("connect")
}

#[test]
fn a_full_unix_listener_is_told_with_its_queue_and_the_clients_that_sleep_on_it() -> Result<()> {
    let mut told = Vec::new();
    let (pid, _, comm) = whoami()?;
    for tier in this_kernel()?.tiers_of("stalls") {
        let (run, full) = record_sleepers(tier).with_context(|| tier.to_owned())?;
        let rows = rows_of(&run, full.inode);
        let right = |row: &Stall| {
            let mut owners: Vec<u32> = row.owners.iter().map(|owner| owner.pid).collect();
            owners.sort_unstable();
            row.until.is_none()
                && (row.pending, row.pending_peak) == (full.queue, full.queue)
                && row.blocked == SLEEPERS
                && row.last_accept_ns_ago.is_none()
                && owners == full.pids
        };
        if !matches!(rows.as_slice(), [row] if right(row)) {
            told.push(format!("[{tier}] {full:?} and {SLEEPERS} sleepers, found {rows:?}"));
        }
        let clients = &raw_row(&run, full.inode)["clients"];
        let asleep = json!({"pid": pid, "comm": comm, "count": SLEEPERS});
        let named = clients.as_array().map(Vec::as_slice).unwrap_or_default();
        // Each of the two processes that hold the listener holds the clients in its queue, too.
        let holds = |client: &Value| full.pids.iter().any(|pid| client["pid"] == *pid);
        let queued = |client: &Value| holds(client) && client["count"] == full.queue;
        if !matches!(named, [first, second] if *first == asleep && queued(second)) {
            told.push(format!("[{tier}] {full:?} and {asleep}, found {clients}"));
        }
    }
    tell(&told)
}

/// What was done, by the clock of the test: each from before until after.
#[derive(Debug)]
struct Deeds {
    inode: u64,
    accepted_ns: (u64, u64),
    queued_ns: (u64, u64),
    ended_ns: u64,
}

/// A listener of this process accepts one connection, and later no other: recorded until then.
fn record_last_accept(tier: &str) -> Result<(Run, Deeds)> {
    let mut recording = start_record(&["--tier", tier], &[])?;
    recording.running.wait_err("attached")?;
    let listener = listen(&loopback(), SockType::Stream, 16)?;
    let connect = || {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("connect")?;
        Ok::<_, anyhow::Error>(socket)
    };
    let _served = connect()?;
    let mut from = now_ns()?;
    let _accepted = accept(&listener, SockFlag::empty()).context("accept")?;
    let accepted_ns = (from, now_ns()?);
    thread::sleep(APART);
    from = now_ns()?;
    let _waiting = connect()?;
    wait_queued(&listener, 1)?;
    let queued_ns = (from, now_ns()?);
    thread::sleep(INSTEAD);
    recording.running.signal(Signal::SIGINT)?;
    let run = recording.finish_with(Seen::default())?;
    Ok((run, Deeds { inode: listener.inode, accepted_ns, queued_ns, ended_ns: now_ns()? }))
}

#[test]
fn a_stall_is_told_with_how_long_ago_its_listener_accepted() -> Result<()> {
    let mut told = Vec::new();
    for tier in this_kernel()?.tiers_of("stalls") {
        let (run, deeds) = record_last_accept(tier).with_context(|| tier.to_owned())?;
        let rows = rows_of(&run, deeds.inode);
        let right = |row: &Stall| {
            let at_least = row.oldest_ns + deeds.queued_ns.0 - deeds.accepted_ns.1;
            let at_most = if row.oldest_is_lower_bound {
                deeds.ended_ns - deeds.accepted_ns.0
            } else {
                row.oldest_ns + deeds.queued_ns.1 - deeds.accepted_ns.0
            };
            row.last_accept_ns_ago.is_some_and(|ago| (at_least..=at_most).contains(&ago))
        };
        if !matches!(rows.as_slice(), [row] if right(row)) {
            told.push(format!("[{tier}] {deeds:?}, found {rows:?}"));
        }
    }
    tell(&told)
}

/// What a listener did that accepts all the time, but slowly, by the clock of the test.
#[derive(Debug)]
struct Slowly {
    inode: u64,
    /// From before the first client until all of them sleep.
    asleep_ns: (u64, u64),
    /// From before the accept that lets the last one into the queue until it was accepted itself.
    let_in_ns: (u64, u64),
}

/// A listener with room for one of its clients accepts one after the other: none lies in the queue for long, and the
/// last sleeps in `connect()` for most of the time.
fn record_slow_accepts(tier: &str) -> Result<(Run, Slowly)> {
    let mut recording = start_record(&["--tier", tier], &[])?;
    recording.running.wait_err("attached")?;
    let dir = tempfile::tempdir().context("a directory")?;
    let path = dir.path().join("slow");
    let listener = listen(&Address::path(&path)?, SockType::Stream, 0)?;
    let before_ns = now_ns()?;
    let path = path.to_str().context("a path")?;
    let queued = UnixStream::connect(path).context("the first client")?;
    let sleepers = start_sleepers(path)?;
    let asleep_ns = (before_ns, now_ns()?);
    let mut let_in_ns = now_ns()?;
    for accepted in 0..=SLEEPERS {
        thread::sleep(2 * APART);
        if accepted < SLEEPERS {
            let_in_ns = now_ns()?;
        }
        accept(&listener, SockFlag::empty()).context("accept")?;
    }
    let let_in_ns = (let_in_ns, now_ns()?);
    for sleeper in sleepers {
        sleeper.join().map_err(|_| anyhow!("a sleeper panicked"))??;
    }
    drop(queued);
    recording.running.signal(Signal::SIGINT)?;
    let run = recording.finish_with(Seen::default())?;
    Ok((run, Slowly { inode: listener.inode, asleep_ns, let_in_ns }))
}

#[test]
fn a_client_that_sleeps_too_long_is_a_stall_of_a_listener_that_goes_on_to_accept() -> Result<()> {
    let mut told = Vec::new();
    let (pid, _, comm) = whoami()?;
    for tier in this_kernel()?.tiers_of("stalls") {
        let (run, slowly) = record_slow_accepts(tier).with_context(|| tier.to_owned())?;
        let rows = rows_of(&run, slowly.inode);
        let at_least = slowly.let_in_ns.0 - slowly.asleep_ns.1;
        let at_most = slowly.let_in_ns.1 - slowly.asleep_ns.0;
        let right = |row: &Stall| {
            row.until.is_some()
                && row.pending_peak == 1
                && !row.oldest_is_lower_bound
                && (at_least..=at_most).contains(&row.oldest_ns)
        };
        if !matches!(rows.as_slice(), [row] if right(row)) {
            told.push(format!("[{tier}] {slowly:?}, found {rows:?}"));
        }
        let clients = &raw_row(&run, slowly.inode)["clients"];
        let named = clients.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_us = |it: &Value| {
            let count = it["count"].as_u64();
            it["pid"] == pid
                && it["comm"] == comm
                && (1..=u64::from(SLEEPERS) + 1).contains(&count.unwrap_or(0))
        };
        if !matches!(named, [only] if is_us(only)) {
            told.push(format!("[{tier}] clients of {pid} ({comm}), found {clients}"));
        }
    }
    tell(&told)
}

fn as_they_happened(made: &Made, lines: &[Line]) -> Vec<String> {
    let stalls = made.seen.stalls.iter();
    stalls.flat_map(|expected| as_it_happened(expected, made.began_ns, lines)).collect()
}

fn as_it_happened(expected: &Stalled, began_ns: u64, lines: &[Line]) -> Vec<String> {
    let is_it =
        |line: &&Line| line.told["signal"] == "stall" && line.told["inode"] == expected.inode;
    let of_it: Vec<&Line> = lines.iter().filter(is_it).collect();
    let told: Vec<&Value> = of_it.iter().map(|line| &line.told).collect();
    let changes: Vec<&str> = told.iter().filter_map(|line| line["change"].as_str()).collect();
    let in_time = THRESHOLD_NS..=THRESHOLD_NS + LATE_NS;
    let comes_in_time = THRESHOLD_NS..=THRESHOLD_NS + LATE_NS + STAGING_NS;
    let first_age = told.first().and_then(|line| line["oldest_ns"].as_u64());
    let first_came = of_it.first().map(|line| line.came_ns.saturating_sub(began_ns));
    let says_why = told.iter().any(|line| {
        let state = line["acceptor_state"].as_str().unwrap_or_default();
        state.contains(&expected.instead)
    });
    let checks = [
        (changes.first() == Some(&"opened"), "opens"),
        (changes.last() == Some(&"closed"), "closes"),
        (first_age.is_some_and(|age| in_time.contains(&age)), "says that it is told in time"),
        (first_came.is_some_and(|came| comes_in_time.contains(&came)), "is told in time"),
        (says_why, "says what its server did instead"),
    ];
    let wrong = checks.iter().filter(|(right, _)| !right);
    wrong.map(|(_, what)| format!("{} {what}: {first_came:?}, {told:?}", expected.name)).collect()
}
