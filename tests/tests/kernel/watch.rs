//! `watch`: one line per event, as it happens.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::{Finished, Running, wait_for};
use socktrace_tests::harness::run::{play, run, socktrace};
use socktrace_tests::scenario::record::{Failure, Seen};

use crate::matrix::unless;

/// The uid of the client that is refused.
const NOBODY: u32 = 65534;

/// Watches while a scenario plays beside it.
fn watch_beside(args: &[&str], words: &[&str]) -> Result<(Finished, Seen)> {
    let all = [&["watch"], args].concat();
    let mut watch = Running::start(&mut socktrace(&all)?)?;
    watch.wait_err("attached")?;
    let seen = play(words)?;
    watch.signal(Signal::SIGINT)?;
    Ok((watch.finish()?, seen))
}

fn is_of(event: &Value, failure: &Failure) -> bool {
    event["signal"] == "connect_failure"
        && event["pid"] == failure.pid
        && event["uid"] == failure.uid
        && event["comm"] == failure.comm.as_str()
        && event["family"] == failure.family.as_str()
        && event["target"] == failure.target.as_str()
        && event["errno"] == failure.errno.as_str()
}

#[test]
fn every_failure_is_one_json_object_on_a_line_of_its_own() -> Result<()> {
    let words = ["unix_eacces_mode", "unix_missing", "tcp_refused_async", "tcp6_refused"];
    let (finished, seen) = watch_beside(&["--json"], &words)?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let parse = |line: &str| serde_json::from_str::<Value>(line).with_context(|| line.to_owned());
    let text = finished.out();
    let events = text.lines().map(parse).collect::<Result<Vec<_>>>()?;
    for failure in &seen.failures {
        let count = events.iter().filter(|event| is_of(event, failure)).count();
        ensure!(
            u64::try_from(count)? == failure.count,
            "{count} events, expected {failure:?}; all events:\n{text}"
        );
    }
    Ok(())
}

/// Compared with what the kernel says of this process: the scenario's client shares its namespaces and root.
#[test]
fn a_failed_connect_is_told_with_the_rights_that_the_client_had() -> Result<()> {
    let inode = |path: &str| Ok::<_, anyhow::Error>(std::fs::metadata(path)?.ino());
    let expected = [
        ("fsuid", Value::from(NOBODY)),
        ("cap_effective", Value::from("0000000000000000")),
        ("mount_namespace", Value::from(inode("/proc/self/ns/mnt")?)),
        ("user_namespace", Value::from(inode("/proc/self/ns/user")?)),
        ("net_namespace", Value::from(inode("/proc/self/ns/net")?)),
        ("root_inode", Value::from(inode("/")?)),
    ];
    for tier in &this_kernel()?.tiers {
        let (finished, seen) = watch_beside(&["--json", "--tier", tier], &["unix_eacces_mode"])?;
        let failure = seen.failures.first().context("the scenario saw a failure")?;
        let text = finished.out();
        let events = text.lines().map(serde_json::from_str::<Value>);
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let event = events.iter().find(|event| is_of(event, failure));
        let event = event.with_context(|| format!("[{tier}] no such event: {text}"))?;
        let told = &event["credentials"];
        for (name, expected) in &expected {
            ensure!(told[name] == *expected, "[{tier}] {name} is not {expected} in {told}");
        }
        let path = u64::try_from(failure.target.len())? + 2;
        let len = told["address_len"].as_u64();
        ensure!(len.is_some_and(|len| len >= path), "[{tier}] address_len in {told}");
    }
    Ok(())
}

#[test]
fn a_line_of_text_names_process_target_and_errno() -> Result<()> {
    let (finished, seen) = watch_beside(&[], &["unix_stale"])?;
    let failure = seen.failures.first().context("the scenario saw a failure")?;
    let words = [&failure.pid.to_string(), &failure.comm, &failure.target, &failure.errno];
    let text = finished.out();
    let told = text.lines().any(|line| words.iter().all(|word| line.contains(*word)));
    ensure!(told, "no line has all of {words:?}: {}", finished.told());
    Ok(())
}

