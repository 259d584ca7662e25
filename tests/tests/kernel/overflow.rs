//! Every kind of overflow, each in a network namespace of its own: what socktrace gives to listeners
//! is what the kernel counted there (`/proc/net/netstat`), reason by reason, and what they accepted is what was accepted.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use socktrace_tests::harness::compare::{accepts, completeness, drops};
use socktrace_tests::harness::kernels::{TracepointDrops, is_full, this_kernel};
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::report::{Listener, Namespace, Queue, Report};
use socktrace_tests::harness::run::{
    Recording, Run, record_amid_drops, record_in_netns, scenario, start_record,
};
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::record::Seen;

use crate::matrix::tell;

/// Addresses, and settings of `net.ipv4`: as different as can be in succession.
const KINDS: &[(&str, &[&str])] = &[
    ("overflow", &["tcp_syncookies=1"]),
    ("overflow_v6", &["tcp_syncookies=0"]),
    ("overflow_mapped", &["tcp_syncookies=2"]),
    ("overflow", &["tcp_abort_on_overflow=1"]),
    ("overflow", &["tcp_syncookies=0"]),
    ("overflow", &["tcp_syncookies=2"]),
    ("overflow_v6", &["tcp_syncookies=1"]),
    ("overflow_v6", &["tcp_syncookies=2"]),
    ("overflow_mapped", &["tcp_syncookies=0"]),
    ("overflow_mapped", &["tcp_syncookies=1"]),
];
/// Drops in a second, even on an emulated CPU.
const MANY: u64 = 500;
/// With all kinds: twenty runs per tier.
const ROUNDS: usize = 2;

#[test]
fn every_kind_of_overflow_equals_the_counters_of_its_namespace() -> Result<()> {
    let kernel = this_kernel()?;
    let bound = kernel.tracepoint_drops == TracepointDrops::Bound;
    let runs = if is_full() { KINDS.len() * ROUNDS } else { 1 };
    let mut told = Vec::new();
    // In a part, each tier has a kind of its own.
    for (number, tier) in kernel.tiers.iter().enumerate() {
        for (incident, settings) in KINDS.iter().cycle().skip(number).take(runs) {
            let run = record_in_netns(settings, &["--tier", tier], &[incident])
                .map_err(|error| anyhow!("{tier} {incident} {settings:?}: {error:#}"))?;
            let mut problems = match tier.as_str() {
                "tracepoint" if bound => drops::tcp_bound(&run.seen, &run.report),
                "tracepoint" => drops::tcp_sum(&run.seen, &run.report),
                "kprobe" => drops::tcp_unless_skipped(&run.seen, &run.report),
                _ => drops::tcp_exact(&run.seen, &run.report),
            };
            problems.extend(completeness::nothing_lost(&run.report, &kernel));
            if !kernel.short_under_contention.contains(tier) {
                problems.extend(accepts::per_listener(&run.seen, &run.report));
                problems.extend(accepts::per_process(&run.seen, &run.report));
            }
            told.extend(problems.iter().map(|it| format!("[{tier} {incident} {settings:?}] {it}")));
        }
    }
    tell(&told)
}

#[test]
fn a_listener_of_another_network_namespace_drops_what_that_namespace_counts() -> Result<()> {
    beside_in_every_tier(|tier, dir| {
        let inside = Inside::start(dir)?;
        let run = inside.overflow_while(recording(tier)?)?;
        let problems = queues(&run, |queue| queue.peak.is_some_and(|peak| peak > 0));
        Ok((run, problems))
    })
}

#[test]
fn a_listener_that_overflows_in_a_namespace_made_while_tracing_has_its_drops_or_they_have_no_listener()
-> Result<()> {
    beside_in_every_tier(|tier, dir| {
        let recording = recording(tier)?;
        let run = Inside::start(dir)?.overflow_while(recording)?;
        let problems = queues(&run, |queue| queue.now.is_none() && queue.peak.is_none());
        Ok((run, problems))
    })
}

