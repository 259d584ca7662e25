//! `watch`: one line per event, as it happens.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::Finished;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::{play, socktrace};
use socktrace_tests::scenario::record::{Failure, Seen};

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