#[test]
fn a_hostile_path_takes_one_line_and_no_control_character() -> Result<()> {
    let (finished, seen) = watch_beside(&[], &["unix_hostile_path"])?;
    let bytes = &finished.stdout;
    let control = bytes.iter().any(|byte| byte.is_ascii_control() && *byte != b'\n');
    ensure!(!control, "a control character on stdout: {}", finished.told());
    let pid = seen.failures.first().context("a failure")?.pid.to_string();
    let text = finished.out();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(&pid)).collect();
    ensure!(lines.iter().all(|line| line.contains("ENOENT")), "broken lines: {lines:?}");
    ensure!(!lines.is_empty(), "no line for pid {pid}: {}", finished.told());
    Ok(())
}

/// The finding of a full backlog, as `watch` tells it while a demo's incident goes on beside it.
fn full_backlog_of(incident: &str) -> Result<Value> {
    let dir = tempfile::tempdir().context("a directory for the incident")?;
    let path = dir.path().to_str().context("a path that is text")?;
    let mut watch = Running::start(&mut socktrace(&["watch", "--json", "--unix"])?)?;
    watch.wait_err("attached")?;
    let played = run(&["demo-incident", incident, path])?;
    ensure!(played.code() == Some(0), "{}", played.told());
    watch.signal(Signal::SIGINT)?;
    let finished = watch.finish()?;
    let text = finished.out();
    let events = text.lines().map(serde_json::from_str::<Value>);
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let of_it = |event: &&Value| {
        event["rule"] == "unix-backlog-full"
            && event["target"].as_str().is_some_and(|target| target.starts_with(path))
    };
    let found = events.iter().find(of_it).cloned();
    found.with_context(|| format!("no such finding: {}", finished.told()))
}

#[test]
fn a_full_backlog_is_told_with_for_how_long_it_has_stood_where_its_listener_stalls() -> Result<()> {
    let finding = full_backlog_of("stopped-unix-server")?;
    let fact = finding["fact"].as_str().context("a fact")?;
    let (_, stood) = fact
        .split_once("; the oldest connection has waited for ")
        .with_context(|| format!("not for how long: {fact}"))?;
    let seconds = stood.trim_start_matches("at least ").split(' ').next().unwrap_or_default();
    let seconds: f64 = seconds.parse().with_context(|| fact.to_owned())?;
    // It stalls from 1 s on, and the client fails after 1.5 s.
    ensure!((1.0..30.0).contains(&seconds), "{fact}");
    ensure!(stood.contains("nobody has accepted"), "{fact}");
    Ok(())
}

#[test]
fn a_full_backlog_whose_listener_does_not_stall_is_told_without_a_time() -> Result<()> {
    let finding = full_backlog_of("unix-backlog")?;
    let fact = finding["fact"].as_str().context("a fact")?;
    ensure!(fact.contains("was full") && !fact.contains("the oldest connection"), "{fact}");
    Ok(())
}

/// Its stdout is a pipe that is full long before all is told.
#[test]
fn whoever_ends_a_watch_that_nobody_reads_is_heard() -> Result<()> {
    let (unread, writer) = std::io::pipe()?;
    let mut command = socktrace(&["watch", "--json"])?;
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let mut watch = command.spawn()?;
    drop(command);
    let mut told = BufReader::new(watch.stderr.take().context("a piped stderr")?);
    let mut line = String::new();
    while !line.contains("attached") {
        ensure!(told.read_line(&mut line)? != 0, "it ended: {line}");
    }
    play(&["flood", "2000"])?;
    // The pipe has taken all that it takes.
    std::thread::sleep(Duration::from_millis(500));
    let pid = Pid::from_raw(i32::try_from(watch.id())?);
    let ended = wait_for(Duration::from_secs(20), || {
        // A signal that comes between two looks at the pipe is heard when the next one comes.
        let _gone = kill(pid, Signal::SIGINT);
        watch.try_wait().is_ok_and(|status| status.is_some())
    });
    if !ended {
        watch.kill()?;
    }
    let status = watch.wait()?;
    drop(unread);
    told.read_to_string(&mut line)?;
    unless(ended && status.code() == Some(125), || format!("{status}: {line}"))?;
    unless(line.contains("nobody reads it"), || line.clone())
}
