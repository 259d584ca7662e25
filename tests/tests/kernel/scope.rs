//! Whose incidents a session holds: the command's, one process's, or the whole host's.

use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use socktrace_tests::harness::compare::{Strangers, failures};
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::{Recording, Run, play, scenario, start_record};
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::record::{Failure, Seen};

use crate::matrix::tell;

/// Records `unix_missing` as a command while a stranger's connects fail beside it.
fn beside_a_stranger(args: &[&str]) -> Result<(Run, Seen)> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let path = dir.path().to_str().context("a path in UTF-8")?;
    let recording = start_record(args, &["--gate", path, "unix_missing"])?;
    gate.wait_ready()?;
    let stranger = play(&["unix_stale", "tcp_refused_sync"])?;
    gate.open()?;
    Ok((recording.finish()?, stranger))
}

#[test]
fn a_session_of_a_command_holds_nothing_of_strangers() -> Result<()> {
    let (run, _) = beside_a_stranger(&[])?;
    tell(&failures::problems(&run.seen, &run.report, Strangers::Forbidden))
}

#[test]
fn a_session_of_the_whole_host_holds_strangers_too() -> Result<()> {
    let (run, stranger) = beside_a_stranger(&["-a"])?;
    let both: Vec<&Failure> = run.seen.failures.iter().chain(&stranger.failures).collect();
    tell(&failures::only(&both, &run.report, Strangers::Ignored))
}

#[test]
fn a_session_without_a_command_holds_the_whole_host() -> Result<()> {
    let mut recording = start_record(&[], &[])?;
    recording.running.wait_err("attached")?;
    let seen = play(&["unix_missing", "tcp6_refused"])?;
    tell(&failures_after_interrupt(recording, seen, Strangers::Ignored)?)
}

#[test]
fn a_pid_filter_holds_that_process_only() -> Result<()> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let mut command = Command::new(scenario()?);
    let client = Running::start(command.arg("--gate").arg(dir.path()).arg("unix_missing"))?;
    let pid = gate.wait_ready()?.to_string();
    let mut recording = start_record(&["-p", &pid], &[])?;
    recording.running.wait_err("attached")?;
    let _stranger = play(&["unix_stale"])?;
    gate.open()?;
    let finished = client.finish()?;
    let seen = serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    tell(&failures_after_interrupt(recording, seen, Strangers::Forbidden)?)
}

fn failures_after_interrupt(
    recording: Recording,
    seen: Seen,
    strangers: Strangers,
) -> Result<Vec<String>> {
    recording.running.signal(Signal::SIGINT)?;
    let run = recording.finish_with(seen)?;
    Ok(failures::problems(&run.seen, &run.report, strangers))
}