/// Records the whole host while a listener overflows in another network namespace, and judges that beside what `record` does.
fn beside_in_every_tier(record: impl Fn(&str, &Path) -> Result<(Run, Vec<String>)>) -> Result<()> {
    let mut told = Vec::new();
    for tier in &this_kernel()?.tiers {
        let dir = tempfile::tempdir().context("a gate")?;
        let (run, mut problems) = record(tier, dir.path()).with_context(|| tier.clone())?;
        problems.extend(of_namespace(tier, &run.seen, &run.report));
        problems.extend(accepted_there(&run.seen, &run.report));
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

/// A scenario in a network namespace of its own, at its gate.
struct Inside {
    gate: Gate,
    running: Running,
}

impl Inside {
    fn start(dir: &Path) -> Result<Self> {
        let mut command = Command::new(scenario()?);
        command.args(["netns", "tcp_syncookies=1", "--"]).arg(scenario()?);
        command.arg("--stay").arg("--gate").arg(dir).arg("overflow");
        let (gate, running) = (Gate::at(dir), Running::start(&mut command)?);
        gate.wait_ready()?;
        Ok(Self { gate, running })
    }

    /// The namespace is there until the report is written.
    fn overflow_while(self, recording: Recording) -> Result<Run> {
        self.gate.open()?;
        self.gate.wait_done()?;
        recording.running.signal(Signal::SIGINT)?;
        let run = recording.finish_with(Seen::default())?;
        self.gate.dismiss()?;
        let finished = self.running.finish()?;
        let seen = serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
        Ok(Run { seen, ..run })
    }
}

/// A tracer of the whole host, attached.
fn recording(tier: &str) -> Result<Recording> {
    let mut recording = start_record(&["--tier", tier], &[])?;
    recording.running.wait_err("attached")?;
    Ok(recording)
}

/// The queues of the scenario's listeners were seen as they should be.
fn queues(run: &Run, is_right: impl Fn(&Queue) -> bool) -> Vec<String> {
    let is_ours = |row: &&Listener| run.seen.accepts.iter().any(|it| row.inode == Some(it.inode));
    let rows = run.report.listeners.iter().filter(is_ours);
    let wrong = rows.filter(|row| !is_right(&row.queue));
    wrong.map(|row| format!("{}: its queue is told as {:?}", row.name(), row.queue)).collect()
}

/// What was accepted is known in every tier: its hooks know every network namespace.
fn accepted_there(seen: &Seen, report: &Report) -> Vec<String> {
    let wrong = seen.accepts.iter().filter_map(|it| {
        let row = report.listeners.iter().find(|row| row.inode == Some(it.inode));
        let owners = row.into_iter().flat_map(|row| &row.owners).map(|owner| owner.pid);
        let found = (row.map(|row| row.accept.count), owners.collect::<Vec<_>>());
        let wanted = (Some(it.count), vec![it.pid]);
        (found != wanted).then(|| format!("accepted and owned {wanted:?}, found {found:?}"))
    });
    wrong.collect()
}

/// The namespace's counters as the tracer read them, and how much they moved meanwhile, against what it gives to the one
/// listener.
#[test]
fn drops_that_go_on_at_the_start_and_at_the_end_are_nobodys_loss() -> Result<()> {
    let mut told = Vec::new();
    for tier in &this_kernel()?.tiers {
        let run = record_amid_drops(&["-d", "1s", "--tier", tier])?;
        let problems = amid_drops(tier, &run.report);
        told.extend(problems.iter().map(|text| format!("[{tier}] {text}")));
    }
    tell(&told)
}

fn amid_drops(tier: &str, report: &Report) -> Vec<String> {
    let rows: Vec<&Namespace> = report.namespaces.iter().filter(|row| row.own).collect();
    let [row] = rows.as_slice() else { return vec![format!("one namespace, found {rows:?}")] };
    let Some(counted) = row.netstat.map(|netstat| netstat.listen_drops) else {
        return vec![format!("the namespace's counters are unknown: {row:?}")];
    };
    let found: u64 = report
        .listeners
        .iter()
        .flat_map(|listener| &listener.backlog_drops)
        .filter(|drops| drops.reason != "syncookie_sent")
        .map(|drops| drops.count)
        .sum();
    let mut problems = Vec::new();
    if counted < MANY {
        problems.push(format!("{counted} drops are no flood"));
    }
    if row.drops_while_read > counted / 2 {
        problems.push(format!("too much is excused: {row:?}"));
    }
    // What the kernel skipped of a tier's hooks is unattributed, and told.
    let skipped = row.unattributed.unwrap_or(0);
    if tier == "fentry" && skipped != 0 {
        problems.push(format!("{skipped} drops without a listener"));
    }
    if row.unattributed.is_none() || counted.abs_diff(found + skipped) > row.drops_while_read {
        problems.push(format!("{found} drops of listeners, and of the namespace {row:?}"));
    }
    problems.extend(completeness::verdict_with(report, skipped));
    if skipped == 0 {
        let reasons = &report.completeness.reasons;
        problems.extend(reasons.iter().filter(|it| it.contains("drops")).cloned());
    }
    problems
}

/// The fentry tier names the listener of each drop. The kprobe tier may miss some and cannot tell by
/// `sk_drops` there, the tracepoint tier names none there: all of that is unattributed, and said to be.
fn of_namespace(tier: &str, seen: &Seen, report: &Report) -> Vec<String> {
    let wanted = seen.netstat.listen_drops;
    let rows: Vec<&Namespace> = report.namespaces.iter().filter(|row| !row.own).collect();
    let [row] = rows.as_slice() else { return vec![format!("one namespace, found {rows:?}")] };
    let counted = row.netstat.map(|netstat| netstat.listen_drops);
    let named: u64 = seen.tcp_drops.iter().map(|it| drops::of_inode(it.inode, report)).sum();
    let mut problems = Vec::new();
    if counted != Some(wanted) || row.unattributed != wanted.checked_sub(named) {
        problems.push(format!("{wanted} drops, {named} with a listener, found {row:?}"));
    }
    match tier {
        "fentry" => {
            problems.extend(seen.tcp_drops.iter().flat_map(|it| drops::of_listener(it, report)));
        }
        "kprobe" if named == 0 => problems.push("no drop has its listener".to_owned()),
        "tracepoint" if named != 0 => problems.push(format!("{named} drops have a listener")),
        "tracepoint" if !report.loses("backlog_drop", "network namespaces other than") => {
            problems.push("the session does not say that it names no drop there".to_owned());
        }
        _ => {}
    }
    let rest = row.unattributed.unwrap_or(0);
    problems.extend(completeness::verdict_with(report, rest));
    problems
}
